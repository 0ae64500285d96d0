"""Generated datasets of every task, as the sources an import reads, for round trips through every format."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from modelyard.dataset.domain import coco
from modelyard.formats.annotations import Mark, bounds
from modelyard.formats.annotations_rle import box_of, encode
from modelyard.formats.pictures import encode_png

SIZE = (24, 18)
"""Width and height of the pictures."""


def picture(seed: int) -> bytes:
    """A PNG of its own for each seed."""
    return encode_png(np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8))


def zipped(files: Mapping[str, bytes | str]) -> bytes:
    """A zip of these files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


@dataclass(frozen=True)
class Marked:
    """Pictures with marks; usages by picture."""

    classes: tuple[str, ...]
    pictures: tuple[tuple[Mark, ...], ...]
    usages: tuple[str, ...]
    keypoints: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def coco(self) -> bytes:
        """As a zip with COCO files: the source of everything else."""
        files: dict[str, bytes | str] = {}
        index = {name: number for number, name in enumerate(self.classes, start=1)}
        for usage in sorted(set(self.usages)):
            chosen = [place for place, each in enumerate(self.usages) if each == usage]
            document: dict[str, Any] = {
                "categories": coco.categories(self.classes, self.keypoints, ()),
                "images": [],
                "annotations": [],
            }
            for place in chosen:
                document["images"].append({"id": place, "file_name": f"p{place}.png", "width": SIZE[0], "height": SIZE[1]})
                for mark in self.pictures[place]:
                    number = len(document["annotations"]) + 1000 * place
                    document["annotations"].append(coco.annotation(mark, number, place, index[mark.label], SIZE))
                files[f"{usage}/p{place}.png"] = picture(place)
            files[f"annotations/instances_{usage}.json"] = json.dumps(document)
        return zipped(files)


def coordinates(limit: int) -> st.SearchStrategy[float]:
    """Multiples of 1/256 within the picture."""
    return st.integers(0, limit * 256).map(lambda step: step / 256)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    """A box, perhaps without area."""
    xs = sorted(draw(st.tuples(coordinates(SIZE[0]), coordinates(SIZE[0]))))
    ys = sorted(draw(st.tuples(coordinates(SIZE[1]), coordinates(SIZE[1]))))
    return xs[0], ys[0], xs[1], ys[1]


rings = st.lists(st.tuples(coordinates(SIZE[0]), coordinates(SIZE[1])), min_size=3, max_size=6).map(
    lambda points: tuple(value for point in points for value in point)
)
masks = st.integers(0, 2**32 - 1).map(
    lambda seed: (np.random.default_rng(seed).random((SIZE[1], SIZE[0])) < 0.3).astype(np.uint8)
)
texts = st.text(st.characters(categories=("L", "N"), include_characters="-_"), min_size=1, max_size=8)
labels = texts.filter(
    lambda text: text.lower() not in ("void", "ignore", "ignored", "unlabeled", "unlabelled", "unknown", "name")
)
attributes = st.dictionaries(texts.map(lambda text: f"a{text}"), texts, max_size=2)


@st.composite
def marks(draw: st.DrawFn, classes: Sequence[str], shape: str, with_attributes: bool) -> Mark:
    """A mark. shape: box, polygon, polygons, mask or keypoints."""
    label = draw(st.sampled_from(classes))
    said = draw(attributes) if with_attributes else {}
    if shape == "polygon":
        ring = draw(rings)
        return Mark(label, bounds([ring]), (ring,), attributes=said)
    if shape == "polygons":
        found = tuple(draw(st.lists(rings, min_size=1, max_size=3)))
        return Mark(label, draw(st.one_of(boxes(), st.just(bounds(found)))), found, attributes=said)
    if shape == "mask":
        mask = draw(masks)
        return Mark(label, draw(st.one_of(boxes(), st.just(box_of(mask)))), mask=encode(mask), attributes=said)
    if shape == "keypoints":
        points = draw(st.lists(st.tuples(coordinates(SIZE[0]), coordinates(SIZE[1]), st.integers(0, 2)), min_size=2, max_size=2))
        flat = tuple(float(value) for point in points for value in point)
        return Mark(label, draw(boxes()), keypoints=flat if any(flat) else (), attributes=said)
    return Mark(label, draw(boxes()), attributes=said)


@st.composite
def marked(draw: st.DrawFn, shapes: Sequence[str], with_attributes: bool = True) -> Marked:
    """A dataset of up to six pictures; the first has a mark of the first shape, so that the task shows."""
    classes = tuple(draw(st.lists(labels, min_size=1, max_size=3, unique_by=str.lower)))
    count = draw(st.integers(1, 6))
    one = st.sampled_from(shapes).flatmap(lambda shape: marks(classes, shape, with_attributes))
    pictures = [tuple(draw(st.lists(one, max_size=3))) for _ in range(count)]
    pictures[0] = (draw(marks(classes, shapes[0], with_attributes)), *pictures[0])
    usages = ("train", *(draw(st.sampled_from(["train", "validation", "test"])) for _ in range(count - 1)))
    keypoints = ("keypoint_0", "keypoint_1") if "keypoints" in shapes else ()
    return Marked(classes, tuple(pictures), usages, keypoints)
