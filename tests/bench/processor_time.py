"""What processes cost: seconds of processor time, which depend less on what else a machine does than those on the wall."""

from __future__ import annotations

import os
from pathlib import Path


def spent_s(pid: int | str = "self") -> float:
    """User and system time of a process and of all below it, those that have ended (and were waited for) among them."""
    process = Path("/proc") / str(pid)
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        below = {child for task in (process / "task").iterdir() for child in (task / "children").read_text().split()}
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") + sum(map(spent_s, below))
