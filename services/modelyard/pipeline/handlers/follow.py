"""Waiting for another service's job: mirrored, cancellable, patient while the service is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from modelyard.core.errors import Cancelled, FailedPrecondition, ModelyardError, Unavailable
from modelyard.core.jobs.job import Steps
from modelyard.pipeline.ports import JobPort, JobView

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 1.0
AWAY_S: Final = 300.0
"""How long a service may be away (a restart, a new version rolled out) before the run fails for it."""
CANCEL_S: Final = 20.0


def follow(steps: Steps, port: JobPort, name: str, mirror: Callable[[JobView], None]) -> JobView:
    """The job once it has SUCCEEDED; `mirror` is given every look at it.

    Raises the job's own error when it FAILED, FailedPrecondition STEP_CANCELLED when somebody cancelled it, and Cancelled when
    the run is cancelled: then the job is cancelled first.
    """
    wait_s, away_since = FIRST_WAIT_S, None
    while True:
        if steps.cancelled():
            _cancel(steps, port, name)
            raise Cancelled("CANCELLED", f"the run was cancelled while it waited for {name}", name=name)
        try:
            view = port.job(name)
        except Unavailable:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > AWAY_S:
                raise
        else:
            away_since = None
            mirror(view)
            if view.terminal:
                return _succeeded(view)
        steps.sleep(wait_s)
        wait_s = min(LONGEST_WAIT_S, wait_s * 1.3)


def _succeeded(view: JobView) -> JobView:
    if view.state == "FAILED":
        raise view.error or FailedPrecondition("STEP_FAILED", f"{view.name} failed without saying why", name=view.name)
    if view.state == "CANCELLED":
        raise FailedPrecondition("STEP_CANCELLED", f"{view.name} was cancelled, so the run cannot go on", name=view.name)
    return view


def _cancel(steps: Steps, port: JobPort, name: str) -> None:
    """Cancels the job and waits (not for ever) until it has ended, so that nothing of the run works on behind its back."""
    deadline = time.monotonic() + CANCEL_S
    while time.monotonic() < deadline:
        try:
            port.cancel(name)
            if port.job(name).terminal:
                return
        except ModelyardError as error:
            if not isinstance(error, Unavailable):
                return
        steps.sleep(LONGEST_WAIT_S / 4)
