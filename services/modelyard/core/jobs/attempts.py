"""The attempts of a job that has a worker: started or adopted, followed, and judged when they end."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from modelyard.core.errors import ResourceExhausted, Unavailable
from modelyard.core.jobs.durable import ServerStopping
from modelyard.core.jobs.flavors import Flavors
from modelyard.core.jobs.job import Instruction, Job, JobKind, JobState
from modelyard.core.jobs.logs import JobLogs
from modelyard.core.jobs.runner import Order, Run, Runner, RunStatus, Stage
from modelyard.core.jobs.store import JobStore
from modelyard.core.jobs.worker_servicer import hash_token
from modelyard.core.rpc import tracing

T = TypeVar("T")
log = structlog.get_logger()
# How often an attempt may be disturbed (nodes drained, preempted, lost) before the job is given up: not a fault of the job's.
MOST_DISRUPTIONS = 100


@dataclass(frozen=True)
class JobLimits:
    """How the engine treats workers. All in seconds."""

    heartbeat_timeout_s: float = 120.0
    cancel_grace_s: float = 15.0
    shutdown_grace_s: float = 5.0
    poll_s: float = 0.1
    retry_wait_s: float = 1.0


class Patience:
    """Waits, and tries again what fails because something is away; leaves by ServerStopping when this server stops."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping

    def pause(self, seconds: float) -> None:
        """Wait."""
        if self._stopping.wait(seconds):
            raise ServerStopping

    def leave_if_stopping(self) -> None:
        """Raises ServerStopping when this server stops."""
        if self._stopping.is_set():
            raise ServerStopping

    def surely(self, function: Callable[..., T], *arguments: Any, **more: Any) -> T:
        """What the function gives, however long the database is away or full: the life of a job goes on after it."""
        wait_s = 0.2
        while True:
            try:
                return function(*arguments, **more)
            except (Unavailable, ResourceExhausted) as error:
                if wait_s > 1.0:
                    log.warning("waiting", reason=error.reason, seconds=round(wait_s, 1))
                self.pause(wait_s)
                wait_s = min(5.0, wait_s * 2)


