"""Fixtures for all tests. Servers start when the first test asks for them, once per session."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings
from pydantic import SecretStr
from sqlalchemy import Engine, make_url

from modelyard.core.database import migrate, open_database
from modelyard.core.settings import CoreSettings
from tests.support.minio import S3Server, s3_server
from tests.support.postgres import fresh_database, postgres_server

REPOSITORY = Path(__file__).parent.parent

# A property has no deadline: a machine that others use is no fault of the code. CI has a profile of its own.
settings.register_profile("shared-machine", deadline=None)
if not os.environ.get("CI"):
    settings.load_profile("shared-machine")

# A shell ignores Ctrl-C in what it runs in the background, and so would every command that these tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# What takes minutes begins first, so that no worker is left with it alone when the others have nothing to do any more.
LONGEST_FIRST = ("test_kill.py", "test_apart.py", "test_diamond.py", "test_watch.py", "test_cli_journey.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files of LONGEST_FIRST in front, and the end-to-end and integration tests before the rest."""
    rank = {name: place for place, name in enumerate(LONGEST_FIRST)}
    rest = ("e2e", "integration", "contract")

    def place(item: pytest.Item) -> tuple[int, int]:
        layer = next((number for number, part in enumerate(rest) if part in item.path.parts), len(rest))
        return rank.get(item.path.name, len(rank)), layer

    items.sort(key=place)


@pytest.fixture(autouse=True)
def _floats_as_python_has_them() -> Iterator[None]:
    """Training takes tiny numbers for 0, in the whole process; in a worker nothing else is there, here the next test is."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A main that ran inside a test has set up the logs to go to what pytest captures of that test, which is closed after it."""
    yield
    if "structlog" in sys.modules:
        sys.modules["structlog"].reset_defaults()


@pytest.fixture(scope="session")
def _postgres() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture
def postgres_url(_postgres: str) -> Iterator[str]:
    """A PostgreSQL database of the test's own, empty: postgresql+psycopg://..."""
    with fresh_database(_postgres) as url:
        yield url


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "migrated.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def _migrated_postgres(_postgres: str) -> Iterator[str]:
    with fresh_database(_postgres) as url:
        _migrate(url)
        yield str(make_url(url).database)


def _migrate(url: str) -> None:
    engine = open_database(url)
    migrate(engine)
    engine.dispose()


@contextmanager
def _copy_of_template(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("_migrated_sqlite"), tmp_path / "test.db")
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    with fresh_database(request.getfixturevalue("_postgres"), request.getfixturevalue("_migrated_postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A migrated database, empty; the test runs once on SQLite and once on PostgreSQL."""
    with _copy_of_template(request, tmp_path) as url:
        engine = open_database(url)
        yield engine
        engine.dispose()


@pytest.fixture(scope="session")
def _s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def s3_settings(_s3: S3Server, tmp_path: Path) -> CoreSettings:
    """Settings for a bucket of the test's own, not made yet."""
    return CoreSettings(
        data_dir=tmp_path / "s3-data",
        artifacts_url=f"s3://test-{secrets.token_hex(6)}",
        s3_endpoint=_s3.endpoint,
        s3_access_key=SecretStr(_s3.access_key),
        s3_secret_key=SecretStr(_s3.secret_key),
    )


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with the real data sets: MODELYARD_DATA, or shared/data next to the repository. Read only."""
    folder = Path(os.environ.get("MODELYARD_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "README.md").is_file():
        pytest.skip(f"No real data at {folder}; set MODELYARD_DATA to the folder that holds fashion_mnist, flowers128, tabular")
    return folder
