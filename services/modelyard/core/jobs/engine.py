"""Runs jobs: one durable workflow each, attempts in worker processes (or steps in this one); nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Protocol

import structlog

from modelyard.core.database import now
from modelyard.core.errors import InvalidArgument, ModelyardError, Unavailable
from modelyard.core.jobs.attempts import Attempts, JobLimits, Patience
from modelyard.core.jobs.durable import Durable
from modelyard.core.jobs.flavors import Flavors
from modelyard.core.jobs.job import FLAVOR_LABEL, Document, Instruction, Job, JobChange, JobKind, JobPage, JobState
from modelyard.core.jobs.logs import JobLogs
from modelyard.core.jobs.runner import Runner
from modelyard.core.jobs.store import JobStore
from modelyard.core.jobs.turn import Turn
from modelyard.core.resources import Naming
from modelyard.core.rpc import tracing
from modelyard.core.rpc.status import error_of, exception_of

__all__ = ["JobEngine", "JobLimits"]

log = structlog.get_logger()
LOOK_EVERY_S = 3.0
WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, *[15.0] * 4, *[30.0] * 18)
TRIES_BEFORE_SAYING_SO = 2


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
        runner: Runner,
        flavors: Flavors,
        logs: JobLogs,
        turn: Turn,
        limits: JobLimits | None = None,
        worker_address: str = "",
    ) -> None:
        self._store = store
        self._durable = make_durable(self._live)
        self._turn = turn
        self._limits = limits or JobLimits()
        self._worker_address = worker_address
        self._kinds: dict[str, JobKind] = {}
        self._slots: dict[str, threading.BoundedSemaphore] = {}
        self._stopping = threading.Event()
        self._patience = Patience(self._stopping)
        self._attempts = Attempts(store, logs, runner, flavors, self._limits, self._patience)
        self._idle = threading.Condition()
        self._living: set[str] = set()
        self.places: Places | None = None
        """Quotas that jobs wait for."""
        self._launched = threading.Event()
        self.flavors = flavors

    # --- what handlers call

    def is_worker(self, kind: str) -> bool:
        """Whether jobs of a kind compute in a process of their own; others wait for jobs of other services."""
        return kind in self._kinds and self._kinds[kind].run is None

    def register(self, kind: JobKind) -> None:
        """Make a kind known. All kinds must be known before `launch`."""
        self._kinds[kind.kind] = kind
        self._slots[kind.kind] = threading.BoundedSemaphore(kind.slots)

    def import_is_near(self, size_bytes: int) -> None:
        """An upload has begun, or there is a new dataset: a job that reads so much (0: nobody knows) will likely follow, and what
        can begin before it does, may."""
        if self._launched.is_set():
            for kind in self._kinds.values():
                if kind.foreseen:
                    self._attempts.expect(kind.worker_module, size_bytes)

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
        instance_flavor: str = "",
    ) -> Job:
        """Write a job and start it. The same request_id gives the earlier job again.

        Raises InvalidArgument UNKNOWN_INSTANCE_FLAVOR, FLAVOR_HAS_NODES.
        """
        known = self._kinds[kind]
        placed: dict[str, str] = {}
        if known.worker_module:
            placed = {FLAVOR_LABEL: self.flavors.choose(instance_flavor, kind, distributed=known.distributed).name}
        job = _new_job(name, known, parent, spec, {**(labels or {}), **placed, **tracing.carrier()})
        job, created = self._store.create(job, request_id=request_id, method=method, fingerprint=fingerprint)
        if created and self._launched.is_set():
            self._start(job.name)
        return job

    def get(self, name: str) -> Job:
        """Read a job. Raises NotFound."""
        return self._store.get(name)

    def list(
        self,
        kind: str,
        parent: str,
        page_size: int = 0,
        page_token: str = "",
        *,
        skip: int = 0,
        naming: Naming | None = None,
    ) -> JobPage:
        """A page of jobs, the newest first, the first page after `skip` of them; all, or those whose spec names others."""
        return self._store.list(kind, parent, page_size, page_token, skip=skip, naming=naming)

    def specs(self, kind: str, parent: str) -> Sequence[tuple[str, Document]]:
        """Names and specs of all jobs of a kind, the newest first."""
        return self._store.specs(kind, parent)

    def find(self, kind: str, *, parent: str | None = None, states: Iterable[JobState] | None = None) -> Sequence[Job]:
        """All jobs of a kind, the oldest first."""
        return self._store.find([kind], parent=parent, states=states)

    def events(self, name: str) -> Sequence[Document]:
        """All events of a job, the oldest first. Raises NotFound."""
        return self._store.events(name)

    def relabel(self, name: str, change: Callable[[Mapping[str, str]], Mapping[str, str]]) -> Job:
        """Store what `change` makes of a job's labels, whatever its state. Raises NotFound."""
        return self._store.relabel(name, change)

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
            job, events, known, more = await asyncio.to_thread(self._store.changes, name, after_sequence)
            if known > after_sequence or after_sequence == 0:
                after_sequence = known
                yield JobChange(after_sequence, job, events)
            if job.state.terminal and not more:
                return
            await asyncio.sleep(self._limits.poll_s if not events else 0.02)

    # --- life of the engine

    @property
    def stopping(self) -> bool:
        """Whether this server stops."""
        return self._stopping.is_set()

    def launch(self, address: str) -> None:
        """Start: workers reach this process at `address`. Every job without an end goes on.

        Where another process has the turn (an earlier one that is about to stop, a replica), this one begins when it is free.
        """
        self._attempts.address = self._worker_address or address
        if self._turn.take():
            self._begin()
        threading.Thread(target=self._keep_going, name="jobs", daemon=True).start()

    def shut_down(self) -> None:
        """Leave all jobs where they are, end the workers that cannot live without this server, and disconnect."""
        self._stopping.set()
        deadline = time.monotonic() + self._limits.shutdown_grace_s + 5.0
        with self._idle:
            while self._living and time.monotonic() < deadline:
                self._idle.wait(timeout=0.1)
        self._attempts.close()
        if self._launched.is_set():
            self._durable.destroy()
        self._turn.give_back()

    def _begin(self) -> None:
        self._attempts.prepare()
        self._durable.launch()
        self._launched.set()
        self._start_all()

    def _start_all(self) -> None:
        for name in self._store.open_names(self._kinds):
            if name not in self._living:
                self._start(name)

    def _keep_going(self) -> None:
        """Take the turn when it is free; then look for jobs that other replicas wrote, and for those whose workflow broke."""
        while not self._stopping.wait(LOOK_EVERY_S):
            try:
                if self._launched.is_set():
                    self._turn.keep()
                    self._start_all()
                elif self._turn.take():
                    log.info("this process runs the jobs now")
                    self._begin()
            except Unavailable:
                log.warning("the database does not answer; jobs wait")
            except Exception:
                log.exception("looking after the jobs failed")

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
            job = self._patience.surely(self._store.get, name)
            kind = self._kinds[job.kind]
            with (
                tracing.span(f"job {job.kind}", parent=job.labels, **{"modelyard.job": name}),
                self._place(kind, job),
                self._slot(kind, name),
            ):
                if kind.run is None:
                    self._attempts.until_decided(kind, name, self._durable.step)
                    if kind.foreseen:  # what follows it (a version, another import) finds a process of its worker at hand
                        self._attempts.expect(kind.worker_module, sys.maxsize)
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
        while not self._patience.surely(places.enter, job):
            self._patience.leave_if_stopping()
            if self._patience.surely(self._store.get, job.name).instruction is Instruction.CANCEL:
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
            self._patience.leave_if_stopping()
            if self._patience.surely(self._store.get, name).instruction is Instruction.CANCEL:
                break
        try:
            yield
        finally:
            if taken:
                slot.release()

    def _run_inline(self, kind: JobKind, name: str) -> None:
        """Takes the steps, also of a job that has failed or is cancelled: a replay must take the recorded ones before the end."""
        surely = self._patience.surely
        job = surely(self._store.started, name)
        if kind.run is None:
            return
        try:
            result = kind.run(job, _InlineSteps(self, name))
        except Exception as error:
            if not isinstance(error, ModelyardError):
                log.exception("job failed")
            if surely(self._store.get, name).instruction is not Instruction.CANCEL:
                surely(self._store.fail, name, error_of(error))
        else:
            surely(self._store.report, name, result=result)

    def _end(self, kind: JobKind, name: str) -> str:
        """Ends the job by its outcome. May run again after a crash: the hooks are idempotent, the store ends a job once."""
        surely = self._patience.surely
        job = surely(self._store.get, name)
        if job.state.terminal:
            return job.state.value
        outcome = job.outcome
        if outcome == "open" and kind.run is not None:
            outcome = "completed"
        if outcome == "completed":
            job = self._end_well(kind, job)
        elif outcome == "cancelled":
            self._clean_up(kind, job)
            job = surely(self._store.end, name, JobState.CANCELLED, "CANCELLED")
        else:
            error = job.error or _worker_lost(job, kind)
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
        result = {**(job.result or {}), **(more or {})}
        return self._patience.surely(self._store.end, job.name, JobState.SUCCEEDED, reason, result=result)

    def _end_badly(self, kind: JobKind, job: Job, error: Document) -> Job:
        self._clean_up(kind, replace(job, error=error))
        return self._patience.surely(self._store.end, job.name, JobState.FAILED, str(error["reason"]), error=error)

    def _clean_up(self, kind: JobKind, job: Job) -> None:
        if kind.on_failure is None:
            return
        try:
            self._with_patience(lambda: kind.on_failure(job) if kind.on_failure else None)
        except Exception:
            log.exception("on_failure failed")

    def _with_patience(self, function: Callable[[], Any], waits: Callable[[Unavailable], None] | None = None) -> Any:
        """Tries again what fails because something is unavailable (a service restarts), for about ten minutes."""
        for tries, wait_s in enumerate(WAITS_S):
            try:
                return function()
            except Unavailable as error:
                if waits is not None and tries >= TRIES_BEFORE_SAYING_SO:
                    waits(error)
                self._patience.pause(wait_s)
        return function()


