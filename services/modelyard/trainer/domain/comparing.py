"""Whether one run is better than another by more than chance explains."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from modelyard.statistics.student import student_quantile
from modelyard.trainer.domain.ledger import Spread

ONE_SIDED: Final = 0.95
UNKNOWN_FREEDOM: Final = 4
"""Degrees of freedom that an estimate of the spread from other sources counts for."""


@dataclass(frozen=True)
class Verdict:
    """gain: better is positive. threshold: what it had to exceed. effect: HELPED, NO_EFFECT or WORSE."""

    gain: float
    threshold: float
    effect: str


def against_runs(after: float, baseline: Sequence[float], sign: int, floor: float = 0.0) -> Verdict:
    """One run against several of the same experiment, which tell the spread: a one-sided prediction interval of 95 %.

    baseline: metrics of runs with different seeds, at least one. floor: least standard deviation to go by. sign: -1 where less
    is better.
    """
    deviation = max(floor, statistics.stdev(baseline) if len(baseline) > 1 else 0.0)
    freedom = len(baseline) - 1 if len(baseline) > 1 else UNKNOWN_FREEDOM
    threshold = student_quantile(ONE_SIDED, freedom) * deviation * math.sqrt(1 + 1 / len(baseline))
    return _verdict(sign * (after - statistics.fmean(baseline)), threshold)


def against_run(after: float, before: float, sign: int, spread: Spread | None, guess: float) -> Verdict:
    """One run against one other; the spread is that of the experiment where it is known, else a guess of the deviation."""
    deviation, freedom = (spread.deviation, spread.runs - 1) if spread is not None else (guess, UNKNOWN_FREEDOM)
    threshold = student_quantile(ONE_SIDED, max(1, freedom)) * max(deviation, guess if spread is None else 0.0) * math.sqrt(2)
    return _verdict(sign * (after - before), threshold)


def _verdict(gain: float, threshold: float) -> Verdict:
    if gain > threshold:
        return Verdict(gain, threshold, "HELPED")
    return Verdict(gain, threshold, "WORSE" if gain < -threshold else "NO_EFFECT")
