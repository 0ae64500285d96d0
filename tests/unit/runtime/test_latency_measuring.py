"""Measuring latency: how calls are timed, what counts as a core, and what the measuring process answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelyard.core.errors import InvalidArgument, Unavailable
from modelyard.runtime import latency
from modelyard.runtime.latency import LatencyResult, time_calls


class Clock:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def taking(self, seconds: float) -> Callable[[int], None]:
        def call(number: int) -> None:
            self.now += seconds

        return call


def test_times_are_milliseconds_of_each_call() -> None:
    clock = Clock()
    times = time_calls(clock.taking(0.010), seconds=1.0, clock=clock)
    assert len(times) == pytest.approx(100, abs=1)
    assert times == pytest.approx([10.0] * len(times))


def test_slow_calls_are_timed_at_least_twenty_times() -> None:
    clock = Clock()
    assert len(time_calls(clock.taking(0.1), seconds=1.0, clock=clock)) == latency.MIN_CALLS


def test_very_slow_calls_end_early() -> None:
    clock = Clock()
    assert len(time_calls(clock.taking(10.0), seconds=1.0, clock=clock)) == 3


def test_fast_calls_have_a_cap() -> None:
    clock = Clock()
    assert len(time_calls(clock.taking(1e-6), seconds=60.0, clock=clock)) == latency.MAX_CALLS


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"/sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"/sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_quota_of_the_cgroup(files: dict[str, str], quota: float | None) -> None:
    def read(name: str) -> str:
        if name not in files:
            raise FileNotFoundError(name)
        return files[name]

    assert latency._cgroup_quota(read) == quota


def test_targets() -> None:
    assert latency.threads_for("cpu-1core") == 1
    assert latency.threads_for("cpu") >= 1
    with pytest.raises(InvalidArgument, match="one of cpu, cpu-1core"):
        latency.threads_for("gpu")


def test_answer_of_the_process() -> None:
    line = '{"p50_ms": 1, "p95_ms": 2, "p99_ms": 3, "calls": 4, "threads": 1, "target": "cpu", "hardware": "x"}'
    assert latency._parse(0, f"noise\n{line}\n", "") == LatencyResult(1, 2, 3, 4, 1, "cpu", "x")
    with pytest.raises(InvalidArgument, match="no zip"):
        latency._parse(2, '{"error": "INVALID_BUNDLE", "message": "no zip"}', "")
    with pytest.raises(Unavailable, match="killed"):
        latency._parse(-9, "", "killed")


def test_process_names_what_is_wrong_with_a_bundle(tmp_path: Path) -> None:
    path = tmp_path / "bad.bundle"
    path.write_bytes(b"no zip")
    with pytest.raises(InvalidArgument, match=r"bad\.bundle: not a readable zip"):
        latency.measure(path, "cpu-1core", seconds=0.1)
