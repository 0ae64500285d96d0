"""From which probability on a class counts as found, for devices that say nothing when they are not sure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

UNKNOWN: Final = 0.5
"""For a class that the examples do not tell apart: all of them are of it, or none is."""


def class_thresholds(probabilities: Array, labels: Sequence[str], classes: Sequence[str]) -> tuple[float, ...]:
    """For each class the probability from which on calling it gives the largest F1, one class against the rest.

    probabilities [N, classes] of examples that were not trained on, labels [N]. Half-way to the next lower probability that
    occurs; of several the one nearest to 0.5.
    """
    truth = np.array(labels, dtype=object)
    return tuple(_threshold(probabilities[:, number], truth == name) for number, name in enumerate(classes))


def _threshold(scores: Array, positive: Array) -> float:
    if not positive.any() or positive.all():
        return UNKNOWN
    values, place = np.unique(scores, return_inverse=True)
    called = np.bincount(place)[::-1].cumsum()[::-1]
    found = np.bincount(place, weights=positive)[::-1].cumsum()[::-1]
    f1 = 2 * found / (called + positive.sum())
    halfway = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2])
    best = halfway[f1 >= f1.max() * (1 - 1e-12)]
    return float(best[np.abs(best - 0.5).argmin()])
