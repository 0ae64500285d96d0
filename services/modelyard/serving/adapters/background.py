"""The threads that keep memory in line with what is written down, and watch over changes of traffic."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from modelyard.serving.domain.endpoint import Deployment
from modelyard.serving.handlers.deployer import Deployer
from modelyard.serving.handlers.guard import Guard
from modelyard.serving.handlers.reconcile import learn, reconcile
from modelyard.serving.handlers.second_look import SecondLook

log = structlog.get_logger()


class Background:
    """Reconciles at the start and every `every_s` seconds; what failed is tried again every `retry_failed_s`.

    Every `watch_s` seconds it looks at the versions that gained traffic: in a thread of its own, because loading takes a while.
    """

    def __init__(self, deployer: Deployer, every_s: float, retry_failed_s: float, watch_s: float = 1.0) -> None:
        self._deployer = deployer
        self._retry_failed_s = retry_failed_s
        self._tried = time.monotonic()
        self._guard = Guard(deployer)
        self._stopped, self._soon = threading.Event(), threading.Event()
        self.second_look = SecondLook(deployer.registry, self._learn)
        """For requests that name what is not known here."""
        self._threads = [
            threading.Thread(
                target=self._every, args=(every_s, self._reconcile, self._soon), name="serving-reconcile", daemon=True
            ),
            threading.Thread(
                target=self._every, args=(watch_s, self._guard.look, self._stopped), name="serving-guard", daemon=True
            ),
            threading.Thread(target=self.second_look.run, name="serving-second-look", daemon=True),
        ]

    def start(self) -> None:
        """Begins; does not wait."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends after the model that is being loaded now; then all models end."""
        self._stopped.set()
        self._soon.set()
        self.second_look.stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._deployer.registry.close()

    def _every(self, seconds: float, work: Callable[[], None], sooner: threading.Event) -> None:
        """Until it is stopped; at once again when `sooner` is set."""
        while not self._stopped.is_set():
            try:
                work()
            except Exception:  # the database may be away for a while; what is in memory goes on answering
                log.exception("work in the background failed")
            if sooner.wait(seconds) and not self._stopped.is_set():
                sooner.clear()

    def _learn(self) -> None:
        try:
            if learn(self._deployer):
                self._soon.set()
        except Exception:
            log.exception("what other servers deployed cannot be read")

    def _reconcile(self) -> None:
        due = time.monotonic() - self._tried >= self._retry_failed_s
        self._tried = time.monotonic() if due else self._tried
        reconcile(self._deployer, _report, retry_failed=due, going=lambda: not self._stopped.is_set())


def _report(deployment: Deployment, error: Exception) -> None:
    log.error("deployment cannot be loaded", deployment=deployment.name, exc_info=error)
