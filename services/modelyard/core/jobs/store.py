"""Jobs in the database. Every change raises the job's sequence by one in the same transaction, so watchers miss nothing."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, insert, select, update

from modelyard.core.database import job as job_table
from modelyard.core.database import job_event, job_log, now, reading, writing
from modelyard.core.errors import AlreadyExists, FailedPrecondition, NotFound
from modelyard.core.jobs.job import Document, Instruction, Job, JobPage, JobState
from modelyard.core.resources import Naming, after_token, check_page_size, check_skip, claim_request, next_token, page_order

EVENTS_AT_ONCE = 2000


class JobStore:
    """The job table. Handlers use the JobEngine, which uses this."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.admit: Callable[[Connection, Job], None] | None = None
        """Asked before a job is written down, in the same transaction; raises what is in its way."""

    def create(self, job: Job, *, request_id: str = "", method: str = "", fingerprint: str = "") -> tuple[Job, bool]:
        """Add a job; gives it and whether it is new. The same request_id and fingerprint give the earlier job.

        Raises AlreadyExists RESOURCE_EXISTS, InvalidArgument REQUEST_ID_REUSED.
        """
        with writing(self._engine) as connection:
            earlier = claim_request(connection, request_id, method, fingerprint, job.name)
            if earlier is not None:
                return _get(connection, earlier), False
            if _find(connection, job.name) is not None:
                raise AlreadyExists("RESOURCE_EXISTS", f"{job.name} already exists", name=job.name)
            if self.admit is not None:
                self.admit(connection, job)
            connection.execute(insert(job_table).values(**_values(job)))
            return job, True

    def get(self, name: str) -> Job:
        """Read a job. Raises NotFound."""
        with reading(self._engine) as connection:
            return _get(connection, name)

    def find(self, kinds: Iterable[str], *, parent: str | None = None, states: Iterable[JobState] | None = None) -> Sequence[Job]:
        """All jobs of these kinds, the oldest first."""
        query = select(job_table).where(job_table.c.kind.in_(list(kinds)))
        if parent is not None:
            query = query.where(job_table.c.parent == parent)
        if states is not None:
            query = query.where(job_table.c.state.in_([state.value for state in states]))
        with reading(self._engine) as connection:
            return [_job(row) for row in connection.execute(query.order_by(job_table.c.create_time, job_table.c.name))]

    def specs(self, kind: str, parent: str) -> Sequence[tuple[str, Document]]:
        """Names and specs of all jobs of a kind, the newest first: what they are about, without what became of them."""
        table = job_table
        query = select(table.c.name, table.c.spec).where(table.c.kind == kind, table.c.parent == parent)
        with reading(self._engine) as connection:
            return [(row.name, row.spec) for row in connection.execute(query.order_by(*page_order(table, newest_first=True)))]

    def open_names(self, kinds: Iterable[str]) -> Sequence[str]:
        """The names of the jobs of these kinds that have no end yet, the oldest first."""
        states = [state.value for state in JobState if not state.terminal]
        query = select(job_table.c.name).where(job_table.c.kind.in_([*kinds]), job_table.c.state.in_(states))
        with reading(self._engine) as connection:
            return [*connection.scalars(query.order_by(job_table.c.create_time, job_table.c.name))]

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
        """A page of jobs, the newest first, the first page after `skip` of them; all, or those whose spec names others.

        Raises InvalidArgument BAD_PAGE_SIZE, BAD_PAGE_TOKEN, BAD_SKIP.
        """
        size, binding = check_page_size(page_size), f"job {kind} {parent}" + (f" {naming.digest}" if naming is not None else "")
        query = (
            select(job_table)
            .where(job_table.c.kind == kind, job_table.c.parent == parent)
            .where(*([] if naming is None else [naming.condition(job_table.c.spec)]))
            .where(*after_token(job_table, page_token, binding, newest_first=True))
            .order_by(*page_order(job_table, newest_first=True))
            .limit(size + 1)
            .offset(0 if page_token else check_skip(skip))
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return JobPage([_job(row) for row in rows[:size]], next_token(rows, size, binding))

    def changes(self, name: str, after_sequence: int) -> tuple[Job, Sequence[Document], int, bool]:
        """The job and its events after a sequence (at most EVENTS_AT_ONCE, oldest first), the sequence up to which these are all,
        and whether more follow."""
        query = (
            select(job_event.c.document, job_event.c.sequence)
            .where(job_event.c.job == name, job_event.c.sequence > after_sequence)
            .order_by(job_event.c.sequence)
            .limit(EVENTS_AT_ONCE)
        )
        with reading(self._engine) as connection:
            job, rows = _get(connection, name), connection.execute(query).all()
        more = len(rows) == EVENTS_AT_ONCE
        last = rows[-1].sequence if rows else after_sequence
        # Not every change is an event, so numbers of events have gaps; and one may have come since the job was read.
        return job, [row.document for row in rows], last if more else max(last, job.sequence, after_sequence), more

    def relabel(self, name: str, change: Callable[[Mapping[str, str]], Mapping[str, str]]) -> Job:
        """Store what `change` makes of a job's labels, whatever its state: what people say of it. It must be quick."""
        with writing(self._engine) as connection:
            job = _get(connection, name, lock=True)
            return _change(connection, job, {"labels": dict(change(job.labels))})

    def events(self, name: str) -> Sequence[Document]:
        """All events of a job, the oldest first. Raises NotFound."""
        query = select(job_event.c.document).where(job_event.c.job == name).order_by(job_event.c.sequence)
        with reading(self._engine) as connection:
            _get(connection, name)
            return [row.document for row in connection.execute(query)]

    def has_token(self, name: str, token_hash: str) -> bool:
        """Whether that is the hash of the token of the job's running attempt. A job that is not there has none."""
        with reading(self._engine) as connection:
            found = connection.scalar(select(job_table.c.token_hash).where(job_table.c.name == name))
        return bool(found) and hmac.compare_digest(str(found), token_hash)

    def begin_attempt(self, name: str, token_hash: str) -> Job:
        """Raise the attempt number: from now on whoever carries an older one is refused."""
        with writing(self._engine) as connection:
            job = _get(connection, name, lock=True)
            if job.state.terminal:
                return job
            changed = {
                "state": JobState.RUNNING.value,
                "attempt": job.attempt + 1,
                "token_hash": token_hash,
                "start_time": job.start_time or now(),
                "heartbeat_time": now(),
            }
            return _change(connection, job, changed)

    def end_attempt(self, name: str, attempt: int) -> Job:
        """Nobody speaks for this attempt any more: it has ended, or is believed to have. Gives the job with what it came to."""
        with writing(self._engine) as connection:
            job = _get(connection, name, lock=True)
            if job.state.terminal or job.attempt != attempt or not job.token_hash:
                return job
            return _change(connection, job, {"token_hash": ""})

    def waits(self, name: str, attempt: int, waiting: Document | None) -> Job:
        """What an attempt waits for (a node, an image): shown to users until the worker reports. Waiting is no running time."""
        with writing(self._engine) as connection:
            job = _get(connection, name, lock=True)
            if job.state.terminal or job.attempt != attempt:
                return job
            shown = (job.progress or {}).get("waiting")
            if shown == waiting:
                connection.execute(update(job_table).where(job_table.c.name == name).values(heartbeat_time=now()))
                return job
            stage = {"stage": f"waiting: {waiting['reason'].lower().replace('_', ' ')}"} if waiting else {"stage": "starting"}
            progress = {"fraction": 0.0, **(job.progress or {}), **stage, "waiting": waiting}
            return _change(connection, job, {"progress": progress, "heartbeat_time": now()})

    def started(self, name: str) -> Job:
        """Mark a job without a worker as running."""
        with writing(self._engine) as connection:
            job = _get(connection, name, lock=True)
            if job.state is not JobState.QUEUED:
                return job
            return _change(connection, job, {"state": JobState.RUNNING.value, "start_time": now(), "attempt": 1})

    def assign(self, name: str, attempt: int, token_hash: str) -> Job:
        """The job, for a worker that begins with it.

        Raises FailedPrecondition STALE_ATTEMPT for any but the running attempt, ATTEMPT_DECIDED when what comes of it is known
        already: one of several processes that began again has nothing left to do.
        """
        with writing(self._engine) as connection:
            job = _fenced(connection, name, attempt, token_hash)
            if job.decided:
                message = f"attempt {attempt} of {name} has {job.outcome} already; there is nothing left to do"
                raise FailedPrecondition("ATTEMPT_DECIDED", message, name=name, attempt=attempt, outcome=job.outcome)
            connection.execute(update(job_table).where(job_table.c.name == name).values(**_heartbeat(job)))
            return job

    def report(
        self,
        name: str,
        *,
        attempt: int | None = None,
        token_hash: str = "",
        progress: Document | None = None,
        events: Sequence[Document] = (),
        saved: Document | None = None,
        result: Document | None = None,
        report_id: str = "",
    ) -> Job:
        """What a worker says of its progress; the report that came last is not taken again.

        Raises FailedPrecondition STALE_ATTEMPT for any but the running attempt.
        """
        with writing(self._engine) as connection:
            job = _fenced(connection, name, attempt, token_hash)
            if report_id and report_id == job.report_id:
                return job
            changed = {**_heartbeat(job), "report_id": report_id}
            changed |= {} if progress is None else {"progress": progress}
            changed |= {} if saved is None else {"saved": saved}
            changed |= {} if result is None else {"result": result}
            if progress is saved is result is None and not events:
                connection.execute(update(job_table).where(job_table.c.name == name).values(**changed))
                return job
            return _change(connection, job, changed, events)

    def complete(self, name: str, attempt: int, token_hash: str, result: Document, reason: str) -> Job:
        """The worker is done. The job ends when its on_success has run. What was decided first stays: a call that is sent again,
        or comes from a process that began again too late, changes nothing."""
        with writing(self._engine) as connection:
            job = _fenced(connection, name, attempt, token_hash)
            if job.decided:
                return job
            return _change(connection, job, {"result": result, "reason": reason or "COMPLETED", **_heartbeat(job)})

    def fail(self, name: str, error: Document, *, attempt: int | None = None, token_hash: str = "") -> Job:
        """The work cannot be done. The job ends when its on_failure has run. What was decided first stays."""
        with writing(self._engine) as connection:
            job = _fenced(connection, name, attempt, token_hash)
            if job.decided:
                return job
            return _change(connection, job, {"error": error, **_heartbeat(job)})

    def instruct(self, name: str, instruction: Instruction) -> Job:
        """Tell the worker to stop or cancel. A job that has ended stays as it is; CANCEL outranks STOP."""
        with writing(self._engine) as connection:
            job = _get(connection, name, lock=True)
            if job.state.terminal or job.instruction is Instruction.CANCEL or job.instruction is instruction:
                return job
            return _change(connection, job, {"instruction": instruction.value})

    def end(
        self, name: str, state: JobState, reason: str, *, result: Document | None = None, error: Document | None = None
    ) -> Job:
        """Put a job into a terminal state, once."""
        with writing(self._engine) as connection:
            job = _get(connection, name, lock=True)
            if job.state.terminal:
                return job
            changed: dict[str, Any] = {"state": state.value, "reason": reason, "end_time": now(), "token_hash": ""}
            changed |= {} if result is None else {"result": result}
            changed |= {} if error is None else {"error": error}
            return _change(connection, job, changed)

    def delete(self, name: str) -> None:
        """Remove a job that has ended, with its events. Raises FailedPrecondition JOB_RUNNING, NotFound."""
        with writing(self._engine) as connection:
            job = _get(connection, name, lock=True)
            if not job.state.terminal:
                message = f"{name} is {job.state}; cancel it first, or wait for its end"
                raise FailedPrecondition("JOB_RUNNING", message, name=name, state=job.state)
            connection.execute(delete(job_event).where(job_event.c.job == name))
            connection.execute(delete(job_log).where(job_log.c.job == name))
            connection.execute(delete(job_table).where(job_table.c.name == name))


def _fenced(connection: Connection, name: str, attempt: int | None, token_hash: str) -> Job:
    job = _get(connection, name, lock=True)
    if attempt is not None and (job.attempt != attempt or job.token_hash != token_hash or job.state.terminal):
        message = f"attempt {attempt} of {name} is over; attempt {job.attempt} is {job.state}"
        raise FailedPrecondition("STALE_ATTEMPT", message, name=name, attempt=attempt, current_attempt=job.attempt)
    return job


def _change(connection: Connection, job: Job, changed: Mapping[str, Any], events: Sequence[Document] = ()) -> Job:
    sequence = job.sequence
    for event in events:
        sequence += 1
        connection.execute(insert(job_event).values(job=job.name, sequence=sequence, time=now(), document=event))
    values = {**changed, "sequence": max(sequence, job.sequence + 1)}
    connection.execute(update(job_table).where(job_table.c.name == job.name).values(**values))
    return _get(connection, job.name)


def _heartbeat(job: Job) -> dict[str, Any]:
    """A sign of life. The time since the one before counts as running; the time between a crash and the next attempt does not."""
    time = now()
    since = (time - job.heartbeat_time).total_seconds() if job.heartbeat_time else 0.0
    return {"heartbeat_time": time, "running_seconds": job.running_seconds + max(0.0, since)}


def _find(connection: Connection, name: str, *, lock: bool = False) -> Job | None:
    query = select(job_table).where(job_table.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else _job(row)


def _get(connection: Connection, name: str, *, lock: bool = False) -> Job:
    job = _find(connection, name, lock=lock)
    if job is None:
        raise NotFound("NOT_FOUND", f"{name} does not exist", name=name)
    return job


def _job(row: Row[Any]) -> Job:
    values = dict(row._mapping)
    values |= {"state": JobState(row.state), "instruction": Instruction(row.instruction)}
    values |= {"spec": row.spec or {}, "labels": row.labels or {}}
    return Job(**values)


def _values(job: Job) -> dict[str, Any]:
    values = {column.name: getattr(job, column.name) for column in job_table.columns}
    return values | {"state": job.state.value, "instruction": job.instruction.value, "labels": dict(job.labels)}
