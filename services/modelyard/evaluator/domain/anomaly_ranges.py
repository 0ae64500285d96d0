"""Anomalies as stretches of time: figures that count events instead of points, and stretches by which two models are compared.

Range precision and recall are those of Tatbul et al. 2018 (https://arxiv.org/abs/1803.03639) with a flat bias and no bonus for
being found at all: recall is the mean over the true events of the share of each that is called anomalous, precision the mean over
the called ones of the share of each that is. A model is compared by stretches of a recording in which the truth does not change;
the figure of one is the share of it that is called rightly, weighed so that anomalous and normal readings count the same: the
mean of all is the balanced accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelyard.evaluator.domain.anomaly import Series, events
from modelyard.evaluator.domain.scores import Metric
from modelyard.statistics import intervals
from modelyard.statistics.intervals import Floats

BALANCED: Final = "balanced_accuracy"
NOTHING: Final = "calling nothing anomalous"
EVERYTHING: Final = "calling everything anomalous (no reading is labelled so: only false alarms can be judged)"


@dataclass(frozen=True)
class Stretches:
    """Stretches of recordings, S in all: the recording of each and its readings (first, one past the last) int64 [S, 3], whether
    it is anomalous [S], and the share of it that is called so [S]."""

    places: NDArray[np.int64]
    anomalous: NDArray[np.bool_]
    called: Floats

    def figures(self, called: Floats | None = None) -> Floats:
        """The weighed share of each that is called rightly, for shares that are called anomalous (its own unless others are
        given)."""
        said = self.called if called is None else called
        right = np.where(self.anomalous, said, 1 - said)
        lengths = (self.places[:, 2] - self.places[:, 1]).astype(np.float64)
        kinds = [kind for kind in (self.anomalous, ~self.anomalous) if kind.any()]
        weights = np.zeros(len(lengths))
        for kind in kinds:
            weights[kind] = lengths[kind] / lengths[kind].sum() / len(kinds)
        return np.asarray(right * weights * len(lengths), dtype=np.float64)

    @property
    def baseline(self) -> tuple[Floats, str]:
        """The figures of what a model must beat, and what that does: calling nothing anomalous, or all where nothing is."""
        if self.anomalous.any():
            return self.figures(np.zeros(len(self.called))), NOTHING
        return self.figures(np.ones(len(self.called))), EVERYTHING


def stretches(parts: Sequence[Series], threshold: float, length: int) -> Stretches:
    """The stretches of recordings, at most `length` readings each; the last of a run may be shorter."""
    places, anomalous, called = [], [], []
    for number, part in enumerate(parts):
        edges = np.concatenate([[0], np.flatnonzero(np.diff(part.anomalous.astype(np.int8))) + 1, [len(part.anomalous)]])
        for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            for first in range(start, end, length):
                last = min(first + length, end)
                places.append((number, first, last))
                anomalous.append(bool(part.anomalous[first]))
                called.append(float((part.scores[first:last] >= threshold).mean()))
    return Stretches(np.array(places, np.int64).reshape(-1, 3), np.array(anomalous, bool), np.array(called, np.float64))


def range_metrics(parts: Sequence[Series], threshold: float) -> list[Metric]:
    """range_f1, range_precision and range_recall; nothing where there is no true event."""
    found, right = [], []
    for part in parts:
        said = part.scores >= threshold
        found += [float(said[first:end].mean()) for first, end in events(part.anomalous)]
        right += [float(part.anomalous[first:end].mean()) for first, end in events(said)]
    if not found:
        return []
    recall, precision = (_mean(name, shares) for name, shares in (("range_recall", found), ("range_precision", right)))
    both = [intervals.bootstrap_means(np.array(shares or [0.0])[:, None])[:, 0] for shares in (found, right)]
    count = min(len(each) for each in both)
    value = float(_harmonic(np.array([recall.value]), np.array([precision.value]))[0])
    samples = _harmonic(both[0][:count], np.random.default_rng(0).permutation(both[1])[:count])
    return [Metric("range_f1", value, *intervals.percentiles(samples, value)), precision, recall]


def _mean(name: str, shares: Sequence[float]) -> Metric:
    values = np.array(shares or [0.0])
    return Metric(
        name, float(values.mean()), *intervals.percentiles(intervals.bootstrap_means(values[:, None])[:, 0], float(values.mean()))
    )


def _harmonic(first: Floats, second: Floats) -> Floats:
    whole = first + second
    return np.asarray(np.divide(2 * first * second, whole, out=np.zeros_like(whole), where=whole > 0), dtype=np.float64)
