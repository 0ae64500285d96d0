"""What a job is: its state, what may follow what, and the kinds of jobs a service runs. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

Document = dict[str, Any]
FLAVOR_LABEL = "instance_flavor"
"""Label of a job with the name of its flavor."""


class JobState(StrEnum):
    """Where a job is in its life. Only verbs and the work itself change it."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        """Whether nothing follows."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class Instruction(StrEnum):
    """What a worker is told at its next report."""

    CONTINUE = "CONTINUE"
    STOP = "STOP"
    CANCEL = "CANCEL"


@dataclass(frozen=True)
class Job:
    """A job as stored. `spec`, `progress`, `saved`, `result` and `error` are JSON documents of the service's own form.

    `progress`: stage, fraction (0 to 1), done, total, unit, eta_s. `error`: code, reason, message, values, violations.
    `running_seconds` is the time that attempts before the present one took.
    """

    name: str
    kind: str
    parent: str
    service: str
    state: JobState
    reason: str
    attempt: int
    instruction: Instruction
    spec: Document
    progress: Document | None
    saved: Document | None
    result: Document | None
    error: Document | None
    sequence: int
    labels: Mapping[str, str]
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    heartbeat_time: datetime | None
    running_seconds: float
    token_hash: str = ""
    report_id: str = ""

    @property
    def instance_flavor(self) -> str:
        """The size of machine it was given; empty for a job that runs inside the service."""
        return self.labels.get(FLAVOR_LABEL, "")

    @property
    def outcome(self) -> str:
        """What the attempts so far came to: "failed", "completed", "cancelled" or "open"."""
        if self.error is not None:
            return "failed"
        if self.reason:
            return "completed"
        return "cancelled" if self.instruction is Instruction.CANCEL else "open"

    @property
    def decided(self) -> bool:
        """Whether a worker has said how it went: completed, or failed."""
        return self.outcome in ("completed", "failed")


@dataclass(frozen=True)
class JobChange:
    """What a watcher is sent: the job as it is at `sequence`, and the events since the change before, oldest first."""

    sequence: int
    job: Job
    events: Sequence[Document] = ()


@dataclass(frozen=True)
class JobPage:
    """Some of a list. `next_page_token` is empty on the last page."""

    items: Sequence[Job]
    next_page_token: str


class Steps(Protocol):
    """What a job without a process of its own does its work with: durable steps inside a workflow."""

    def do(self, name: str, function: Callable[[], Any]) -> Any:
        """Run `function` (returns JSON) once: after a crash its recorded result is returned instead. ModelyardErrors pass."""

    def report(
        self,
        progress: Document | None = None,
        *,
        events: Sequence[Document] = (),
        saved: Document | None = None,
        result: Document | None = None,
    ) -> None:
        """Tell those who watch."""

    def cancelled(self) -> bool:
        """Whether somebody cancelled the job."""

    def sleep(self, seconds: float) -> None:
        """Wait; ends at once when the server stops."""


@dataclass(frozen=True)
class JobKind:
    """How jobs of a kind are run.

    `worker_module`: the module that `python -m` runs for an attempt; or `run`: a function that runs inside the workflow.
    `slots`: how many run at once in this process. `max_attempts`: how often a lost worker is started. `distributed`: the worker
    may run as several processes on several nodes, under torchrun. `foreseen`: jobs of it are announced (`import_is_near`),
    and jobs of the same worker follow them: the process for one begins when one has been done.
    `on_success` may run again after a crash, so it must be idempotent; what it returns is merged into the result.
    `on_failure` cleans up after a failed or cancelled job; idempotent too.
    """

    kind: str
    service: str
    worker_module: str = ""
    run: Callable[[Job, Steps], Document] | None = None
    slots: int = 1
    max_attempts: int = 3
    on_success: Callable[[Job], Document | None] | None = None
    on_failure: Callable[[Job], None] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    distributed: bool = False
    foreseen: bool = False
