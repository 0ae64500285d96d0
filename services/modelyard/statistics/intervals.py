"""Intervals and tests of significance. Numbers only: nothing here knows of models or metrics.

All intervals are two-sided at 95 percent. Sources: Wilson 1927 (proportions); Efron 1979 (percentile bootstrap); DeLong,
DeLong and Clarke-Pearson 1988 (area under the ROC curve, through its per-example influence); Jaeckel 1972, Efron 1982 (the
infinitesimal jackknife, what the bootstrap comes to in the limit: average precision); McNemar 1947, in its exact binomial form;
Zou and Donner 2008 (difference of two figures of independent samples, from their intervals).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Interval = tuple[float, float]

Z95: Final = 1.959963984540054
SEED: Final = 20_260_101
_DRAWS: Final = 2_000_000
"""Examples drawn at once: bounds the memory of a bootstrap to some tens of megabytes."""
_BUDGET: Final = 10_000_000


def wilson(successes: float, total: float) -> Interval:
    """Interval of a proportion, within 0 to 1. Of nothing (total 0) nothing is known: (0, 1)."""
    if total <= 0:
        return 0.0, 1.0
    share = successes / total
    centre = share + Z95**2 / (2 * total)
    half = Z95 * math.sqrt(share * (1 - share) / total + Z95**2 / (4 * total**2))
    scale = 1 + Z95**2 / total
    # Rounding must not put the interval beside the share itself.
    return max(0.0, min(share, (centre - half) / scale)), min(1.0, max(share, (centre + half) / scale))


def resamples(count: int) -> int:
    """How often to resample `count` examples: 1000, fewer where that would take longer than about a second, never under 200."""
    return int(np.clip(_BUDGET // max(count, 1), 200, 1000))


def bootstrap_means(values: Floats, seed: int = SEED) -> Floats:
    """Means of the columns of `values` [N, C] over resampled rows: [B, C]."""
    return np.concatenate([weights @ values for weights in bootstrap_weights(len(values), seed)]) / len(values)


def bootstrap_weights(count: int, seed: int = SEED) -> Iterator[Floats]:
    """How often each of `count` examples is drawn in each of `resamples(count)` resamples: pieces [b, N], of bounded size."""
    draw = _remembered if count * resamples(count) <= 2 * _BUDGET else _drawn
    return (piece.astype(np.float64) for piece in draw(count, seed))


def _drawn(count: int, seed: int) -> Iterator[NDArray[np.uint16]]:
    rounds, step = resamples(count), max(1, _DRAWS // count)
    rng = np.random.default_rng(seed)
    for start in range(0, rounds, step):
        size = min(step, rounds - start)
        rows = rng.integers(0, count, (size, count)) + np.arange(size)[:, None] * count
        yield np.bincount(rows.ravel(), minlength=size * count).reshape(size, count).astype(np.uint16)


@lru_cache(maxsize=1)
def _remembered(count: int, seed: int) -> tuple[NDArray[np.uint16], ...]:
    """As long as one usage is scored the same draws serve every figure: making them is most of the work of a bootstrap."""
    return tuple(_drawn(count, seed))


def bootstrap_counts(counts: Ints, seed: int = SEED) -> Ints:
    """Resamples examples that are known only by their cell: `counts` [M] per cell gives [B, M], each row with the same sum."""
    total = int(counts.sum())
    rng = np.random.default_rng(seed)
    return rng.multinomial(total, counts / total, size=resamples(total)).astype(np.int64)


def percentiles(samples: Floats, value: float) -> Interval:
    """The middle 95 percent of bootstrap samples, widened where need be to hold the value itself."""
    finite = samples[np.isfinite(samples)]
    if finite.size == 0:
        return value, value
    lower, upper = np.quantile(finite, (0.025, 0.975))
    return min(float(lower), value), max(float(upper), value)


class Ranking:
    """Examples in the order of their scores, for areas under curves. Needs at least one positive and one negative example.

    Each area comes with every example's influence on it [N]: its derivative by the example's weight, times N (mean 0; variance
    of the area = sum of squares / N^2).
    """

    def __init__(self, scores: Floats, positive: NDArray[np.bool_]) -> None:
        self._order = np.argsort(scores, kind="stable")
        self._hit = positive[self._order].astype(np.float64)
        starts = np.flatnonzero(np.concatenate([[True], np.diff(scores[self._order]) > 0]))
        sizes = np.diff(np.append(starts, len(scores)))
        self._first = np.repeat(starts, sizes)
        self._last = self._first + np.repeat(sizes, sizes)

    def roc_auc(self) -> tuple[float, Floats]:
        """Area under the ROC curve, and the influences (DeLong's)."""
        hits, misses = self._share_below(self._hit), self._share_below(1 - self._hit)
        positives, count = self._hit.sum(), len(self._hit)
        area = float((misses * self._hit).sum() / positives)
        won, lost = (misses - area) / positives, (1 - hits - area) / (count - positives)
        return area, self._unsorted(np.where(self._hit > 0, won, lost) * count)

    def average_precision(self) -> tuple[float, Floats]:
        """Area under the precision-recall curve by steps, as scikit-learn has it, and the influences."""
        hit, total, count = self._hit, self._hit.sum(), len(self._hit)
        found, called = total - _before(hit)[self._first], count - self._first.astype(np.float64)
        precision = found / called
        area = float((precision * hit).sum() / total)
        more_found, more_called = (_before(part)[self._last] for part in (hit / called, hit * found / np.square(called)))
        return area, self._unsorted((hit * (precision - area + more_found) - more_called) * count / total)

    def _share_below(self, weights: Floats) -> Floats:
        """Share of the weights below each example, equals counting half."""
        before = _before(weights)
        return np.asarray((before[self._first] + before[self._last]) / (2 * before[-1]), dtype=np.float64)

    def _unsorted(self, values: Floats) -> Floats:
        out = np.empty_like(values)
        out[self._order] = values
        return out


def _before(values: Floats) -> Floats:
    """Sums of the values before each place, and of all: [N + 1]."""
    return np.concatenate([[0.0], np.cumsum(values)])


def area_interval(area: float, influence: Floats, fewest: int) -> Interval:
    """Interval of an area (or a mean of areas), on the logit scale so that it stays within 0 to 1.

    An area of exactly 0 or 1 has no visible variance; Wilson's interval over the `fewest` examples of a side stands in.
    """
    error = math.sqrt(float(np.square(influence).sum())) / len(influence)
    if not 0 < area < 1 or error == 0:
        return wilson(area * fewest, fewest)
    centre, half = math.log(area / (1 - area)), Z95 * error / (area * (1 - area))
    return 1 / (1 + math.exp(half - centre)), 1 / (1 + math.exp(-half - centre))


def mcnemar(better: int, worse: int) -> float:
    """Two-sided exact p of `better` examples won and `worse` lost against another model; 1.0 when there are none."""
    total, few = better + worse, min(better, worse)
    if total == 0:
        return 1.0
    return min(1.0, 2 * _binomial_tail(few, total))


def _binomial_tail(few: int, total: int) -> float:
    """P(X <= few) of a fair coin thrown `total` times, by logarithms so that large counts neither overflow nor vanish."""
    whole = math.lgamma(total + 1) - total * math.log(2)
    return math.fsum(math.exp(whole - math.lgamma(k + 1) - math.lgamma(total - k + 1)) for k in range(few + 1))


def paired_mean(differences: Floats) -> tuple[float, Interval, float]:
    """Mean of paired differences [N], its 95 percent interval and two-sided p (normal approximation: N of 30 or more).

    Where every difference is the same and not 0 the p is 0; where all are 0, or there is one example only, it is 1.
    """
    mean = float(differences.mean())
    if len(differences) < 2:
        return mean, (mean, mean), 1.0
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    if error == 0:
        return mean, (mean, mean), 0.0 if mean else 1.0
    return mean, (mean - Z95 * error, mean + Z95 * error), math.erfc(abs(mean) / error / math.sqrt(2))


def difference(first: tuple[float, float, float], second: tuple[float, float, float]) -> tuple[float, float, float]:
    """First less second, figures (value, lower, upper) of independent samples, with the interval of the difference.

    The two intervals need not be symmetric (Zou and Donner's MOVER; of two Wilson intervals it is Newcombe's method 10).
    """
    (a, a_low, a_high), (b, b_low, b_high) = first, second
    return a - b, a - b - math.hypot(a - a_low, b_high - b), a - b + math.hypot(a_high - a, b - b_low)


def quantile(values: Floats, share: float) -> tuple[float, float, float]:
    """The quantile of `values` [N] with its interval from order statistics (their ranks are binomial)."""
    ordered, count = np.sort(values), len(values)
    centre, half = count * share, Z95 * math.sqrt(count * share * (1 - share))
    ranks = np.clip([math.floor(centre - half), math.ceil(centre + half)], 0, count - 1)
    value = float(np.quantile(ordered, share))
    return value, min(float(ordered[ranks[0]]), value), max(float(ordered[ranks[1]]), value)
