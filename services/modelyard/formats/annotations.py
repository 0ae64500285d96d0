"""What people said of an example: marks in pictures, several labels, intervals of a series. One form for every source format.

Coordinates are pixels from the top left corner of the picture, kept to 1/256 pixel, so that they are exact in float32 and come
back unchanged from any format that writes enough digits. Attributes are texts. `content_hash` does not depend on the order of
marks or attributes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

STEPS: Final = 256
"""Coordinates are multiples of 1/256 pixel."""

LARGEST: Final = 65_536
"""Coordinates lie within this many pixels of the origin: what float32 holds exactly at 1/256 pixel."""

IGNORED: Final = 255
"""Value of a mask's pixels that belong to no class and are not to be judged."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom; right and bottom are the far edges, so that right - left is the width."""


@dataclass(frozen=True)
class Mark:
    """An object marked in a picture: a box, and perhaps its outline or its pixels, and its keypoints."""

    label: str
    box: Box
    polygons: tuple[tuple[float, ...], ...] = ()  # rings x1, y1, x2, y2...; the object is their union
    mask: bytes = b""  # run lengths of the whole picture as COCO packs them (formats/annotations_rle.py)
    keypoints: tuple[float, ...] = ()  # x, y, visibility (0 not marked, 1 hidden, 2 visible) of each
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def degenerate(self) -> bool:
        """Whether its box has no area."""
        return self.box[2] <= self.box[0] or self.box[3] <= self.box[1]


@dataclass(frozen=True)
class Interval:
    """Steps `start` to `end` (exclusive) of a series, and what is the matter there."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Annotation:
    """All that is said of one example. `attributes` (speaker, device) say where it comes from: no part of the content."""

    marks: tuple[Mark, ...] = ()
    labels: tuple[str, ...] = ()
    intervals: tuple[Interval, ...] = ()
    mask_sha256: str = ""  # of a mask that says of each pixel what it is: see `mask_hash`
    attributes: Mapping[str, str] = field(default_factory=dict)


def snap(value: float) -> float:
    """The nearest multiple of 1/256 within reach. NaN and infinity are the caller's to refuse."""
    return round(max(-LARGEST, min(LARGEST, value)) * STEPS) / STEPS


def snap_all(values: Sequence[float]) -> tuple[float, ...]:
    """Each value snapped."""
    return tuple(snap(value) for value in values)


def bounds(polygons: Sequence[Sequence[float]]) -> Box:
    """The smallest box around polygons of at least one point."""
    xs = [value for ring in polygons for value in ring[::2]]
    ys = [value for ring in polygons for value in ring[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def attribute_text(value: Any) -> str:
    """An attribute's value as text: true, false, 3, 0.5, or the text itself; lists and objects as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and math.isfinite(value):
        return str(int(value))
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def attributes_json(attributes: Mapping[str, str]) -> str:
    """Attributes as canonical JSON; "" where there are none."""
    return json.dumps(dict(attributes), ensure_ascii=False, sort_keys=True) if attributes else ""


def content_hash(annotation: Annotation) -> str:
    """SHA-256 of what an annotation says, 64 hexadecimal digits: equal for equal content, whatever the order it came in."""
    said = [
        sorted(_mark_text(mark) for mark in annotation.marks),
        sorted(annotation.labels),
        sorted([each.start, each.end, each.label] for each in annotation.intervals),
        annotation.mask_sha256,
    ]
    return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()


def mask_hash(classes: npt.NDArray[np.uint8]) -> str:
    """SHA-256 of a mask uint8 [H, W] of class indices and its size."""
    height, width = classes.shape
    return hashlib.sha256(f"{height} {width}\n".encode() + np.ascontiguousarray(classes).tobytes()).hexdigest()


def _mark_text(mark: Mark) -> str:
    def steps(values: Sequence[float]) -> list[int]:
        return [round(value * STEPS) for value in values]

    polygons = sorted(steps(ring) for ring in mark.polygons)
    said = [mark.label, steps(mark.box), polygons, mark.mask.decode("ascii"), steps(mark.keypoints), dict(mark.attributes)]
    return json.dumps(said, ensure_ascii=False, sort_keys=True)


# As JSON, for whoever keeps annotations for a while


def to_wire(annotation: Annotation) -> str:
    """The annotation as JSON; floats come back exactly."""
    marks = [[m.label, m.box, m.polygons, m.mask.decode("ascii"), m.keypoints, dict(m.attributes)] for m in annotation.marks]
    intervals = [[each.start, each.end, each.label] for each in annotation.intervals]
    return json.dumps([marks, annotation.labels, intervals, annotation.mask_sha256, dict(annotation.attributes)])


def from_wire(text: str) -> Annotation:
    """What `to_wire` wrote."""
    marks, labels, intervals, mask_sha256, attributes = json.loads(text)
    return Annotation(
        tuple(
            Mark(label, tuple(box), tuple(tuple(ring) for ring in polygons), mask.encode("ascii"), tuple(points), said)
            for label, box, polygons, mask, points, said in marks
        ),
        tuple(labels),
        tuple(Interval(*each) for each in intervals),
        mask_sha256,
        attributes,
    )


# Columns of a manifest


def mark_type() -> pa.DataType:
    """Type of an element of the column `marks`: the class by its index, the box as four float32."""
    import pyarrow as pa

    return pa.struct(
        [
            ("label", pa.int32()),
            ("box", pa.list_(pa.float32(), 4)),
            ("polygons", pa.list_(pa.list_(pa.float32()))),
            ("mask", pa.binary()),
            ("keypoints", pa.list_(pa.float32())),
            ("attributes", pa.string()),
        ]
    )


def interval_type() -> pa.DataType:
    """Type of an element of the column `intervals`."""
    import pyarrow as pa

    return pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.int32())])


def mark_row(mark: Mark, index: Mapping[str, int]) -> dict[str, Any]:
    """A mark as the column `marks` takes it."""
    return {
        "label": index[mark.label],
        "box": mark.box,
        "polygons": mark.polygons,
        "mask": mark.mask or None,
        "keypoints": mark.keypoints or None,
        "attributes": attributes_json(mark.attributes) or None,
    }


def mark_from(row: Mapping[str, Any], classes: Sequence[str]) -> Mark:
    """A mark as the column `marks` holds it."""
    return Mark(
        classes[row["label"]],
        tuple(row["box"]),
        tuple(tuple(ring) for ring in row["polygons"] or ()),
        row["mask"] or b"",
        tuple(row["keypoints"] or ()),
        json.loads(row["attributes"]) if row["attributes"] else {},
    )
