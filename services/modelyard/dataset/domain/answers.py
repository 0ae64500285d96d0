"""Answers of annotators: what they say, checked against the label schema and the example, and when two say the same."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.label_schema import (
    BOX,
    CHOICE,
    CLASS,
    CLASSES,
    FLAG,
    KEYPOINTS,
    MASK,
    NUMBER,
    OBJECT_SHAPES,
    POLYGON,
    RANGE,
    TEXT,
    Attribute,
    LabelSchema,
)
from modelyard.formats import annotations_rle
from modelyard.formats.annotations import Annotation, Interval, Mark, bounds, content_hash, snap, snap_all

MOST_OBJECTS = 10_000
MOST_POINTS = 100_000
LONGEST_TEXT = 10_000
LONGEST_VALUE = 1000
MOST_CELLS = 50_000_000
"""Pixels of a picture whose masks are taken."""


@dataclass(frozen=True)
class Facts:
    """What is known of an example that answers must fit: size of a picture in pixels, steps of a series; 0 where it is none."""

    width: int = 0
    height: int = 0
    steps: int = 0


@dataclass(frozen=True)
class Answer:
    """What somebody says of an example."""

    classes: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()
    intervals: tuple[Interval, ...] = ()
    text: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its one class; "" where it has none or several."""
        return self.classes[0] if len(self.classes) == 1 else ""


def checked_answer(answer: Answer, schema: LabelSchema, facts: Facts, path: str = "answer") -> Answer:
    """The answer in its one form: coordinates snapped, boxes filled in. Raises InvalidArgument BAD_ANSWER naming the field."""
    _check_shapes(answer, schema, path)
    names = set(schema.class_names)
    for number, name in enumerate(answer.classes):
        _check_class(name, names, schema, f"{path}.classes[{number}]")
    if len(set(answer.classes)) != len(answer.classes):
        raise _bad(f"{path}.classes", ", ".join(answer.classes), "each class is named once")
    if CLASS in schema.shapes and len(answer.classes) != 1:
        raise _bad(f"{path}.classes", f"{len(answer.classes)} classes", "exactly one is needed")
    if len(answer.text) > LONGEST_TEXT:
        raise _bad(f"{path}.text", f"{len(answer.text)} characters", f"at most {LONGEST_TEXT} are kept")
    if set(schema.shapes) == {TEXT} and not answer.text.strip():
        raise _bad(f"{path}.text", answer.text, "a text is needed")
    if len(answer.marks) + len(answer.intervals) > MOST_OBJECTS:
        raise _bad(f"{path}.objects", f"{len(answer.marks)} objects", f"there are at most {MOST_OBJECTS}")
    marks = tuple(
        _checked_mark(mark, schema, names, facts, f"{path}.objects[{number}]") for number, mark in enumerate(answer.marks)
    )
    for number, each in enumerate(answer.intervals):
        _check_interval(each, names, schema, facts, f"{path}.ranges[{number}]")
    attributes = _checked_attributes(answer.attributes, schema.attributes, f"{path}.attributes")
    order = {name: place for place, name in enumerate(schema.class_names)}
    classes = tuple(sorted(answer.classes, key=lambda name: order[name]))
    intervals = tuple(sorted(answer.intervals, key=lambda each: (each.start, each.end, each.label)))
    return Answer(classes, marks, intervals, answer.text.strip(), attributes)


def same(one: Answer, other: Answer) -> bool:
    """Whether two answers say the same, whatever the order."""
    return answer_hash(one) == answer_hash(other)


def answer_hash(answer: Answer) -> str:
    """Equal for answers that say the same."""
    said = content_hash(Annotation(answer.marks, answer.classes, answer.intervals))
    return json.dumps([said, answer.text, dict(answer.attributes)], sort_keys=True)


def _check_shapes(answer: Answer, schema: LabelSchema, path: str) -> None:
    said = (
        (bool(answer.classes), {CLASS, CLASSES}, "classes"),
        (bool(answer.marks), set(OBJECT_SHAPES), "objects"),
        (bool(answer.intervals), {RANGE}, "ranges"),
        (bool(answer.text), {TEXT}, "text"),
    )
    for is_there, shapes, name in said:
        if is_there and not shapes & set(schema.shapes):
            raise _bad(f"{path}.{name}", "set", f"the label schema asks for {', '.join(schema.shapes)}")


def _check_class(name: str, names: set[str], schema: LabelSchema, path: str) -> None:
    if name not in names:
        listed = ", ".join(schema.class_names[:50])
        raise _bad(path, name, f"the classes are {listed}")


