"""Training jobs: create, read, list, stop, cancel, delete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from modelyard.core.artifacts import Blob
from modelyard.core.errors import InvalidArgument, NotFound
from modelyard.core.jobs.job import Job
from modelyard.core.names import DATASET_VERSION, MODEL, PROJECT, TRAINING_JOB, check_id, new_id
from modelyard.recipes.recipe import Recipe
from modelyard.recipes.steps import step_document
from modelyard.trainer.domain.hyperparameters import settled
from modelyard.trainer.domain.ledger import check_reason
from modelyard.trainer.domain.model import check_length
from modelyard.trainer.domain.recipe import RecipeRequest, like, recipe_from, resolve_recipe, resolve_resumed
from modelyard.trainer.domain.training_job import (
    KIND,
    LAST,
    ResumeFrom,
    TrainingSpec,
    WarmStart,
    check_ended,
    check_same_architecture,
    check_same_dataset,
    check_same_task,
    check_training_time,
    check_work_left,
    chosen_checkpoint,
    result_from,
    spec_document,
    spec_from,
    state_from,
)
from modelyard.trainer.handlers import ledger
from modelyard.trainer.handlers.models import start_version
from modelyard.trainer.ports import Datasets, DatasetVersion, Jobs, Resources

METHOD: Final = "CreateTrainingJob"


@dataclass(frozen=True)
class NewTrainingJob:
    """What a request asks for. `resume_from` is a job's name, `checkpoint` the kind of its checkpoint. part_of, fold, descriptor,
    pause_s, stretch: of the steps of other jobs; see TrainingSpec."""

    parent: str
    dataset_version: str
    model: str
    training_job_id: str = ""
    display_name: str = ""
    recipe: RecipeRequest = field(default_factory=RecipeRequest)
    max_training_time_s: float | None = None
    resume_from: str | None = None
    checkpoint: str = LAST
    warm_start: str | None = None
    request_id: str = ""
    fingerprint: str = ""
    instance_flavor: str = ""
    repeat_reason: str = ""
    tags: tuple[str, ...] = ()
    measure_only: bool = False
    part_of: str = ""
    fold: str = ""
    descriptor: Blob | None = None
    pause_s: float = 0.0
    stretch: bool = False


def create_training_job(jobs: Jobs, datasets: Datasets, resources: Resources, new: NewTrainingJob) -> Job:
    """Starts a training job. Everything that can be wrong with it is found here, before anything is written.

    Raises InvalidArgument (names the field), NotFound, FailedPrecondition, AlreadyExists (EXPERIMENT_REPEATED where the same was
    run before and no reason is given).
    """
    name = _name_of(new)
    spec = spec_of(jobs, datasets, resources, new)
    labels = {"model": spec.model, "dataset_version": spec.dataset_version, **ledger.labels_of(new.tags)}
    made = resources.made_by(new.request_id, METHOD, new.fingerprint)
    with ledger.entered(jobs, resources, new.parent, name, spec, again=made is not None) as entered:
        if made is None:  # a request that is sent again holds what its job holds already
            datasets.hold(spec.dataset_version, name, spec.model)
        return jobs.submit(
            name,
            KIND,
            parent=new.parent,
            spec=spec_document(entered),
            labels=labels,
            request_id=new.request_id,
            method=METHOD,
            fingerprint=new.fingerprint,
            instance_flavor=new.instance_flavor,
        )


def get_training_job(jobs: Jobs, name: str, field: str = "name") -> Job:
    """Reads a training job. Raises NotFound TRAINING_JOB_NOT_FOUND."""
    TRAINING_JOB.parse(name, field)
    try:
        return jobs.get(name)
    except NotFound as error:
        raise NotFound("TRAINING_JOB_NOT_FOUND", f"{name} does not exist", name=name) from error


def stop_training_job(jobs: Jobs, name: str) -> Job:
    """Asks a job to end early and keep its best model. One that has ended stays as it is."""
    get_training_job(jobs, name)
    return jobs.stop(name)


def cancel_training_job(jobs: Jobs, name: str) -> Job:
    """Asks a job to end without a model version. One that has ended stays as it is."""
    get_training_job(jobs, name)
    return jobs.cancel(name)


def delete_training_job(jobs: Jobs, resources: Resources, name: str) -> None:
    """Deletes a job that has ended. Its checkpoints are collected, unless another job starts from them."""
    job = get_training_job(jobs, name)
    jobs.delete(name)
    ledger.leave(resources, job.parent, spec_from(job.spec).experiment, name)


def state_of(job: Job) -> Mapping[str, Any] | None:
    """What a job has to show: its result's state once it has a result, else what the worker saved last."""
    return (job.result or {}).get("state") or job.saved


