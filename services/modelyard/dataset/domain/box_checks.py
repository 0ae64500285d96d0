"""What is wrong with marked objects: boxes without area, outside, tiny, huge or doubled, one object under two classes, keypoints
outside their box, pictures without an object, classes without one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelyard.core.words import several
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.listing import Text, of_examples
from modelyard.dataset.domain.records import Finding

OUTSIDE = 1.0
"""Pixels by which rounding puts boxes over the edge."""

TINY_SIDE = 4.0
"""A box with a side of fewer pixels is tiny..."""

TINY_SHARE = 1e-4
"""...and so is one that covers a smaller share of its picture."""

HUGE_SHARE = 0.95
"""A box that covers this share of its picture is huge..."""

HUGE_USUAL = 0.2
"""...unless so large a share of all boxes does."""

DOUBLED = 0.9
"""Overlap (intersection over union) from which two boxes are of one object."""

KEYPOINT_SLACK = 0.1
"""Keypoints may lie outside their box by this share of its sides."""

EMPTY_WARNING = 0.5
"""Share of pictures without an object, from which it is a warning."""

_PAIRS_AT_ONCE = 2_000_000

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Objects:
    """M marked objects in N pictures. of int64 [M]: the picture of each, rising. labels int64 [M]: index of its class.

    boxes float64 [M, 4]: left, top, right, bottom in pixels. widths, heights float64 [N]: of the pictures, in pixels.
    keypoints float64 [M, K, 3]: x, y, visibility (0: not marked).
    """

    of: Ints
    labels: Ints
    boxes: Floats
    widths: Floats
    heights: Floats
    keypoints: Floats

    @property
    def sides(self) -> tuple[Floats, Floats]:
        """Width and height of each box, float64 [M]."""
        return self.boxes[:, 2] - self.boxes[:, 0], self.boxes[:, 3] - self.boxes[:, 1]

    @property
    def shares(self) -> Floats:
        """Area of each box to that of its picture, float64 [M]."""
        wide, high = self.sides
        return np.asarray(wide * high / np.maximum(self.widths[self.of] * self.heights[self.of], 1.0), dtype=np.float64)


def box_findings(objects: Objects, classes: Sequence[str], names: Names) -> list[Finding]:
    """Findings of marked objects; each lists the pictures they are in."""
    wide, high = objects.sides
    flat = (wide <= 0) | (high <= 0)
    found = [*_degenerate(objects, classes, flat, names), *_outside(objects, classes, names)]
    found += _tiny(objects, classes, flat, names) + _huge(objects, classes, names)
    found += _doubled(objects, classes, names) + _keypoints(objects, classes, names)
    return found + _empty(objects, names)


def overlaps(boxes: Floats, left: Ints, right: Ints) -> Floats:
    """Intersection over union of pairs of boxes float64 [M, 4]; 0 for boxes without area. Float64 [pairs]."""
    one, other = boxes[left], boxes[right]
    inner = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    shared = np.prod(np.clip(inner, 0, None), axis=1)
    areas = np.prod(np.clip(one[:, 2:] - one[:, :2], 0, None), axis=1) + np.prod(
        np.clip(other[:, 2:] - other[:, :2], 0, None), axis=1
    )
    return np.asarray(shared / np.maximum(areas - shared, 1e-9), dtype=np.float64)


def doubled_pairs(objects: Objects) -> tuple[Ints, Ints, Floats]:
    """Pairs of objects (by position, the earlier first) in one picture whose boxes overlap by DOUBLED or more, and by how
    much."""
    found: list[tuple[Ints, Ints, Floats]] = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for left, right in _pairs(objects.of):
        over = overlaps(objects.boxes, left, right)
        close = over >= DOUBLED
        found.append((left[close], right[close], over[close]))
    lefts, rights, overs = zip(*found, strict=True)
    return np.concatenate(lefts), np.concatenate(rights), np.concatenate(overs)


def _pairs(of: Ints) -> Iterator[tuple[Ints, Ints]]:
    """All pairs of objects of one picture, some millions at once; of int64 [M], rising."""
    count = len(of)
    ends = np.searchsorted(of, of, side="right")  # of each object: where its picture ends
    partners = ends - np.arange(count) - 1
    starts = np.concatenate([[0], np.cumsum(partners)])
    first = 0
    while first < count:
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + _PAIRS_AT_ONCE, side="right")) - 1)
        sizes = partners[first:last]
        left = np.repeat(np.arange(first, last), sizes)
        within = np.arange(len(left)) - np.repeat(starts[first:last] - starts[first], sizes)
        yield left, left + 1 + within
        first = last


def _degenerate(objects: Objects, classes: Sequence[str], flat: npt.NDArray[np.bool_], names: Names) -> list[Finding]:
    places = np.flatnonzero(flat)
    if not len(places):
        return []
    text = Text(
        "DEGENERATE_BOX",
        "warning",
        f"{several(len(places), 'box has', 'boxes have')} no area: {_shown(objects, places, classes, names)}.",
        "An object without area cannot be learned or found; it counts as missed in every score, and can break a training.",
        "Draw it again or remove it.",
    )
    return [_of_pictures(text, objects, places, names)]


def _outside(objects: Objects, classes: Sequence[str], names: Names) -> list[Finding]:
    left, top, right, bottom = objects.boxes.T
    over = np.maximum.reduce([-left, -top, right - objects.widths[objects.of], bottom - objects.heights[objects.of]])
    places = np.flatnonzero(over > OUTSIDE)
    if not len(places):
        return []
    text = Text(
        "BOX_OUTSIDE",
        "warning",
        f"{several(len(places), 'box leaves', 'boxes leave')} the picture by up to {float(over[places].max()):g} pixels: "
        f"{_shown(objects, places, classes, names)}.",
        "The model is asked for an edge that it cannot see; where pictures were resized, every box is in the wrong place.",
        "Cut it at the picture's edge, or look whether the picture was resized after it was annotated.",
    )
    sides = np.maximum(objects.widths, objects.heights)[objects.of[places]]
    return [_of_pictures(text, objects, places, names, np.minimum(1.0, over[places] / np.maximum(sides, 1)))]


def _tiny(objects: Objects, classes: Sequence[str], flat: npt.NDArray[np.bool_], names: Names) -> list[Finding]:
    shortest = np.minimum(*objects.sides)
    places = np.flatnonzero(~flat & ((shortest < TINY_SIDE) | (objects.shares < TINY_SHARE)))
    if not len(places):
        return []
    text = Text(
        "TINY_BOX",
        "warning" if len(places) >= 0.01 * len(flat) else "info",
        f"{several(len(places), 'box is', 'boxes are')} tiny, with a side under {TINY_SIDE:g} pixels or less than "
        f"{TINY_SHARE:.2%} of the picture: {_shown(objects, places, classes, names)}.",
        "After resizing to the model's input nothing of them is left; they count as missed, or were drawn by a "
        "slip of the mouse.",
        "Remove boxes that are slips; for real ones choose a larger input, or cut pictures into tiles.",
    )
    return [
        _of_pictures(text, objects, places, names, 1 - shortest[places] / (2 * max(float(shortest[places].max()), TINY_SIDE)))
    ]


def _huge(objects: Objects, classes: Sequence[str], names: Names) -> list[Finding]:
    shares = objects.shares
    places = np.flatnonzero(shares >= HUGE_SHARE)
    if not len(places) or len(places) > HUGE_USUAL * len(shares):
        return []
    text = Text(
        "HUGE_BOX",
        "info",
        f"{several(len(places), 'box covers', 'boxes cover')} nearly all of the picture: "
        f"{_shown(objects, places, classes, names)}.",
        "Often a box drawn around the whole picture by mistake; the model learns to answer with one.",
        "Look whether the object fills the picture; draw it again where it does not.",
    )
    return [_of_pictures(text, objects, places, names, np.minimum(1.0, shares[places]))]


def _doubled(objects: Objects, classes: Sequence[str], names: Names) -> list[Finding]:
    left, right, over = doubled_pairs(objects)
    same = objects.labels[left] == objects.labels[right]
    found = []
    if same.any():
        places, order = np.unique(right[same], return_index=True)
        text = Text(
            "DOUBLED_BOX",
            "warning",
            f"{several(len(places), 'object is', 'objects are')} marked twice (boxes of one class that overlap by "
            f"{DOUBLED:.0%} or more): "
            f"{_shown(objects, places, classes, names)}.",
            "One of the two is counted as missed, because the model gives one box an object.",
            "Remove one of the two.",
        )
        found.append(_of_pictures(text, objects, places, names, over[same][order]))
    if (~same).any():
        pairs = np.flatnonzero(~same)
        shown = "; ".join(
            f'{names.paths[int(objects.of[left[p]])]}: "{classes[int(objects.labels[left[p]])]}" and '
            f'"{classes[int(objects.labels[right[p]])]}"'
            for p in pairs[:3]
        )
        text = Text(
            "CONFLICTING_BOXES",
            "warning",
            f"{several(len(pairs), 'object is', 'objects are')} marked under two classes at once: {shown}.",
            "Whatever the model says of it, one of the two counts as wrong.",
            "Decide for one class, or write into the guidelines why it is both.",
        )
        places, order = np.unique(right[~same], return_index=True)
        found.append(_of_pictures(text, objects, places, names, over[~same][order]))
    return found


def _keypoints(objects: Objects, classes: Sequence[str], names: Names) -> list[Finding]:
    if not objects.keypoints.size:
        return []
    wide, high = objects.sides
    x, y, visible = (objects.keypoints[:, :, place] for place in range(3))
    left, top, right, bottom = (objects.boxes[:, place, None] for place in range(4))
    slack_x, slack_y = KEYPOINT_SLACK * wide[:, None] + OUTSIDE, KEYPOINT_SLACK * high[:, None] + OUTSIDE
    beside = (x < left - slack_x) | (x > right + slack_x) | (y < top - slack_y) | (y > bottom + slack_y)
    wrong = (beside & (visible > 0)).sum(axis=1)
    places = np.flatnonzero(wrong)
    if not len(places):
        return []
    text = Text(
        "KEYPOINT_OUTSIDE",
        "warning",
        f"{several(int(wrong.sum()), 'keypoint lies', 'keypoints lie')} outside the box of the object, in "
        f"{several(len(places), 'object')}: {_shown(objects, places, classes, names)}.",
        "Keypoints are looked for within the box; what lies outside cannot be found, or belongs to another object.",
        "Look whether points or boxes of two objects were mixed up; draw them again.",
    )
    return [_of_pictures(text, objects, places, names, wrong[places] / objects.keypoints.shape[1])]


def _empty(objects: Objects, names: Names) -> list[Finding]:
    members = np.flatnonzero(np.bincount(objects.of, minlength=len(names.paths)) == 0)
    if not len(members):
        return []
    share = len(members) / len(names.paths)
    text = Text(
        "NO_OBJECTS",
        "warning" if share >= EMPTY_WARNING else "info",
        f"{several(len(members), 'picture has', 'pictures have')} no object ({share:.0%}).",
        "As background they teach what is no object; where the objects were forgotten, they teach to overlook them.",
        "Look whether objects were forgotten in them.",
    )
    return [of_examples(text, names, members, np.full(len(members), 0.3))]


def _of_pictures(text: Text, objects: Objects, places: Ints, names: Names, scores: Floats | None = None) -> Finding:
    """A finding about the pictures of some objects, each picture once, as bad as its worst object."""
    badness = np.ones(len(places)) if scores is None else scores
    worst = np.zeros(len(names.paths))
    np.maximum.at(worst, objects.of[places], badness)
    pictures = np.unique(objects.of[places])
    return of_examples(text, names, pictures, worst[pictures])


def _shown(objects: Objects, places: Ints, classes: Sequence[str], names: Names) -> str:
    """The first few objects: "a.jpg: RBC [1, 2, 3, 4]"."""
    said = []
    for place in places[:3].tolist():
        box = ", ".join(f"{value:g}" for value in objects.boxes[place].tolist())
        said.append(f"{names.paths[int(objects.of[place])]}: {classes[int(objects.labels[place])]} [{box}]")
    return "; ".join(said) + (f"; and {len(places) - 3} more" if len(places) > 3 else "")
