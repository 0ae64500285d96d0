"""`python -m modelyard.core.migrate [--wait SECONDS] [SERVICE...]`: waits for the database, then brings the tables up to date.

Both ours (Alembic) and those of the durable workflows (DBOS), each in the schema of its service; a schema that is up to date
is left alone. Several may do it at once. The services do the same at their start: this is for a step before them (a hook of
Helm, an init container). Without SERVICE it is for all.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import structlog
from sqlalchemy import Engine

from modelyard.core.database import migrate, open_database, reading
from modelyard.core.errors import InvalidArgument, ModelyardError, Unavailable
from modelyard.core.jobs.durable import migrate_durable
from modelyard.core.rpc.logs import configure_logs
from modelyard.core.settings import CoreSettings

log = structlog.get_logger()
SERVICES = ("dataset", "trainer", "exporter", "evaluator", "serving", "pipeline")
AGAIN_S = 1.0


def migrate_all(settings: CoreSettings, services: Sequence[str], wait_s: float) -> None:
    """Raises InvalidArgument NO_DATABASE_URL, BAD_DATABASE_URL; Unavailable NO_DATABASE when it did not answer for `wait_s`."""
    if not settings.database_url:
        message = "MODELYARD_DATABASE_URL is not set; it must be postgresql+psycopg://user:password@host:port/name"
        raise InvalidArgument("NO_DATABASE_URL", message, field="database_url")
    deadline = time.monotonic() + wait_s
    for service in services:
        schema = settings.database_schema_for(service)
        engine = open_database(settings.database_url, schema)
        _wait(engine, deadline, wait_s)
        migrate(engine)
        engine.dispose()
        migrate_durable(settings.database_url, f"{schema}_durable")
        log.info("migrated", service=service, schema=schema)


def _wait(engine: Engine, deadline: float, wait_s: float) -> None:
    while True:
        try:
            with reading(engine):
                return
        except Unavailable as error:
            if time.monotonic() > deadline:
                message = (
                    f"the database did not answer for {wait_s:.0f} s; see that MODELYARD_DATABASE_URL names it and that it runs"
                )
                raise Unavailable("NO_DATABASE", message, retry_after_s=AGAIN_S) from error
            log.info("waiting for the database")
            time.sleep(AGAIN_S)


def main(arguments: Sequence[str] | None = None) -> int:
    """Gives the exit status: 0, or 2 with one line that says why."""
    parser = argparse.ArgumentParser(
        prog="python -m modelyard.core.migrate", description="Brings the tables of services up to date."
    )
    parser.add_argument(
        "--wait", type=float, default=60.0, metavar="SECONDS", help="how long the database may take to answer (60)"
    )
    parser.add_argument("services", nargs="*", metavar="SERVICE", help=f"of {', '.join(SERVICES)}; all when none is named")
    asked = parser.parse_args(arguments)
    for service in asked.services:
        if service not in SERVICES:
            parser.error(f"there is no service {service!r}; there are {', '.join(SERVICES)}")
    try:
        settings = CoreSettings()
        configure_logs(settings.log_format, settings.log_level)
        migrate_all(settings, asked.services or SERVICES, asked.wait)
    except (ModelyardError, ValueError) as error:
        reason = f"{error.reason}: {error.message}" if isinstance(error, ModelyardError) else str(error)
        sys.stderr.write(f"modelyard migrate: {reason}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
