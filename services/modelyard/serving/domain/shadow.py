"""A version that is asked beside the one that answers, and how what it says compares with what was said."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.serving.domain.traffic import check_version
from modelyard.serving.domain.version_statistics import LATENCY_BOUNDS_MS

LABEL: Final = "label"
"""The output that says which class it is, where a model has one."""
SHARES: Final[Mapping[str, float]] = {"fp16": 0.01, "int8": 0.05, "dynamic_int8": 0.05}
"""By precision: the largest difference as a share of the largest value (at least 1) that still is the same answer."""
EXACT: Final = 1e-3
"""The same for every other precision."""

Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Shadow:
    """Asked beside for `percent` (1 to 100) of the requests, since `time`."""

    version: str
    percent: int
    time: datetime


@dataclass
class Comparison:
    """How a shadow version fares beside the one that answers. `waiting`: requests it was asked and has not answered yet.

    `compared` may be called from several threads, all else is written on the event loop; read by any.
    """

    start_time: datetime
    waiting: int = 0
    requests: int = 0
    failures: int = 0
    skipped: int = 0
    examples: int = 0
    agreed: int = 0
    values: int = 0
    sum_of_differences: float = 0.0
    max_difference: float = 0.0
    latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_MS) + 1))
    answering_latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_MS) + 1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def mean_difference(self) -> float:
        """Mean absolute difference of the values, in units of the output; 0 before any were compared."""
        return self.sum_of_differences / self.values if self.values else 0.0

    def took(self, ms: float, answering_ms: float) -> None:
        """How long the shadow took for a request and how long the version that answered it."""
        self.latencies[bisect.bisect_left(LATENCY_BOUNDS_MS, ms)] += 1
        self.answering_latencies[bisect.bisect_left(LATENCY_BOUNDS_MS, answering_ms)] += 1

    def compared(self, given: Outputs, shadow: Outputs, precision: str) -> None:
        """Counts the examples of one request: outputs by name, the batch first, as they were given and as the shadow has them.

        Agreed have those with the same label; without labels those with all values within the tolerance of `precision`, that of
        the shadow. An output that only one of the two has, or that has another shape, agrees with nothing.
        """
        rows = len(next(iter(given.values()))) if given else 0
        if LABEL in given and LABEL in shadow:
            agreed = _same(given[LABEL], shadow[LABEL])
        else:
            agreed = _alike(given, shadow, rows, SHARES.get(precision, EXACT))
        with self._lock:
            self.examples += rows
            self.agreed += agreed
            self._note_differences(given, shadow)

    def _note_differences(self, given: Outputs, shadow: Outputs) -> None:
        for name in given.keys() & shadow.keys():
            if not (_numeric(given[name]) and _numeric(shadow[name]) and given[name].shape == shadow[name].shape):
                continue
            apart = np.abs(given[name].astype(np.float64) - shadow[name].astype(np.float64))
            finite = apart[np.isfinite(apart)]
            self.values += finite.size
            self.sum_of_differences += float(finite.sum())
            self.max_difference = max(self.max_difference, float(finite.max(initial=0.0)))


def check_shadow(shadow: Shadow, known: list[str], field: str = "endpoint.shadow") -> Shadow:
    """The shadow. Raises InvalidArgument UNKNOWN_VERSION, BAD_PERCENT."""
    check_version(shadow.version, known, f"{field}.deployment")
    if not 1 <= shadow.percent <= 100:
        message = f"{field}.percent is {shadow.percent}; it must be 1 to 100, or take the shadow away"
        raise InvalidArgument("BAD_PERCENT", message, field=f"{field}.percent", value=shadow.percent)
    return shadow


def _numeric(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "fiub"


def _same(given: NDArray[Any], shadow: NDArray[Any]) -> int:
    return int(np.count_nonzero(given == shadow)) if given.shape == shadow.shape else 0


def _alike(given: Outputs, shadow: Outputs, rows: int, share: float) -> int:
    """Rows whose values all lie within `share` of the largest value (at least 1); NaN equals NaN."""
    if given.keys() != shadow.keys() or any(given[name].shape != shadow[name].shape for name in given):
        return 0
    alike = np.ones(rows, bool)
    for name, values in given.items():
        if values.dtype.kind == "f":
            finite = np.abs(values[np.isfinite(values)])
            tolerance = share * max(1.0, float(finite.max(initial=0.0)))
            near = np.isclose(values, shadow[name], rtol=0, atol=tolerance, equal_nan=True)
        else:
            near = values == shadow[name]
        alike &= near.reshape(rows, -1).all(axis=1)
    return int(np.count_nonzero(alike))
