"""COCO's JSON: one annotation to a drawn object and back (cocodataset.org/#format-data). Boxes are x, y, width, height."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.marks import Drawn, finite
from modelyard.dataset.domain.problems import Problems
from modelyard.formats import annotations_rle as rle
from modelyard.formats.annotations import Mark, attribute_text
from modelyard.formats.pictures import MAX_PIXELS

_KNOWN = frozenset({"id", "image_id", "category_id", "bbox", "segmentation", "area", "keypoints", "num_keypoints", "attributes"})


@dataclass(frozen=True)
class Category:
    """A class as COCO lists it."""

    id: Any
    name: str
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()  # pairs of indices from 0; the file counts from 1


def category(raw: Any, file: str) -> Category:
    """A category. Raises InvalidArgument BAD_COCO."""
    if not isinstance(raw, dict) or "id" not in raw or not isinstance(raw.get("name"), str) or not raw["name"].strip():
        message = f'{file}: categories holds {raw!r:.80}; each is an object with "id" and a "name" that is a text'
        raise InvalidArgument("BAD_COCO", message, file=file, field="categories")
    points = tuple(str(each) for each in raw.get("keypoints") or ())
    lines = raw.get("skeleton") or ()
    try:
        pairs = tuple((int(a) - 1, int(b) - 1) for a, b in lines)
    except (TypeError, ValueError):
        pairs = ()
    return Category(raw["id"], raw["name"].strip(), points, tuple(p for p in pairs if min(p) >= 0 and max(p) < len(points)))


def pixels(value: Any) -> int | None:
    """A width or height; None for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_PIXELS else None


def drawn(raw: Mapping[str, Any], label: str, size: tuple[int, int] | None, file: str, problems: Problems) -> Drawn:
    """An annotation as an object. size: width and height of its picture where they are known."""
    where = f"{file}: annotation {raw.get('id', '?')!r}"
    box = raw.get("bbox")
    edges = None
    if isinstance(box, list) and box:
        numbers = finite(box)
        edges = (
            [numbers[0], numbers[1], numbers[0] + numbers[2], numbers[1] + numbers[3]] if numbers and len(numbers) == 4 else box
        )
    shape = raw.get("segmentation") or []
    polygons = [ring for ring in shape if isinstance(ring, list)] if isinstance(shape, list) else []
    if polygons == [] and isinstance(shape, list) and shape and isinstance(shape[0], int | float):
        polygons = [shape]
    mask = _mask(shape, size, where, problems) if isinstance(shape, dict) else b""
    if edges is None and mask and size:
        edges = list(rle.box_of(rle.decode(mask, size[1], size[0])))
    points = raw.get("keypoints") or ()
    return Drawn(where, label, edges, polygons, mask, points if isinstance(points, list) else (), _attributes(raw))


def _mask(shape: Mapping[str, Any], size: tuple[int, int] | None, where: str, problems: Problems) -> bytes:
    """Run lengths, packed in the one way."""
    counts, shape_size = shape.get("counts"), shape.get("size")
    try:
        if isinstance(counts, str):
            runs = rle.unpack(counts.encode("latin-1", "replace"))
        elif isinstance(counts, list) and all(isinstance(n, int) and 0 <= n < 2**40 for n in counts):
            runs = counts
        else:
            problems.note("BAD_MASK", where, f"{where}: segmentation.counts is {counts!r:.60}; run lengths are needed")
            return b""
    except InvalidArgument as error:
        problems.note("BAD_MASK", where, f"{where}: {error.message}")
        return b""
    expected = [size[1], size[0]] if size else shape_size
    if shape_size != expected or not _is_size(expected) or sum(runs) != math.prod(expected):
        message = f"{where}: the mask has size {shape_size} (height, width) and {sum(runs)} pixels; its picture {expected}"
        problems.note("BAD_MASK", where, message)
        return b""
    return rle.pack(rle.plain(runs))


def _is_size(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and len(value) == 2 and all(map(pixels, value)) and math.prod(value) <= MAX_PIXELS


def _attributes(raw: Mapping[str, Any]) -> dict[str, str]:
    inner = raw.get("attributes")
    found = {str(name): attribute_text(value) for name, value in inner.items()} if isinstance(inner, dict) else {}
    found |= {str(name): attribute_text(value) for name, value in raw.items() if name not in _KNOWN}
    return {name: text for name, text in found.items() if not (name == "iscrowd" and text in ("0", "false"))}


# Writing


def annotation(mark: Mark, number: int, image: int, category_id: int, size: tuple[int, int]) -> dict[str, Any]:
    """A mark as an annotation. size: width and height of the picture."""
    left, top, right, bottom = mark.box
    attributes = dict(mark.attributes)
    crowd = attributes.pop("iscrowd", "0")
    out: dict[str, Any] = {"id": number, "image_id": image, "category_id": category_id}
    out |= {
        "bbox": [left, top, right - left, bottom - top],
        "area": area(mark, size),
        "iscrowd": 1 if crowd in ("1", "true") else 0,
    }
    if mark.mask:
        out["segmentation"] = {"size": [size[1], size[0]], "counts": mark.mask.decode("ascii")}
    else:
        out["segmentation"] = [list(ring) for ring in mark.polygons]
    if mark.keypoints:
        out["keypoints"] = list(mark.keypoints)
        out["num_keypoints"] = sum(visible > 0 for visible in mark.keypoints[2::3])
    return out | ({"attributes": attributes} if attributes else {})


def area(mark: Mark, size: tuple[int, int]) -> float:
    """Pixels of an object: of its mask, its outlines (shoelace formula), or its box."""
    if mark.mask:
        return float(sum(rle.unpack(mark.mask)[1::2]))
    if mark.polygons:
        return float(sum(_shoelace(ring) for ring in mark.polygons))
    return (mark.box[2] - mark.box[0]) * (mark.box[3] - mark.box[1])


def categories(classes: Sequence[str], keypoints: Sequence[str], skeleton: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """The classes, numbered from 1."""
    more = {"keypoints": list(keypoints), "skeleton": [[a + 1, b + 1] for a, b in skeleton]} if keypoints else {}
    return [{"id": number, "name": name, "supercategory": "", **more} for number, name in enumerate(classes, start=1)]


def _shoelace(ring: Sequence[float]) -> float:
    x, y = np.asarray(ring[::2]), np.asarray(ring[1::2])
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
