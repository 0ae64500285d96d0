"""CVAT for images 1.1: one XML for many pictures (docs.cvat.ai). Shapes of one `group_id` above 0 are one object.

A <skeleton> is an object whose <points> are its key points, named by their labels. <points> outside of a skeleton are key points
too: of the object of their group, or of the only one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.marks import Drawn, finite, mark
from modelyard.dataset.domain.named_points import NamedPoint, PointNames, box_around, with_points
from modelyard.dataset.domain.problems import Problems
from modelyard.dataset.domain.voc import number
from modelyard.formats import annotations_rle as rle
from modelyard.formats.annotations import Annotation, Mark, bounds
from modelyard.formats.pictures import MAX_PIXELS

_EDGES = ("xtl", "ytl", "xbr", "ybr")
_NATIVE = {"occluded": ("", "0")}
_READ = ("box", "polygon", "mask", "tag", "points", "skeleton")


@dataclass(frozen=True)
class CvatPicture:
    """An <image> element."""

    name: str
    usage: str
    size: tuple[int, int]
    annotation: Annotation


def classes(meta: Element) -> tuple[str, ...]:
    """The labels in the order of the task's list."""
    found = [(each.findtext("name") or "").strip() for each in meta.iter("label")]
    return tuple(dict.fromkeys(name for name in found if name))


def picture(element: Element, file: str, problems: Problems, names: PointNames) -> CvatPicture:
    """What is said of a picture. names: of key points, as far as they were met. Raises InvalidArgument BAD_CVAT."""
    name = element.get("name", "")
    where = f"{file}: image {element.get('id', '?')} ({name})"
    try:
        size = int(element.get("width", "")), int(element.get("height", ""))
        if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
            raise ValueError
    except ValueError as error:
        sizes = f"width is {element.get('width')!r:.40}, height {element.get('height')!r:.40}"
        message = f"{where}: {sizes}; whole numbers above 0 are needed, {MAX_PIXELS} pixels at most"
        raise InvalidArgument("BAD_CVAT", message, file=file, field="image") from error
    groups: dict[tuple[str, ...], list[Element]] = {}
    points: dict[str, list[NamedPoint]] = {}
    skeletons: list[Drawn] = []
    labels = []
    for place, each in enumerate(element, start=1):
        if each.tag == "tag":
            labels.append(each.get("label", ""))
        elif each.tag == "points":
            group = each.get("group_id", "0")
            points.setdefault("" if group == "0" else group, []).extend(_named_points([each], where, problems))
        elif each.tag == "skeleton":
            own = _named_points(each.iter("points"), where, problems)
            label = each.get("label", "").strip()
            if own:
                skeletons.append(
                    Drawn(where, label, box_around(own), keypoints=names.keypoints(own), attributes=_attributes(each))
                )
        elif each.tag in _READ:
            group = each.get("group_id", "0")
            groups.setdefault(("alone", str(place)) if group == "0" else (group, each.get("label", "")), []).append(each)
        else:
            problems.note("UNSUPPORTED_SHAPE", where, f"{where}: a <{each.tag}>; {', '.join(_READ)} are read")
    drawn = [
        ("" if key[0] == "alone" else key[0], _drawn(shapes, f"{where}: shape {place}", size, problems))
        for place, (key, shapes) in enumerate(groups.items(), start=1)
    ]
    marks = tuple(
        made for each in (*with_points(drawn, points, where, names), *skeletons) if (made := mark(each, problems)) is not None
    )
    return CvatPicture(name, element.get("subset", ""), size, Annotation(marks, tuple(dict.fromkeys(filter(None, labels)))))


def _drawn(shapes: Sequence[Element], where: str, size: tuple[int, int], problems: Problems) -> Drawn:
    boxes = [[each.get(edge, "") for edge in _EDGES] for each in shapes if each.tag == "box"]
    polygons = [
        [v for point in each.get("points", "").split(";") for v in point.split(",")] for each in shapes if each.tag == "polygon"
    ]
    packed = b""
    box: Sequence[Any] | None = boxes[0] if boxes else None
    for each in shapes:
        if each.tag == "mask":
            packed, own = _mask(each, size, where, problems)
            box = box or own
    return Drawn(where, shapes[0].get("label", "").strip(), box, polygons, packed, attributes=_attributes(shapes[0]))


