"""The audit log: who did what from where, and how it ended. Calls that change something, and every refusal; predictions are
counted elsewhere, not written one by one. Never a token, never what a request holds beyond the name of its resource.

A line of the log is written at once; the row follows within a second, from a thread of its own, so that no call waits for it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import Engine, delete, insert, select

from modelyard.core.access.authentication import Attempts
from modelyard.core.access.principal import Principal
from modelyard.core.access.rules import Rule
from modelyard.core.database import audit_event, now, reading, writing
from modelyard.core.errors import ModelyardError
from modelyard.core.names import new_id
from modelyard.core.resources import after_token, check_page_size, next_token, page_order

log = structlog.get_logger("audit")
REFUSED: Final = frozenset(("UNAUTHENTICATED", "PERMISSION_DENIED"))
MOST_WAITING: Final = 10_000
AT_ONCE: Final = 200
TRY_AGAIN_S: Final = 1.0
LONGEST: Final = 512
FORGET_EVERY_S: Final = 3600.0


@dataclass(frozen=True)
class AuditEvent:
    """One call. `code` is the gRPC status code's name (of an HTTP request the number), `reason` says why it was refused."""

    name: str
    create_time: datetime
    principal: str
    method: str
    project: str
    resource: str
    peer: str
    code: str
    reason: str
    request_id: str


class AuditLog:
    """Notes from any thread; writes from its own. Without a database there are the lines alone.

    `keep_days`: rows older than this are deleted, about once an hour while there are new ones; 0: none ever is.
    """

    def __init__(self, engine: Engine | None = None, keep_days: int = 0) -> None:
        self._engine = engine
        self._keep_days = keep_days
        self._forgot_at: float | None = None
        self._waiting: queue.Queue[AuditEvent | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._strangers = Attempts()

    def note(
        self, principal: Principal | None, method: str, resource: str, peer: str, code: str, reason: str, request_id: str
    ) -> None:
        """A call has ended. Of callers who are not known only some a minute from each address are written down: anybody could
        fill the database.
        """
        if code == "UNAUTHENTICATED" and not self._strangers.failed(peer):
            return
        who = principal.name if principal is not None else "unknown"
        event = AuditEvent(
            name=new_id(),
            create_time=now(),
            principal=who[:LONGEST],
            method=method[:LONGEST],
            project=project_of(resource),
            resource=resource[:LONGEST],
            peer=peer[:LONGEST],
            code=code,
            reason=reason[:64],
            request_id=_printable(request_id)[:64],
        )
        shown = {key: value for key, value in asdict(event).items() if key not in ("name", "create_time") and value}
        log.info("audit", **shown)
        if self._engine is None:
            return
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            log.error("too much to write down: an event is in the log's lines alone", **shown)
            return
        if self._thread is None:
            self._begin()

    def wants(self, rule: Rule | None, code: str, reason: str) -> bool:
        """Whether a call belongs into the log. A flood of guesses does not: its beginning is there already."""
        return code in REFUSED or (rule is not None and rule.changes and reason != "TOO_MANY_ATTEMPTS")

    def page(
        self, project: str, *, principal: str = "", refused: bool = False, page_size: int = 0, page_token: str = ""
    ) -> tuple[Sequence[AuditEvent], str]:
        """A page of a project's events, the newest first, and the next page's token; "" is all projects."""
        size, binding = check_page_size(page_size), f"audit {project} {principal} {refused}"
        table = audit_event
        query = select(table).where(*after_token(table, page_token, binding, newest_first=True))
        query = query.where(table.c.project == project) if project else query
        query = query.where(table.c.principal == principal) if principal else query
        query = query.where(table.c.code.in_(sorted(REFUSED))) if refused else query
        assert self._engine is not None
        self.flush()
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(*page_order(table, newest_first=True)).limit(size + 1)).all()
        return [AuditEvent(**row._mapping) for row in rows[:size]], next_token(rows, size, binding)

    def flush(self, within_s: float = 2.0) -> None:
        """Wait until what was noted so far is written."""
        done = self._waiting.all_tasks_done
        with done:
            done.wait_for(lambda: not self._waiting.unfinished_tasks, within_s)

    def close(self) -> None:
        """Write what waits, then end."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            thread.join(10)

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="audit", daemon=True)
                self._thread.start()

    def _write_all(self) -> None:
        last = False
        while not last:
            events, last = self._next()
            if events:
                self._write(events)
                self._forget()
            for _ in range(len(events) + last):
                self._waiting.task_done()

    def _next(self) -> tuple[list[AuditEvent], bool]:
        events: list[AuditEvent] = []
        item = self._waiting.get()
        while item is not None:
            events.append(item)
            if len(events) >= AT_ONCE:
                return events, False
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return events, False
        return events, True

    def _write(self, events: list[AuditEvent]) -> None:
        assert self._engine is not None
        for _ in range(30):
            try:
                with writing(self._engine) as connection:
                    connection.execute(insert(audit_event), [asdict(event) for event in events])
                return
            except ModelyardError as error:
                log.warning("audit events cannot be written now", error=error.message, events=len(events))
                threading.Event().wait(TRY_AGAIN_S)
            except Exception:
                log.exception("audit events cannot be written", events=len(events))
                return

    def _forget(self) -> None:
        """Deletes what is older than it is to be kept."""
        if not self._keep_days or (self._forgot_at is not None and time.monotonic() - self._forgot_at < FORGET_EVERY_S):
            return
        self._forgot_at = time.monotonic()
        assert self._engine is not None
        try:
            with writing(self._engine) as connection:
                connection.execute(delete(audit_event).where(audit_event.c.create_time < now() - timedelta(days=self._keep_days)))
        except Exception:  # the next hour will do
            log.exception("old audit events cannot be deleted")


def project_of(resource: str) -> str:
    """The project of a resource name; empty for any other."""
    parts = resource.split("/", 2)
    return parts[1][:63] if len(parts) > 1 and parts[0] == "projects" else ""


def _printable(text: str) -> str:
    return "".join(character for character in text if " " < character <= "~")
