"""Curves of a classifier: precision over recall, and calibration. Definitions as scikit-learn's; numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelyard.statistics.intervals import Floats

POINTS = 200
BINS = 12


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision over rising recall, float64 [P] each, P at most `POINTS`; the area below it in steps."""

    recall: Floats
    precision: Floats
    average: float


@dataclass(frozen=True)
class Bin:
    """Examples that the model is about equally sure of: how sure (mean), how often right, how many."""

    confidence: float
    accuracy: float
    count: int


def precision_recall(scores: Floats, positive: NDArray[np.bool_]) -> PrecisionRecall:
    """Of scores [N] for a class and whether an example is of it, with at least one that is. Equal scores are one threshold.

    average is the sum of (recall step x precision) over all thresholds, before points are left out.
    """
    order = np.argsort(-scores, kind="stable")
    sorted_scores, hits = scores[order], positive[order]
    last = np.flatnonzero(np.append(np.diff(sorted_scores) != 0, True))  # the last of each threshold
    found = np.cumsum(hits)[last].astype(np.float64)
    precision = found / (last + 1)
    recall = found / max(float(hits.sum()), 1.0)
    average = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    recall, precision = np.insert(recall, 0, 0.0), np.insert(precision, 0, precision[0])
    if len(recall) > POINTS:
        kept = np.unique(np.linspace(0, len(recall) - 1, POINTS).round().astype(np.int64))
        recall, precision = recall[kept], precision[kept]
    return PrecisionRecall(recall, precision, average)


def calibration(sureness: Floats, right: NDArray[np.bool_]) -> list[Bin]:
    """At most `BINS` bins of (nearly) equal numbers of examples, by rising sureness [N]; empty for no examples."""
    order = np.argsort(sureness, kind="stable")
    parts = np.array_split(order, min(BINS, len(order))) if len(order) else []
    return [Bin(float(sureness[part].mean()), float(right[part].mean()), len(part)) for part in parts]
