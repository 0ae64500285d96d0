"""The database of a service: SQLite (one file, WAL) or PostgreSQL (a schema of its own), and its tables.

    engine = open_database("sqlite:///data/trainer.db")
    migrate(engine)
    with writing(engine) as connection:
        connection.execute(insert(resource).values(...))

Columns of type `Json` take and give what `json` can hold; columns of type `UtcTime` take and give aware datetimes in UTC.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    create_engine,
    event,
    inspect,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DontWrapMixin, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.types import TypeEngine

from modelyard.core.artifacts import disk_full
from modelyard.core.clock import now as now
from modelyard.core.errors import InvalidArgument, ModelyardError, Unavailable

BUSY_TIMEOUT_S = 30.0
# Any number will do as long as every Modelyard process takes the same; it guards the migration of one database.
MIGRATION_LOCK = 7_203_318_554
_MIGRATIONS = Path(__file__).parent / "migrations"
_READ = "modelyard_read"


class NotJson(InvalidArgument, DontWrapMixin):
    """A document that JSON cannot hold. (DontWrapMixin: SQLAlchemy lets it through as it is.)"""


def to_json(value: object) -> str:
    """Compact JSON, keys in the order given. Raises InvalidArgument NOT_JSON for what cannot be (NaN, infinities, objects)."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        message = f"A document must hold JSON values only (finite numbers, text, lists, objects): {error}"
        raise NotJson("NOT_JSON", message) from error


class Json(TypeDecorator[Any]):
    """JSON kept as text on every database, so that both keep the same bytes and a text search finds what a document names."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Python to text; None stays NULL."""
        return None if value is None else to_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Text to Python."""
        return None if value is None else json.loads(value)


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime, always UTC: timestamptz on PostgreSQL, ISO 8601 text of fixed width (it sorts) on SQLite."""

    impl = String(32)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column type of this database."""
        return dialect.type_descriptor(DateTime(timezone=True) if dialect.name == "postgresql" else String(32))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Refuses naive times: nobody knows what they mean."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; use datetime.now(UTC)")
        utc = value.astimezone(UTC)
        return utc if dialect.name == "postgresql" else utc.isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Back to an aware datetime in UTC."""
        if value is None:
            return None
        return (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)


metadata = MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"})

