"""From what a source says of an object to a mark: corners in order, coordinates that can be, outlines that enclose something."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from modelyard.dataset.domain.problems import Problems
from modelyard.formats.annotations import Annotation, Box, Mark, bounds, snap_all

_OUTSIDE = 1.0  # pixels: rounding puts boxes that much over the edge


@dataclass(frozen=True)
class Drawn:
    """An object as a source gives it, in pixels. `box` may be missing where there are polygons."""

    where: str  # file, and line or id
    label: str
    box: Sequence[Any] | None = None  # left, top, right, bottom
    polygons: Sequence[Sequence[Any]] = ()
    mask: bytes = b""
    keypoints: Sequence[Any] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


def mark(drawn: Drawn, problems: Problems) -> Mark | None:
    """The mark, or None where nothing can be made of it; what is wrong is noted."""
    polygons = tuple(ring for each in drawn.polygons if (ring := _ring(each, drawn.where, problems)))
    box = _box(drawn.box, polygons, drawn, problems)
    if box is None:
        return None
    points = _keypoints(drawn, problems)
    made = Mark(drawn.label, box, polygons, drawn.mask, points, dict(drawn.attributes))
    if made.degenerate:
        size = f"width {box[2] - box[0]:g}, height {box[3] - box[1]:g}"
        message = f'{drawn.where}: the box {shown(box)} of class "{drawn.label}" has no area ({size}); both must be above 0'
        problems.note("DEGENERATE_BOX", drawn.where, message)
    return made


def outside(annotation: Annotation, width: int, height: int, where: str, problems: Problems) -> None:
    """Notes the boxes that leave the picture by more than a pixel."""
    for each in annotation.marks:
        left, top, right, bottom = each.box
        if left < -_OUTSIDE or top < -_OUTSIDE or right > width + _OUTSIDE or bottom > height + _OUTSIDE:
            message = (
                f'{where}: the box {shown(each.box)} of class "{each.label}" leaves the picture of {width} x {height} pixels'
            )
            problems.note("BOX_OUTSIDE", where, message)


def merged(first: Annotation, second: Annotation) -> Annotation:
    """What two files say of one picture; what both say is kept once."""
    marks = [*first.marks, *(each for each in second.marks if each not in first.marks)]
    labels = dict.fromkeys([*first.labels, *second.labels])
    return replace(first, marks=tuple(marks), labels=tuple(labels), attributes={**second.attributes, **first.attributes})


def shown(values: Sequence[float]) -> str:
    """Numbers as people write them."""
    return f"[{', '.join(f'{value:g}' for value in values)}]"


def _ring(values: Sequence[Any], where: str, problems: Problems) -> tuple[float, ...]:
    numbers = finite(values)
    if numbers is None or len(numbers) % 2 or len(numbers) < 6:
        what = f"{len(values) // 2} points" if numbers is not None else "values that are no numbers"
        message = f"{where}: a polygon of {what} ({len(values)} values); three points (6 values) or more are needed"
        problems.note("BAD_POLYGON", where, message)
        return ()
    return snap_all(numbers)


def _box(given: Sequence[Any] | None, polygons: Sequence[Sequence[float]], drawn: Drawn, problems: Problems) -> Box | None:
    if given is None:
        if polygons:
            return bounds(polygons)
        problems.note("BAD_BOX", drawn.where, f"{drawn.where}: no box and no outline of the object")
        return None
    numbers = finite(given)
    if numbers is None or len(numbers) != 4:
        problems.note("BAD_BOX", drawn.where, f"{drawn.where}: the box is {list(given)!r:.80}; four finite numbers are needed")
        return None
    left, top, right, bottom = snap_all(numbers)
    if left > right or top > bottom:
        message = f'{drawn.where}: the box {shown((left, top, right, bottom))} of class "{drawn.label}" has its corners turned'
        problems.note("TURNED_BOX", drawn.where, message + " (left must be below right, top below bottom)")
    return min(left, right), min(top, bottom), max(left, right), max(top, bottom)


def _keypoints(drawn: Drawn, problems: Problems) -> tuple[float, ...]:
    if not drawn.keypoints:
        return ()
    numbers = finite(drawn.keypoints)
    if numbers is None or len(numbers) % 3:
        problems.note(
            "BAD_POLYGON", drawn.where, f"{drawn.where}: keypoints are x, y, visibility; {len(drawn.keypoints)} values given"
        )
        return ()
    return snap_all(numbers) if any(numbers) else ()


def finite(values: Sequence[Any]) -> list[float] | None:
    """The values as floats; None when one is no finite number."""
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        return None
    return numbers if all(math.isfinite(number) for number in numbers) else None
