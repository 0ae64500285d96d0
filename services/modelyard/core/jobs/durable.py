"""Durable workflows: the one place that knows DBOS.

A workflow is known by its id, which is never run twice at once; after a crash it is run again with the recorded results of
the steps it had finished. Values are JSON: DBOS's own default is pickle, which nothing here reads.

DBOS is one to a process (its registry is global), so a process has one Durable at a time.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any

WORKFLOW = "modelyard_job"
# Workflows of another version are not recovered by DBOS. Raise it only when the order of the steps of a job's life changes.
WORKFLOW_VERSION = "1"

# Any number will do as long as every Modelyard process takes the same.
LAUNCH_LOCK = 7_203_318_555

_current: dict[str, Callable[[str], Any]] = {}


class ServerStopping(BaseException):
    """Leaves a workflow where it is, to be gone on with at the next start. Not an Exception: DBOS records those as outcomes."""


class StepFailed(Exception):
    """What the deserializer makes of a recorded exception; steps here return their errors as values, so it is never expected."""


class Durable:
    """Starts, finds and recovers workflows. `life(job_name)` is the workflow's body."""

    def __init__(self, database_url: str, schema: str, life: Callable[[str], Any], name: str = "modelyard") -> None:
        self._url = database_url
        self._schema = schema
        self._life = life
        self._name = name

    def launch(self) -> None:
        """Connect, migrate DBOS's own tables, and recover the workflows that had not ended."""
        from dbos import DBOS

        logging.getLogger("dbos").setLevel(logging.ERROR)
        _current["life"] = self._life
        DBOS(config=self._config())
        if WORKFLOW not in _current:
            _current[WORKFLOW] = DBOS.workflow(name=WORKFLOW)(_run_life)
        with _alone(self._url):
            DBOS.launch()

    def destroy(self) -> None:
        """Disconnect. Running workflows must have been left by ServerStopping before."""
        from dbos import DBOS

        DBOS.destroy()

    def start(self, workflow_id: str, job_name: str) -> None:
        """Start a workflow; does nothing when one of this id exists.

        Also from inside a step of another one, whose context is left for that: it is a workflow of its own, not a child.
        """
        Context().run(self._start, workflow_id, job_name)

    def _start(self, workflow_id: str, job_name: str) -> None:
        from dbos import DBOS, SetWorkflowID

        with SetWorkflowID(workflow_id):
            DBOS.start_workflow(_current[WORKFLOW], job_name)

    def status(self, workflow_id: str) -> str:
        """ "" (unknown), "ACTIVE" (it runs, or will be recovered), or "ENDED"."""
        from dbos import DBOS

        found = Context().run(DBOS.get_workflow_status, workflow_id)
        if found is None:
            return ""
        return "ACTIVE" if found.status in ("PENDING", "ENQUEUED", "DELAYED") else "ENDED"

    def step(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a step inside a workflow: once, its result recorded."""
        from dbos import DBOS

        return DBOS.run_step({"name": name}, function, *arguments)

    def _config(self) -> Any:
        return {
            "name": self._name,
            "system_database_url": self._url,
            "dbos_system_schema": self._schema,
            "application_version": WORKFLOW_VERSION,
            "executor_id": "local",
            "serializer": _json_serializer(),
            "log_level": "ERROR",
            "enable_otlp": False,
            "use_listen_notify": False,
        }


def migrate_durable(database_url: str, schema: str) -> None:
    """Bring DBOS's own tables up to date without starting anything. PostgreSQL only: with SQLite they are made at the start."""
    from dbos._sys_db import SystemDatabase

    logging.getLogger("dbos").setLevel(logging.ERROR)
    # DBOS.migrate would do it with LISTEN and NOTIFY, which _config turns off, and which must stay as they were.
    tables = SystemDatabase.create(
        system_database_url=database_url,
        engine_kwargs={"pool_size": 2, "max_overflow": 0},
        engine=None,
        schema=schema,
        serializer=_json_serializer(),
        executor_id=None,
        use_listen_notify=False,
    )
    try:
        with _alone(database_url):
            tables.run_migrations()
    finally:
        tables.destroy()


@contextmanager
def _alone(database_url: str) -> Iterator[None]:
    """One process at a time migrates DBOS's tables in a PostgreSQL database, whatever the schema.

    They are made with CREATE INDEX CONCURRENTLY, which waits for every transaction of the database: two services that start
    together would wait for each other. So the lock is tried again and again, not waited for: a statement that waits is a
    transaction too.
    """
    if database_url.startswith("sqlite"):
        yield
        return
    from sqlalchemy import create_engine, text

    engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": LAUNCH_LOCK}).scalar():
            time.sleep(0.1)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LAUNCH_LOCK})
    engine.dispose()


def _run_life(job_name: str) -> Any:
    return _current["life"](job_name)


def _json_serializer() -> Any:
    from dbos._serialization import Serializer

    class JsonSerializer(Serializer):
        """Workflow inputs, step results and outcomes as JSON."""

        def serialize(self, data: Any) -> str:
            if isinstance(data, BaseException):
                return json.dumps({"__error__": f"{type(data).__name__}: {data}"})
            return json.dumps(data)

        def deserialize(self, serialized_data: str) -> Any:
            value = json.loads(serialized_data)
            if isinstance(value, dict) and "__error__" in value:
                return StepFailed(value["__error__"])
            return value

        def name(self) -> str:
            return "modelyard_json"

    return JsonSerializer()
