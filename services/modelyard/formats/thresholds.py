"""Where to draw the line between two classes: one rule for evaluations, and for what a bundle's card tells a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

UNKNOWN: Final = 0.5
"""The threshold of a class that the examples do not tell apart: all of them are of it, or none is."""


def f1_at_every_score(scores: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The different scores, rising, and F1 [M] of calling positive what scores at least as much. 0 where nothing is positive."""
    thresholds, place = np.unique(scores, return_inverse=True)
    called = np.bincount(place, minlength=len(thresholds))[::-1].cumsum()[::-1]
    found = np.bincount(place, weights=positive, minlength=len(thresholds))[::-1].cumsum()[::-1]
    return thresholds, np.asarray(2 * found / (called + int(positive.sum())), dtype=np.float64)


def best_threshold(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The threshold with the largest F1, half-way to the next lower score; of several the one nearest to 0.5.

    0.0 where there is nothing to choose by: no example, or not both kinds of example.
    """
    if not positive.any() or positive.all():
        return 0.0
    thresholds, f1 = f1_at_every_score(scores, positive)
    halfway = np.concatenate([thresholds[:1], (thresholds[1:] + thresholds[:-1]) / 2])
    best = halfway[f1 >= f1.max() * (1 - 1e-12)]
    return float(best[np.abs(best - 0.5).argmin()])


def class_thresholds(probabilities: Floats, labels: Sequence[str], classes: Sequence[str]) -> tuple[float, ...]:
    """For each class the best threshold of that class against the rest, UNKNOWN where there is nothing to choose by.

    probabilities [N, classes] of examples that were not trained on, labels [N].
    """
    truth: NDArray[Any] = np.array(labels, dtype=object)
    return tuple(_of_class(probabilities[:, number], truth == name) for number, name in enumerate(classes))


def _of_class(scores: Floats, positive: NDArray[np.bool_]) -> float:
    return best_threshold(scores, positive) if positive.any() and not positive.all() else UNKNOWN