def recipe_as_run(job: Job) -> Recipe:
    """The recipe that a job really ran with: with what the run found or had to change by itself in place."""
    if job.result and job.result.get("recipe"):
        return result_from(job.result).recipe
    recipe, state = spec_from(job.spec).recipe, state_from(state_of(job))
    if not state.chosen or recipe.tabular is not None:
        return recipe
    values: dict[str, Any] = {name: int(value) if name == "batch_size" else value for name, value in state.chosen.items()}
    values = dict(settled(values))
    return replace(recipe, hyperparameters=replace(recipe.hyperparameters, **values))


def check_watchable(name: str) -> None:
    """Raises InvalidArgument unless the name is a training job's; watching says by itself when there is no such job."""
    TRAINING_JOB.parse(name)


def _name_of(new: NewTrainingJob) -> str:
    project = PROJECT.parse(new.parent, "parent")["project"]
    job_id = check_id(new.training_job_id, "training_job_id") if new.training_job_id else new_id()
    return TRAINING_JOB.format(project, job_id)


def spec_of(jobs: Jobs, datasets: Datasets, resources: Resources, new: NewTrainingJob) -> TrainingSpec:
    """What a new job would be, everything checked and filled. Raises as `create_training_job` does, but for repeats."""
    _check_names(new)
    limit_s = check_training_time(new.max_training_time_s)
    version = datasets.get_version(new.dataset_version)
    base = TrainingSpec(
        dataset_version=version.name,
        dataset_digest=version.digest,
        descriptor=new.descriptor or version.descriptor,
        classes=version.classes,
        model=new.model,
        recipe=Recipe(name="", task=version.facts.task, architecture=""),
        requested=asked(new.recipe),
        display_name=check_length("display_name", new.display_name, "training_job"),
        max_training_time_s=limit_s,
        repeat_reason=check_reason(new.repeat_reason),
        measure_only=new.measure_only,
        part_of=new.part_of,
        fold=new.fold,
        pause_s=new.pause_s,
        stretch=new.stretch,
    )
    if new.resume_from is not None:
        return _resumed(jobs, new, new.resume_from, base)
    if new.warm_start is not None:
        return _warmed(resources, new.recipe, new.warm_start, base, version)
    return replace(base, recipe=resolve_recipe(new.recipe, version.facts))


def _check_names(new: NewTrainingJob) -> None:
    DATASET_VERSION.parse(new.dataset_version, "training_job.dataset_version")
    project = MODEL.parse(new.model, "training_job.model")["project"]
    if not new.parent.endswith(f"/{project}"):
        message = f"training_job.model is {new.model}, which is in another project than the parent {new.parent}"
        raise InvalidArgument("OTHER_PROJECT", message, field="training_job.model", value=new.model, parent=new.parent)


def _resumed(jobs: Jobs, new: NewTrainingJob, source_name: str, base: TrainingSpec) -> TrainingSpec:
    """From a checkpoint of another job. What that one started from stays known as the new model version's parent."""
    source = get_training_job(jobs, source_name, "training_job.resume_from.training_job")
    check_ended(source.name, source.state.value, source.state.terminal)
    earlier = spec_from(source.spec)
    check_same_dataset(source.name, earlier.dataset_version, base.dataset_version)
    checkpoint = chosen_checkpoint(source.name, state_from(state_of(source)), new.checkpoint)
    recipe = resolve_resumed(new.recipe, recipe_as_run(source))
    check_work_left(recipe, checkpoint)
    return replace(base, recipe=recipe, resume_from=ResumeFrom(source.name, checkpoint), warm_start=earlier.warm_start)


def _warmed(resources: Resources, asked: RecipeRequest, start: str, base: TrainingSpec, version: DatasetVersion) -> TrainingSpec:
    """From the weights of a model version, whose model is trained on unless the request names one."""
    kept = start_version(resources, start, version.facts.task, asked.architecture)
    check_same_task(kept.name, kept.content.task, version.facts.task)
    earlier = recipe_from(kept.content.recipe)
    recipe = resolve_recipe(like(earlier, asked), version.facts)
    check_same_architecture(kept.name, earlier.architecture, recipe.architecture)
    return replace(base, recipe=recipe, warm_start=WarmStart(kept.name, kept.content.model_file))


def asked(request: RecipeRequest) -> dict[str, Any]:
    """The request's recipe as JSON, without what it leaves open."""
    document = {name: value for name, value in asdict(request).items() if value}
    for name, steps in (("features", request.features), ("augmentation", request.augmentation)):
        if steps:
            document[name] = [step_document(step) for step in steps]
    return document
