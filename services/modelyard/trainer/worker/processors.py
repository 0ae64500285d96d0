"""How many processors training may use: what the scheduler allows and what the container's quota pays for."""

from __future__ import annotations

import math
from pathlib import Path

from modelyard.formats.dataset import available_cpus


def training_threads(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Threads to compute with, 1 or more: the fewer of the CPUs this process may run on and the CPU quota of its cgroup."""
    quota = cgroup_quota(root)
    return max(1, min(available_cpus(), math.ceil(quota) if quota else available_cpus()))


def cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """CPUs that the cgroup (version 2 or 1) grants, for example 1.5; None without a quota."""
    second = _numbers(root / "cpu.max")
    first = _numbers(root / "cpu" / "cpu.cfs_quota_us") + _numbers(root / "cpu" / "cpu.cfs_period_us")
    numbers = second if len(second) == 2 else first
    return numbers[0] / numbers[1] if len(numbers) == 2 and min(numbers) > 0 else None


def _numbers(path: Path) -> list[float]:
    """The numbers in a small file; none when it is absent or says "max"."""
    try:
        return [float(word) for word in path.read_text().split()]
    except (OSError, ValueError):
        return []
