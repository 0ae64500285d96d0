"""What a check of `modelyard doctor` comes to."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "FAIL"


@dataclass(frozen=True)
class Check:
    """What was looked at, how it is (ok, warn, FAIL), what was found, and the cure (empty when none is needed)."""

    name: str
    status: str
    found: str
    cure: str = ""