def _checked_mark(mark: Mark, schema: LabelSchema, names: set[str], facts: Facts, path: str) -> Mark:
    _check_class(mark.label, names, schema, f"{path}.label")
    _check_numbers(mark.box, f"{path}.box")
    if mark.box and len(mark.box) != 4:
        raise _bad(f"{path}.box", f"{len(mark.box)} numbers", "it is left, top, right, bottom")
    if mark.polygons and POLYGON not in schema.shapes and MASK not in schema.shapes:
        raise _bad(f"{path}.polygons", "set", f"the label schema asks for {', '.join(schema.shapes)}")
    rings = tuple(_checked_ring(ring, facts, f"{path}.polygons[{number}]") for number, ring in enumerate(mark.polygons))
    mask = _checked_mask(mark.mask, schema, facts, f"{path}.mask") if mark.mask else b""
    points = _checked_points(mark.keypoints, schema, facts, f"{path}.keypoints") if mark.keypoints else ()
    found = _box(mark, rings, mask, points, facts, path)
    if not (rings or mask or points) and BOX not in schema.shapes:
        raise _bad(path, "a box alone", f"the label schema asks for {', '.join(schema.shapes)}")
    known = schema.class_named(mark.label)
    attributes = _checked_attributes(mark.attributes, known.attributes if known else (), f"{path}.attributes")
    return Mark(mark.label, found, rings, mask, points, attributes)


def _box(
    mark: Mark, rings: Sequence[Sequence[float]], mask: bytes, points: Sequence[float], facts: Facts, path: str
) -> tuple[float, float, float, float]:
    if mark.box:
        left, top, right, bottom = (snap(value) for value in mark.box)
    elif rings:
        left, top, right, bottom = bounds(rings)
    elif mask:
        left, top, right, bottom = annotations_rle.box_of(annotations_rle.decode(mask, facts.height, facts.width))
    elif points:
        seen = [(x, y) for x, y, visible in zip(points[::3], points[1::3], points[2::3], strict=True) if visible]
        xs, ys = [x for x, _ in seen], [y for _, y in seen]
        left, top, right, bottom = (min(xs), min(ys), max(xs), max(ys)) if seen else (0.0, 0.0, 0.0, 0.0)
    else:
        raise _bad(path, "nothing", "an object has a box, an outline, pixels or points")
    if (right <= left or bottom <= top) and not (points or mask):
        raise _bad(f"{path}.box", f"{left:g}, {top:g}, {right:g}, {bottom:g}", "its right and bottom lie beyond its left and top")
    if facts.width and (left < 0 or top < 0 or right > facts.width or bottom > facts.height):
        shown = f"{left:g}, {top:g}, {right:g}, {bottom:g}"
        raise _bad(f"{path}.box", shown, f"it lies within the picture, 0, 0, {facts.width}, {facts.height}")
    return left, top, right, bottom


def _checked_ring(ring: Sequence[float], facts: Facts, path: str) -> tuple[float, ...]:
    _check_numbers(ring, path)
    if len(ring) < 6 or len(ring) % 2 or len(ring) > 2 * MOST_POINTS:
        raise _bad(path, f"{len(ring)} numbers", "it is x and y of at least three points")
    _check_inside(ring[::2], ring[1::2], facts, path)
    return snap_all(ring)


def _checked_points(points: Sequence[float], schema: LabelSchema, facts: Facts, path: str) -> tuple[float, ...]:
    _check_numbers(points, path)
    if KEYPOINTS not in schema.shapes or len(points) != 3 * len(schema.keypoints):
        raise _bad(path, f"{len(points)} numbers", f"it is x, y, visibility of each of {len(schema.keypoints)} points")
    for number, visible in enumerate(points[2::3]):
        if visible not in (0, 1, 2):
            raise _bad(f"{path}[{3 * number + 2}]", f"{visible:g}", "visibility is 0 (not marked), 1 (hidden) or 2 (visible)")
    seen = [(x, y) for x, y, visible in zip(points[::3], points[1::3], points[2::3], strict=True) if visible]
    _check_inside([x for x, _ in seen], [y for _, y in seen], facts, path)
    return snap_all(points)


