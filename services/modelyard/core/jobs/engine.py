"""Runs jobs: one durable workflow each, attempts in worker processes (or steps in this one); nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import structlog

from modelyard.core.database import now
from modelyard.core.errors import InvalidArgument, ModelyardError, Unavailable
from modelyard.core.jobs.durable import Durable, ServerStopping
from modelyard.core.jobs.job import Document, Instruction, Job, JobChange, JobKind, JobPage, JobState
from modelyard.core.jobs.process_runner import WORK_FOLDER, WorkerProcess, start_worker
from modelyard.core.jobs.store import EVENTS_AT_ONCE, JobStore
from modelyard.core.jobs.worker_servicer import hash_token
from modelyard.core.rpc import tracing
from modelyard.core.rpc.status import error_of, exception_of

log = structlog.get_logger()


@dataclass(frozen=True)
class JobLimits:
    """How the engine treats workers. All in seconds."""

    heartbeat_timeout_s: float = 120.0
    cancel_grace_s: float = 15.0
    shutdown_grace_s: float = 5.0
    poll_s: float = 0.1
    retry_wait_s: float = 1.0


class Places(Protocol):
    """How many jobs may run at once, beyond the slots of their kinds."""

    def enter(self, job: Job) -> bool:
        """Whether the job may run now; then it is counted until `leave`."""

    def leave(self, name: str) -> None:
        """It does not run any more."""


class JobEngine:
    """What runs in the background in this process. `launch` it once the server listens, `shut_down` before it closes."""

    def __init__(
        self,
        store: JobStore,
        make_durable: Callable[[Callable[[str], Any]], Durable],
        *,
        log_dir: Path,
        work_dir: Path,
        worker_environment: Mapping[str, str],
        limits: JobLimits | None = None,
    ) -> None:
        self._store = store
        self._durable = make_durable(self._live)
        self._log_dir = log_dir
        self._work_dir = work_dir
        self._environment = dict(worker_environment)
        self._limits = limits or JobLimits()
        self._kinds: dict[str, JobKind] = {}
        self._slots: dict[str, threading.BoundedSemaphore] = {}
        self._stopping = threading.Event()
        self._idle = threading.Condition()
        self._living: set[str] = set()
        self._address = ""
        self.places: Places | None = None
        """Quotas that jobs wait for."""

    # --- what handlers call

    def is_worker(self, kind: str) -> bool:
        """Whether jobs of a kind compute in a process of their own; others wait for jobs of other services."""
        return kind in self._kinds and self._kinds[kind].run is None

    def register(self, kind: JobKind) -> None:
        """Make a kind known. All kinds must be known before `launch`."""
        self._kinds[kind.kind] = kind
        self._slots[kind.kind] = threading.BoundedSemaphore(kind.slots)

    def submit(
        self,
        name: str,
        kind: str,
        *,
        parent: str,
        spec: Document,
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
        method: str = "",
        fingerprint: str = "",
    ) -> Job:
        """Write a job and start it. The same request_id gives the earlier job again."""
        job = _new_job(name, self._kinds[kind], parent, spec, {**(labels or {}), **tracing.carrier()})
        job, created = self._store.create(job, request_id=request_id, method=method, fingerprint=fingerprint)
        if created and self._address:
            self._start(job.name)
        return job

    def get(self, name: str) -> Job:
        """Read a job. Raises NotFound."""
        return self._store.get(name)

    def list(self, kind: str, parent: str, page_size: int = 0, page_token: str = "") -> JobPage:
        """A page of jobs, the newest first."""
        return self._store.list(kind, parent, page_size, page_token)

    def find(self, kind: str, *, parent: str | None = None, states: Iterable[JobState] | None = None) -> Sequence[Job]:
        """All jobs of a kind, the oldest first."""
        return self._store.find([kind], parent=parent, states=states)

    def stop(self, name: str) -> Job:
        """Ask a job to end early and keep what it has."""
        return self._store.instruct(name, Instruction.STOP)

    def cancel(self, name: str) -> Job:
        """Ask a job to end without a result. One that waits for a slot ends at once."""
        return self._store.instruct(name, Instruction.CANCEL)

    def delete(self, name: str) -> None:
        """Remove a job that has ended."""
        self._store.delete(name)

    def wait(self, name: str, timeout_s: float) -> Job:
        """The job once it has ended, or as it is when the time is up."""
        deadline = time.monotonic() + timeout_s
        while not (job := self.get(name)).state.terminal and time.monotonic() < deadline:
            time.sleep(self._limits.poll_s)
        return job

    async def watch(self, name: str, after_sequence: int = 0) -> AsyncIterator[JobChange]:
        """The job now (unless nothing came after `after_sequence`), then at every change, until its end or the server's."""
        if after_sequence < 0:
            message = f"after_sequence is {after_sequence}; it must be 0 or more"
            raise InvalidArgument("NEGATIVE_SEQUENCE", message, field="after_sequence", value=after_sequence)
        while not self._stopping.is_set():
            job, events = await asyncio.to_thread(self._store.changes, name, after_sequence)
            if job.sequence > after_sequence or after_sequence == 0:
                after_sequence = (
                    max(job.sequence, after_sequence) if len(events) < EVENTS_AT_ONCE else after_sequence + len(events)
                )
                yield JobChange(after_sequence, job, events)
            if job.state.terminal and len(events) < EVENTS_AT_ONCE:
                return
            await asyncio.sleep(self._limits.poll_s if not events else 0.02)

    # --- life of the engine

    def launch(self, address: str) -> None:
        """Start: workers reach this process at `address`. Every job without an end goes on."""
        self._address = address
        shutil.rmtree(self._work_dir, ignore_errors=True)  # what attempts left that were killed together with their server
        self._durable.launch()
        for job in self._store.find(self._kinds, states=(JobState.QUEUED, JobState.RUNNING)):
            self._start(job.name)

    def shut_down(self) -> None:
        """Leave all jobs where they are, end their workers (each saves what it can), and disconnect."""
        self._stopping.set()
        deadline = time.monotonic() + self._limits.shutdown_grace_s + 5.0
        with self._idle:
            while self._living and time.monotonic() < deadline:
                self._idle.wait(timeout=0.1)
        if self._address:
            self._durable.destroy()

    def _start(self, name: str) -> None:
        """Start the job's workflow; where an earlier one ended without ending the job, the next."""
        for turn in range(100):
            workflow_id = name if turn == 0 else f"{name}#{turn}"
            status = self._durable.status(workflow_id)
            if status == "ENDED":
                continue
            if status == "":
                self._durable.start(workflow_id, name)
            return

    # --- life of a job (inside its workflow)

    def _live(self, name: str) -> str:
        """The workflow's body: attempts until one comes to something, then the end. Every step is safe to repeat."""
        with self._alive(name):
            job = self._store.get(name)
            kind = self._kinds[job.kind]
            with (
                tracing.span(f"job {job.kind}", parent=job.labels, **{"modelyard.job": name}),
                self._place(kind, job),
                self._slot(kind, name),
            ):
                if kind.run is None:
                    self._attempt_until_decided(kind, name)
                else:
                    self._run_inline(kind, name)
                return str(self._durable.step("end", self._end, kind, name))

    @contextmanager
    def _alive(self, name: str) -> Any:
        with self._idle:
            self._living.add(name)
        try:
            with structlog.contextvars.bound_contextvars(job=name):
                yield
        finally:
            with self._idle:
                self._living.discard(name)
                self._idle.notify_all()

    @contextmanager
    def _place(self, kind: JobKind, job: Job) -> Any:
        """Within the quotas of the job's project, for as long as it takes. Jobs that only wait for others need no place."""
        places = self.places
        if places is None or kind.run is not None:
            yield
            return
        while not places.enter(job):
            self._leave_if_stopping()
            if self._store.get(job.name).instruction is Instruction.CANCEL:
                break
            time.sleep(self._limits.poll_s)
        try:
            yield
        finally:
            places.leave(job.name)

    @contextmanager
    def _slot(self, kind: JobKind, name: str) -> Any:
        slot = self._slots[kind.kind]
        while not (taken := slot.acquire(timeout=self._limits.poll_s)):
            self._leave_if_stopping()
            if self._store.get(name).instruction is Instruction.CANCEL:
                break
        try:
            yield
        finally:
            if taken:
                slot.release()

    def _attempt_until_decided(self, kind: JobKind, name: str) -> None:
        for attempt in range(kind.max_attempts):
            if self._durable.step("attempt", self._attempt, kind, name) != "lost":
                return
            log.warning("worker lost", job=name, lost=attempt + 1, of=kind.max_attempts)
            self._pause(self._limits.retry_wait_s)

    def _attempt(self, kind: JobKind, name: str) -> str:
        job = self._store.get(name)
        if job.outcome != "open":
            return job.outcome
        token = secrets.token_urlsafe(24)
        job = self._store.begin_attempt(name, hash_token(token))
        worker = start_worker(kind.worker_module, self._environment_of(kind, job, token), self._log_file(job))
        log.info("attempt started", attempt=job.attempt, pid=worker.process.pid)
        try:
            self._follow(name, worker)
        finally:
            worker.end(self._limits.shutdown_grace_s)
            shutil.rmtree(self._work_folder(job), ignore_errors=True)
        outcome = self._store.get(name).outcome
        log.info("attempt ended", attempt=job.attempt, outcome=outcome, exit_status=worker.process.returncode)
        return "lost" if outcome == "open" else outcome

    def _follow(self, name: str, worker: WorkerProcess) -> None:
        """Wait for the worker's end; end it when the job is cancelled, it falls silent, or this server stops."""
        asked = float("inf")
        next_look = 0.0
        while worker.running():
            self._leave_if_stopping()
            time.sleep(self._limits.poll_s / 2)
            if time.monotonic() < next_look:
                continue
            next_look = time.monotonic() + self._limits.poll_s * 5
            job = self._store.get(name)
            if job.instruction is Instruction.CANCEL and asked == float("inf"):
                worker.ask_to_end()
                asked = time.monotonic()
            if time.monotonic() - asked > self._limits.cancel_grace_s or self._silent(job):
                return

    def _silent(self, job: Job) -> bool:
        silence = (now() - job.heartbeat_time).total_seconds() if job.heartbeat_time else 0.0
        return silence > self._limits.heartbeat_timeout_s

    def _run_inline(self, kind: JobKind, name: str) -> None:
        """Takes the steps, also of a job that has failed or is cancelled: a replay must take the recorded ones before the end."""
        job = self._store.started(name)
        if kind.run is None:
            return
        try:
            result = kind.run(job, _InlineSteps(self, name))
        except Exception as error:
            if not isinstance(error, ModelyardError):
                log.exception("job failed")
            if self._store.get(name).instruction is not Instruction.CANCEL:
                self._store.fail(name, error_of(error))
        else:
            self._store.report(name, result=result)

    def _end(self, kind: JobKind, name: str) -> str:
        """Ends the job by its outcome. May run again after a crash: the hooks are idempotent, the store ends a job once."""
        job = self._store.get(name)
        if job.state.terminal:
            return job.state.value
        outcome = job.outcome
        if outcome == "open" and kind.run is not None:
            outcome = "completed"
        if outcome == "completed":
            job = self._end_well(kind, job)
        elif outcome == "cancelled":
            self._clean_up(kind, job)
            job = self._store.end(name, JobState.CANCELLED, "CANCELLED")
        else:
            error = job.error or _worker_lost(job, kind, self._log_file(job))
            job = self._end_badly(kind, job, error)
        log.info("job ended", state=job.state.value, reason=job.reason)
        return job.state.value

    def _end_well(self, kind: JobKind, job: Job) -> Job:
        try:
            more = self._with_patience(lambda: kind.on_success(job) if kind.on_success else None)
        except Exception as error:
            if not isinstance(error, ModelyardError):
                log.exception("on_success failed")
            return self._end_badly(kind, job, error_of(error))
        reason = job.reason or str((job.result or {}).get("reason") or "COMPLETED")
        return self._store.end(job.name, JobState.SUCCEEDED, reason, result={**(job.result or {}), **(more or {})})

    def _end_badly(self, kind: JobKind, job: Job, error: Document) -> Job:
        self._clean_up(kind, replace(job, error=error))
        return self._store.end(job.name, JobState.FAILED, str(error["reason"]), error=error)

    def _clean_up(self, kind: JobKind, job: Job) -> None:
        if kind.on_failure is None:
            return
        try:
            kind.on_failure(job)
        except Exception:
            log.exception("on_failure failed")

    def _with_patience(self, function: Callable[[], Any]) -> Any:
        """Tries again what fails because something is unavailable (a service restarts), for about two minutes."""
        for wait_s in (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 30.0, 30.0):
            try:
                return function()
            except Unavailable:
                self._pause(wait_s)
        return function()

    def _pause(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise ServerStopping

    def _leave_if_stopping(self) -> None:
        if self._stopping.is_set():
            raise ServerStopping

    def _environment_of(self, kind: JobKind, job: Job, token: str) -> dict[str, str]:
        identity = {"job": job.name, "attempt": job.attempt, "token": token, "address": self._address, "service": kind.service}
        own = {"MODELYARD_JOB": json.dumps(identity), WORK_FOLDER: str(self._work_folder(job))}
        traced = {key.upper(): value for key, value in tracing.carrier().items()}
        return {**self._environment, **kind.environment, **own, **traced}

    def _work_folder(self, job: Job) -> Path:
        return self._work_dir / f"{job.name.replace('/', '_')}.{job.attempt}"

    def _log_file(self, job: Job) -> Path:
        return self._log_dir / f"{job.name.replace('/', '_')}.log"


class _InlineSteps:
    """Steps (see job.Steps) of one job, over the engine's workflow."""

    def __init__(self, engine: JobEngine, name: str) -> None:
        self._engine = engine
        self._name = name

    def do(self, name: str, function: Callable[[], Any]) -> Any:
        recorded = self._engine._durable.step(name, _capture, lambda: self._engine._with_patience(function))
        if "error" in recorded:
            raise exception_of(recorded["error"])
        return recorded["value"]

    def report(
        self,
        progress: Document | None = None,
        *,
        events: Sequence[Document] = (),
        saved: Document | None = None,
        result: Document | None = None,
    ) -> None:
        self._engine._store.report(self._name, progress=progress, events=events, saved=saved, result=result)

    def cancelled(self) -> bool:
        return self._engine._store.get(self._name).instruction is Instruction.CANCEL

    def sleep(self, seconds: float) -> None:
        self._engine._pause(seconds)


def _capture(function: Callable[[], Any]) -> Document:
    """A step's outcome as JSON. Only ModelyardErrors are outcomes; anything else is a bug and fails the job."""
    try:
        return {"value": function()}
    except ModelyardError as error:
        return {"error": error_of(error)}


def _new_job(name: str, kind: JobKind, parent: str, spec: Document, labels: Mapping[str, str]) -> Job:
    return Job(
        name=name,
        kind=kind.kind,
        parent=parent,
        service=kind.service,
        state=JobState.QUEUED,
        reason="",
        attempt=0,
        instruction=Instruction.CONTINUE,
        spec=spec,
        progress=None,
        saved=None,
        result=None,
        error=None,
        sequence=1,
        labels=labels,
        create_time=now(),
        start_time=None,
        end_time=None,
        heartbeat_time=None,
        running_seconds=0.0,
    )


def _worker_lost(job: Job, kind: JobKind, log_file: Path) -> Document:
    message = (
        f"The worker of {job.name} ended {kind.max_attempts} times without a result (killed, or out of memory). "
        f"Its log {log_file.name} in the server's log folder has what it said last."
    )
    return {"code": 13, "reason": "WORKER_LOST", "message": message, "values": {"name": job.name, "attempts": kind.max_attempts}}