resource = Table(
    "resource",
    metadata,
    Column("name", String(512), primary_key=True),
    Column("collection", String(64), nullable=False),
    Column("parent", String(512), nullable=False),
    Column("document", Json, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("create_time", UtcTime, nullable=False),
    Column("update_time", UtcTime, nullable=False),
    Index(None, "collection", "parent", "create_time", "name"),
    Index(None, "parent"),
)
"""One row per resource that is not a job."""

request = Table(
    "request",
    metadata,
    Column("request_id", String(128), primary_key=True),
    Column("method", String(128), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("resource_name", String(512), nullable=False),
    Column("create_time", UtcTime, nullable=False),
)
"""What each request_id made, so that a repeated call gets the same answer."""

job = Table(
    "job",
    metadata,
    Column("name", String(512), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("parent", String(512), nullable=False),
    Column("service", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(128), nullable=False, default=""),
    Column("attempt", Integer, nullable=False, default=0),
    Column("token_hash", String(128), nullable=False, default=""),
    Column("instruction", String(16), nullable=False, default="CONTINUE"),
    Column("spec", Json),
    Column("progress", Json),
    Column("saved", Json),
    Column("result", Json),
    Column("error", Json),
    Column("sequence", BigInteger, nullable=False, default=0),
    Column("create_time", UtcTime, nullable=False),
    Column("start_time", UtcTime),
    Column("end_time", UtcTime),
    Column("heartbeat_time", UtcTime),
    Column("running_seconds", Float, nullable=False, default=0.0),
    Column("labels", Json),
    Column("report_id", String(64), nullable=False, server_default=""),
    Index(None, "kind", "parent", "create_time", "name"),
    Index(None, "parent"),
    Index(None, "state"),
)
"""One row per job. `instruction` is CONTINUE, STOP or CANCEL; `running_seconds` is the time earlier attempts took."""

job_event = Table(
    "job_event",
    metadata,
    Column("job", String(512), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("time", UtcTime, nullable=False),
    Column("document", Json, nullable=False),
)
"""What happened to a job, in order, for those who watch it."""

audit_event = Table(
    "audit_event",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("create_time", UtcTime, nullable=False),
    Column("principal", String(512), nullable=False),
    Column("method", String(512), nullable=False),
    Column("project", String(64), nullable=False),
    Column("resource", String(512), nullable=False),
    Column("peer", String(512), nullable=False),
    Column("code", String(32), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("request_id", String(64), nullable=False),
    Index(None, "project", "create_time", "name"),
)
"""Who did what (core/access/audit.py). Rows are added, never changed."""

upload = Table(
    "upload",
    metadata,
    Column("project", String(64), primary_key=True),
    Column("uri", String(128), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("create_time", UtcTime, nullable=False),
    Index(None, "uri"),
)
"""Which project sent which bytes, before a document names them."""

job_log = Table(
    "job_log",
    metadata,
    Column("job", String(512), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("node", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("time", UtcTime, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
"""What the workers of a job wrote to stdout and stderr: the newest part of each, in pieces. `offset` is a piece's first byte."""


def open_database(url: str, schema: str = "") -> Engine:
    """An engine for `sqlite:///path` or `postgresql+psycopg://...`; connects on first use. `schema` is PostgreSQL's only.

    Raises InvalidArgument BAD_DATABASE_URL or BAD_DATABASE_SCHEMA. The message never shows a password.
    """
    parsed = _parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed)
    return _postgres_engine(parsed, schema)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A read-only transaction: one consistent view, and no writer waits for it."""
    options: dict[str, Any] = {_READ: True}
    if engine.dialect.name == "postgresql":
        options |= {"postgresql_readonly": True, "isolation_level": "REPEATABLE READ"}
    with _named_errors(), engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that may write: committed at the end, rolled back by any error. Writers to SQLite take turns.

    Raises ResourceExhausted DISK_FULL and Unavailable DATABASE_UNAVAILABLE for what the database cannot do now.
    """
    with _named_errors(), engine.begin() as connection:
        yield connection


def insert_if_absent(connection: Connection, table: Table, **values: Any) -> bool:
    """Insert a row unless its primary key is there; says whether it did. Waits for another transaction that inserts it."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(**values).on_conflict_do_nothing().returning(*table.primary_key)
    return connection.execute(statement).first() is not None


_migrating = threading.Lock()


def migrate(engine: Engine) -> None:
    """Bring the tables up to date with the packaged migrations. Does nothing when they are; safe when several processes do it."""
    if _is_current(engine):
        return
    with _migrating, writing(engine) as connection:  # the thread lock: Alembic keeps its context in module globals
        _prepare_schema(connection, engine.get_execution_options().get("modelyard_schema", ""))
        _upgrade(connection)


def _is_current(engine: Engine) -> bool:
    """Asked first because Alembic takes longer to import than all the rest of a start."""
    latest = max(path.stem.split("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))
    with reading(engine) as connection:
        found = inspect(connection).has_table("alembic_version")
        return found and connection.scalar(text("SELECT version_num FROM alembic_version")) == latest


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _prepare_schema(connection: Connection, schema: str) -> None:
    if connection.dialect.name != "postgresql":
        return
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    if schema:
        connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))


def _parse_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = URL.create("unknown")
    if parsed.drivername in ("postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed
    shown = parsed.render_as_string(hide_password=True)
    raise InvalidArgument(
        "BAD_DATABASE_URL",
        f"database_url is {shown!r}; it must be sqlite:///path/to/file.db or postgresql+psycopg://user:password@host:port/name",
        field="database_url",
        value=shown,
    )


def _sqlite_engine(url: URL) -> Engine:
    Path(str(url.database)).absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # the begin event below says BEGIN; sqlite3's own way leaves DDL outside transactions
    _use_wal(connection)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turning WAL on does not wait for the busy timeout when two processes open a new file at once, so it is tried again."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    # A reader that turns writer inside one transaction fails at once when somebody wrote meanwhile; so writers say so first.
    reads = connection.get_execution_options().get(_READ, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _postgres_engine(url: URL, schema: str) -> Engine:
    if schema and not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema):
        raise InvalidArgument(
            "BAD_DATABASE_SCHEMA",
            f"database_schema is {schema!r}; it must be 1 to 63 of a-z, 0-9 and _, and not start with a digit",
            field="database_schema",
            value=schema,
        )
    options = "-c timezone=UTC" + (f" -c search_path={schema}" if schema else "")
    alive = {
        "connect_timeout": 5,
        "keepalives_idle": 20,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }
    engine = create_engine(url, connect_args={"options": options, **alive}, pool_pre_ping=True)
    return engine.execution_options(modelyard_schema=schema)


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        named = _named(error)
        if named is None:
            raise
        raise named from error
    except PoolTimeout as error:  # every connection waits for a server that does not answer
        raise _unavailable() from error


def _named(error: DBAPIError) -> ModelyardError | None:
    code = getattr(error.orig, "sqlite_errorcode", None)
    state = getattr(error.orig, "sqlstate", None)
    if (code is not None and code & 0xFF == sqlite3.SQLITE_FULL) or state == "53100":
        return disk_full("the database")
    busy = code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    lost = error.connection_invalidated or (isinstance(error, OperationalError) and code is None)
    if busy or lost:
        return _unavailable()
    return None


def _unavailable() -> Unavailable:
    return Unavailable("DATABASE_UNAVAILABLE", "The database does not answer now; try again in a moment.", retry_after_s=1.0)
