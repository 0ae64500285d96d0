"""Looks every few seconds whether something is due, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import structlog

log = structlog.get_logger()


class Scheduler:
    """Calls each of `duties` every `every_s` seconds; what one raises is logged, and it is called again."""

    def __init__(self, duties: Sequence[Callable[[], object]], every_s: float) -> None:
        self._duties = duties
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reevaluations", daemon=True)

    def start(self) -> None:
        """From now on."""
        self._thread.start()

    def stop(self) -> None:
        """Waits for the present look."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            for duty in self._duties:
                try:
                    duty()
                except Exception:
                    log.exception("a look at what is due failed")
