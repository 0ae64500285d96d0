"""The pipeline on a real server with a real job engine; only the services it drives are fakes."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from modelyard.client import (
    Addresses,
    AlreadyExists,
    Client,
    FailedPrecondition,
    InvalidArgument,
    JobCancelled,
    JobFailed,
    NotFound,
)
from modelyard.core import errors
from modelyard.core.jobs.durable import ServerStopping
from modelyard.core.platform import open_platform
from modelyard.dataset.v1 import dataset_pb2
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.pipeline import bootstrap
from modelyard.pipeline.settings import PipelineSettings
from modelyard.pipeline.v1 import pipeline_pb2 as pb
from modelyard.trainer.v1 import trainer_pb2
from modelyard.type.v1 import blob_pb2, job_pb2, learning_pb2
from tests.support.hosted import hosted
from tests.support.pipeline_fakes import PARENT, World, services

SHA = "ab" * 32


def _run(**fields: object) -> pb.PipelineRun:
    blob = blob_pb2.Blob(uri=f"artifact://dataset/{SHA}", sha256=SHA, size_bytes=10)
    source = pb.Source(blob=blob, dataset=f"{PARENT}/datasets/flowers", file_name="flowers.zip")
    return pb.PipelineRun(source=source, **fields)  # type: ignore[arg-type]  # the fields of the contract


class Pipeline:
    """A pipeline service over a world, on a folder that outlives it."""

    def __init__(self, folder: Path, world: World) -> None:
        self.world = world
        self.platform = open_platform(PipelineSettings(data_dir=folder), "pipeline")
        self._service = bootstrap.build(self.platform, services_of=lambda _: services(world))
        self._context = hosted(self.platform, [self._service])

    def __enter__(self) -> Client:
        return Client(Addresses.same(self._context.__enter__()))

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(None, None, None)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[Client]:
    with Pipeline(tmp_path_factory.mktemp("pipeline"), world) as client:
        yield client


def test_a_run_is_watched_from_its_start_to_its_endpoint(client: Client) -> None:
    wanted = _run(
        display_name="Flowers",
        split=dataset_pb2.SplitPolicy(train_ratio="0.75"),
        max_training_time=Duration(seconds=60),
        floors=[learning_pb2.Floor(metric="accuracy", value=0.5)],
    )
    created = client.pipelines.create_pipeline_run(wanted, pipeline_run_id="flowers-1")
    assert created.name == f"{PARENT}/pipelineRuns/flowers-1"
    changes = list(client.pipelines.watch_pipeline_run(created.name))
    run = changes[-1].pipeline_run
    assert run.status.state == job_pb2.JOB_STATE_SUCCEEDED
    assert [change.sequence for change in changes] == sorted({change.sequence for change in changes})
    assert [point.step for change in changes for point in change.points] == [10, 20]
    fractions = [change.pipeline_run.status.progress.fraction for change in changes]
    assert fractions == sorted(fractions)
    assert [step.state for step in run.steps] == [job_pb2.JOB_STATE_SUCCEEDED] * 9
    assert all(step.start_time.ToNanoseconds() <= step.end_time.ToNanoseconds() for step in run.steps)
    assert run.result.endpoint == f"{PARENT}/endpoints/flowers"
    assert run.result.gate_decision.verdict == evaluator_pb2.VERDICT_DEPLOY
    assert run.result.train_duration.ToSeconds() == 12
    assert run.result.candidates[1].latency.p95_ms == 8.0
    assert run.split.train_ratio == "0.75"
    assert (run.display_name, run.max_inference_duration_ms, run.target) == ("Flowers", 500, "cpu")
    assert client.pipelines.get_pipeline_run(created.name) == run
    assert run.name in [listed.name for listed in client.pipelines.list_pipeline_runs()]


def test_the_same_request_gives_the_same_run_and_the_same_name_is_taken(client: Client) -> None:
    request_id = str(uuid.uuid4())
    first = client.pipelines.create_pipeline_run(_run(), pipeline_run_id="again", request_id=request_id)
    assert client.pipelines.create_pipeline_run(_run(), pipeline_run_id="again", request_id=request_id).name == first.name
    with pytest.raises(AlreadyExists):
        client.pipelines.create_pipeline_run(_run(), pipeline_run_id="again")
    client.pipelines.wait_pipeline_run(first.name, timeout_s=60)


def test_a_wrong_run_is_refused_at_once_and_makes_nothing(client: Client, world: World) -> None:
    before = list(world.created)
    with pytest.raises(InvalidArgument) as caught:
        client.pipelines.create_pipeline_run(_run(split=dataset_pb2.SplitPolicy(train_ratio="1.5"), max_loss=7.0))
    assert caught.value.reason == "BAD_TRAIN_RATIO"
    assert [item.field for item in caught.value.violations] == ["pipeline_run.split.train_ratio", "pipeline_run.max_loss"]
    assert "'1.5'" in caught.value.message
    with pytest.raises(InvalidArgument):
        client.pipelines.create_pipeline_run(pb.PipelineRun())
    with pytest.raises(NotFound):
        client.pipelines.create_pipeline_run(pb.PipelineRun(dataset=f"{PARENT}/datasets/nothing"))
    with pytest.raises(NotFound):
        client.pipelines.create_pipeline_run(_run(incremental_model_version=f"{PARENT}/models/m/versions/V404"))
    assert world.created == before


def test_latest_versions_are_named_as_they_are_at_the_start(client: Client) -> None:
    wanted = pb.PipelineRun(
        dataset_version=f"{PARENT}/datasets/flowers/versions/latest",
        incremental_model_version=f"{PARENT}/models/flowers/versions/latest",
    )
    run = client.pipelines.create_pipeline_run(wanted)
    assert run.dataset_version == f"{PARENT}/datasets/flowers/versions/V007"
    assert run.incremental_model_version == f"{PARENT}/models/flowers/versions/V009"
    client.pipelines.cancel_pipeline_run(run.name)


def test_a_dataset_version_that_is_not_ready_is_refused(tmp_path: Path) -> None:
    with Pipeline(tmp_path, World(state_of_version="RUNNING")) as client, pytest.raises(FailedPrecondition) as caught:
        client.pipelines.create_pipeline_run(pb.PipelineRun(dataset_version=f"{PARENT}/datasets/flowers/versions/V001"))
    assert caught.value.reason == "DATASET_VERSION_NOT_READY"


def test_a_failed_step_gives_the_run_its_error(tmp_path: Path) -> None:
    error = errors.InvalidArgument("NO_TARGET", "the table has no column 'y'", field="label_column", label_column="y")
    with Pipeline(tmp_path, World(errors={"imports": error})) as client:
        created = client.pipelines.create_pipeline_run(_run(recipe=trainer_pb2.Recipe(recipe_id="small")))
        with pytest.raises(JobFailed) as caught:
            client.pipelines.wait_pipeline_run(created.name, timeout_s=60)
        run = client.pipelines.get_pipeline_run(created.name)
    assert (caught.value.reason, caught.value.code, caught.value.values) == (
        "NO_TARGET",
        "INVALID_ARGUMENT",
        {"label_column": "y"},
    )
    assert run.steps[0].state == job_pb2.JOB_STATE_FAILED
    assert run.recipe.recipe_id == "small"


def test_a_gate_that_says_no_is_an_answer(tmp_path: Path) -> None:
    with Pipeline(tmp_path, World(verdict="NOT_ENOUGH_DATA")) as client:
        created = client.pipelines.create_pipeline_run(_run())
        run = client.pipelines.wait_pipeline_run(created.name, timeout_s=60)
    assert (run.status.state, run.status.reason) == (job_pb2.JOB_STATE_SUCCEEDED, "GATE_REFUSED")
    assert run.result.gate_decision.verdict == evaluator_pb2.VERDICT_NOT_ENOUGH_DATA
    assert run.result.deployment == run.result.endpoint == ""
    assert run.steps[-1].state == job_pb2.JOB_STATE_CANCELLED


def test_cancelling_a_run_cancels_the_job_it_waits_for(tmp_path: Path) -> None:
    world = World(looks=10_000)
    with Pipeline(tmp_path, world) as client:
        created = client.pipelines.create_pipeline_run(_run())
        _until(lambda: bool(world.seen))
        client.pipelines.cancel_pipeline_run(created.name)
        with pytest.raises(JobCancelled):
            client.pipelines.wait_pipeline_run(created.name, timeout_s=60)
        run = client.pipelines.get_pipeline_run(created.name)
    assert world.cancelled == list(world.seen)
    assert run.steps[0].state == job_pb2.JOB_STATE_CANCELLED


@pytest.mark.slow
def test_a_run_goes_on_after_a_restart_and_makes_nothing_twice(tmp_path: Path) -> None:
    world = World(looks=3)
    for restarts in range(40):
        with Pipeline(tmp_path, world) as client:
            if restarts == 0:
                name = client.pipelines.create_pipeline_run(_run(), pipeline_run_id="restarted").name
            state = _state_after(client, name, 1.2)
        if state == job_pb2.JOB_STATE_SUCCEEDED:
            break
    assert restarts >= 2
    assert sorted(world.created) == sorted(set(world.created))
    assert len(world.created) == 9


@pytest.mark.slow
def test_a_run_that_is_cancelled_as_the_server_stops_ends_cancelled_after_the_restart(tmp_path: Path) -> None:
    world = World(looks=5)
    with Pipeline(tmp_path, world) as client:
        name = client.pipelines.create_pipeline_run(_run()).name
        _until(lambda: "versions" in world.created)
        client.pipelines.cancel_pipeline_run(name)
    with Pipeline(tmp_path, world) as client, pytest.raises(JobCancelled):
        client.pipelines.wait_pipeline_run(name, timeout_s=20)
    assert "trainingJobs" not in world.created


def test_a_run_that_failed_just_before_the_server_died_ends_after_the_restart(tmp_path: Path) -> None:
    def die(*_: object) -> str:
        raise ServerStopping

    world = World(errors={"versions": errors.InvalidArgument("NO_TARGET", "no target")})
    dying = Pipeline(tmp_path, world)
    dying.platform.jobs._end = die  # type: ignore[assignment, method-assign]  # as kill -9 between the error and the end would
    with dying as client:
        name = client.pipelines.create_pipeline_run(_run()).name
        _until(lambda: client.pipelines.get_pipeline_run(name).steps[2].state == job_pb2.JOB_STATE_FAILED)
        assert client.pipelines.get_pipeline_run(name).status.state == job_pb2.JOB_STATE_RUNNING
    with Pipeline(tmp_path, world) as client, pytest.raises(JobFailed) as caught:
        client.pipelines.wait_pipeline_run(name, timeout_s=20)
    assert caught.value.reason == "NO_TARGET"


def _state_after(client: Client, name: str, seconds: float) -> int:
    time.sleep(seconds)
    return client.pipelines.get_pipeline_run(name).status.state


def _until(condition: object, timeout_s: float = 20.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)
