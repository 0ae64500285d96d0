"""Creating, reading and ending training jobs, over fakes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from modelyard.core.errors import FailedPrecondition, InvalidArgument, ModelyardError, NotFound
from modelyard.core.jobs.job import Instruction, Job, JobState
from modelyard.trainer.domain.model import ModelVersion
from modelyard.trainer.domain.recipe import RecipeRequest, recipe_document
from modelyard.trainer.domain.training_job import Checkpoint, TrainingState, spec_document, spec_from, state_document
from modelyard.trainer.handlers import training_jobs
from modelyard.trainer.handlers.models import keep_version
from modelyard.trainer.handlers.training_jobs import NewTrainingJob
from tests.support.trainer_fakes import MODEL, OTHER_PICTURES, PARENT, PICTURES, ROWS, FakeDatasets, FakeJobs, FakeResources, blob


@dataclass
class World:
    """All ports, from memory."""

    jobs: FakeJobs = field(default_factory=FakeJobs)
    resources: FakeResources = field(default_factory=FakeResources)
    datasets: FakeDatasets = field(default_factory=FakeDatasets)

    def create(self, job_id: str = "", **more: Any) -> Job:
        wanted = {"parent": PARENT, "dataset_version": PICTURES, "model": MODEL, "training_job_id": job_id}
        values: dict[str, Any] = wanted | {"repeat_reason": "the test wants it"} | more
        return training_jobs.create_training_job(self.jobs, self.datasets, self.resources, NewTrainingJob(**values))

    def refuse(self, **more: Any) -> ModelyardError:
        before = dict(self.jobs.known)
        with pytest.raises(ModelyardError) as caught:
            self.create(**more)
        assert self.jobs.known == before
        return caught.value

    def trained(
        self, job_id: str = "source", *, epoch: int = 5, step: int = 100, kinds: tuple[str, ...] = ("last", "best")
    ) -> Job:
        """A job with checkpoints."""
        job = self.create(job_id, recipe=RecipeRequest("tinynet", hyperparameters={"max_epochs": 5}))
        kept = {kind: Checkpoint(kind, step, epoch, {"val_accuracy": 0.5}, blob(kind[0].replace("l", "e"))) for kind in kinds}
        return self.jobs.put(replace(job, saved=state_document(TrainingState(kept)), state=JobState.CANCELLED))

    def version(self, task: str = "image_classification", recipe_id: str = "tinynet", model: str = MODEL) -> str:
        dataset = PICTURES if task == "image_classification" else ROWS
        recipe = spec_from(self.create(dataset_version=dataset, recipe=RecipeRequest(recipe_id)).spec).recipe
        made = ModelVersion(f"{PARENT}/trainingJobs/x", PICTURES, "ab" * 32, task, recipe_document(recipe), blob("f"))
        return keep_version(self.resources, model, made)


@pytest.fixture
def world() -> World:
    return World()


def test_a_job_is_submitted_with_all_that_its_worker_needs(world: World) -> None:
    recipe = RecipeRequest("micronet", hyperparameters={"seed": 5})
    job = world.create("mine", recipe=recipe, display_name="Mine", max_training_time_s=90.0, request_id="r", fingerprint="f")
    assert job.name == f"{PARENT}/trainingJobs/mine"
    spec = spec_from(job.spec)
    assert (spec.dataset_version, spec.model, spec.display_name, spec.max_training_time_s) == (PICTURES, MODEL, "Mine", 90)
    assert (spec.recipe.name, spec.recipe.hyperparameters.seed) == ("micronet", 5)
    assert spec.requested == {"recipe_id": "micronet", "hyperparameters": {"seed": 5}}
    assert spec.descriptor == blob("d")
    sent = world.jobs.submitted[0]
    assert (sent["kind"], sent["request_id"], sent["method"], sent["fingerprint"]) == ("training", "r", "CreateTrainingJob", "f")
    assert sent["labels"] == {"model": MODEL, "dataset_version": PICTURES}


def test_the_spec_is_json_and_comes_back_as_it_was(world: World) -> None:
    source = world.trained()
    job = world.create(resume_from=source.name, recipe=RecipeRequest(hyperparameters={"max_epochs": 9}))
    spec = spec_from(json.loads(json.dumps(job.spec)))
    assert spec_document(spec) == job.spec
    assert spec.resume_from is not None


def test_a_job_without_an_id_gets_one(world: World) -> None:
    names = {world.create().name for _ in range(3)}
    assert len(names) == 3


@pytest.mark.parametrize(
    ("wrong", "reason", "field"),
    [
        ({"parent": "p"}, "BAD_RESOURCE_NAME", "parent"),
        ({"job_id": "Big"}, "BAD_ID", "training_job_id"),
        ({"dataset_version": "digits"}, "BAD_RESOURCE_NAME", "training_job.dataset_version"),
        ({"model": "m"}, "BAD_RESOURCE_NAME", "training_job.model"),
        ({"model": "projects/q/models/m"}, "OTHER_PROJECT", "training_job.model"),
        ({"display_name": "x" * 201}, "TEXT_TOO_LONG", "training_job.display_name"),
        ({"max_training_time_s": 0.5}, "INVALID_TRAINING_TIME", "training_job.max_training_time"),
        ({"max_training_time_s": 1e9}, "INVALID_TRAINING_TIME", "training_job.max_training_time"),
        ({"resume_from": "x"}, "BAD_RESOURCE_NAME", "training_job.resume_from.training_job"),
        ({"warm_start": "x"}, "BAD_RESOURCE_NAME", "training_job.warm_start_model_version"),
    ],
)
def test_wrong_requests_are_refused_by_their_field(world: World, wrong: dict[str, Any], reason: str, field: str) -> None:
    error = world.refuse(**wrong)
    assert isinstance(error, InvalidArgument)
    assert error.reason == reason
    assert [each.field for each in error.violations] == [field]
    assert field in error.message


def test_a_dataset_version_that_is_not_there_is_not_found(world: World) -> None:
    assert isinstance(world.refuse(dataset_version=f"{PARENT}/datasets/none/versions/V001"), NotFound)


def test_going_on_from_last_or_best_takes_recipe_and_checkpoint(world: World) -> None:
    source = world.trained()
    more = RecipeRequest(hyperparameters={"max_epochs": 9, "base_lr": 0.01})
    spec = spec_from(world.create(resume_from=source.name, checkpoint="best", recipe=more).spec)
    assert spec.resume_from is not None
    assert (spec.resume_from.training_job, spec.resume_from.checkpoint.kind) == (source.name, "best")
    assert spec.recipe.name == "tinynet"
    assert (spec.recipe.hyperparameters.max_epochs, spec.recipe.hyperparameters.base_lr) == (9, 0.01)


def test_going_on_uses_the_checkpoints_of_a_result(world: World) -> None:
    source = world.trained()
    world.jobs.put(replace(source, saved=None, result={"state": source.saved}, state=JobState.SUCCEEDED))
    assert spec_from(
        world.create(resume_from=source.name, recipe=RecipeRequest(hyperparameters={"max_epochs": 6})).spec
    ).resume_from


def test_going_on_needs_the_same_data(world: World) -> None:
    error = world.refuse(resume_from=world.trained().name, dataset_version=OTHER_PICTURES)
    assert isinstance(error, FailedPrecondition)
    assert (error.reason, error.values["expected"]) == ("DATASET_VERSION_DIFFERS", PICTURES)


def test_going_on_needs_a_checkpoint_of_that_kind(world: World) -> None:
    error = world.refuse(resume_from=world.trained(kinds=("last",)).name, checkpoint="best")
    assert (error.reason, error.values["available"]) == ("NO_CHECKPOINT", "last")
    assert world.refuse(resume_from=world.trained("fresh", kinds=()).name).reason == "NO_CHECKPOINT"


def test_going_on_waits_for_the_end_of_the_other_run(world: World) -> None:
    source = world.jobs.put(replace(world.trained(), state=JobState.RUNNING))
    error = world.refuse(resume_from=source.name)
    assert (error.reason, error.values["state"]) == ("TRAINING_JOB_RUNNING", "RUNNING")


def test_going_on_needs_something_left_to_do(world: World) -> None:
    source = world.trained(epoch=5, step=100)
    error = world.refuse(resume_from=source.name)
    assert error.reason == "NOTHING_LEFT_TO_TRAIN"
    assert error.violations[0].field == "training_job.recipe.hyperparameters.max_epochs"
    steps = RecipeRequest(hyperparameters={"max_epochs": 50, "max_steps": 100})
    assert world.refuse(resume_from=source.name, recipe=steps).violations[0].field.endswith("max_steps")


def test_going_on_from_a_job_that_is_not_there_is_not_found(world: World) -> None:
    assert world.refuse(resume_from=f"{PARENT}/trainingJobs/none").reason == "TRAINING_JOB_NOT_FOUND"


def test_a_warm_start_takes_the_versions_model_and_file(world: World) -> None:
    version = world.version(recipe_id="micronet")
    spec = spec_from(world.create(warm_start=f"{MODEL}/versions/latest").spec)
    assert spec.warm_start is not None
    assert (spec.warm_start.model_version, spec.warm_start.model_file) == (version, blob("f"))
    assert spec.recipe.name == "micronet"


def test_a_warm_start_needs_the_same_task_and_architecture(world: World) -> None:
    rows = world.version("tabular_classification", "lightgbm", f"{PARENT}/models/rows")
    assert world.refuse(warm_start=rows).reason == "TASK_MISMATCH"
    pictures = world.version()
    assert world.refuse(warm_start=pictures, recipe=RecipeRequest("micronet")).reason == "ARCHITECTURE_MISMATCH"
    assert world.refuse(warm_start=f"{PARENT}/models/none/versions/V001").reason == "MODEL_VERSION_NOT_FOUND"


def test_stop_cancel_and_delete_go_to_the_engine(world: World) -> None:
    job = world.create("mine")
    assert training_jobs.stop_training_job(world.jobs, job.name).instruction is Instruction.STOP
    assert training_jobs.cancel_training_job(world.jobs, job.name).instruction is Instruction.CANCEL
    with pytest.raises(FailedPrecondition):
        training_jobs.delete_training_job(world.jobs, world.resources, job.name)
    world.jobs.put(replace(job, state=JobState.CANCELLED))
    training_jobs.delete_training_job(world.jobs, world.resources, job.name)
    for verb in (training_jobs.get_training_job, training_jobs.stop_training_job, training_jobs.cancel_training_job):
        with pytest.raises(NotFound) as caught:
            verb(world.jobs, job.name)
        assert caught.value.reason == "TRAINING_JOB_NOT_FOUND"
