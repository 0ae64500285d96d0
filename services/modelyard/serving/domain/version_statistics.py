"""What a version has done: counts and times that only grow. Written once a request on the event loop, read by everybody.

One record feeds all: the statistics extension of the Open Inference Protocol, Prometheus, and the watch over a change of traffic.
Whoever wants a window takes two snapshots and their difference.
"""

from __future__ import annotations

import bisect
import time
from dataclasses import dataclass, field
from typing import Final, NamedTuple

LATENCY_BOUNDS_MS: Final = tuple(round(0.05 * 1.25**step, 4) for step in range(64))
"""Upper bounds of the latency histogram: 0.05 ms to about 64 s, each 1.25 times the one before: percentiles to 25 %."""


class Timing(NamedTuple):
    """Where a request's time went, in nanoseconds. `batch_rows`: examples of the execution it was part of."""

    queue_ns: int = 0
    compute_input_ns: int = 0
    compute_infer_ns: int = 0
    compute_output_ns: int = 0
    batch_rows: int = 1


@dataclass(slots=True)
class VersionStatistics:
    """Counts of one version on this server since `start_time` (seconds since 1970)."""

    start_time: float = field(default_factory=time.time)
    successes: int = 0
    success_ns: int = 0
    failures: int = 0
    failure_ns: int = 0
    rejected: int = 0
    """Requests that were wrong, or refused because the queue was full or the deadline too near: not the model's fault."""
    examples: int = 0
    executions: int = 0
    queue_ns: int = 0
    compute_input_ns: int = 0
    compute_infer_ns: int = 0
    compute_output_ns: int = 0
    last_inference_ms: int = 0
    crashes: int = 0
    latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_MS) + 1))
    batches: dict[int, list[int]] = field(default_factory=dict)
    """By examples of an execution: how many such executions, and their compute_input, compute_infer and compute_output in ns."""

    def succeeded(self, total_ns: int, rows: int, timing: Timing) -> None:
        """A request was answered: `rows` examples, `total_ns` from the request read to the answer made."""
        self.successes += 1
        self.success_ns += total_ns
        self.examples += rows
        self.queue_ns += timing.queue_ns
        self.compute_input_ns += timing.compute_input_ns
        self.compute_infer_ns += timing.compute_infer_ns
        self.compute_output_ns += timing.compute_output_ns
        self.latencies[bisect.bisect_left(LATENCY_BOUNDS_MS, total_ns / 1e6)] += 1
        self.last_inference_ms = time.time_ns() // 1_000_000

    def failed(self, total_ns: int) -> None:
        """A request failed by the server's or the model's fault."""
        self.failures += 1
        self.failure_ns += total_ns

    def executed(self, timing: Timing) -> None:
        """The model was called once, for one or several requests; `timing` is that of the whole execution."""
        self.executions += 1
        sums = self.batches.get(timing.batch_rows)
        if sums is None:
            sums = self.batches[timing.batch_rows] = [0, 0, 0, 0]
        sums[0] += 1
        sums[1] += timing.compute_input_ns
        sums[2] += timing.compute_infer_ns
        sums[3] += timing.compute_output_ns


def percentile_ms(latencies: list[int], share: float) -> float:
    """The latency below which `share` (0 to 1) of the requests lie, as the upper bound of its bin in ms; 0 without requests."""
    total = sum(latencies)
    if not total:
        return 0.0
    wanted, seen = share * total, 0
    for index, count in enumerate(latencies):
        seen += count
        if seen >= wanted and count:
            return LATENCY_BOUNDS_MS[min(index, len(LATENCY_BOUNDS_MS) - 1)]
    return LATENCY_BOUNDS_MS[-1]


def since(earlier: list[int], now: list[int]) -> list[int]:
    """A latency histogram of what came between two snapshots."""
    return [after - before for before, after in zip(earlier, now, strict=True)]
