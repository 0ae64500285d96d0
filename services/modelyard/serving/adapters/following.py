"""The threads of a follower that is a pod: one hears what is to be served and brings memory in line with it, one reports."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from modelyard.core.errors import ModelyardError
from modelyard.serving.adapters.fleet_link import FleetLink
from modelyard.serving.adapters.follower_report import FollowerReport
from modelyard.serving.adapters.follower_threads import FollowerThreads, pause_s
from modelyard.serving.adapters.state_trust import StateTrust
from modelyard.serving.domain.desired_state import REPORT_S
from modelyard.serving.handlers.follow_endpoint import EndpointFollower

log = structlog.get_logger()


class Following(FollowerThreads):
    """`on_ready` is called once, when everything that is wanted has become ready for the first time.

    Watching and applying are two threads: while a bundle is on its way another state may come, and only the newest counts.
    """

    def __init__(
        self,
        link: FleetLink,
        trust: StateTrust,
        follower: EndpointFollower,
        report: FollowerReport,
        on_ready: Callable[[], object],
        longest_pause_s: float = 60.0,
    ) -> None:
        super().__init__(link, report, self._watch, self._apply, self._report_now_and_then)
        self._trust, self._follower, self._on_ready, self._longest_pause_s = trust, follower, on_ready, longest_pause_s

    def _watch(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                for envelope in self._link.watch(self._trust.number):
                    failures = 0
                    if envelope is not None:
                        self._newest = self._trust.accept(envelope)
                        log.info("desired state", number=self._newest.number, subject=self._newest.subject)
                        self._arrived.set()
            except ModelyardError as error:
                if self._stopped.is_set():
                    return
                failures += 1
                log.warning("the centre cannot be followed", reason=error.reason, message=error.message, failures=failures)
            except Exception:
                failures += 1
                log.exception("following failed")
            self._stopped.wait(pause_s(failures, self._longest_pause_s))

    def _apply(self) -> None:
        ready = False
        while not self._stopped.is_set():
            state = self._newest
            self._arrived.wait(self._follower.retry_s if state is not None else None)
            self._arrived.clear()
            state = self._newest
            if state is None or self._stopped.is_set():
                continue
            try:
                whole = self._follower.apply(state, lambda: not self._stopped.is_set())
            except Exception:
                log.exception("the desired state could not be applied")
                continue
            if whole and not ready:
                ready = True
                self._on_ready()
            self._report.wake.set()

    def _report_now_and_then(self) -> None:
        while not self._stopped.is_set():
            state = self._newest
            self._report.wake.wait(state.report_s if state is not None else REPORT_S)
            self._report.wake.clear()
            if self._stopped.is_set() or state is None:
                continue
            try:
                self._link.report(self._report.made(state.number))
                self._report.sent()
            except ModelyardError as error:
                self._report.not_sent()
                log.debug("report not sent", reason=error.reason, message=error.message)
            self._stopped.wait(0.2)  # what changes at once is told together