class Attempts:
    """Runs the attempts of jobs with a runner. Steps of the job's workflow, so each method may be called again after a crash."""

    def __init__(
        self, store: JobStore, logs: JobLogs, runner: Runner, flavors: Flavors, limits: JobLimits, patience: Patience
    ) -> None:
        self._store = store
        self._logs = logs
        self._runner = runner
        self._flavors = flavors
        self._limits = limits
        self._patience = patience
        self.address = ""
        """Where workers reach this service."""

    def prepare(self) -> None:
        """Before the first attempt."""
        self._runner.prepare()

    def expect(self, module: str, size_bytes: int) -> None:
        """An attempt of a module is likely to come soon."""
        self._runner.expect(module, size_bytes)

    def close(self) -> None:
        """After the last attempt."""
        self._runner.close()

    def until_decided(self, kind: JobKind, name: str, step: Callable[..., Any]) -> None:
        """Attempts until one comes to something, or too many were lost. `step` makes a call durable."""
        lost = disturbed = 0
        while lost < kind.max_attempts and disturbed < MOST_DISRUPTIONS:
            outcome = step("attempt", self._attempt, kind, name)
            if outcome not in ("lost", "disrupted"):
                return
            lost, disturbed = lost + (outcome == "lost"), disturbed + (outcome == "disrupted")
            log.warning("worker lost", job=name, lost=lost, of=kind.max_attempts, disturbed=disturbed)
            self._patience.pause(self._limits.retry_wait_s * min(30, max(1, disturbed)))

    def _attempt(self, kind: JobKind, name: str) -> str:
        job = self._patience.surely(self._store.get, name)
        if job.outcome != "open" or job.state.terminal:
            self._runner.discard(self._order(kind, job))
            return job.outcome
        job, run = self._adopted(kind, job) or self._begun(kind, job)
        try:
            status = self._follow(job, run)
        except ServerStopping:
            run.leave(self._limits.shutdown_grace_s)
            raise
        except BaseException:
            run.end(self._limits.shutdown_grace_s, decided=False)
            raise
        return self._judged(job, run, status)

    def _adopted(self, kind: JobKind, job: Job) -> tuple[Job, Run] | None:
        """The attempt that runs without this server's doing: it was started before a restart."""
        if job.attempt == 0:
            return None
        order = self._order(kind, job)
        if not job.token_hash:
            self._runner.discard(order)
            return None
        run = self._runner.adopt(order, self._patience.surely(self._logs.stored, job.name, job.attempt))
        if run is None:
            return None
        log.info("attempt adopted", attempt=job.attempt)
        return job, run

    def _begun(self, kind: JobKind, job: Job) -> tuple[Job, Run]:
        token = secrets.token_urlsafe(24)
        job = self._patience.surely(self._store.begin_attempt, job.name, hash_token(token))
        log.info("attempt started", attempt=job.attempt)
        return job, self._runner.start(self._order(kind, job, token))

    def _order(self, kind: JobKind, job: Job, token: str = "") -> Order:
        identity = {"job": job.name, "attempt": job.attempt, "token": token, "address": self.address, "service": kind.service}
        traced = {key.upper(): value for key, value in tracing.carrier().items()}
        return Order(
            job=job.name,
            kind=job.kind,
            service=kind.service,
            attempt=job.attempt,
            module=kind.worker_module,
            flavor=self._flavors.of(job.instance_flavor, job.kind),
            environment={**kind.environment, **traced},
            identity=json.dumps(identity) if token else "",
            distributed=kind.distributed,
        )

    def _follow(self, job: Job, run: Run) -> RunStatus:
        """Wait for the end; end it when the job is cancelled, it falls silent, or this server stops."""
        asked = float("inf")
        next_look = 0.0
        heart = _Heart(self._limits.heartbeat_timeout_s)
        while (status := run.status()).stage is not Stage.ENDED:
            self._patience.leave_if_stopping()
            time.sleep(self._limits.poll_s / 2)
            if time.monotonic() < next_look:
                continue
            next_look = time.monotonic() + self._limits.poll_s * 5
            job = self._look(job, run, status, heart)
            if job.state.terminal or job.decided:
                return status
            if job.instruction is Instruction.CANCEL and asked == float("inf"):
                run.ask_to_end()
                asked = time.monotonic()
            if time.monotonic() - asked > self._limits.cancel_grace_s or heart.silent():
                return status
        return status

    def _look(self, job: Job, run: Run, status: RunStatus, heart: _Heart) -> Job:
        """The job as it is stored now; what the worker wrote, and what it waits for, is stored on the way."""
        try:
            self._logs.append(job.name, job.attempt, run.output())
            found = self._store.get(job.name)
            if status.stage is Stage.WAITING:
                waiting = {"reason": status.reason, "message": status.message}
                found = self._store.waits(job.name, job.attempt, waiting)
                heart.beat()
            elif found.progress and found.progress.get("waiting"):
                found = self._store.waits(job.name, job.attempt, None)
            heart.see(found)
        except (Unavailable, ResourceExhausted):
            heart.beat()  # the worker cannot report either
            self._patience.pause(1.0)
            return job
        return found

    def _judged(self, job: Job, run: Run, status: RunStatus) -> str:
        """What an attempt that is over came to: the job's outcome, or "lost" or "disrupted" where the worker said nothing."""
        decided = self._patience.surely(self._store.get, job.name).decided
        run.end(self._limits.shutdown_grace_s, decided=decided)
        while outputs := run.output():
            self._patience.surely(self._logs.append, job.name, job.attempt, outputs)
        job = self._patience.surely(self._store.end_attempt, job.name, job.attempt)
        if job.outcome == "open" and status.error is not None:
            job = self._patience.surely(self._store.fail, job.name, status.error)
        log.info("attempt ended", attempt=job.attempt, outcome=job.outcome, why=status.message, disrupted=status.disrupted)
        if job.outcome != "open":
            return job.outcome
        return "disrupted" if status.disrupted else "lost"


class _Heart:
    """Whether a worker is silent, by this process's own clock: a database that was away is no silence, nor are other clocks."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._seen: object = None
        self._last = time.monotonic()

    def beat(self) -> None:
        self._last = time.monotonic()

    def see(self, job: Job) -> None:
        if job.heartbeat_time != self._seen or job.state is not JobState.RUNNING:
            self._seen = job.heartbeat_time
            self.beat()

    def silent(self) -> bool:
        return time.monotonic() - self._last > self._timeout_s
