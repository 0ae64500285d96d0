"""LabelMe's JSON (labelme 5): one file a picture; shapes of one `group_id` are one object.

A shape of type `point` is a key point, named by its label. Points of one `group_id` belong to the object whose other shape has
it; those without one all belong to the only object of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.marks import Drawn, finite, mark
from modelyard.dataset.domain.named_points import NamedPoint, PointNames, with_points
from modelyard.dataset.domain.problems import Problems
from modelyard.formats.annotations import Mark, attribute_text, bounds

VERSION = "5.5.0"


def is_document(raw: Any) -> bool:
    """Whether JSON is LabelMe's."""
    return isinstance(raw, dict) and isinstance(raw.get("shapes"), list) and "imagePath" in raw


def marks(raw: Mapping[str, Any], file: str, problems: Problems, names: PointNames) -> tuple[Mark, ...]:
    """The objects of a picture. names: of key points, as far as they were met. Raises InvalidArgument BAD_LABELME."""
    groups: dict[Any, list[tuple[str, Mapping[str, Any]]]] = {}
    points: dict[str, list[NamedPoint]] = {}
    for number, shape in enumerate(raw["shapes"], start=1):
        where = f"{file}: shape {number}"
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not isinstance(shape.get("points"), list):
            message = f'{where} is {shape!r:.60}; an object with a text "label" and a list "points" is needed'
            raise InvalidArgument("BAD_LABELME", message, file=file, field="shapes")
        if shape.get("shape_type", "polygon") not in ("polygon", "rectangle", "point"):
            what = shape.get("shape_type")
            problems.note("UNSUPPORTED_SHAPE", where, f"{where} is of shape_type {what!r}; polygon, rectangle and point are read")
            continue
        group = shape.get("group_id")
        if shape.get("shape_type") == "point":
            place = _flat(shape["points"])[:2]
            if finite(place) is None or len(place) != 2:
                problems.note("BAD_POLYGON", where, f"{where}: a point is {shape['points']!r:.60}; x and y are needed")
                continue
            point = NamedPoint(shape["label"].strip(), place[0], place[1])
            points.setdefault("" if group is None else str(group), []).append(point)
            continue
        groups.setdefault(("alone", number) if group is None else (str(group), shape["label"]), []).append((where, shape))
    drawn = [(_group(key), _drawn(shapes)) for key, shapes in groups.items()]
    found = [mark(each, problems) for each in with_points(drawn, points, file, names)]
    return tuple(each for each in found if each is not None)


def _group(key: tuple[str, Any]) -> str:
    return "" if key[0] == "alone" else key[0]


def _drawn(shapes: Sequence[tuple[str, Mapping[str, Any]]]) -> Drawn:
    where, first = shapes[0]
    polygons = [_flat(shape["points"]) for _, shape in shapes if shape.get("shape_type", "polygon") == "polygon"]
    boxes = [_flat(shape["points"]) for _, shape in shapes if shape.get("shape_type") == "rectangle"]
    return Drawn(where, first["label"].strip(), boxes[0] if boxes else None, polygons, attributes=_attributes(first))


def _flat(points: Sequence[Any]) -> list[Any]:
    return [value for point in points for value in (point if isinstance(point, list) else [point])]


def _attributes(shape: Mapping[str, Any]) -> dict[str, str]:
    flags, more = shape.get("flags"), shape.get("attributes")
    found = {str(name): attribute_text(value) for name, value in flags.items() if value} if isinstance(flags, dict) else {}
    if isinstance(more, dict):
        found |= {str(name): attribute_text(value) for name, value in more.items()}
    return found


def document(picture: str, size: tuple[int, int], objects: Sequence[Mark]) -> dict[str, Any]:
    """The file of a picture of this width and height."""
    shapes = [shape for number, each in enumerate(objects, start=1) for shape in _shapes(each, number)]
    sizes = {"imageData": None, "imageHeight": size[1], "imageWidth": size[0]}
    return {"version": VERSION, "flags": {}, "shapes": shapes, "imagePath": picture, **sizes}


def _shapes(each: Mark, number: int) -> list[dict[str, Any]]:
    left, top, right, bottom = each.box
    parts = [("polygon", list(map(list, zip(ring[::2], ring[1::2], strict=True)))) for ring in each.polygons]
    if not each.polygons or bounds(each.polygons) != each.box:
        parts.append(("rectangle", [[left, top], [right, bottom]]))
    group = number if len(parts) > 1 else None
    more = {"attributes": dict(each.attributes)} if each.attributes else {}
    return [
        {"label": each.label, "points": points, "group_id": group, "description": "", "shape_type": kind, "flags": {}, **more}
        for kind, points in parts
    ]
