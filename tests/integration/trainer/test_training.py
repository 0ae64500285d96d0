"""Training jobs end to end: real server, SQLite, worker processes, digits."""

from __future__ import annotations

import time
from typing import Any

import pytest

from modelyard.client import FailedPrecondition, InvalidArgument, JobFailed, NotFound
from modelyard.formats.model import read_card
from modelyard.trainer.v1 import trainer_pb2 as pb
from modelyard.type.v1 import job_pb2, learning_pb2
from tests.integration.trainer.conftest import DIGITS, PARENT, RUNNING, SECOND, TABLE, Trainer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(trainer: Trainer) -> pb.TrainingJob:
    """A short run to its end."""
    job = trainer.create(
        "short", hyperparameters=pb.Hyperparameters(max_epochs=4, batch_size=32, seed=3), display_name="Short run"
    )
    return trainer.wait(job)


def last_points(responses: list[Any]) -> list[pb.TrainingPoint]:
    return [point for response in responses for point in response.points]


def test_create_answers_at_once_with_the_whole_recipe(trained: pb.TrainingJob) -> None:
    recipe = trained.resolved_recipe
    assert trained.recipe.recipe_id == "micronet"
    assert not trained.recipe.architecture
    assert (recipe.architecture, recipe.input_height, recipe.input_width, recipe.input_channels) == (
        "modelyard:micronet",
        16,
        16,
        1,
    )
    settings = recipe.hyperparameters
    assert (settings.max_epochs, settings.batch_size, settings.seed) == (4, 32, 3)
    assert settings.optimizer == pb.OPTIMIZER_ADAMW
    assert settings.schedule == pb.SCHEDULE_COSINE


def test_a_run_makes_a_model_version_whose_file_is_what_it_says(trainer: Trainer, trained: pb.TrainingJob) -> None:
    assert trained.status.state == job_pb2.JOB_STATE_SUCCEEDED
    assert trained.status.reason == "COMPLETED"
    assert trained.train_duration.ToNanoseconds() > 0
    version = trainer.client.models.get_model_version(trained.model_version)
    assert version.training_job == trained.name
    assert version.dataset_version == DIGITS
    assert list(version.classes) == [str(digit) for digit in range(10)]
    assert version.task == learning_pb2.TASK_IMAGE_CLASSIFICATION
    assert version.training_metrics["val_accuracy"] > 0.5
    assert version.recipe.parameter_count > 1000
    card = read_card(trainer.platform.artifacts.path(version.model_file.uri))
    assert card.architecture == "modelyard:micronet"
    assert card.dataset["version"] == DIGITS


def test_watching_gives_a_snapshot_then_the_curve_then_the_end(trainer: Trainer, trained: pb.TrainingJob) -> None:
    seen = list(trainer.client.training.watch_training_job(trained.name))
    sequences = [response.sequence for response in seen]
    assert sequences == sorted(set(sequences))
    points = last_points(seen)
    assert points[-1].epoch == 4
    assert points[-1].metrics["val_accuracy"] > 0.5
    assert points[0].loss > points[-1].loss > 0
    assert seen[-1].training_job.status.state == job_pb2.JOB_STATE_SUCCEEDED
    assert seen[-1].training_job.latest_point == points[-1]


def test_watching_a_run_gives_points_while_it_runs_and_stop_keeps_the_best(trainer: Trainer) -> None:
    job = trainer.long("stopped")
    points: list[pb.TrainingPoint] = []
    progress = job_pb2.Progress()
    for response in trainer.client.training.watch_training_job(job.name):
        points += list(response.points)
        if len(points) >= 3 and not progress.stage:
            progress = response.training_job.status.progress
            trainer.client.training.stop_training_job(job.name)
    assert len(points) >= 3
    assert points[1].learning_rate > 0
    assert points[1].examples_per_second > 0
    assert points[1].eta.seconds > 0
    assert "of 10000" in progress.stage
    assert 0 < progress.fraction < 0.5
    ended = trainer.wait(job)
    assert (ended.status.state, ended.status.reason) == (job_pb2.JOB_STATE_SUCCEEDED, "STOPPED")
    assert trainer.client.models.get_model_version(ended.model_version).training_job == job.name


