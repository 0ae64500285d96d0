"""How long one answer takes, measured as it will be served: the bundle in its runtime, warm, one example at a time.

The measurement runs in a process of its own with nothing else in it:

    python -m modelyard.runtime.latency BUNDLE --target cpu --seconds 2

prints one JSON object. `measure` starts that process and reads the object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from modelyard.core.errors import FailedPrecondition, InvalidArgument, ModelyardError, Unavailable
from modelyard.core.latency import Latency

TARGETS: Final = ("cpu", "cpu-1core")
WARM_UP_CALLS: Final = 5
MIN_CALLS: Final = 20
MAX_CALLS: Final = 20_000


def measure(path: Path, target: str = "cpu", *, seconds: float = 2.0, threads: int | None = None) -> Latency:
    """Measures a bundle in a process of its own for about `seconds` (above 0; loading comes on top).

    `target` is `cpu` (all cores that this process may use) or `cpu-1core`. With `threads` (1 or more; 0 or None: as follows
    from the target) it may be any name, which then only says where this machine stands.
    Raises InvalidArgument for an unknown target or a bad bundle, FailedPrecondition RUNTIME_NOT_INSTALLED, Unavailable
    LATENCY_NOT_MEASURED when the measuring process ended without a result.
    """
    count = _count(target, threads)
    command = [sys.executable, "-m", "modelyard.runtime.latency", str(path), "--target", target, "--seconds", str(seconds)]
    command += ["--threads", str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    limit = seconds * 10 + 120
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False, env=environment)
    except subprocess.TimeoutExpired as error:
        raise Unavailable("LATENCY_NOT_MEASURED", f"measuring took longer than {limit:g} s, which is the most it may") from error
    return _parse(done.returncode, done.stdout, done.stderr)


def _parse(returncode: int, output: str, errors: str) -> Latency:
    lines = output.strip().splitlines()
    document = json.loads(lines[-1]) if lines else {}
    if "error" in document:
        kind = FailedPrecondition if document.get("kind") == FailedPrecondition.__name__ else InvalidArgument
        raise kind(document["error"], document["message"])
    if returncode != 0 or not document:
        detail = errors.strip()[-500:]
        raise Unavailable("LATENCY_NOT_MEASURED", f"the measuring process ended with status {returncode}: {detail}")
    return Latency(**document)


def _count(target: str, threads: int | None) -> int:
    """Threads to measure with."""
    if not threads:
        return threads_for(target)
    if threads < 1:
        raise InvalidArgument("BAD_THREADS", f"threads is {threads}, it must be 1 or more", field="threads", threads=threads)
    return threads


def threads_for(target: str) -> int:
    """Threads that a target's runtime uses: 1 for `cpu-1core`, all usable cores for `cpu`."""
    if target not in TARGETS:
        message = f"target is {target!r}, it must be one of {', '.join(TARGETS)}"
        raise InvalidArgument("UNKNOWN_TARGET", message, field="target", target=target)
    return 1 if target == "cpu-1core" else usable_cores()


def usable_cores() -> int:
    """Cores that this process may use: its CPU set, and the quota of its cgroup (v2 or v1), rounded up; 1 or more."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota(lambda name: Path(name).read_text())
    return max(1, min(allowed, math.ceil(quota)) if quota else allowed)


def _cgroup_quota(read: Callable[[str], str]) -> float | None:
    """CPUs that the cgroup allows, or None where it sets no limit."""
    try:
        quota, period = read("/sys/fs/cgroup/cpu.max").split()[:2]
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota_us = int(read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
        return quota_us / int(read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")) if quota_us > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def hardware_name() -> str:
    """The processor's name as the operating system gives it."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.lower().startswith(("model name", "hardware", "cpu model")))
    return next(filter(None, names), "") or platform.processor() or platform.machine()


def time_calls(call: Callable[[int], object], *, seconds: float, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Milliseconds of each call of `call(number)`, for about `seconds` but at least 20 and at most 20,000 calls, after a warm-up.

    Where one call takes so long that 20 would exceed five times `seconds`, it stops earlier (but times at least 3).
    """
    for number in range(WARM_UP_CALLS):
        start = clock()
        call(number)
        if clock() - start > seconds:
            break
    times: list[float] = []
    begin = clock()
    while len(times) < MAX_CALLS:
        spent = clock() - begin
        if (spent >= seconds and len(times) >= MIN_CALLS) or (spent >= 5 * seconds and len(times) >= 3):
            break
        start = clock()
        call(len(times))
        times.append((clock() - start) * 1000)
    return times


def measure_here(path: Path, target: str, *, seconds: float, threads: int | None = None) -> Latency:
    """Measures in this process; for the process that `measure` starts."""
    from modelyard.formats.bundle import open_bundle
    from modelyard.runtime.model import import_runtime, load_model

    count = _count(target, threads)
    bundle = open_bundle(path)
    examples = _single_examples(bundle.test_vectors().inputs)
    import_runtime(bundle.card.format)
    before = _memory("VmRSS", reset_peak=True)
    model = load_model(bundle, count)
    times = time_calls(lambda number: model.run(examples[number % len(examples)]), seconds=seconds)
    memory = max(0, _memory("VmHWM") - before) if before else 0
    model.close()
    p50, p95, p99 = (round(float(value), 4) for value in np.percentile(times, (50, 95, 99)))
    return Latency(p50, p95, p99, len(times), count, target, hardware_name(), memory)


def _memory(field: str, *, reset_peak: bool = False) -> int:
    """Bytes that Linux says of this process: VmRSS is what is resident, VmHWM the most that was. 0 where there is no /proc.

    `reset_peak` lets the most begin anew here (man proc: clear_refs); where that is not allowed the start-up's counts.
    """
    try:
        if reset_peak:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _single_examples(inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    count = len(next(iter(inputs.values())))
    return [{name: array[row : row + 1] for name, array in inputs.items()} for row in range(count)]


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the measuring process."""
    parser = argparse.ArgumentParser(prog="python -m modelyard.runtime.latency", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--target", default="cpu", help="cpu, cpu-1core, or with --threads any name")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=None)
    given = parser.parse_args(arguments)
    try:
        result = measure_here(given.bundle, given.target, seconds=given.seconds, threads=given.threads)
    except ModelyardError as error:
        sys.stdout.write(json.dumps({"error": error.reason, "message": error.message, "kind": type(error).__name__}) + "\n")
        return 2
    sys.stdout.write(json.dumps(asdict(result)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
