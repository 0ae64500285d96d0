"""A PostgreSQL, and a MinIO, that go away for a while: jobs wait, and go on where they were."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydantic import SecretStr

from modelyard.core.artifacts import open_store
from modelyard.core.jobs.job import JobState
from modelyard.core.settings import CoreSettings
from tests.integration.core.test_jobs import PARENT, Running, sample, until
from tests.support import minio, postgres
from tests.support.real_servers import absent, free_port, running, temporary_folder


class Server:
    """A server that can be stopped and started again on its data."""

    def __init__(self, command: list[str], answers: object, log: Path, **more: object) -> None:
        self._how = (command, answers, log, more)
        self._up = ExitStack()

    def start(self) -> None:
        command, answers, log, more = self._how
        self._up.enter_context(running(command, answers, log, **more))  # type: ignore[arg-type]

    def stop(self) -> None:
        self._up.close()


@pytest.fixture
def database() -> Iterator[tuple[Server, str]]:
    binaries = postgres._binaries()
    if binaries is None:
        absent("No PostgreSQL: no initdb on PATH or under /usr/lib/postgresql")
    user = "postgres" if os.geteuid() == 0 else None
    with temporary_folder(user) as folder:
        data, port = folder / "data", free_port()
        postgres._initialize(binaries, data, user)
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        command = [str(binaries / "postgres"), "-D", str(data), "-k", str(folder), "-h", "127.0.0.1", "-p", str(port), "-F"]
        server = Server(command, lambda: postgres._answers(url), folder / "log", user=user)
        server.start()
        try:
            yield server, url
        finally:
            server.stop()


def test_jobs_wait_for_the_database(database: tuple[Server, str], tmp_path: Path) -> None:
    server, url = database
    host = Running(tmp_path, [sample(slots=2)], CoreSettings(data_dir=tmp_path, database_url=url))
    try:
        jobs = host.platform.jobs
        names = [f"{PARENT}/samples/{name}" for name in ("runs", "ends")]
        for name, steps in zip(names, (60, 12), strict=True):
            jobs.submit(name, "sample", parent=PARENT, spec={"steps": steps, "pause_s": 0.1})
        until(lambda: all((jobs.get(name).saved or {}).get("step", 0) > 3 for name in names))
        server.stop()
        time.sleep(6)
        server.start()
        for name in names:
            job = until(lambda name=name: (found := jobs.get(name)).state.terminal and found, 60)
            assert (job.state, job.attempt, job.result["first"]) == (JobState.SUCCEEDED, 1, 0)
        later = f"{PARENT}/samples/later"
        jobs.submit(later, "sample", parent=PARENT, spec={"steps": 2})
        assert until(lambda: (found := jobs.get(later)).state.terminal and found, 60).state is JobState.SUCCEEDED
    finally:
        host.stop()


def test_one_process_at_a_time_runs_the_jobs_of_a_database(postgres_url: str, tmp_path: Path) -> None:
    first = Running(tmp_path / "1", [sample()], CoreSettings(data_dir=tmp_path / "1", database_url=postgres_url))
    second = Running(tmp_path / "2", [sample()], CoreSettings(data_dir=tmp_path / "2", database_url=postgres_url))
    try:
        name = f"{PARENT}/samples/a"
        second.platform.jobs.submit(name, "sample", parent=PARENT, spec={"steps": 300, "pause_s": 0.05})
        until(lambda: (second.platform.jobs.get(name).saved or {}).get("step", 0) > 1)
        assert (tmp_path / "1" / "logs").exists(), "the first one runs what the second one was given"
        assert not (tmp_path / "2" / "logs").exists()
        second.stop()
        assert first.platform.jobs.get(name).attempt == 1
        first.platform.jobs.cancel(name)
        assert first.platform.jobs.wait(name, 30).state is JobState.CANCELLED
    finally:
        first.stop()


def test_artifacts_wait_for_the_store(tmp_path: Path) -> None:
    binary = minio._binary()
    if binary is None:
        absent("No MinIO: not in MINIO_BIN, on PATH or in the cache folder")
    endpoint = f"http://127.0.0.1:{free_port()}"
    address = endpoint.removeprefix("http://")
    env = os.environ | {"MINIO_ROOT_USER": "modelyard", "MINIO_ROOT_PASSWORD": "modelyard-secret", "MINIO_BROWSER": "off"}
    settings = CoreSettings(
        data_dir=tmp_path / "d",
        s3_endpoint=endpoint,
        s3_access_key=SecretStr("modelyard"),
        s3_secret_key=SecretStr("modelyard-secret"),
    )
    with temporary_folder() as folder:
        command = [binary, "server", str(folder / "data"), "--address", address, "--quiet"]
        server = Server(command, lambda: minio._answers(endpoint), folder / "log", env=env)
        server.start()
        store = open_store("s3://away", "trainer", settings, cache_dir=tmp_path / "c", patience_s=60)
        first = store.put_bytes(b"one")
        server.stop()
        with ThreadPoolExecutor() as threads:  # the server is started by this thread: it ends with the one that starts it
            second = threads.submit(store.put_bytes, b"two")
            other = open_store("s3://away", "trainer", settings, cache_dir=tmp_path / "e", patience_s=60)
            read = threads.submit(other.read_bytes, first)
            time.sleep(3)
            assert not second.done()
            server.start()
            try:
                assert read.result(60) == b"one"
                assert store.exists(second.result(60))
            finally:
                server.stop()
