"""Time of one answer: what a measurement gives, and what exports, profiles, evaluations and gate decisions carry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Latency:
    """Time of one answer in milliseconds (median, 95th and 99th percentile) over `calls` calls, and on what it was measured.

    `memory_bytes`: peak resident memory of the process while it loaded the model and answered, less that before it loaded it,
    when the runtime's own code was in memory already. 0 where it was not measured.
    """

    p50_ms: float
    p95_ms: float
    p99_ms: float
    calls: int
    threads: int
    target: str
    hardware: str
    memory_bytes: int = 0
