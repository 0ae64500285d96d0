"""How much memory is free: for the cgroup, and on the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from modelyard.serving.domain.memory import check_free

Read = Callable[[str], str]


def check_memory(bundle_bytes: int, neighbours: Iterable[int] = (), loading: int = 0) -> None:
    """Whether a bundle may be loaded beside the processes with these numbers, and others that need `loading` bytes just now.

    Raises ResourceExhausted NOT_ENOUGH_MEMORY.
    """
    free = free_bytes()
    if free is not None:
        check_free(bundle_bytes, free, loading + sum(map(headroom_bytes, neighbours)))


def free_bytes(read: Read = lambda name: Path(name).read_text()) -> int | None:
    """The smaller of what the cgroup (v2 or v1) and the machine still have; None where nobody tells.

    Cached files count as free: the kernel drops them first (cgroup v2: memory.stat, inactive_file and active_file).
    """
    known = [each for each in (_machine(read), _cgroup2(read), _cgroup1(read)) if each is not None]
    return min(known) if known else None


def headroom_bytes(pid: int) -> int:
    """What a process once had at most beyond what it has now (man proc: VmHWM, VmRSS)."""
    try:
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
        return max(0, int(fields["VmHWM"].split()[0]) - int(fields["VmRSS"].split()[0])) * 1024
    except (OSError, KeyError, ValueError):
        return 0


def _machine(read: Read) -> int | None:
    try:
        line = next(line for line in read("/proc/meminfo").splitlines() if line.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _cgroup2(read: Read) -> int | None:
    folder = "/sys/fs/cgroup/"
    return _left(read, folder + "memory.max", folder + "memory.current", folder + "memory.stat", ("inactive_file", "active_file"))


def _cgroup1(read: Read) -> int | None:
    folder = "/sys/fs/cgroup/memory/memory."
    names = ("total_inactive_file", "total_active_file")
    return _left(read, folder + "limit_in_bytes", folder + "usage_in_bytes", folder + "stat", names)


def _left(read: Read, limit: str, used: str, stat: str, cached: tuple[str, ...]) -> int | None:
    try:
        most = int(read(limit))
        taken = int(read(used))
        fields = dict(line.split(" ", 1) for line in read(stat).splitlines() if " " in line)
        return max(0, most - taken + sum(int(fields.get(name, "0")) for name in cached))
    except (OSError, ValueError):  # "max": no limit
        return None
