"""The threads of a follower: begun, woken and ended together."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from modelyard.serving.adapters.fleet_link import FleetLink
from modelyard.serving.adapters.follower_report import FollowerReport
from modelyard.serving.domain.desired_state import DesiredState

FIRST_PAUSE_S = 0.5


class FollowerThreads:
    """`_newest`: what is wanted now; who takes a newer one sets `_arrived`. `_stopped`: everything is to end."""

    def __init__(self, link: FleetLink, report: FollowerReport, *works: Callable[[], None]) -> None:
        self._link, self._report = link, report
        self._newest: DesiredState | None = None
        self._arrived, self._stopped = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=work, name=f"follow-{work.__name__.strip('_')}", daemon=True) for work in works]

    def start(self) -> None:
        """Begins; does not wait."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends after the model that is being loaded now."""
        self._stopped.set()
        self._arrived.set()
        self._report.wake.set()
        self._link.close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(60)


def pause_s(failures: int, longest_s: float) -> float:
    """Seconds until the centre is tried again: doubling, and drawn at random, so that a fleet does not come at once."""
    if failures == 0:
        return 0.0
    return random.uniform(0.1, 1.0) * min(longest_s, FIRST_PAUSE_S * 2.0 ** min(failures, 20))  # noqa: S311
