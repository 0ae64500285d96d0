"""Scores of anomaly detection: how well a number tells the unusual from the usual, and how soon.

Areas under the ROC and the precision-recall curve need no threshold. F1 is of the anomalous points: the best there is (chosen on
the very points it is told of, so it flatters: for comparing models), and that at a threshold chosen beforehand. In a series,
anomalous points that follow each other are one event: it is found when one of its points is called anomalous, and its delay is
the number of points from its beginning until then.

Intervals: areas by DeLong's and the jackknife's influence, F1 by the bootstrap, shares by Wilson's. Points of a series are alike
when they are near, so they are drawn in blocks (Carlstein 1986); make a block about as long as an event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.evaluator.domain.scores import Metric
from modelyard.formats.thresholds import best_threshold
from modelyard.statistics import intervals
from modelyard.statistics.intervals import Floats

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Series:
    """Points in the order of time: anomaly scores [N], higher is stranger, and which points are anomalous [N]."""

    scores: Floats
    anomalous: Bools


@dataclass(frozen=True)
class AnomalyScore:
    """`metrics`: roc_auc, pr_auc, best_f1 where both kinds occur; at a threshold f1, recall, false_alarm_rate; of series
    detected_share and detection_delay (in points, of the events that were found). `best_threshold` is that of best_f1.
    """

    point_count: int
    event_count: int
    metrics: tuple[Metric, ...]
    best_threshold: float


def anomaly(parts: Sequence[Series], *, threshold: float | None = None, block: int = 1) -> AnomalyScore:
    """Scores one usage: one series or more (or single examples, which are a series whose order says nothing: block 1).

    A point is called anomalous from `threshold` on. `block` is the length, in points, of what is drawn together. Raises
    InvalidArgument BAD_SERIES or BAD_BLOCK.
    """
    _check(parts, block)
    scores = np.concatenate([part.scores for part in parts]).astype(np.float64)
    anomalous = np.concatenate([part.anomalous for part in parts])
    starts = _block_starts([len(part.scores) for part in parts], block)
    best = best_threshold(scores, anomalous)
    metrics = [*_areas(scores, anomalous, starts)]
    if anomalous.any() and not anomalous.all():
        metrics.append(_f1("best_f1", scores >= best, anomalous, starts))
    if threshold is not None:
        called = scores >= threshold
        metrics += [_f1("f1", called, anomalous, starts), _rate("recall", called, anomalous)]
        metrics += [_rate("false_alarm_rate", called, ~anomalous), *_delays(parts, threshold)]
    return AnomalyScore(len(scores), sum(len(events(part.anomalous)) for part in parts), tuple(metrics), best)


def events(anomalous: Bools) -> list[tuple[int, int]]:
    """Where anomalous points follow each other: (first, one past the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], anomalous, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def _block_starts(lengths: Sequence[int], block: int) -> NDArray[np.intp]:
    """First points of the blocks; none reaches over the end of a series."""
    offsets = np.cumsum([0, *lengths[:-1]])
    return np.concatenate([np.arange(0, length, block) + offset for length, offset in zip(lengths, offsets, strict=True)])


def _areas(scores: Floats, anomalous: Bools, starts: NDArray[np.intp]) -> list[Metric]:
    if not anomalous.any() or anomalous.all():
        return []
    ranking = intervals.Ranking(scores, anomalous)
    fewest = int(min(anomalous.sum(), (~anomalous).sum()))
    found = (("roc_auc", ranking.roc_auc()), ("pr_auc", ranking.average_precision()))
    return [Metric(name, area, *intervals.area_interval(area, _by_block(slope, starts), fewest)) for name, (area, slope) in found]


def _by_block(influence: Floats, starts: NDArray[np.intp]) -> Floats:
    """Influence of each block, scaled so that their number takes the place of that of the points."""
    return np.asarray(np.add.reduceat(influence, starts) * len(starts) / len(influence), dtype=np.float64)


def _f1(name: str, called: Bools, anomalous: Bools, starts: NDArray[np.intp]) -> Metric:
    columns = np.stack([called & anomalous, called, anomalous], axis=1).astype(np.float64)
    sums, samples = columns.sum(axis=0)[None], intervals.bootstrap_means(np.add.reduceat(columns, starts, axis=0))
    value = float(_f1_of(sums)[0])
    if sums[0, 0] and sums[0, 0] == sums[0, 1] == sums[0, 2]:  # without one error a bootstrap sees no spread
        return Metric(name, 1.0, intervals.wilson(sums[0, 0], sums[0, 0])[0], 1.0)
    return Metric(name, value, *intervals.percentiles(_f1_of(samples), value))


def _f1_of(sums: Floats) -> Floats:
    """Of right calls, calls, anomalous points [B, 3]; 0 where there is neither call nor anomalous point."""
    whole = sums[:, 1] + sums[:, 2]
    return np.asarray(np.divide(2 * sums[:, 0], whole, out=np.zeros(len(sums)), where=whole > 0), dtype=np.float64)


def _rate(name: str, called: Bools, among: Bools) -> Metric:
    hits, total = int((called & among).sum()), int(among.sum())
    return Metric(name, hits / total if total else 0.0, *intervals.wilson(hits, total))


def _delays(parts: Sequence[Series], threshold: float) -> list[Metric]:
    """detected_share, and detection_delay where an event was found; nothing where there is no event."""
    found = [np.flatnonzero(part.scores[first:end] >= threshold) for part in parts for first, end in events(part.anomalous)]
    if not found:
        return []
    delays = np.array([places[0] for places in found if len(places)], dtype=np.float64)
    share = Metric("detected_share", len(delays) / len(found), *intervals.wilson(len(delays), len(found)))
    if not len(delays):
        return [share]
    mean = float(delays.mean())
    return [share, Metric("detection_delay", mean, *intervals.percentiles(intervals.bootstrap_means(delays[:, None]), mean))]


def _check(parts: Sequence[Series], block: int) -> None:
    if block < 1:
        raise InvalidArgument("BAD_BLOCK", f"block is {block}; it must be 1 or more", block=block)
    if not parts:
        raise InvalidArgument("BAD_SERIES", "there is no series to score")
    for number, part in enumerate(parts):
        if part.scores.shape != part.anomalous.shape or part.scores.ndim != 1 or not len(part.scores):
            shapes = f"{list(part.scores.shape)} and {list(part.anomalous.shape)}"
            raise InvalidArgument(
                "BAD_SERIES", f"series {number} has scores and marks {shapes}; both must be [N], N of 1 or more"
            )
        if not np.isfinite(part.scores).all():
            raise InvalidArgument("BAD_SERIES", f"series {number} has a score that is not finite", series=number)
