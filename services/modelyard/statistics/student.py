"""Student's distribution, and the interval of a mean over resampled runs.

Sources: the incomplete beta function by its continued fraction (DLMF 8.17.22, evaluated by Lentz's method); Nadeau and Bengio
2003 (Machine Learning 52, 239-281) for the corrected variance of cross-validated means.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import lru_cache

from modelyard.statistics.intervals import Interval


@lru_cache(maxsize=512)
def student_quantile(share: float, freedom: int) -> float:
    """The t below which `share` (above 0.5, below 1) of Student's distribution with `freedom` degrees (1 or more) lies."""
    low, high = 0.0, 2.0
    while student_cdf(high, freedom) < share:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, freedom) < share else (low, middle)
    return (low + high) / 2


def student_cdf(t: float, freedom: int) -> float:
    """Share of Student's distribution with `freedom` degrees (1 or more) below t."""
    tail = 0.5 * _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)
    return 1 - tail if t > 0 else tail


def resampled_mean(values: Sequence[float], overlap: float) -> tuple[float, float, Interval | None]:
    """Mean, standard deviation and 95 % interval of the mean of runs on resampled data; no interval with fewer than 2 runs.

    overlap: examples that validate by examples that train; the runs' training sets share examples, so the variance of the mean
    is (1/runs + overlap) times theirs, not 1/runs (Nadeau and Bengio). 0 for independent runs, such as other seeds.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, 0.0, None
    deviation = statistics.stdev(values)
    half = student_quantile(0.975, len(values) - 1) * deviation * math.sqrt(1 / len(values) + overlap)
    return mean, deviation, (mean - half, mean + half)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b), 0 <= x <= 1."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(logarithm) / a / _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """1 + d1/(1 + d2/(1 + ...)), by Lentz's method."""
    tiny = 1e-300
    value, c, d = 1.0, 1.0, 0.0
    for number in range(1, 400):
        m, odd = divmod(number, 2)
        if odd:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / (1 + term * d or tiny)
        c = 1 + term / c or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value
