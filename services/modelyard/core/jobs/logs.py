"""What the workers of jobs wrote to stdout and stderr, kept in the database: there any replica of a service can read it, also
when the process, the pod and its node are gone. Of each worker the newest part stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, delete, func, insert, select

from modelyard.core.database import job_log, now, reading, writing
from modelyard.core.jobs.runner import Output

DEFAULT_KEPT_BYTES = 256 * 1024
PIECES_AT_ONCE = 64


@dataclass(frozen=True)
class LogPiece:
    """Some bytes of a worker's output. `sequence` rises within a job; `offset`: where they stand in all this worker wrote."""

    sequence: int
    attempt: int
    node: int
    offset: int
    time: datetime
    data: bytes


class JobLogs:
    """The job_log table. `kept_bytes`: of each worker so many bytes stay, the newest; 0 keeps nothing."""

    def __init__(self, engine: Engine, kept_bytes: int = DEFAULT_KEPT_BYTES) -> None:
        self._engine = engine
        self._kept_bytes = kept_bytes

    def append(self, job: str, attempt: int, outputs: Sequence[Output]) -> None:
        """Add what was written, and forget what is too old. Called by the one thread that follows the attempt."""
        if not outputs or not self._kept_bytes:
            return
        with writing(self._engine) as connection:
            last = connection.scalar(select(func.max(job_log.c.sequence)).where(job_log.c.job == job)) or 0
            for sequence, output in enumerate(outputs, last + 1):
                key = {"job": job, "attempt": attempt, "node": output.node}
                row = {**key, "sequence": sequence, "offset": output.offset, "time": now(), "data": output.data}
                connection.execute(insert(job_log).values(**row))
                old = output.offset + len(output.data) - self._kept_bytes
                mine = [job_log.c[name] == value for name, value in key.items()]
                connection.execute(delete(job_log).where(*mine, job_log.c.offset < old, job_log.c.sequence < sequence))

    def stored(self, job: str, attempt: int) -> dict[int, int]:
        """How many bytes of an attempt's output have been added, by node."""
        end = func.max(job_log.c.offset + func.length(job_log.c.data))
        query = select(job_log.c.node, end).where(job_log.c.job == job, job_log.c.attempt == attempt).group_by(job_log.c.node)
        with reading(self._engine) as connection:
            return {int(node): int(stored) for node, stored in connection.execute(query)}

    def read(self, job: str, after_sequence: int = 0) -> Sequence[LogPiece]:
        """At most PIECES_AT_ONCE pieces after a sequence, the oldest first."""
        query = select(job_log).where(job_log.c.job == job, job_log.c.sequence > after_sequence)
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(job_log.c.sequence).limit(PIECES_AT_ONCE)).all()
        return [LogPiece(row.sequence, row.attempt, row.node, row.offset, row.time, bytes(row.data)) for row in rows]
