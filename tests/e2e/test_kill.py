"""kill -9 of the server and of its workers at random moments: every run still succeeds, once, and nothing is left over."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.client import Client
from modelyard.dataset.v1 import dataset_pb2
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.type.v1 import job_pb2
from tests.support.servers import Process, start_embedded, worker_processes
from tests.support.sources import breast_cancer_csv, digits_folder

KILLS = int(os.environ.get("MODELYARD_TEST_KILLS", "20"))
RUN_S = 600.0


class Laptop:
    """A data folder and the server on it, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self._log = folder / "server.log"
        self.server = self._start()

    def _start(self) -> Process:
        server = start_embedded(self.data_dir, self._log)
        server.wait_ready()
        return server

    def client(self) -> Client:
        return Client(self.server.address)

    def kill_server(self) -> None:
        self.server.kill()
        deadline = time.monotonic() + 10
        while left := worker_processes(self.data_dir):
            assert time.monotonic() < deadline, f"workers {left} outlive their server"
            time.sleep(0.05)
        self.server = self._start()

    def kill_worker(self) -> bool:
        for pid in worker_processes(self.data_dir)[:1]:
            os.kill(pid, signal.SIGKILL)
            return True
        return False


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    laptop = Laptop(tmp_path)
    yield laptop
    laptop.server.stop()


def start_run(client: Client, source: Path, name: str) -> pipeline_pb2.PipelineRun:
    blob = client.artifacts.upload(source)
    run = pipeline_pb2.PipelineRun(
        source=pipeline_pb2.Source(blob=blob, file_name=source.name, dataset=client.names.dataset(name)),
        split=dataset_pb2.SplitPolicy(train_ratio="0.8"),
    )
    run.max_training_time.FromSeconds(6)
    return client.pipelines.create_pipeline_run(run)


def wait(laptop: Laptop, run: str) -> pipeline_pb2.PipelineRun:
    deadline = time.monotonic() + RUN_S
    with laptop.client() as client:
        while (found := client.pipelines.get_pipeline_run(run)).status.state in (
            job_pb2.JOB_STATE_QUEUED,
            job_pb2.JOB_STATE_RUNNING,
        ):
            assert time.monotonic() < deadline, f"not ended: {found}\n{laptop.server.log_tail()}"
            time.sleep(0.2)
    return found


def check(laptop: Laptop, run: pipeline_pb2.PipelineRun, model: str) -> None:
    assert run.status.state == job_pb2.JOB_STATE_SUCCEEDED, f"{run.status}\n{laptop.server.log_tail()}"
    with laptop.client() as client:
        assert len(list(client.models.list_model_versions(model))) == 1
        assert len(list(client.datasets.list_dataset_versions(model))) == 1
        if run.status.reason != "GATE_REFUSED":  # six seconds on a busy machine may train too little to be let through
            assert len(client.endpoints.get_endpoint(model).deployments) == 1
    assert worker_processes(laptop.data_dir) == []


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_kill_9_at_random_moments(laptop: Laptop, tmp_path: Path) -> None:
    seed = int(os.environ.get("MODELYARD_TEST_SEED", "7"))
    print(f"seed {seed}")
    draw = random.Random(seed)
    sources = [breast_cancer_csv(tmp_path / "cancer.csv"), digits_folder(tmp_path / "digits", per_class=30)]
    killed = runs = 0
    while killed < KILLS:
        name = f"run-{runs}"
        with laptop.client() as client:
            run = start_run(client, sources[runs % 2], name).name
        runs += 1
        for _ in range(5):
            time.sleep(draw.uniform(0.2, 6.0))
            with laptop.client() as client:
                state = client.pipelines.get_pipeline_run(run).status.state
            if state not in (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING) or killed == KILLS:
                break
            if draw.random() < 0.6 or not laptop.kill_worker():
                laptop.kill_server()
            killed += 1
        check(laptop, wait(laptop, run), name)
    assert_no_orphan_blob(laptop)


def assert_no_orphan_blob(laptop: Laptop) -> None:
    """After a collection without grace every blob on the disk is named by a document."""
    from modelyard.core.platform import open_platform
    from modelyard.core.resources import referenced_uris
    from modelyard.core.settings import CoreSettings
    from modelyard.embedded import NAME, SERVICES

    laptop.server.stop()
    platform = open_platform(CoreSettings(data_dir=laptop.data_dir), NAME)
    referenced = referenced_uris(platform.engine)
    for service in SERVICES:
        own = platform.for_service(service)
        own.collect(0.0)
        left = {blob.uri for blob in own.artifacts.list()}
        assert left <= referenced
    folder = laptop.data_dir / "artifacts"
    strays = [path for path in folder.rglob("*") if path.is_file() and len(path.name) != 64 and not path.name.startswith(".")]
    assert strays == [], "a broken write left a file behind"
    platform.engine.dispose()
    with sqlite3.connect(laptop.data_dir / f"{NAME}.db") as database:
        open_jobs = database.execute("select name, state from job where state in ('QUEUED', 'RUNNING')").fetchall()
    assert open_jobs == []
    laptop.server = laptop._start()
