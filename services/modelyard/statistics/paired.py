"""Two models on the same examples, one example a pair: what the one loses in accuracy against the other, and how sure that is.

`lost` examples are right only in the other, `won` only in this one, of `count`. Sources: Tango 1998 (Statistics in Medicine 17,
891-908) for the score test and interval of a paired difference of proportions; McNemar 1947 with the mid-p of Fagerland,
Lydersen and Laake 2013 (BMC Medical Research Methodology 13:91) for the p value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from modelyard.statistics.intervals import Z95, Interval

_BISECTIONS: Final = 50


def score(lost: int, won: int, count: int, at: float) -> float:
    """Tango's score statistic of the hypothesis that the loss is `at` (-1 to 1); standard normal under it, falling in `at`."""
    b = -(lost + won) + (2 * count - lost + won) * at
    root = math.sqrt(max(b * b + 8 * count * won * at * (1 - at), 0.0))
    variance = count * ((root - b) / (2 * count) + at * (1 - at))
    distance = lost - won - count * at
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def tango(lost: int, won: int, count: int) -> Interval:
    """The 95 percent interval of the loss: the values that the score test does not reject."""
    loss = (lost - won) / count
    lower = crossing(lambda at: score(lost, won, count, at) > Z95)
    upper = crossing(lambda at: score(lost, won, count, at) > -Z95)
    return min(lower, loss), max(upper, loss)


def crossing(above: Callable[[float], bool]) -> float:
    """Where a test that holds for small values ceases to, between -1 and 1."""
    low, high = -1.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) else (low, middle)
    return (low + high) / 2


def mid_p(lost: int, won: int) -> float:
    """McNemar's two-sided mid-p of `lost` against `won`: exact, with half of what was seen itself; 1 where nothing differs."""
    total, few = lost + won, min(lost, won)
    if total == 0:
        return 1.0
    whole = math.lgamma(total + 1) - total * math.log(2)
    chances = [math.exp(whole - math.lgamma(k + 1) - math.lgamma(total - k + 1)) for k in range(few + 1)]
    return min(1.0, 2 * math.fsum(chances[:-1]) + chances[-1])
