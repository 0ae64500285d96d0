"""What there is to measure of a series: its times, and of each channel gaps, runs of equal values, spikes and how it spreads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

GAP = 5.0
"""A step of time this many times longer than the usual one is a gap."""

SPIKE = 20.0
"""A value is a spike when it is away from the median of its five neighbours by this many times the usual such distance..."""

SPIKE_SPREAD = 1.5
"""...and by this many times the range (5 to 95 percent) of its channel."""

_MANY = 10


@dataclass(frozen=True)
class SeriesFacts:
    """Of one series with C channels. Of its times: the usual step (NaN without times or with one step), gaps, the longest gap in
    usual steps and where it begins, steps that go backwards, steps that stand still.

    Of each channel float64 [C]: `missing` (share of the steps), `missing_run` (longest), `equal_run` (longest run of one value),
    `usual_run` (99 percent of the runs are no longer), `distinct` (values, 100 at most), `spikes` (number), `middle`, `spread`
    (quartile range), `low`, `high` (smallest and largest; NaN without a value).
    """

    steps: int
    step: float
    gaps: int
    longest_gap: float
    gap_at: int
    backwards: int
    still: int
    missing: Floats
    missing_run: Floats
    equal_run: Floats
    usual_run: Floats
    distinct: Floats
    spikes: Floats
    middle: Floats
    spread: Floats
    low: Floats
    high: Floats


def measure(values: Floats, times: Floats | None, labelled: Bools | None = None) -> SeriesFacts:
    """Measures float64 [steps, channels] (NaN where missing) and times float64 [steps]. What happens in `labelled` steps, where
    people said that something is the matter, is no spike and no stuck value."""
    step, gaps, longest, at, backwards, still = _times(times)
    channels = [_channel(values[:, place], labelled) for place in range(values.shape[1])]
    columns = np.asarray(channels, dtype=np.float64).reshape(-1, 10).T
    return SeriesFacts(len(values), step, gaps, longest, at, backwards, still, *columns)


def longest_run(flags: Bools) -> int:
    """Length of the longest run of True in bool [N]."""
    return int(runs(flags).max(initial=0))


def runs(flags: Bools) -> npt.NDArray[np.int64]:
    """Lengths of the runs of True in bool [N]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return np.asarray(edges[1::2] - edges[::2], dtype=np.int64)


def spikes(values: Floats) -> Bools:
    """Which of float64 [N] jump away from both sides and back at once, bool [N]."""
    found = np.zeros(len(values), np.bool_)
    known = np.flatnonzero(~np.isnan(values))
    if len(known) < _MANY:
        return found
    present = values[known]
    padded = np.pad(present, 2, mode="reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    away = np.abs(present - around)
    usual = 1.4826 * float(np.median(away))
    if usual == 0:  # half of the values lie on their neighbours' median: what the others do is usual
        moved = away[away > 0]
        usual = float(np.median(moved)) if len(moved) >= _MANY else 0.0
    low, high = np.quantile(present, [0.05, 0.95])
    found[known] = (away > SPIKE * usual) & (away > SPIKE_SPREAD * (high - low)) & (away > 0)
    return found


def _times(times: Floats | None) -> tuple[float, int, float, int, int, int]:
    if times is None or len(times) < 2:
        return float("nan"), 0, 0.0, 0, 0, 0
    known = times[~np.isnan(times)]
    steps = np.diff(known)
    forward = steps[steps > 0]
    if not len(forward):
        return float("nan"), 0, 0.0, 0, int((steps < 0).sum()), int((steps == 0).sum())
    usual = float(np.median(forward))
    long = steps > GAP * usual
    at = int(np.argmax(steps))
    longest = float(steps[at]) / usual if long.any() else 0.0
    return usual, int(long.sum()), longest, at if long.any() else 0, int((steps < 0).sum()), int((steps == 0).sum())


def _channel(values: Floats, labelled: Bools | None) -> Sequence[float]:
    gone = np.isnan(values)
    present = values[~gone]
    nan = float("nan")
    if not len(present):
        return 1.0, float(len(values)), 0.0, 0.0, 0.0, 0.0, nan, nan, nan, nan
    equal = np.concatenate([[False], np.diff(values) == 0])
    if labelled is not None:
        equal &= ~labelled
    lengths = runs(equal) + 1
    moved = int(np.sum(np.diff(present) != 0)) + 1
    # The runs of one step are those that no pair of equal values tells of.
    single = max(moved - len(lengths), 0)
    usual = float(np.quantile(np.concatenate([np.ones(single), lengths]), 0.99)) if single + len(lengths) else 1.0
    found = spikes(values)
    if labelled is not None:
        found &= ~labelled
    low, middle, high = np.quantile(present, [0.25, 0.5, 0.75])
    return (
        float(gone.mean()),
        float(longest_run(gone)),
        float(lengths.max(initial=1)),
        usual,
        float(min(len(np.unique(present)), 100)),
        float(found.sum()),
        float(middle),
        float(high - low),
        float(present.min()),
        float(present.max()),
    )
