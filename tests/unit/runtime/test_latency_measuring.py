"""Measuring latency: how calls are timed, what counts as a core, and what the measuring process answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelyard.core.errors import FailedPrecondition, InvalidArgument, Unavailable
from modelyard.core.latency import Latency
from modelyard.runtime import latency
from modelyard.runtime.latency import time_calls
from tests.support.bundles import mlp_bundle
from tests.support.runtime_bundles import runtime_bundle


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
    assert latency._parse(0, f"noise\n{line}\n", "") == Latency(1, 2, 3, 4, 1, "cpu", "x")
    with pytest.raises(InvalidArgument, match="no zip"):
        latency._parse(2, '{"error": "INVALID_BUNDLE", "message": "no zip"}', "")
    with pytest.raises(FailedPrecondition, match="needs tensorflow"):
        latency._parse(2, '{"error": "RUNTIME_NOT_INSTALLED", "message": "needs tensorflow", "kind": "FailedPrecondition"}', "")
    with pytest.raises(Unavailable, match="killed"):
        latency._parse(-9, "", "killed")


def test_process_names_what_is_wrong_with_a_bundle(tmp_path: Path) -> None:
    path = tmp_path / "bad.bundle"
    path.write_bytes(b"no zip")
    with pytest.raises(InvalidArgument, match=r"bad\.bundle: not a readable zip"):
        latency.measure(path, "cpu-1core", seconds=0.1)


@pytest.mark.parametrize("form", ["onnx", "litert-int8", "openvino"])
def test_every_format_is_measured_in_its_runtime(tmp_path: Path, form: str) -> None:
    path = runtime_bundle(tmp_path / "m.bundle", form)
    result = latency.measure(path, "edge-of-ours", seconds=0.1, threads=1)
    assert 0 < result.p50_ms <= result.p95_ms <= result.p99_ms
    assert (result.target, result.threads) == ("edge-of-ours", 1)
    assert result.calls >= latency.MIN_CALLS
    assert 0 < result.memory_bytes < 1 << 30


def test_memory_is_that_of_the_model(tmp_path: Path) -> None:
    """A model with 40 MB more weights takes about 40 MB more."""
    small, large = mlp_bundle(tmp_path / "s", hidden=8, layers=2), mlp_bundle(tmp_path / "l", hidden=3200, layers=2)
    difference = measured_memory(large) - measured_memory(small)
    assert 35e6 < difference < 200e6, difference


def measured_memory(path: Path) -> int:
    return latency.measure(path, "cpu-1core", seconds=0.05).memory_bytes
