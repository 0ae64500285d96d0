"""Curves of a classifier (precision over recall, calibration; as scikit-learn's) and residuals of a regression; numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelyard.statistics.intervals import Floats

POINTS = 200
BINS = 12
MOST_SHOWN = 1000
HISTOGRAM = 40


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


@dataclass(frozen=True)
class Residuals:
    """Predictions less labels of N examples: mean, standard deviation, median size; a histogram with edges [B+1] and counts [B];
    and the rows [M] of at most `MOST_SHOWN` examples, by rising label."""

    count: int
    mean: float
    deviation: float
    median_absolute: float
    edges: Floats
    counts: NDArray[np.int64]
    rows: NDArray[np.int64]


def residuals(labels: Floats, predictions: Floats) -> Residuals:
    """Of labels and predictions [N], N at least 1; what is not finite counts for nothing.

    The histogram spans the middle 99 percent, so that one wild prediction does not flatten it; its outer bins hold the rest.
    """
    finite = np.flatnonzero(np.isfinite(labels) & np.isfinite(predictions))
    off = predictions[finite] - labels[finite]
    if not len(off):
        nothing = np.empty(0, np.int64)
        return Residuals(0, 0.0, 0.0, 0.0, np.empty(0), nothing, nothing)
    low, high = np.quantile(off, (0.005, 0.995))
    if high - low < 1e-12 * max(abs(high), abs(low), 1e-300):
        low, high = low - max(abs(low), 1e-9) * 0.5, high + max(abs(high), 1e-9) * 0.5
    edges = np.linspace(low, high, min(HISTOGRAM, max(5, int(np.sqrt(len(off))))) + 1)
    counts, _ = np.histogram(np.clip(off, low, high), edges)
    order = finite[np.argsort(labels[finite], kind="stable")]
    chosen = np.linspace(0, len(order) - 1, min(len(order), MOST_SHOWN - 2)).round().astype(np.int64)
    extremes = finite[[int(off.argmin()), int(off.argmax())]]
    kept = np.unique(np.concatenate([order[chosen], extremes]))
    rows = kept[np.argsort(labels[kept], kind="stable")]
    return Residuals(
        len(off), float(off.mean()), float(off.std()), float(np.median(np.abs(off))), edges, counts.astype(np.int64), rows
    )
