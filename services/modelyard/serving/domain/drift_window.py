"""What was seen lately, as counts over the bins of training: a window of two halves slides without keeping examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from modelyard.formats.training_statistics import FeatureStatistics
from modelyard.serving.domain.drift import Counts, DriftScore, score_of, worst_first

Clock = Callable[[], float]

HALF_EXAMPLES: Final = 1000
HALF_S: Final = 300.0
LONGEST_HALF_S: Final = 43_200.0
"""A half ends after HALF_S when it holds HALF_EXAMPLES, after LONGEST_HALF_S whatever it holds. The window is the present half
and the one before: 5 to 10 minutes of a busy model, at most a day of one that is hardly asked."""


@dataclass
class _Half:
    """Counts by feature, since a time."""

    since: float
    counts: list[Counts]
    examples: int = 0


class Window:
    """Counts of the last examples. `clock` gives seconds that only rise."""

    def __init__(self, features: Sequence[FeatureStatistics], clock: Clock) -> None:
        self._features = features
        self._clock = clock
        self._before, self._now = self._empty(), self._empty()

    def add(self, counts: Sequence[Counts | None], examples: int) -> None:
        """Counts of some examples, by feature; None where a feature was not seen."""
        self._turn()
        for sums, found in zip(self._now.counts, counts, strict=True):
            if found is not None:
                sums += found
        self._now.examples += examples

    def scores(self) -> tuple[DriftScore, ...]:
        """One score a feature, the strongest first; features of which nothing was seen are left out."""
        self._turn()
        seen = [before + now for before, now in zip(self._before.counts, self._now.counts, strict=True)]
        pairs = [(feature, counts) for feature, counts in zip(self._features, seen, strict=True) if counts.any()]
        return worst_first(score_of(feature, counts, len(pairs)) for feature, counts in pairs)

    def _turn(self) -> None:
        """Ends the present half when its time is over."""
        age = self._clock() - self._now.since
        if age >= LONGEST_HALF_S or (age >= HALF_S and self._now.examples >= HALF_EXAMPLES):
            self._before = self._now if age < 2 * LONGEST_HALF_S else self._empty()
            self._now = self._empty()

    def _empty(self) -> _Half:
        return _Half(self._clock(), [np.zeros(len(feature.reference), np.int64) for feature in self._features])
