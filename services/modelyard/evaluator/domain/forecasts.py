"""Figures of forecasts. Origins are what two models are compared by; they overlap, so that intervals and p values flatter.

MASE is the mean absolute error in multiples of that of the seasonal naive forecast over the training part (Hyndman and Koehler
2006); sMAPE the mean of 200 |f - y| / (|f| + |y|), in percent; pinball the mean loss of the interval's two ends as quantiles, in
the series' unit. The skill of an origin is e0 / (e0 + e), e its absolute error and e0 that of the seasonal naive forecast from
the same origin: 0.5 is as good, 1 perfect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelyard.evaluator.domain.scores import Metric
from modelyard.statistics import intervals
from modelyard.statistics.intervals import Floats

SKILL: Final = "forecast_skill"


@dataclass(frozen=True)
class Forecasts:
    """Forecasts of M origins: said, lower, upper, what came, the naive forecast, float64 [M, horizon, channels] (NaN where
    nothing came), and the scale of MASE by origin and channel [M, channels]."""

    said: Floats
    lower: Floats
    upper: Floats
    came: Floats
    naive: Floats
    scale: Floats

    def skill(self) -> Floats:
        """Of each origin [M], channels in units of their scale."""
        mine, theirs = (_mean(np.abs(each - self.came) / self._unit, (1, 2)) for each in (self.said, self.naive))
        whole = mine + theirs
        return np.asarray(np.divide(theirs, whole, out=np.full(len(whole), 0.5), where=whole > 0), dtype=np.float64)

    @property
    def _unit(self) -> Floats:
        return np.where(np.isfinite(self.scale), self.scale, 1.0)[:, None, :]


def forecast_metrics(held: Forecasts, coverage: float) -> list[Metric]:
    """mae, rmse, smape, mase (where it is defined), forecast_skill, pinball, coverage; intervals by resampling origins."""
    off = held.said - held.came
    known = ~np.isnan(off)
    count = known.sum(axis=(1, 2)).astype(np.float64)
    size = np.abs(held.said) + np.abs(held.came)
    share = np.divide(200 * np.abs(off), size, out=np.zeros_like(off), where=size > 0)
    inside = (held.came >= held.lower) & (held.came <= held.upper)
    side = (1 - coverage) / 2
    lost = 0.5 * (_pinball(held.came - held.lower, side) + _pinball(held.came - held.upper, 1 - side))
    found = [
        _ratio("mae", _sum(np.abs(off)), count),
        _ratio("rmse", _sum(np.square(off)), count, root=True),
        _ratio("smape", _sum(np.where(known, share, 0.0)), count),
        *_mase(held, off, known),
        _ratio(SKILL, held.skill(), np.ones(len(off))),
        _ratio("pinball", _sum(lost), count),
        _ratio("coverage", _sum(np.where(known, inside, 0.0)), count),
    ]
    return found


def _mase(held: Forecasts, off: Floats, known: NDArray[np.bool_]) -> list[Metric]:
    defined = np.isfinite(held.scale)[:, None, :] & known
    if not defined.any():
        return []
    scaled = np.where(defined, np.abs(off) / np.where(np.isfinite(held.scale), held.scale, 1.0)[:, None, :], 0.0)
    return [_ratio("mase", scaled.sum(axis=(1, 2)), defined.sum(axis=(1, 2)).astype(np.float64))]


def _pinball(error: Floats, share: float) -> Floats:
    return np.maximum(share * error, (share - 1) * error)


def _sum(values: Floats) -> Floats:
    return np.asarray(np.nansum(values, axis=(1, 2)), dtype=np.float64)


def _mean(values: Floats, axes: tuple[int, ...]) -> Floats:
    known = ~np.isnan(values)
    return np.asarray(np.where(known, values, 0.0).sum(axis=axes) / np.maximum(known.sum(axis=axes), 1), dtype=np.float64)


def _ratio(name: str, parts: Floats, counts: Floats, *, root: bool = False) -> Metric:
    """Of sums over origins [M]; `root`: its square root."""

    def figure(sums: Floats) -> Floats:
        mean = np.divide(sums[:, 0], sums[:, 1], out=np.zeros(len(sums)), where=sums[:, 1] > 0)
        return np.asarray(np.sqrt(mean) if root else mean, dtype=np.float64)

    both = np.stack([parts, counts], axis=1)
    value = float(figure(both.sum(axis=0)[None])[0])
    return Metric(name, value, *intervals.percentiles(figure(intervals.bootstrap_means(both)), value))