def _named_points(elements: Iterable[Element], where: str, problems: Problems) -> list[NamedPoint]:
    """Points that are marked; of an element with several places each is named by its number."""
    found = []
    for each in elements:
        places = [text.split(",") for text in each.get("points", "").split(";") if text]
        if not places or any(len(place) != 2 or finite(place) is None for place in places):
            problems.note("BAD_POLYGON", where, f"{where}: points are {each.get('points', '')!r:.60}; x,y is right")
            continue
        label, visible = each.get("label", "").strip(), 1 if each.get("occluded", "0") == "1" else 2
        if each.get("outside", "0") == "1":
            continue
        names = [label] if len(places) == 1 else [f"{label}_{number_}" for number_ in range(len(places))]
        found += [NamedPoint(name, float(x), float(y), visible) for name, (x, y) in zip(names, places, strict=True)]
    return found


def _attributes(shape: Element) -> dict[str, str]:
    found = {name: shape.get(name, "") for name, nothing in _NATIVE.items() if shape.get(name, "") not in nothing}
    return found | {each.get("name", ""): each.text or "" for each in shape.iter("attribute") if each.get("name")}


def _mask(shape: Element, size: tuple[int, int], where: str, problems: Problems) -> tuple[bytes, list[float] | None]:
    """Run lengths row by row, within a box of the picture."""
    width, height = size
    try:
        left, top, wide, high = (int(float(shape.get(name, ""))) for name in ("left", "top", "width", "height"))
        runs = [int(text) for text in shape.get("rle", "").split(",")]
        inside = left >= 0 and top >= 0 and left + wide <= width and top + high <= height
        if min(runs) < 0 or sum(runs) != wide * high or not inside:
            raise ValueError
    except (ValueError, OverflowError):
        problems.note(
            "BAD_MASK", where, f"{where}: its rle, left, top, width and height do not fit together or leave the picture"
        )
        return b"", None
    whole = np.zeros((height, width), np.uint8)
    whole[top : top + high, left : left + wide] = np.repeat(np.arange(len(runs)) % 2, runs).reshape(high, wide)
    return rle.encode(whole), [left, top, left + wide, top + high]


# Writing


def meta(labels: Sequence[str]) -> Element:
    """The <meta> element with the list of labels."""
    root = Element("meta")
    holder = SubElement(SubElement(root, "task"), "labels")
    for name in labels:
        SubElement(SubElement(holder, "label"), "name").text = name
    return root


def image(number_: int, name: str, usage: str, size: tuple[int, int], annotation: Annotation) -> Element:
    """The <image> element of a picture."""
    facts = {"id": str(number_), "name": name, "subset": usage, "width": str(size[0]), "height": str(size[1])}
    root = Element("image", facts)
    for label in annotation.labels:
        SubElement(root, "tag", {"label": label, "source": "manual"})
    for place, each in enumerate(annotation.marks, start=1):
        for shape in _shapes(each, size, place):
            root.append(shape)
    return root


def _shapes(each: Mark, size: tuple[int, int], place: int) -> list[Element]:
    said = {"label": each.label, "source": "manual", "occluded": each.attributes.get("occluded", "0")}
    shapes = [Element("polygon", {**said, "points": _points(ring)}) for ring in each.polygons]
    if each.mask:
        shapes.append(Element("mask", {**said, **_mask_facts(each, size)}))
    elif not each.polygons or bounds(each.polygons) != each.box:
        shapes.append(Element("box", {**said, **{e: number(v) for e, v in zip(_EDGES, each.box, strict=True)}}))
    if each.mask and _mask_box(each, size) != each.box:
        shapes.insert(0, Element("box", {**said, **{e: number(v) for e, v in zip(_EDGES, each.box, strict=True)}}))
    for shape in shapes:
        shape.set("z_order", "0")
        if len(shapes) > 1:
            shape.set("group_id", str(place))
        for name, text in each.attributes.items():
            if name not in _NATIVE:
                SubElement(shape, "attribute", {"name": name}).text = text
    return shapes


def _points(ring: Sequence[float]) -> str:
    return ";".join(f"{number(x)},{number(y)}" for x, y in zip(ring[::2], ring[1::2], strict=True))


def _mask_box(each: Mark, size: tuple[int, int]) -> tuple[float, float, float, float]:
    return rle.box_of(rle.decode(each.mask, size[1], size[0]))


def _mask_facts(each: Mark, size: tuple[int, int]) -> Mapping[str, str]:
    whole = rle.decode(each.mask, size[1], size[0])
    left, top, right, bottom = (int(value) for value in rle.box_of(whole))
    runs = rle.counts_of(whole[top:bottom, left:right].T) if right > left else [0]
    facts = {"left": left, "top": top, "width": right - left, "height": bottom - top}
    return {"rle": ", ".join(map(str, runs)), **{name: str(value) for name, value in facts.items()}}
