"""Whether there is memory for one more model."""

from __future__ import annotations

import pytest

from modelyard.core.errors import ResourceExhausted
from modelyard.serving.adapters.memory import free_bytes
from modelyard.serving.domain.memory import check_free, needed_bytes

MIB = 1 << 20
MACHINE = {"/proc/meminfo": "MemTotal: 99 kB\nMemAvailable:    4096000 kB\n"}


def free(files: dict[str, str]) -> int | None:
    def read(name: str) -> str:
        if name not in files:
            raise FileNotFoundError(name)
        return files[name]

    return free_bytes(read)


def test_the_machine_where_no_cgroup_limits() -> None:
    assert free(MACHINE) == 4_096_000 * 1024
    assert free(MACHINE | {"/sys/fs/cgroup/memory.max": "max\n"}) == 4_096_000 * 1024
    assert free({}) is None


def test_the_cgroup_with_its_cached_files() -> None:
    files = {
        "memory.max": "1000000",
        "memory.current": "900000",
        "memory.stat": "anon 5\ninactive_file 300000\nactive_file 1000\n",
    }
    assert free(MACHINE | {f"/sys/fs/cgroup/{name}": text for name, text in files.items()}) == 401_000


def test_an_older_cgroup() -> None:
    files = {"limit_in_bytes": "1000", "usage_in_bytes": "1500", "stat": "total_inactive_file 200\n"}
    assert free(MACHINE | {f"/sys/fs/cgroup/memory/memory.{name}": text for name, text in files.items()}) == 0


def test_both_numbers_are_named() -> None:
    check_free(10 * MIB, 200 * MIB, 0)
    with pytest.raises(
        ResourceExhausted, match=r"about 348 MiB to be loaded and 400 MiB are free here, of which .* 60 MiB"
    ) as no:
        check_free(100 * MIB, 400 * MIB, 60 * MIB)
    assert no.value.reason == "NOT_ENOUGH_MEMORY"
    assert no.value.values["needed_bytes"] == str(needed_bytes(100 * MIB))
