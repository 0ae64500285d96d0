"""When a version that crashed is started again, and when it counts as unhealthy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

FIRST_S: Final = 1.0
LONGEST_S: Final = 60.0
WINDOW_S: Final = 600.0
"""Crashes are counted over this long."""
MOST_CRASHES: Final = 3
"""So many within the window make a version unhealthy."""
QUIET_S: Final = 60.0
"""So long without a crash makes it healthy again."""


@dataclass
class CrashRecord:
    """The crashes of one version. Times are time.monotonic()."""

    _times: list[float] = field(default_factory=list)

    def crashed(self, now: float) -> float:
        """Notes a crash; gives the seconds until it is started again: 1, 2, 4 ... 60 for the first, second... of the window."""
        self._times = [*(time for time in self._times if now - time < WINDOW_S), now]
        return float(min(LONGEST_S, FIRST_S * 2.0 ** (len(self._times) - 1)))

    def recent(self, now: float) -> int:
        """Crashes of the window."""
        return sum(now - time < WINDOW_S for time in self._times)

    def is_unhealthy(self, now: float) -> bool:
        """Whether it crashed MOST_CRASHES times within the window, and has not been quiet since."""
        return self.recent(now) >= MOST_CRASHES and now - self._times[-1] < QUIET_S
