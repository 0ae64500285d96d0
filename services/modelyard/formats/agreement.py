"""Whether two answers of a model say the same, where numbers cannot be compared place by place: boxes found, classes of pixels.

Two computations of one network differ in the last digit. Then two boxes may change places in the order of their scores, and a
pixel between two classes may fall to the other; that is no difference. What each answer says is looked for in the other instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.formats.dataset_descriptor import KEYPOINT_DETECTION, OBJECT_DETECTION, SEMANTIC_SEGMENTATION

Array = NDArray[Any]

BOXES, SCORES, CLASSES = "boxes", "scores", "classes"
MASK: Final = "mask"
KEYPOINTS: Final = "keypoints"
JUDGED_SCORE: Final = 0.1
"""Boxes with a lower score are not looked for: what is hardly found may be lost."""
SAME_PLACE: Final = 0.02
"""By how much scores and edges (shares of the picture) of a box may differ between two computations of one model."""
LEAST_SHARES: Final[Mapping[str, float]] = {"int8": 0.7, "dynamic_int8": 0.9, "fp16": 0.97}
"""By precision the share that must agree when the same bytes answer on another processor, or in a batch; others: LEAST_SHARE."""
LEAST_SHARE: Final = 0.995


@dataclass(frozen=True)
class Agreement:
    """share: of all boxes of both answers, of all pixels or points, those that the other answer has too; 1 where there is
    none at all. difference: the largest between the scores of boxes that are the same (0 for masks)."""

    share: float
    difference: float


def compared_as_sets(task: str) -> bool:
    """Whether answers of a task are compared by `agreement`."""
    return task in (OBJECT_DETECTION, SEMANTIC_SEGMENTATION, KEYPOINT_DETECTION)


def agreement(task: str, first: Mapping[str, Array], second: Mapping[str, Array], near: float) -> Agreement:
    """Two answers to the same examples, the first axis of each array. near: by how much scores and places (0 to 1) may differ."""
    if task == SEMANTIC_SEGMENTATION:
        return Agreement(float(np.mean(first[MASK] == second[MASK])), 0.0)
    if task == KEYPOINT_DETECTION:
        return _same_points(first[KEYPOINTS], second[KEYPOINTS], near)
    same = total = 0
    largest = 0.0
    for place in range(len(first[SCORES])):
        one, other = ({name: part[name][place] for name in (BOXES, SCORES, CLASSES)} for part in (first, second))
        for mine, theirs in ((one, other), (other, one)):
            found, count, difference = _found_again(mine, theirs, near)
            same, total, largest = same + found, total + count, max(largest, difference)
    return Agreement(same / total if total else 1.0, largest)


def _same_points(first: Array, second: Array, near: float) -> Agreement:
    """Points [N, K, 3]. Those that both hardly find may lie anywhere; scores may differ by twice as much as places."""
    one, other = first.astype(np.float64), second.astype(np.float64)
    hardly = np.maximum(one[..., 2], other[..., 2]) < JUDGED_SCORE + near
    away = np.abs(one[..., :2] - other[..., :2]).max(axis=2)
    apart = np.abs(one[..., 2] - other[..., 2])
    same = hardly | ((away <= near) & (apart <= 2 * near))
    alike = same & ~hardly
    return Agreement(float(same.mean()) if same.size else 1.0, float(apart[alike].max()) if alike.any() else 0.0)


def least_share(precision: str) -> float:
    """The share that must agree where the same bytes answer twice."""
    return LEAST_SHARES.get(precision, LEAST_SHARE)


def _found_again(mine: Mapping[str, Array], theirs: Mapping[str, Array], near: float) -> tuple[int, int, float]:
    """How many of my boxes the other has, how many I have, and the largest difference of their scores."""
    which = np.flatnonzero(mine[SCORES] >= JUDGED_SCORE + near)
    if not len(which):
        return 0, 0, 0.0
    places = np.abs(mine[BOXES][which, None] - theirs[BOXES][None]).max(axis=2)
    scores = np.abs(mine[SCORES][which, None].astype(np.float64) - theirs[SCORES][None])
    alike = (mine[CLASSES][which, None] == theirs[CLASSES][None]) & (places <= near) & (scores <= near)
    found = alike.any(axis=1)
    nearest = np.where(alike, scores, np.inf).min(axis=1)
    return int(found.sum()), len(which), float(nearest[found].max()) if found.any() else 0.0
