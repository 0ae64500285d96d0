"""The trainer on a real server with real worker processes; only the dataset service is a stand-in, behind its real contract."""

from __future__ import annotations

import os
import signal
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from modelyard.client import Client
from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.errors import NotFound
from modelyard.core.jobs.convert import blob_from, blob_message
from modelyard.core.jobs.engine import JobLimits
from modelyard.core.platform import Platform, open_platform
from modelyard.core.rpc.server import Mount, Service
from modelyard.dataset.v1 import dataset_pb2, dataset_service_pb2_grpc
from modelyard.formats.dataset import TEST, from_json, load_manifest, to_json, write_parquet
from modelyard.trainer.bootstrap import build
from modelyard.trainer.settings import TrainerSettings
from modelyard.trainer.v1 import trainer_pb2 as pb
from modelyard.type.v1 import job_pb2, learning_pb2
from tests.support.datasets import file_store, publish_pictures, publish_table
from tests.support.hosted import hosted

PARENT = "projects/default"
DIGITS = f"{PARENT}/datasets/digits/versions/V001"
SECOND = f"{PARENT}/datasets/digits/versions/V002"
TABLE = f"{PARENT}/datasets/rows/versions/V001"
RUNNING = f"{PARENT}/datasets/digits/versions/V003"


@dataclass
class DatasetStandIn(dataset_service_pb2_grpc.DatasetServiceServicer):
    """Answers GetDatasetVersion from memory, and cuts folds as the dataset service does."""

    store: ArtifactStore
    versions: dict[str, dataset_pb2.DatasetVersion] = field(default_factory=dict)

    def add(self, name: str, descriptor: Blob, classes: Sequence[str], task: str, state: str = "SUCCEEDED") -> None:
        self.versions[name] = dataset_pb2.DatasetVersion(
            name=name,
            digest="ab" * 32,
            classes=classes,
            task=learning_pb2.Task.Value(task),
            descriptor_blob=blob_message(descriptor),
            status=job_pb2.JobStatus(state=job_pb2.JobState.Value(f"JOB_STATE_{state}")),
        )

    def GetDatasetVersion(self, request: Any, context: Any) -> dataset_pb2.DatasetVersion:
        if request.name not in self.versions:
            raise NotFound("DATASET_VERSION_NOT_FOUND", f"{request.name} does not exist", name=request.name)
        return self.versions[request.name]

    def CreateDatasetUse(self, request: Any, context: Any) -> dataset_pb2.DatasetUse:
        return request.dataset_use  # type: ignore[no-any-return]

    def CreateFolds(self, request: Any, context: Any) -> dataset_pb2.Folds:
        """Every k-th example, without regard to classes; what folds are like is the dataset service's subject."""
        import pyarrow as pa

        described = from_json(self.store.read_bytes(blob_from(self.versions[request.parent].descriptor_blob)))
        manifest = load_manifest(self.store, described)
        k, repeats = request.folds.k, request.folds.repeats or 1
        place, columns = np.arange(manifest.num_rows), {"example_id": manifest["example_id"]}
        tests = np.array([usage == TEST for usage in manifest["usage"].to_pylist()])
        for repeat in range(repeats):
            drawn = np.where(tests, -1, (place + repeat * (place // k)) % k).astype(np.int16)
            columns[f"fold_{repeat}"] = pa.array(drawn)
        with TemporaryDirectory() as folder:
            folds = self.store.put_file(write_parquet(pa.table(columns), Path(folder) / "folds"))
        made = [
            self.store.put_bytes(to_json(replace(described, folds=folds, repeat=repeat, fold=fold)))
            for repeat in range(repeats)
            for fold in range(k)
        ]
        return dataset_pb2.Folds(k=k, descriptor_blobs=[blob_message(blob) for blob in made], notes=["cut"])

    def service(self) -> Service:
        def add(server: Any) -> None:
            dataset_service_pb2_grpc.add_DatasetServiceServicer_to_server(self, server)

        return Service("dataset", [Mount("modelyard.dataset.v1.DatasetService", add)])


@dataclass
class Trainer:
    """A running trainer and its client."""

    client: Client
    platform: Platform

    def create(self, job_id: str, **more: Any) -> pb.TrainingJob:
        values = {"dataset_version": DIGITS, "model": "digits", "recipe": "micronet"} | more
        return self.client.training.create_training_job(training_job_id=job_id, **values)

    def long(self, job_id: str, **more: Any) -> pb.TrainingJob:
        """A run that does not end by itself; each with a seed of its own, so that none repeats another."""
        seed = zlib.crc32(job_id.encode())
        return self.create(job_id, hyperparameters=pb.Hyperparameters(max_epochs=10_000, seed=seed), **more)

    def wait(self, job: pb.TrainingJob, seconds: float = 240) -> pb.TrainingJob:
        return self.client.training.wait_training_job(job.name, timeout_s=seconds)

    def until(self, job: pb.TrainingJob, ready: Callable[[pb.TrainingJob], Any], seconds: float = 200) -> pb.TrainingJob:
        """The job once it is as wished; fails when it ends before."""
        deadline = time.monotonic() + seconds
        while True:
            now = self.client.training.get_training_job(job.name)
            if ready(now):
                return now
            assert now.status.state in (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING), now
            assert time.monotonic() < deadline, now
            time.sleep(0.1)

    def kill_worker(self, job: pb.TrainingJob) -> None:
        """kill -9 of the process that runs the job's attempt."""
        killed = [pid for pid in worker_pids() if job.name in environment(pid)]
        assert killed, "the job has no worker process"
        for pid in killed:
            os.kill(pid, signal.SIGKILL)


def worker_pids() -> list[int]:
    """Processes that run the trainer's worker."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and _runs_worker(path)]


def _runs_worker(process: Path) -> bool:
    try:
        return b"modelyard.trainer.worker" in (process / "cmdline").read_bytes()
    except OSError:
        return False


def environment(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return ""


@contextmanager
def running(folder: Path, **replaced: Any) -> Iterator[Trainer]:
    """A server: SQLite, files, a worker process per attempt, a checkpoint every half second. replaced: for bootstrap.build."""
    platform = open_platform(
        TrainerSettings(data_dir=folder, training_slots=2, checkpoint_every_s=0.5),
        "trainer",
        JobLimits(retry_wait_s=0.1, cancel_grace_s=10),
    )
    stand_in = published(folder)
    with hosted(platform, [stand_in.service(), build(platform, **replaced)]) as address, Client(address) as client:
        yield Trainer(client, platform)


@pytest.fixture(scope="package")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    """One server for all tests."""
    with running(tmp_path_factory.mktemp("trainer")) as started:
        yield started


@pytest.fixture(autouse=True)
def _nothing_left_running(trainer: Trainer) -> Iterator[None]:
    """A test that fails leaves no run behind that takes a slot."""
    yield
    for job in trainer.client.training.list_training_jobs():
        if job.status.state in (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING):
            trainer.client.training.cancel_training_job(job.name)


def published(folder: Path) -> DatasetStandIn:
    """scikit-learn's digits as pictures, and a table of flowers."""
    from sklearn.datasets import load_digits, load_iris

    store = file_store(folder / "artifacts")
    stand_in = DatasetStandIn(store)
    digits, iris = load_digits(), load_iris()
    pictures = (digits.images[:600] * 15.9).astype("uint8")
    descriptor = publish_pictures(store, pictures, [str(label) for label in digits.target[:600]])
    for name, state in ((DIGITS, "SUCCEEDED"), (SECOND, "SUCCEEDED"), (RUNNING, "RUNNING")):
        stand_in.add(name, descriptor, [str(label) for label in range(10)], "TASK_IMAGE_CLASSIFICATION", state)
    columns = {name: iris.data[:, place].tolist() for place, name in enumerate(("sl", "sw", "pl", "pw"))}
    columns["kind"] = [str(iris.target_names[label]) for label in iris.target]
    table = publish_table(store, columns, "kind", task="tabular_classification")
    stand_in.add(TABLE, table, sorted(set(columns["kind"])), "TASK_TABULAR_CLASSIFICATION")
    return stand_in
