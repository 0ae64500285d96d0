"""Where to draw the line between two classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelyard.evaluator.domain.statistics import Floats


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