def test_cancelling_makes_no_version_and_its_checkpoint_can_be_gone_on_from(trainer: Trainer) -> None:
    job = trainer.long("cancelled", model="cancelled")
    trainer.until(job, lambda now: {each.kind for each in now.checkpoints} == {pb.CHECKPOINT_KIND_LAST, pb.CHECKPOINT_KIND_BEST})
    trainer.client.training.cancel_training_job(job.name)
    with pytest.raises(JobFailed):
        trainer.wait(job)
    ended = trainer.client.training.get_training_job(job.name)
    assert ended.status.state == job_pb2.JOB_STATE_CANCELLED
    assert not ended.model_version
    with pytest.raises(NotFound):
        trainer.client.models.get_model("cancelled")
    last = next(each for each in ended.checkpoints if each.kind == pb.CHECKPOINT_KIND_LAST)
    more = pb.Hyperparameters(max_epochs=last.epoch + 2, base_lr=0.001)
    resumed = trainer.create("cancelled-resumed", recipe="", model="cancelled", resume_from=job.name, hyperparameters=more)
    ended = trainer.wait(resumed)
    assert ended.status.state == job_pb2.JOB_STATE_SUCCEEDED
    assert ended.model_version == f"{PARENT}/models/cancelled/versions/V001"
    points = last_points(list(trainer.client.training.watch_training_job(resumed.name)))
    assert points[0].step > last.step
    assert points[-1].epoch == last.epoch + 2
    assert max(point.learning_rate for point in points) <= 0.001


def test_a_run_goes_on_from_the_best_checkpoint(trainer: Trainer, trained: pb.TrainingJob) -> None:
    more = pb.Hyperparameters(max_epochs=6)
    job = trainer.create("from-best", recipe="", resume_from=trained.name, checkpoint="best", hyperparameters=more)
    ended = trainer.wait(job)
    assert ended.resume_from.checkpoint == pb.CHECKPOINT_KIND_BEST
    assert ended.resolved_recipe.hyperparameters.batch_size == 32
    assert ended.latest_point.epoch == 6


def test_a_worker_killed_in_the_middle_is_started_again_and_goes_on_from_its_checkpoint(trainer: Trainer) -> None:
    job = trainer.create("killed", model="killed", hyperparameters=pb.Hyperparameters(max_epochs=60, batch_size=16))
    before = trainer.until(job, lambda now: len(now.checkpoints) == 2 and now.latest_point.epoch > 1)
    trainer.kill_worker(job)
    killed = time.time()
    ended = trainer.wait(job)
    assert ended.status.state == job_pb2.JOB_STATE_SUCCEEDED
    assert ended.status.attempt == 2
    assert [version.name for version in trainer.client.models.list_model_versions("killed")] == [ended.model_version]
    points = last_points(list(trainer.client.training.watch_training_job(job.name)))
    after = [point.step for point in points if point.time.ToNanoseconds() / 1e9 > killed]
    assert after == sorted(after)
    kept = max(each.step for each in before.checkpoints)
    assert min(after) >= kept, "it began again"
    # A stretch and its validation give a point each; a run from the beginning would give them a second time.
    assert sum(point.step == kept for point in points) <= 2, "it began again"
    assert ended.latest_point.epoch == 60


def test_the_time_limit_ends_the_run_with_its_model(trainer: Trainer) -> None:
    ended = trainer.wait(trainer.long("limited", max_training_time_s=4))
    assert (ended.status.state, ended.status.reason) == (job_pb2.JOB_STATE_SUCCEEDED, "TIME_LIMIT")
    assert 3 < ended.train_duration.ToNanoseconds() / 1e9 < 30
    assert ended.model_version


def test_starting_from_an_earlier_version_takes_its_model_and_names_it_as_parent(
    trainer: Trainer, trained: pb.TrainingJob
) -> None:
    job = trainer.create(
        "warm",
        recipe="",
        model="warm",
        dataset_version=SECOND,
        warm_start_model_version=trained.model_version,
        hyperparameters=pb.Hyperparameters(max_epochs=1),
    )
    ended = trainer.wait(job)
    assert ended.resolved_recipe.recipe_id == "micronet"
    version = trainer.client.models.get_model_version(ended.model_version)
    assert version.parent_version == trained.model_version
    assert version.training_metrics["val_accuracy"] > 0.5


