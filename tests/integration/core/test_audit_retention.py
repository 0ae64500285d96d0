"""The audit log keeps its rows for as many days as it is told, in SQLite and in PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, update

from modelyard.core.access.audit import AuditLog
from modelyard.core.database import audit_event, now, writing


def noted(log: AuditLog, *resources: str) -> None:
    for resource in resources:
        log.note(None, "/x/Create", resource, "ipv4:127.0.0.1:1", "OK", "", "r")
    log.flush()


def left(log: AuditLog) -> set[str]:
    return {event.resource for event in log.page("")[0]}


@pytest.mark.parametrize(("keep_days", "kept"), [(30, {"young", "new"}), (0, {"old", "young", "new"})])
def test_old_rows_go_and_young_ones_stay(engine: Engine, keep_days: int, kept: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = AuditLog(engine)
    noted(first, "old", "young")
    first.close()
    with writing(engine) as connection:
        for resource, days in (("old", 31), ("young", 29)):
            row = update(audit_event).where(audit_event.c.resource == resource)
            connection.execute(row.values(create_time=now() - timedelta(days=days)))
    log = AuditLog(engine, keep_days)
    noted(log, "new")
    assert left(log) == kept
    log.close()
