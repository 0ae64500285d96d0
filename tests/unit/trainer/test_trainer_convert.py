"""Contract messages to domain values and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import duration_pb2

from modelyard.core.errors import InvalidArgument
from modelyard.core.jobs.job import JobChange, JobState
from modelyard.trainer.domain.recipe import RecipeRequest, resolve_recipe
from modelyard.trainer.domain.training_job import (
    Checkpoint,
    ResumeFrom,
    TrainingResult,
    TrainingSpec,
    TrainingState,
    WarmStart,
    result_document,
    spec_document,
    state_document,
)
from modelyard.trainer.rpc import convert
from modelyard.trainer.v1 import trainer_pb2 as pb
from modelyard.trainer.v1 import trainer_service_pb2 as service_pb
from modelyard.type.v1 import job_pb2, learning_pb2
from tests.support.trainer_fakes import MODEL, NOON, PARENT, PICTURES, a_job, blob, facts_of_pictures, facts_of_rows

NAME = f"{PARENT}/trainingJobs/t"
RECIPE = resolve_recipe(RecipeRequest("tinynet", hyperparameters={"seed": 4}), facts_of_pictures())
SPEC = TrainingSpec(
    PICTURES,
    "ab" * 32,
    blob("d"),
    ("cat", "dog"),
    MODEL,
    RECIPE,
    requested={"recipe_id": "tinynet", "task": "image_classification", "hyperparameters": {"seed": 4, "optimizer": "sgd"}},
    display_name="Mine",
    max_training_time_s=90.5,
)
POINT = {"time": NOON.timestamp(), "step": 20, "epoch": 1.5, "loss": 0.25, "metrics": {"val_accuracy": 1}, "eta_s": 12.5}
STATE = TrainingState({"last": Checkpoint("last", 20, 1, {"val_accuracy": 1.0}, blob("e"))}, POINT, 33.0)


def request(**job: Any) -> service_pb.CreateTrainingJobRequest:
    return service_pb.CreateTrainingJobRequest(
        parent=PARENT, training_job=pb.TrainingJob(**job), training_job_id="t", request_id="r"
    )


def test_a_request_says_only_what_is_set() -> None:
    settings = pb.Hyperparameters(
        max_epochs=0, momentum=0.0, optimizer=pb.OPTIMIZER_NADAM, schedule=pb.SCHEDULE_REDUCE_ON_PLATEAU
    )
    recipe = pb.Recipe(recipe_id="tinynet", task=learning_pb2.TASK_IMAGE_CLASSIFICATION, input_width=9, hyperparameters=settings)
    new = convert.new_training_job(request(recipe=recipe, dataset_version=PICTURES, model=MODEL), "f")
    assert new.recipe.hyperparameters == {
        "max_epochs": 0,
        "momentum": 0.0,
        "optimizer": "nadam",
        "schedule": "reduce_on_plateau",
    }
    assert (new.recipe.recipe_id, new.recipe.task, new.recipe.input_width) == ("tinynet", "image_classification", 9)
    assert (new.parent, new.training_job_id, new.request_id, new.fingerprint) == (PARENT, "t", "r", "f")
    assert (new.max_training_time_s, new.resume_from, new.warm_start) == (None, None, None)


def test_where_a_run_starts_is_read() -> None:
    limit = duration_pb2.Duration(seconds=90, nanos=500_000_000)
    new = convert.new_training_job(request(resume_from=pb.ResumeFrom(training_job=NAME), max_training_time=limit), "")
    assert (new.resume_from, new.checkpoint, new.max_training_time_s) == (NAME, "last", 90.5)
    best = pb.ResumeFrom(training_job=NAME, checkpoint=pb.CHECKPOINT_KIND_BEST)
    assert convert.new_training_job(request(resume_from=best), "").checkpoint == "best"
    assert convert.new_training_job(request(warm_start_model_version="v"), "").warm_start == "v"


@pytest.mark.parametrize(
    ("recipe", "field"),
    [
        (pb.Recipe(task=77), "training_job.recipe.task"),  # type: ignore[arg-type]
        (pb.Recipe(input_height=-1), "training_job.recipe.input_height"),
        (pb.Recipe(hyperparameters=pb.Hyperparameters(optimizer=99)), "training_job.recipe.hyperparameters.optimizer"),  # type: ignore[arg-type]
    ],
)
def test_numbers_that_mean_nothing_are_refused_by_their_field(recipe: pb.Recipe, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        convert.new_training_job(request(recipe=recipe), "")
    assert [each.field for each in caught.value.violations] == [field]


def test_a_running_job_shows_what_it_reported() -> None:
    job = a_job(NAME, spec_document(SPEC), state=JobState.RUNNING, saved=state_document(STATE), attempt=2, sequence=9)
    message = convert.training_job_message(job)
    assert (message.name, message.display_name, message.dataset_version, message.model) == (NAME, "Mine", PICTURES, MODEL)
    assert message.recipe == pb.Recipe(
        recipe_id="tinynet",
        task=learning_pb2.TASK_IMAGE_CLASSIFICATION,
        hyperparameters=pb.Hyperparameters(seed=4, optimizer=pb.OPTIMIZER_SGD),
    )
    assert message.resolved_recipe.hyperparameters.seed == 4
    assert not message.resolved_recipe.hyperparameters.HasField("max_steps")
    assert message.max_training_time.ToNanoseconds() == 90_500_000_000
    assert (message.status.state, message.status.attempt, message.status.sequence) == (job_pb2.JOB_STATE_RUNNING, 2, 9)
    assert (message.latest_point.step, message.latest_point.loss, message.latest_point.metrics["val_accuracy"]) == (20, 0.25, 1.0)
    assert [(each.kind, each.step, each.blob.sha256) for each in message.checkpoints] == [(pb.CHECKPOINT_KIND_LAST, 20, "e" * 64)]
    assert message.train_duration.seconds == 33
    assert not message.model_version


def test_a_job_that_ended_shows_its_result() -> None:
    result = result_document(TrainingResult(blob("f"), RECIPE, {}, 5, replace(STATE, train_seconds=50)))
    job = a_job(
        NAME, spec_document(SPEC), state=JobState.SUCCEEDED, saved=state_document(STATE), result={**result, "model_version": "v"}
    )
    message = convert.training_job_message(job)
    assert (message.model_version, message.train_duration.seconds) == ("v", 50)


def test_a_queued_job_has_no_point_and_no_checkpoint() -> None:
    message = convert.training_job_message(a_job(NAME, spec_document(replace(SPEC, max_training_time_s=0.0))))
    assert not message.HasField("latest_point")
    assert not message.HasField("max_training_time")
    assert not message.HasField("resume_from")
    assert not message.HasField("warm_start_model_version")
    assert not message.checkpoints


def test_where_a_job_started_is_shown() -> None:
    start = ResumeFrom("j", Checkpoint("best", 1, 1, {}, blob("a")))
    warm = WarmStart("v", blob("b"))
    resumed = convert.training_job_message(a_job(NAME, spec_document(replace(SPEC, resume_from=start, warm_start=warm))))
    assert (resumed.resume_from.training_job, resumed.resume_from.checkpoint) == ("j", pb.CHECKPOINT_KIND_BEST)
    warmed = convert.training_job_message(a_job(NAME, spec_document(replace(SPEC, warm_start=warm))))
    assert warmed.warm_start_model_version == "v"


def test_a_change_carries_its_points_and_no_notes() -> None:
    job = a_job(NAME, spec_document(SPEC), saved=state_document(STATE))
    change = JobChange(7, job, [POINT, {"step": 3, "note": "BATCH_HALVED", "message": "m"}, {"stage": "select"}])
    response = convert.watch_response(change)
    assert response.sequence == 7
    assert [point.step for point in response.points] == [20]
    assert response.points[0].eta.ToNanoseconds() == 12_500_000_000
    assert response.points[0].time.ToDatetime(NOON.tzinfo) == NOON


def test_a_recipe_for_tables_shows_what_it_has_a_value_for() -> None:
    message = convert.recipe_message(resolve_recipe(RecipeRequest("lightgbm"), facts_of_rows()))
    assert message.input_height == 0
    assert message.hyperparameters.max_steps == 3000
    assert not message.hyperparameters.HasField("base_lr")
    assert not message.hyperparameters.HasField("batch_size")


def test_a_recipe_goes_out_and_comes_back() -> None:
    message = convert.recipe_message(RECIPE)
    assert resolve_recipe(convert.recipe_request(message), facts_of_pictures()) == RECIPE


def test_an_update_without_a_mask_changes_what_is_set() -> None:
    model = pb.Model(display_name="Digits")
    fields = {"display_name", "description"}
    assert convert.changes(model, [], fields) == {"display_name": "Digits"}
    assert convert.changes(model, ["description"], {"description"}) == {"description": ""}
    assert convert.changes(model, ["*"], fields) == {"display_name": "Digits", "description": ""}
