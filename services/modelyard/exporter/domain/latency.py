"""Time of one answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Latency:
    """Time of one answer, in milliseconds, and where it was measured. memory_bytes is 0 where it was not measured."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    calls: int
    threads: int
    target: str
    hardware: str
    memory_bytes: int = 0
