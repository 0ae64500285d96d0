"""How quickly something answers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Speed:
    """Requests per second, milliseconds of one (median, 99th percentile), how many failed, milliseconds of processor time of one.

    The last is what a server costs whatever else the machine does at the time.
    """

    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int = 0
    cpu_ms: float = 0.0

    @classmethod
    def of(cls, times: Sequence[float], seconds: float, processor_s: float) -> Speed:
        """From the seconds that each answered request took, and those of the processor for all. Without any: zeros."""
        ordered = sorted(times) or [0.0]
        middle, late = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
        cost = 1000 * processor_s / len(ordered)
        return cls(round(len(times) / seconds, 2), round(1000 * middle, 3), round(1000 * late, 3), 0, round(cost, 4))


def middle(speeds: Sequence[Speed]) -> Speed:
    """The median of each figure over the rounds; errors are added up."""
    each = {field.name: [getattr(speed, field.name) for speed in speeds] for field in fields(Speed)}
    errors = sum(each.pop("errors"))
    return Speed(**{name: round(statistics.median(values), 3) for name, values in each.items()}, errors=errors)