def _checked_mask(mask: bytes, schema: LabelSchema, facts: Facts, path: str) -> bytes:
    if MASK not in schema.shapes and POLYGON not in schema.shapes:
        raise _bad(path, "set", f"the label schema asks for {', '.join(schema.shapes)}")
    if not facts.width or facts.width * facts.height > MOST_CELLS:
        raise _bad(path, "set", f"pixels are marked in pictures of at most {MOST_CELLS} pixels")
    try:
        counts = annotations_rle.unpack(mask)
    except InvalidArgument as error:
        raise _bad(path, f"{len(mask)} bytes", error.message) from error
    if sum(counts) != facts.width * facts.height:
        right = f"they cover the picture's {facts.width} x {facts.height} pixels"
        raise _bad(path, f"run lengths of {sum(counts)} pixels", right)
    return annotations_rle.pack(annotations_rle.plain(counts))


def _check_inside(xs: Sequence[float], ys: Sequence[float], facts: Facts, path: str) -> None:
    if not facts.width:
        return
    if any(not 0 <= x <= facts.width for x in xs) or any(not 0 <= y <= facts.height for y in ys):
        raise _bad(path, "points outside", f"they lie within the picture, {facts.width} x {facts.height} pixels")


def _check_numbers(values: Sequence[float], path: str) -> None:
    if any(not math.isfinite(value) for value in values):
        raise _bad(path, "not a number", "coordinates are finite numbers")


def _check_interval(each: Interval, names: set[str], schema: LabelSchema, facts: Facts, path: str) -> None:
    _check_class(each.label, names, schema, f"{path}.label")
    if not 0 <= each.start < each.end:
        raise _bad(path, f"{each.start} to {each.end}", "it begins at 0 or later and ends after its beginning")
    if facts.steps and each.end > facts.steps:
        raise _bad(f"{path}.end", str(each.end), f"the series has {facts.steps} steps")


def _checked_attributes(given: Mapping[str, str], asked: Sequence[Attribute], path: str) -> dict[str, str]:
    known = {each.name: each for each in asked}
    for name, value in given.items():
        if name not in known:
            raise _bad(f"{path}[{name[:80]}]", value, f"the attributes are {', '.join(known) or 'none'}")
        _check_value(value, known[name], f"{path}[{name}]")
    for each in asked:
        if each.required and not given.get(each.name):
            raise _bad(f"{path}[{each.name}]", "", "the label schema requires it")
    return {name: given[name] for name in sorted(given)}


def _check_value(value: str, asked: Attribute, path: str) -> None:
    if len(value) > LONGEST_VALUE:
        raise _bad(path, f"{len(value)} characters", f"at most {LONGEST_VALUE} are kept")
    if asked.kind == CHOICE and value not in asked.values:
        raise _bad(path, value, f"it is one of {', '.join(asked.values[:50])}")
    if asked.kind == FLAG and value not in ("true", "false"):
        raise _bad(path, value, "it is true or false")
    if asked.kind == NUMBER:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise _bad(path, value, "it is a number")


def _bad(field_: str, value: str, right: str) -> InvalidArgument:
    shown = value[:80]
    return InvalidArgument("BAD_ANSWER", f"{field_} is {shown!r}; {right}", field=field_, value=shown)


# As JSON, in the database and in what goes to a worker


def to_json(answer: Answer) -> dict[str, Any]:
    """The answer as JSON; floats come back exactly. What is empty is left out."""
    marks = [
        [m.label, list(m.box), [list(ring) for ring in m.polygons], m.mask.decode("ascii"), list(m.keypoints), dict(m.attributes)]
        for m in answer.marks
    ]
    said: dict[str, Any] = {
        "classes": list(answer.classes),
        "marks": marks,
        "ranges": [[each.start, each.end, each.label] for each in answer.intervals],
        "text": answer.text,
        "attributes": dict(answer.attributes),
    }
    return {name: value for name, value in said.items() if value}


def from_json(said: Mapping[str, Any]) -> Answer:
    """What `to_json` wrote."""
    return Answer(
        classes=tuple(said.get("classes", ())),
        marks=tuple(
            Mark(label, tuple(box), tuple(tuple(ring) for ring in rings), mask.encode("ascii"), tuple(points), attributes)
            for label, box, rings, mask, points, attributes in said.get("marks", ())
        ),
        intervals=tuple(Interval(start, end, label) for start, end, label in said.get("ranges", ())),
        text=said.get("text", ""),
        attributes=said.get("attributes", {}),
    )


def with_classes(answer: Answer, classes: Sequence[str]) -> Answer:
    """The answer with other classes."""
    return replace(answer, classes=tuple(classes))
