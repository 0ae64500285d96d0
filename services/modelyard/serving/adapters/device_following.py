"""The threads of a device: one talks with the centre whenever that can be reached, one brings memory in line and watches."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import structlog

from modelyard.core.errors import ModelyardError
from modelyard.serving.adapters.device_credential import DeviceSession
from modelyard.serving.adapters.device_file import Accepted, DeviceFile
from modelyard.serving.adapters.fleet_link import FleetLink
from modelyard.serving.adapters.follower_report import FollowerReport
from modelyard.serving.adapters.follower_threads import FollowerThreads, pause_s
from modelyard.serving.adapters.state_trust import StateTrust
from modelyard.serving.domain.desired_state import REPORT_S, DesiredState
from modelyard.serving.handlers.follow_device import DeviceFollower
from modelyard.serving.state_messages import verified_before
from modelyard.serving.v1 import fleet_pb2

log = structlog.get_logger()
LOOK_S = 0.5
"""How often what is on trial is looked at."""
COUNTS_S = 60.0
"""How often counts are taken down on the disk."""
FORGET = ("SESSION_EXPIRED", "BAD_TOKEN", "KEY_REPLACED")


class DeviceFollowing(FollowerThreads):
    """`on_ready` is called once, when every model answers for the first time: with or without the centre."""

    def __init__(
        self,
        link: FleetLink,
        session: DeviceSession,
        trust: StateTrust,
        follower: DeviceFollower,
        report: FollowerReport,
        file: DeviceFile,
        on_ready: Callable[[], object],
        retry_s: float = 30.0,
        longest_pause_s: float = 60.0,
    ) -> None:
        super().__init__(link, report, self._talk, self._work)
        self._session, self._trust, self._follower, self._file = session, trust, follower, file
        self._on_ready, self._retry_s, self._longest_pause_s = on_ready, retry_s, longest_pause_s
        self._ready = False

    def stop(self) -> None:
        """As of every follower; what was counted is kept."""
        super().stop()
        self._keep_counts()

    # --- with the centre

    def _talk(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                self._exchange()
                failures = 0
            except ModelyardError as error:
                if self._stopped.is_set():
                    return
                failures += 1
                self._report.not_sent()
                if error.reason in FORGET:
                    self._session.forget()
                log.warning("the centre was not told", reason=error.reason, message=error.message, failures=failures)
            except Exception:
                failures += 1
                log.exception("talking with the centre failed")
            self._pause(failures)

    def _exchange(self) -> None:
        """Reports, and takes a desired state that it has not."""
        if self._trust.number:
            current = self._link.report(self._report.made(self._trust.number))
            self._report.sent()
            if current == self._trust.number:
                self._report.message = ""  # whatever was refused before, it is not what the centre wants
                return
        envelope = self._link.state(self._trust.number)
        if envelope is not None:
            self._accept(envelope)

    def _accept(self, envelope: fleet_pb2.SignedState) -> None:
        try:
            state = self._trust.accept(envelope)
        except ModelyardError as error:
            self._report.message = f"{error.reason}: {error.message}"
            raise
        self._report.message = ""
        trust = self._trust
        self._file.accept(Accepted(trust.number, trust.digest, envelope.SerializeToString(), trust.keys))
        log.info("desired state", number=state.number, models=len(state.models))
        self._newest = state
        self._arrived.set()

    def _pause(self, failures: int) -> None:
        if failures:
            self._stopped.wait(pause_s(failures, self._longest_pause_s))
            return
        every = self._newest.report_s if self._newest is not None else REPORT_S
        self._report.wake.wait(every * random.uniform(0.9, 1.1))  # noqa: S311  so that a fleet does not report in step
        self._report.wake.clear()
        self._stopped.wait(min(0.2, every / 2))  # what changes at once is told together

    # --- with what is in memory

    def _work(self) -> None:
        state = self._restored()
        due = 0.0
        counts_due = time.monotonic() + COUNTS_S
        while not self._stopped.is_set():
            newest = self._newest
            if newest is not None and (newest is not state or time.monotonic() >= due):
                state = newest
                due = time.monotonic() + (self._retry_s if not self._applied(state) else 3600.0)
                self._report.wake.set()
            if self._looked():
                due = 0.0
                self._report.wake.set()
            if time.monotonic() >= counts_due:
                counts_due = time.monotonic() + COUNTS_S
                self._keep_counts()
            self._arrived.wait(LOOK_S)
            self._arrived.clear()

    def _restored(self) -> DesiredState | None:
        """What was accepted before the start: it answers again, whether or not the centre can be reached."""
        accepted = self._file.accepted
        if not accepted.number:
            return None
        state = verified_before(accepted.envelope)
        try:
            self._follower.begin(state)
        except Exception:
            log.exception("what was served before could not be loaded")
        self._newest = self._newest or state
        self._tell_ready(state)
        return None

    def _applied(self, state: DesiredState) -> bool:
        try:
            return self._follower.apply(state, lambda: not self._stopped.is_set())
        except Exception:
            log.exception("the desired state could not be applied")
            return False
        finally:
            self._tell_ready(state)

    def _looked(self) -> bool:
        try:
            return self._follower.look()
        except Exception:
            log.exception("watching failed")
            return False

    def _tell_ready(self, state: DesiredState) -> None:
        if not self._ready and self._follower.answers(state):
            self._ready = True
            self._follower.staging.registry.set_complete()
            self._on_ready()

    def _keep_counts(self) -> None:
        try:
            self._file.keep_counts(self._report.totals())
        except OSError as error:
            log.warning("counts were not kept", error=str(error))
