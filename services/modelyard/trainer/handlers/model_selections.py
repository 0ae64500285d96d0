"""Model selections: asked for, read, stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from modelyard.core import names
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import NotFound
from modelyard.core.jobs.job import Job
from modelyard.core.requests import Request
from modelyard.trainer.domain import selection as rules
from modelyard.trainer.domain.recipe import request_from
from modelyard.trainer.domain.selection import SelectionSpec, SelectionState
from modelyard.trainer.handlers.children import World
from modelyard.trainer.handlers.training_jobs import NewTrainingJob, spec_of
from modelyard.trainer.ports import Jobs, Profiling

KIND: Final = "model-selection"


def create_model_selection(
    world: World, profiling: Profiling, new: NewTrainingJob, wanted: SelectionSpec, *, job_id: str, request: Request
) -> Job:
    """Starts one. new: what each training is asked; its max_training_time_s is the time for all together. What is wrong is found
    here. Raises as create_training_job does, and InvalidArgument INVALID_MODEL_SELECTION, NotFound for the target."""
    project = names.PROJECT.parse(new.parent, "parent")["project"]
    if job_id:
        names.check_id(job_id, "model_selection_id")
    limits = (wanted.max_candidates, wanted.max_inference_ms, wanted.max_size_bytes, wanted.target)
    time_s = rules.check_selection(new.max_training_time_s, len(wanted.recipes), *limits)
    if wanted.target:
        profiling.check_target(new.parent, wanted.target)
    plain = replace(new, max_training_time_s=None, request_id="", fingerprint="", training_job_id="")
    version = spec_of(world.jobs, world.datasets, world.resources, plain).dataset_version
    for recipe in wanted.recipes:
        spec_of(world.jobs, world.datasets, world.resources, replace(plain, recipe=request_from(recipe)))
    spec = replace(
        wanted,
        dataset_version=version,
        model=new.model,
        max_training_s=time_s,
        job=to_document(replace(plain, dataset_version=version)),
    )
    return world.jobs.submit(
        names.MODEL_SELECTION.format(project, job_id or names.new_id()),
        KIND,
        parent=new.parent,
        spec=to_document(spec),
        request_id=request.id,
        method=request.method,
        fingerprint=request.fingerprint,
    )


def get_model_selection(jobs: Jobs, name: str) -> Job:
    """Reads one. Raises NotFound MODEL_SELECTION_NOT_FOUND."""
    names.MODEL_SELECTION.parse(name)
    try:
        return jobs.get(name)
    except NotFound as error:
        raise NotFound("MODEL_SELECTION_NOT_FOUND", f"{name} does not exist", name=name) from error


def stop_model_selection(jobs: Jobs, name: str) -> Job:
    """Asks it to end early with the best model so far. One that has ended stays as it is."""
    get_model_selection(jobs, name)
    return jobs.stop(name)


def spec_of_selection(job: Job) -> SelectionSpec:
    """What was asked."""
    return from_document(dict(job.spec), SelectionSpec)


def state_of_selection(job: Job) -> SelectionState:
    """How far one is."""
    return from_document(dict((job.result or {}).get("selection") or job.saved or {}), SelectionState)