class _InlineSteps:
    """Steps (see job.Steps) of one job, over the engine's workflow."""

    def __init__(self, engine: JobEngine, name: str) -> None:
        self._engine = engine
        self._name = name

    def do(self, name: str, function: Callable[[], Any]) -> Any:
        recorded = self._engine._durable.step(name, _capture, lambda: self._engine._with_patience(function, self._waits))
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
        store, surely = self._engine._store, self._engine._patience.surely
        surely(store.report, self._name, progress=progress, events=events, saved=saved, result=result)

    def cancelled(self) -> bool:
        job = self._engine._patience.surely(self._engine._store.get, self._name)
        return job.instruction is Instruction.CANCEL

    def sleep(self, seconds: float) -> None:
        self._engine._patience.pause(seconds)

    def _waits(self, error: Unavailable) -> None:
        with suppress(Unavailable):
            self._engine._store.waits(self._name, 1, {"reason": error.reason, "message": error.message})


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


def _worker_lost(job: Job, kind: JobKind) -> Document:
    message = (
        f"The worker of {job.name} ended {kind.max_attempts} times without a result (killed, or out of memory). "
        f"Its log has what it said last: modelyard logs {job.name}"
    )
    return {"code": 13, "reason": "WORKER_LOST", "message": message, "values": {"name": job.name, "attempts": kind.max_attempts}}