@pytest.mark.parametrize("recipe", ["", "linear"])
def test_a_table_is_learned(trainer: Trainer, recipe: str) -> None:
    job = trainer.create(f"table-{recipe or 'auto'}", dataset_version=TABLE, model="flowers", recipe=recipe)
    ended = trainer.wait(job)
    version = trainer.client.models.get_model_version(ended.model_version)
    assert version.training_metrics["accuracy"] > 0.8
    assert version.recipe.architecture in (("linear",) if recipe else ("linear", "lightgbm"))
    assert version.recipe.recipe_id == version.recipe.architecture
    assert ended.resolved_recipe.recipe_id == (recipe or "tabular-auto")
    assert {each.kind for each in ended.checkpoints} == {pb.CHECKPOINT_KIND_LAST, pb.CHECKPOINT_KIND_BEST}


def test_a_failure_in_the_worker_names_its_reason(trainer: Trainer) -> None:
    recipe = pb.Recipe(architecture="timm:no_such_network")
    job = trainer.create("unknown-network", recipe=recipe)
    with pytest.raises(JobFailed):
        trainer.wait(job)
    error = trainer.client.training.get_training_job(job.name).status
    assert error.state == job_pb2.JOB_STATE_FAILED
    assert error.reason not in ("", "INTERNAL")
    assert "no_such_network" in error.error.message


def test_what_is_wrong_is_said_at_once_and_nothing_stays(trainer: Trainer) -> None:
    with pytest.raises(InvalidArgument) as caught:
        trainer.create("wrong", hyperparameters=pb.Hyperparameters(base_lr=0, momentum=1))
    assert caught.value.reason == "INVALID_HYPERPARAMETER"
    assert {each.field for each in caught.value.violations} == {
        "training_job.recipe.hyperparameters.base_lr",
        "training_job.recipe.hyperparameters.momentum",
    }
    with pytest.raises(FailedPrecondition) as refused:
        trainer.create("wrong", dataset_version=RUNNING)
    assert refused.value.reason == "DATASET_VERSION_NOT_READY"
    with pytest.raises(NotFound):
        trainer.create("wrong", dataset_version=f"{PARENT}/datasets/none/versions/V001")
    with pytest.raises(NotFound):
        trainer.client.training.get_training_job("wrong")


def test_the_same_request_makes_one_job(trainer: Trainer, trained: pb.TrainingJob) -> None:
    settings = pb.Hyperparameters(max_epochs=1)
    made = [
        trainer.client.training.create_training_job(
            dataset_version=DIGITS, model="once", recipe="micronet", hyperparameters=settings, request_id="r-1"
        )
        for _ in range(2)
    ]
    assert made[0].name == made[1].name
    with pytest.raises(InvalidArgument) as caught:
        trainer.client.training.create_training_job(dataset_version=DIGITS, model="other", request_id="r-1")
    assert caught.value.reason == "REQUEST_ID_REUSED"
    trainer.wait(made[0])


def test_deleting_a_job_keeps_its_version(trainer: Trainer) -> None:
    job = trainer.create("deleted", model="deleted", recipe="micronet", hyperparameters=pb.Hyperparameters(max_epochs=1, seed=77))
    ended = trainer.wait(job)
    trainer.client.training.delete_training_job(job.name)
    with pytest.raises(NotFound):
        trainer.client.training.get_training_job(job.name)
    assert trainer.client.models.get_model_version("deleted/latest").name == ended.model_version


def test_suggestions_suit_the_data_and_can_be_trained_as_they_are(trainer: Trainer) -> None:
    found = trainer.client.training.suggest_recipes(DIGITS)
    assert [recipe.recipe_id for recipe in found] == ["tinynet", "smallnet", "micronet"]
    assert found[0].input_channels == 1
    job = trainer.create("suggested", recipe=found[0], hyperparameters=pb.Hyperparameters(max_epochs=1))
    assert job.resolved_recipe.architecture == found[0].architecture
    assert job.resolved_recipe.hyperparameters.batch_size == found[0].hyperparameters.batch_size
    trainer.client.training.cancel_training_job(job.name)
