"""Whose turn it is to run the jobs of a database: one process at a time, of as many as have the same.

When a deployment is replaced, its old and its new pod overlap; a second replica may stand by. Both answer calls; only the
one that has the turn runs jobs. In PostgreSQL the turn is an advisory lock of a connection, so that it ends with the process,
however that ends. A SQLite file has one process anyway (embedded.own holds the data folder).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal

import structlog
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from modelyard.core.errors import Unavailable

log = structlog.get_logger()


class Turn:
    """The turn of one process. `name` tells apart the services that share a database: their schema."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._key = int.from_bytes(hashlib.sha256(f"modelyard jobs {name}".encode()).digest()[:8], signed=True)
        self._connection: Connection | None = None

    def take(self) -> bool:
        """Take the turn if nobody has it. Raises Unavailable."""
        if self._engine.dialect.name != "postgresql" or self._connection is not None:
            return True
        try:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            taken = bool(connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": self._key}).scalar())
        except DBAPIError as error:
            raise _away() from error
        if taken:
            self._connection = connection
        else:
            connection.close()
        return taken

    def keep(self) -> None:
        """Make sure that the turn is still ours. A database that restarts forgets it: it is taken again, or, where another
        process was faster, this one ends: two must not run the same jobs. Raises Unavailable.
        """
        if self._engine.dialect.name != "postgresql":
            return
        try:
            if self._connection is not None:
                self._connection.execute(text("SELECT 1"))
                return
        except DBAPIError:
            self._forget()
        if not self.take():
            log.critical("another process runs the jobs now; this one stops")
            os.kill(os.getpid(), signal.SIGTERM)
        log.warning("the database had closed the connection; the jobs' turn was taken again")

    def give_back(self) -> None:
        """Let another process take it."""
        if self._connection is not None:
            self._forget()

    def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                connection.invalidate()
                connection.close()


def _away() -> Unavailable:
    return Unavailable("DATABASE_UNAVAILABLE", "The database does not answer now; try again in a moment.", retry_after_s=1.0)
