"""A real PostgreSQL for the tests: the one of MODELYARD_TEST_POSTGRES_URL, or one started from the binaries of this machine."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from tests.support.real_servers import absent, free_port, running, temporary_folder

URL_VARIABLE = "MODELYARD_TEST_POSTGRES_URL"


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of a server (postgresql://user:password@host:port/database) on which databases may be made."""
    given = os.environ.get(URL_VARIABLE)
    if given:
        yield make_url(given).set(drivername="postgresql").render_as_string(hide_password=False)
        return
    binaries = _binaries()
    if binaries is None:
        absent(f"No PostgreSQL: no initdb on PATH or under /usr/lib/postgresql, and {URL_VARIABLE} is not set")
    with _started(binaries) as url:
        yield url


@contextmanager
def fresh_database(server_url: str, template: str = "template0") -> Iterator[str]:
    """The URL (postgresql+psycopg://) of a new database, a copy of `template`; dropped at the end, whoever is still connected."""
    name = f"test_{secrets.token_hex(6)}"
    _execute(server_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield make_url(server_url).set(drivername="postgresql+psycopg", database=name).render_as_string(hide_password=False)
    finally:
        _execute(server_url, f"DROP DATABASE {name} WITH (FORCE)")


def _binaries() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    installed = Path("/usr/lib/postgresql")
    if installed.is_dir():
        folders += sorted(installed.glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


@contextmanager
def _started(binaries: Path) -> Iterator[str]:
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    with temporary_folder(user) as folder:
        data, port = folder / "data", free_port()
        _initialize(binaries, data, user)
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        command = [str(binaries / "postgres"), "-D", str(data), "-k", str(folder), "-h", "127.0.0.1", "-p", str(port), "-F"]
        with running(command, lambda: _answers(url), folder / "log", user=user):
            yield url


def _initialize(binaries: Path, data: Path, user: str | None) -> None:
    command = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
    subprocess.run(command, user=user, group=user, check=True, capture_output=True, cwd="/")


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())
