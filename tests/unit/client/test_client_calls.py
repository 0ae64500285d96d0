"""Calls, pages, retries, streams that resume and waiters, for the sync and the asyncio client alike, over a real gRPC server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from modelyard.client import (
    Addresses,
    AlreadyExists,
    DeadlineExceeded,
    InvalidArgument,
    JobCancelled,
    JobFailed,
    Unavailable,
    Unimplemented,
    WaitTimeout,
)
from modelyard.dataset.v1 import dataset_pb2, dataset_service_pb2, dataset_service_pb2_grpc
from modelyard.trainer.v1 import trainer_pb2, trainer_service_pb2, trainer_service_pb2_grpc
from modelyard.type.v1 import job_pb2
from tests.support.client_fakes import Connect, Server, abort, status_of

RUNNING, SUCCEEDED = job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_SUCCEEDED


class FakeDatasets(dataset_service_pb2_grpc.DatasetServiceServicer):
    """Datasets in a list; `refusals` are aborted with UNAVAILABLE first."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.refusals = 0
        self.states: list[Any] = [RUNNING, RUNNING, SUCCEEDED]
        self.break_at: set[int] = set()
        self.ends_at: set[int] = set()
        self.error = status_of(grpc.StatusCode.FAILED_PRECONDITION, "NO_TARGET", "column x is missing", column="x")
        self.pause_s = 0.0

    def CreateDataset(self, request: Any, context: Any) -> dataset_pb2.Dataset:
        self.requests.append(request)
        if self.refusals:
            self.refusals -= 1
            abort(context, grpc.StatusCode.UNAVAILABLE, "STARTING", "not yet")
        if request.dataset_id == "taken":
            name = f"{request.parent}/datasets/taken"
            abort(context, grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS", f"{name} exists", "dataset_id", name=name)
        return dataset_pb2.Dataset(name=f"{request.parent}/datasets/{request.dataset_id}")

    def GetDataset(self, request: Any, context: Any) -> dataset_pb2.Dataset:
        time.sleep(self.pause_s)
        self.requests.append(request)
        return dataset_pb2.Dataset(name=request.name)

    def ListDatasets(self, request: Any, context: Any) -> dataset_service_pb2.ListDatasetsResponse:
        self.requests.append(request)
        start = int(request.page_token or 0)
        datasets = [dataset_pb2.Dataset(name=f"projects/p/datasets/d{n}") for n in range(start, min(start + 2, 5))]
        return dataset_service_pb2.ListDatasetsResponse(
            datasets=datasets, next_page_token=str(start + 2) if start + 2 < 5 else ""
        )

    def _import(self, name: str, sequence: int) -> dataset_pb2.Import:
        state = self.states[sequence - 1]
        status = job_pb2.JobStatus(state=state, sequence=sequence)
        if state == job_pb2.JOB_STATE_FAILED:
            status.error.CopyFrom(self.error)
        return dataset_pb2.Import(name=name, status=status)

    def GetImport(self, request: Any, context: Any) -> dataset_pb2.Import:
        return self._import(request.name, len(self.states))

    def WatchImport(self, request: Any, context: Any) -> Iterator[Any]:
        self.requests.append(request)
        for sequence in range(request.after_sequence + 1, len(self.states) + 1):
            if sequence in self.break_at:
                self.break_at.discard(sequence)
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken on purpose")
            if sequence in self.ends_at:
                self.ends_at.discard(sequence)
                return
            time.sleep(self.pause_s)
            yield dataset_service_pb2.WatchImportResponse(sequence=sequence, dataset_import=self._import(request.name, sequence))


class FakeTrainer(trainer_service_pb2_grpc.TrainerServiceServicer):
    def __init__(self) -> None:
        self.requests: list[Any] = []

    def CreateTrainingJob(self, request: Any, context: Any) -> trainer_pb2.TrainingJob:
        self.requests.append(request)
        job: trainer_pb2.TrainingJob = request.training_job
        job.name = f"{request.parent}/trainingJobs/{request.training_job_id or 'job-1'}"
        return job

    def ListRecipes(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return trainer_service_pb2.ListRecipesResponse(recipes=[trainer_pb2.Recipe(recipe_id="linear")])


@pytest.fixture
def datasets() -> FakeDatasets:
    return FakeDatasets()


@pytest.fixture
def server(serve: Callable[..., Server], datasets: FakeDatasets) -> Server:
    return serve(lambda server: dataset_service_pb2_grpc.add_DatasetServiceServicer_to_server(datasets, server))


def test_a_create_sends_parent_id_and_a_fresh_request_id(connect: Connect, server: Server, datasets: FakeDatasets) -> None:
    client = connect(server.address, project="p")
    assert client.datasets.create_dataset("flowers", display_name="Flowers").name == "projects/p/datasets/flowers"
    client.datasets.create_dataset("flowers", request_id="mine")
    first, second = datasets.requests
    assert (first.parent, first.dataset_id, first.dataset.display_name) == ("projects/p", "flowers", "Flowers")
    assert len(first.request_id) == 36
    assert second.request_id == "mine"


def test_an_error_becomes_the_named_exception_with_its_details(connect: Connect, server: Server) -> None:
    client = connect(server.address)
    with pytest.raises(AlreadyExists) as caught:
        client.datasets.create_dataset("taken")
    error = caught.value
    assert (error.code, error.reason, error.request_id) == ("ALREADY_EXISTS", "ALREADY_EXISTS", "request-7")
    assert error.message == str(error) == "projects/default/datasets/taken exists"
    assert error.values == {"name": "projects/default/datasets/taken"}
    assert [violation.field for violation in error.violations] == ["dataset_id"]


def test_an_error_without_details_has_code_and_message(connect: Connect, server: Server) -> None:
    client = connect(server.address)
    with pytest.raises(Unimplemented) as caught:
        client.models.get_model("flowers")
    assert caught.value.reason == "UNIMPLEMENTED"
    assert caught.value.message


def test_unavailable_is_tried_again_with_the_same_request_id(connect: Connect, server: Server, datasets: FakeDatasets) -> None:
    datasets.refusals = 2
    assert connect(server.address).datasets.create_dataset("flowers").name
    assert len(datasets.requests) == 3
    assert len({request.request_id for request in datasets.requests}) == 1


def test_unavailable_is_raised_when_patience_ends_and_says_who_does_not_answer(connect: Connect) -> None:
    client = connect("127.0.0.1:1", patience_s=0.5)
    started = time.monotonic()
    with pytest.raises(Unavailable, match=r"nobody answers at 127\.0\.0\.1:1"):
        client.datasets.get_dataset("flowers")
    assert time.monotonic() - started < 5


def test_other_errors_are_not_tried_again(connect: Connect, server: Server, datasets: FakeDatasets) -> None:
    with pytest.raises(AlreadyExists):
        connect(server.address).datasets.create_dataset("taken")
    assert len(datasets.requests) == 1


def test_a_call_has_a_deadline(connect: Connect, server: Server, datasets: FakeDatasets) -> None:
    datasets.pause_s = 2.0
    with pytest.raises(DeadlineExceeded):
        connect(server.address, timeout_s=0.2).datasets.get_dataset("flowers")


def test_lists_go_over_all_pages_and_fetch_one_when_it_is_reached(
    connect: Connect, server: Server, datasets: FakeDatasets
) -> None:
    items = connect(server.address).datasets.list_datasets(page_size=2)
    assert next(items).name == "projects/p/datasets/d0"
    assert len(datasets.requests) == 1
    assert [item.name[-2:] for item in items] == ["d1", "d2", "d3", "d4"]
    assert [request.page_token for request in datasets.requests] == ["", "2", "4"]


@pytest.mark.parametrize("how", ["break_at", "ends_at"])
def test_a_watch_goes_on_after_the_last_sequence(connect: Connect, server: Server, datasets: FakeDatasets, how: str) -> None:
    setattr(datasets, how, {2, 3})
    seen = list(connect(server.address).datasets.watch_import("flowers/i1"))
    assert [message.sequence for message in seen] == [1, 2, 3]
    assert [request.after_sequence for request in datasets.requests] == [0, 1, 2]
    assert seen[-1].dataset_import.name == "projects/default/datasets/flowers/imports/i1"


def test_a_watch_survives_a_restart_of_the_server(connect: Connect, server: Server, datasets: FakeDatasets) -> None:
    datasets.states = [RUNNING] * 20 + [SUCCEEDED]
    datasets.pause_s = 0.05
    sequences = []
    for message in connect(server.address).datasets.watch_import("flowers/i1"):
        sequences.append(message.sequence)
        if message.sequence == 5:
            threading.Thread(target=server.restart).start()
    assert sequences == list(range(1, 22))


def test_a_watch_gives_up_when_nobody_comes_back(connect: Connect, server: Server, datasets: FakeDatasets) -> None:
    client = connect(server.address, watch_patience_s=0.5)
    datasets.states = [RUNNING] * 1000
    datasets.pause_s = 0.01
    watch = client.datasets.watch_import("flowers/i1")
    next(watch)
    server.stop()
    with pytest.raises(Unavailable):
        list(watch)
    server.start()


def test_a_waiter_returns_the_finished_job_and_tells_of_every_change(connect: Connect, server: Server) -> None:
    seen: list[int] = []
    done = connect(server.address).datasets.wait_import(
        "flowers/i1", timeout_s=10, on_change=lambda change: seen.append(change.sequence)
    )
    assert done.status.state == SUCCEEDED
    assert seen == [1, 2, 3]


def test_a_waiter_raises_the_jobs_own_error(connect: Connect, server: Server, datasets: FakeDatasets) -> None:
    datasets.states = [RUNNING, job_pb2.JOB_STATE_FAILED]
    with pytest.raises(JobFailed) as caught:
        connect(server.address).datasets.wait_import("flowers/i1")
    error = caught.value
    assert (error.code, error.reason, error.values) == ("FAILED_PRECONDITION", "NO_TARGET", {"column": "x"})
    assert error.name == "projects/default/datasets/flowers/imports/i1"
    assert error.job.status.state == job_pb2.JOB_STATE_FAILED


def test_a_waiter_says_when_the_job_was_cancelled(connect: Connect, server: Server, datasets: FakeDatasets) -> None:
    datasets.states = [RUNNING, job_pb2.JOB_STATE_CANCELLED]
    with pytest.raises(JobCancelled):
        connect(server.address).datasets.wait_import("flowers/i1")


def test_a_waiter_gives_up_in_time(connect: Connect, server: Server, datasets: FakeDatasets) -> None:
    datasets.states = [RUNNING] * 1000
    datasets.pause_s = 0.05
    started = time.monotonic()
    with pytest.raises(WaitTimeout, match=r"had not ended after 0\.4 s"):
        connect(server.address).datasets.wait_import("flowers/i1", timeout_s=0.4)
    assert time.monotonic() - started < 3


def test_keywords_make_the_message(connect: Connect, serve: Callable[..., Server]) -> None:
    trainer = FakeTrainer()
    server = serve(lambda server: trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server(trainer, server))
    client = connect(Addresses(trainer=server.address))
    job = client.training.create_training_job(
        dataset_version="flowers/V001",
        model="flowers",
        recipe="tinynet",
        hyperparameters=trainer_pb2.Hyperparameters(max_epochs=3, base_lr=0.01),
        max_training_time_s=90.5,
        resume_from="job-0",
        checkpoint="best",
    )
    assert job.name == "projects/default/trainingJobs/job-1"
    assert job.dataset_version == "projects/default/datasets/flowers/versions/V001"
    assert (job.recipe.recipe_id, job.recipe.hyperparameters.max_epochs) == ("tinynet", 3)
    assert (job.max_training_time.seconds, job.max_training_time.nanos) == (90, 500_000_000)
    assert job.resume_from.training_job == "projects/default/trainingJobs/job-0"
    assert job.resume_from.checkpoint == trainer_pb2.CHECKPOINT_KIND_BEST
    assert [recipe.recipe_id for recipe in client.training.list_recipes("tabular-regression")] == ["linear"]


def test_wrong_values_are_named_before_anything_is_sent(connect: Connect) -> None:
    client = connect(Addresses(dataset="127.0.0.1:1"))
    with pytest.raises(InvalidArgument, match="usage is 'tset'; give one of train, validation, test"):
        list(client.datasets.list_examples("flowers/V001", usage="tset"))
    with pytest.raises(InvalidArgument, match="dataset_version is 'a/b/c'"):
        client.datasets.get_dataset_version("a/b/c")
    with pytest.raises(InvalidArgument, match="no address of the trainer service"):
        client.models.get_model("flowers")
