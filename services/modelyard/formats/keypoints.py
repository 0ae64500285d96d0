"""Key points as every service sees them: of which object of a picture they are, where they lie, how alike two sets are.

The similarity is COCO's object keypoint similarity, exp(-d^2 / (2 s^2 k^2)) with d the distance, s the square root of the
object's area and k a constant of the point. COCO measured k for the joints of people; points of other things have none, so all
have the same here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from modelyard.formats.dataset_annotated import Marks

Floats = NDArray[np.float64]

SIMILARITY: Final = 0.1
"""k: a point that is off by a tenth of the object's size is 0.61 alike. (COCO: 0.05 for eyes, 0.16 shoulders, 0.21 hips.)"""
LEAST_EXTENT: Final = 0.05
"""The object's width and height are at least this share of the longer of the two: a pointer's box may be a line."""


def largest_objects(marks: Marks) -> NDArray[np.int64]:
    """For each picture the mark whose points are looked for: the largest box among those with a marked point; -1 without one."""
    boxes = marks.boxes
    with_points: NDArray[np.bool_] = np.zeros(0, bool)
    if marks.keypoints.shape[1]:
        with_points = np.asarray(marks.keypoints[..., 2].any(axis=1), bool)
    areas = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
    out = np.full(len(marks.starts) - 1, -1, np.int64)
    for place in range(len(out)):
        rows = np.arange(marks.starts[place], marks.starts[place + 1])
        rows = rows[with_points[rows]] if len(with_points) else rows[:0]
        if len(rows):
            out[place] = rows[int(areas[rows].argmax())]
    return out


def several_objects(marks: Marks) -> int:
    """How many pictures show several objects with marked points."""
    if not marks.keypoints.shape[1]:
        return 0
    counted = np.concatenate([[0], np.cumsum(marks.keypoints[..., 2].any(axis=1))])
    return int((np.diff(counted[marks.starts]) > 1).sum())


def points_of(marks: Marks, sizes: Floats) -> tuple[Floats, Floats]:
    """Of N pictures whose width and height are `sizes` [N, 2] the points [N, K, 3] (x and y as shares of the picture, 0 to 1 and
    beyond; 1 where marked, else 0) and the object's width and height [N, 2] as such shares (0: no object)."""
    chosen, count = largest_objects(marks), marks.keypoints.shape[1]
    points, extents = np.zeros((len(chosen), count, 3)), np.zeros((len(chosen), 2))
    here = np.flatnonzero(chosen >= 0)
    found = marks.keypoints[chosen[here]].astype(np.float64)
    marked = found[..., 2] > 0
    points[here, :, 2] = marked
    points[here, :, :2] = np.where(marked[..., None], found[..., :2] / sizes[here, None], 0.0)
    extents[here] = _extents(marks.boxes[chosen[here]].astype(np.float64), found[..., :2], marked) / sizes[here]
    return points, extents


def _extents(boxes: Floats, places: Floats, marked: NDArray[np.bool_]) -> Floats:
    """Width and height in pixels [N, 2]: of the box, or of what the points span where that is larger."""
    low = np.where(marked[..., None], places, np.inf).min(axis=1)
    high = np.where(marked[..., None], places, -np.inf).max(axis=1)
    extent = np.maximum(boxes[:, 2:] - boxes[:, :2], high - low)
    return np.asarray(np.maximum(extent, LEAST_EXTENT * np.maximum(extent.max(axis=1, keepdims=True), 1.0)), np.float64)
