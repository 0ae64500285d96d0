"""Figures of key points: similarity, points found within a part of the object's size, and what a meter's points say it shows.

docs/evaluation.md defines each figure. A point that is not marked in truth is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from modelyard.evaluator.domain import picture_scores
from modelyard.evaluator.domain.scores import ClassScore, Metric
from modelyard.formats.keypoints import SIMILARITY
from modelyard.formats.meters import meter_points, scale_share
from modelyard.statistics import intervals
from modelyard.statistics.intervals import Floats

Flags = npt.NDArray[np.bool_]
NEAR: Final = 0.1
NEARER: Final = 0.05
"""Distances, as shares of the object's size, within which a point counts as found."""
SURE: Final = 0.3
"""Score from which on a point counts as said."""
THRESHOLDS: Final = np.arange(0.5, 1.0, 0.05)
READ_WITHIN: Final = 0.02
"""Share of the scale by which a reading may be off and still count."""


@dataclass(frozen=True)
class PointPairs:
    """True and found points of N pictures with K points: the true ones in pixels [N, K, 2], whether marked [N, K], found ones in
    pixels [N, K, 2], their scores [N, K], and the objects' sizes in pixels (square root of width times height) [N]."""

    true: Floats
    marked: np.ndarray[tuple[int, int], np.dtype[np.bool_]]
    found: Floats
    scores: Floats
    sizes: Floats

    @property
    def shares(self) -> Floats:
        """Distances as shares of the object's size [N, K]; NaN where not marked."""
        away = np.linalg.norm(self.found - self.true, axis=2) / np.maximum(self.sizes, 1e-9)[:, None]
        return np.asarray(np.where(self.marked, away, np.nan), np.float64)


def picture_oks(pairs: PointPairs) -> Floats:
    """The similarity of each picture [N], mean over its marked points; 1 where none is marked."""
    alike = np.where(pairs.marked, np.exp(-(pairs.shares**2) / (2 * SIMILARITY**2)), 0.0)
    counts = pairs.marked.sum(axis=1)
    return np.asarray(np.where(counts > 0, alike.sum(axis=1) / np.maximum(counts, 1), 1.0), np.float64)


def metrics_of(pairs: PointPairs, names: Sequence[str]) -> tuple[Metric, ...]:
    """All figures of pictures with points of these names, with intervals over pictures."""
    oks = picture_oks(pairs)
    shares, marked = pairs.shares, pairs.marked
    out = [
        picture_scores.mean_of("picture_oks", oks),
        picture_scores.mean_of("oks_50_95", (oks[:, None] >= THRESHOLDS).mean(axis=1)),
        _of_points("pck_10", shares <= NEAR, marked),
        _of_points("pck_05", shares <= NEARER, marked),
        _of_points("normalised_error", shares, marked),
    ]
    errors = reading_errors(pairs, names)
    errors = errors[np.isfinite(errors)]
    if len(errors):
        out.append(picture_scores.mean_of("reading_error", errors))
        out.append(picture_scores.mean_of("reading_within_2", (errors <= READ_WITHIN).astype(np.float64)))
    return tuple(out)


def _of_points(name: str, values: Floats | Flags, marked: Flags) -> Metric:
    """The mean over all marked points; pictures are what is drawn again for the interval."""
    sums = np.where(marked, np.nan_to_num(np.asarray(values, np.float64)), 0.0).sum(axis=1)
    counts = marked.sum(axis=1).astype(np.float64)
    if not counts.sum():
        return Metric(name, 0.0, 0.0, 0.0)
    value = float(sums.sum() / counts.sum())
    drawn = intervals.bootstrap_means(np.stack([sums, counts], axis=1))
    samples = np.divide(drawn[:, 0], drawn[:, 1], out=np.full(len(drawn), np.nan), where=drawn[:, 1] > 0)
    return Metric(name, value, *intervals.percentiles(samples, value))


def readings(places: Floats, known: Flags, names: Sequence[str]) -> Floats:
    """What meters with these points show, as shares of the scale [N]; NaN where a point is not known or they are no meters."""
    roles = meter_points(names)
    if roles is None:
        return np.full(len(places), np.nan)
    chosen = list(roles)
    return np.where(known[:, chosen].all(axis=1), scale_share(places[:, chosen]), np.nan)


def reading_errors(pairs: PointPairs, names: Sequence[str]) -> Floats:
    """How far the readings are off, as shares of the scale (0 to 1) [N]; 1 where the found points say nothing, NaN where the true
    ones do not."""
    true = readings(pairs.true, pairs.marked, names)
    found = readings(pairs.found, np.ones_like(pairs.marked), names)
    return np.where(np.isnan(true), np.nan, np.where(np.isnan(found), 1.0, np.abs(found - true)))


def point_scores(pairs: PointPairs, names: Sequence[str]) -> tuple[ClassScore, ...]:
    """Of each point: of those said for sure the share that is near (precision), of those marked the share that is said and near
    (recall), and the mean distance."""
    shares = pairs.shares
    said = pairs.scores >= SURE
    right = said & pairs.marked & (np.nan_to_num(shares, nan=np.inf) <= NEAR)
    counts = np.stack([right, said & pairs.marked, pairs.marked], axis=2).astype(np.float64)
    extra = {
        name: (_of_points("normalised_error", shares[:, at : at + 1], pairs.marked[:, at : at + 1]),)
        for at, name in enumerate(names)
    }
    return picture_scores.rates(counts, names, extra)
