"""Mean average precision at an overlap of 0.5, as quickly as a validation after every epoch wants it. The evaluator's is
COCO's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

OVERLAP = 0.5

Floats = npt.NDArray[np.float32]


class Found(NamedTuple):
    """A picture: true objects [G, 5] (class and box), and what was found: boxes [K, 4], scores [K] falling, classes [K] (-1:
    none)."""

    objects: Floats
    boxes: Floats
    scores: Floats
    labels: npt.NDArray[np.int64]


def mean_average_precision(pictures: Sequence[Found], classes: int) -> float:
    """Mean over the classes that occur of the area under precision (made falling) over recall; 0 where none occurs."""
    areas = [area for label in range(classes) if (area := _average_precision(pictures, label)) is not None]
    return float(np.mean(areas)) if areas else 0.0


def _average_precision(pictures: Sequence[Found], label: int) -> float | None:
    scores: list[float] = []
    hits: list[bool] = []
    total = 0
    for picture in pictures:
        true = picture.objects[picture.objects[:, 0] == label, 1:]
        total += len(true)
        which = np.flatnonzero((picture.labels == label) & (picture.scores > 0))
        overlaps = _overlaps(picture.boxes[which], true)
        free = np.ones(len(true), bool)
        for row, place in enumerate(which):
            best = int(np.argmax(np.where(free, overlaps[row], -1))) if len(true) else -1
            hit = best >= 0 and free[best] and overlaps[row, best] >= OVERLAP
            if hit:
                free[best] = False
            scores.append(float(picture.scores[place]))
            hits.append(bool(hit))
    if not total:
        return None
    if not scores:
        return 0.0
    right = np.array(hits)[np.argsort(-np.array(scores), kind="stable")]
    found = np.cumsum(right)
    precision = np.maximum.accumulate((found / np.arange(1, len(right) + 1))[::-1])[::-1]
    return float((precision * right).sum() / total)


def _overlaps(boxes: Any, true: Any) -> Any:
    """Intersection over union [K, G]."""
    size = np.clip(np.minimum(boxes[:, None, 2:], true[:, 2:]) - np.maximum(boxes[:, None, :2], true[:, :2]), 0, None)
    shared = size.prod(axis=2)
    areas, others = ((each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, true))
    return shared / np.maximum(areas[:, None] + others - shared, 1e-9)
