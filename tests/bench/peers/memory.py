"""The memory and the processor time of a process and of all that it started."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_FIELD: Final = re.compile(r"^(Rss|Pss):\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True)
class Memory:
    """Bytes in RAM. `rss` counts a page once for each process that maps it, `pss` shares it out among them."""

    rss: int
    pss: int
    processes: int


def memory_of(roots: Iterable[int]) -> Memory:
    """What the processes and their descendants hold; those that end meanwhile count as nothing."""
    fields = [found for root in roots for pid in tree(root) if (found := _of(pid))]
    return Memory(sum(each["Rss"] for each in fields), sum(each["Pss"] for each in fields), len(fields))


def tree(pid: int) -> Iterator[int]:
    """The process and its descendants."""
    yield pid
    for file in _PROC.glob(f"{pid}/task/*/children"):
        for child in _text(file).split():
            yield from tree(int(child))


def processor_s(roots: Iterable[int]) -> float:
    """Seconds of processor time that the processes and their descendants have used; those that ended are left out."""
    return sum(_ticks(pid) for root in roots for pid in tree(root)) / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> int:
    fields = _text(_PROC / str(pid) / "stat").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12]) if fields else 0


def open_files(pid: int) -> int:
    """File descriptors that the process holds; 0 where there is none."""
    try:
        return len(list((_PROC / str(pid) / "fd").iterdir()))
    except OSError:
        return 0


def _of(pid: int) -> dict[str, int]:
    return {name: int(kilobytes) * 1024 for name, kilobytes in _FIELD.findall(_text(_PROC / str(pid) / "smaps_rollup"))}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
