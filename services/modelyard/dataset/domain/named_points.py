"""Points that a source names one by one (LabelMe, CVAT), put together to the key points of an object.

A point's name has one place in every object's list: the order in which names were first met. Objects that came before a name
was met have shorter lists, which `filled` makes whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from modelyard.dataset.domain.marks import Drawn
from modelyard.formats.annotations import Annotation

WHOLE: Final = "object"
"""Class of an object that is nothing but points, where the source gives it no name."""
MOST_NAMES: Final = 1000
"""Names that are kept: a source that names every point anew has no key points."""


@dataclass(frozen=True)
class NamedPoint:
    """A point in pixels. visible: 1 hidden, 2 visible."""

    name: str
    x: Any
    y: Any
    visible: int = 2


@dataclass
class PointNames:
    """The names met so far, in order."""

    names: dict[str, int] = field(default_factory=dict)

    def place(self, name: str) -> int:
        """The place of a name; a new one goes to the end. -1 where there are too many."""
        if name not in self.names and len(self.names) >= MOST_NAMES:
            return -1
        return self.names.setdefault(name, len(self.names))

    def keypoints(self, points: Iterable[NamedPoint]) -> list[Any]:
        """x, y, visibility of each name met so far; of a name given twice the last counts."""
        placed = [(self.place(point.name), point) for point in points]
        out: list[Any] = [0.0] * (3 * len(self.names))
        for place, point in placed:
            if place >= 0:
                out[3 * place : 3 * place + 3] = [point.x, point.y, float(point.visible)]
        return out


def box_around(points: Sequence[NamedPoint]) -> list[float] | None:
    """Left, top, right, bottom of points; None where a coordinate is no number."""
    try:
        xs, ys = [float(point.x) for point in points], [float(point.y) for point in points]
    except (TypeError, ValueError):
        return None
    return [min(xs), min(ys), max(xs), max(ys)]


def with_points(
    drawn: Sequence[tuple[str, Drawn]], points: Mapping[str, Sequence[NamedPoint]], file: str, names: PointNames
) -> list[Drawn]:
    """Objects with the points of their group ("" for none). Points of a group without an object are an object of their own
    (WHOLE), but for those without a group in a picture of one object, whose they are."""
    left, out = dict(points), []
    alone = len(drawn) == 1
    for group, each in drawn:
        own = left.pop(group, []) if group else []
        own = [*own, *left.pop("", [])] if alone else own
        out.append(replace(each, keypoints=names.keypoints(own)) if own else each)
    for group, own in left.items():
        where = f"{file}: the points of group {group}" if group else f"{file}: its points"
        out.append(Drawn(where, WHOLE, box_around(own), keypoints=names.keypoints(own)))
    return out


def filled(annotation: Annotation, count: int) -> Annotation:
    """The annotation with each list of key points made whole."""
    if not any(0 < len(mark.keypoints) < 3 * count for mark in annotation.marks):
        return annotation

    def whole(points: tuple[float, ...]) -> tuple[float, ...]:
        return (*points, *(0.0,) * (3 * count - len(points))) if points else points

    return replace(annotation, marks=tuple(replace(mark, keypoints=whole(mark.keypoints)) for mark in annotation.marks))
