"""The thread that keeps memory in line with what is written down."""

from __future__ import annotations

import threading
import time

import structlog

from modelyard.serving.domain.endpoint import Deployment
from modelyard.serving.handlers.deployer import Deployer
from modelyard.serving.handlers.reconcile import reconcile

log = structlog.get_logger()


class Background:
    """Reconciles at the start and every `every_s` seconds; what failed is tried again every `retry_failed_s`."""

    def __init__(self, deployer: Deployer, every_s: float, retry_failed_s: float) -> None:
        self._deployer = deployer
        self._every_s = every_s
        self._retry_failed_s = retry_failed_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="serving-reconcile", daemon=True)

    def start(self) -> None:
        """Begins; does not wait."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the model that is being loaded now."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        tried = time.monotonic()
        while True:
            due = time.monotonic() - tried >= self._retry_failed_s
            tried = time.monotonic() if due else tried
            self._once(due)
            if self._stopped.wait(self._every_s):
                return

    def _once(self, retry_failed: bool) -> None:
        try:
            reconcile(self._deployer, _report, retry_failed=retry_failed, going=lambda: not self._stopped.is_set())
        except Exception:  # the database may be away for a while; what is in memory goes on answering
            log.exception("reconciling failed")


def _report(deployment: Deployment, error: Exception) -> None:
    log.error("deployment cannot be loaded", deployment=deployment.name, exc_info=error)
