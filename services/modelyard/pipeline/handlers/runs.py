"""Runs: checked and started here, taken from step to step by handlers.journey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelyard.core import names
from modelyard.core.errors import FailedPrecondition
from modelyard.core.jobs.job import Job
from modelyard.pipeline.domain.progress import SUCCEEDED, StepState, steps_of
from modelyard.pipeline.domain.spec import RunSpec, complete
from modelyard.pipeline.handlers.documents import from_document, to_document
from modelyard.pipeline.ports import Jobs, Services, ServicesOf

KIND: Final = "PipelineRun"


@dataclass(frozen=True)
class Request:
    """What makes a create safe to repeat: the caller's id, the method, and a fingerprint of the body."""

    id: str = ""
    method: str = ""
    fingerprint: str = ""


def create_run(jobs: Jobs, services_of: ServicesOf, *, parent: str, run_id: str, spec: RunSpec, request: Request) -> Job:
    """Starts a run. What can be wrong with it is found here, before anything is made.

    Raises InvalidArgument (see domain.spec), NotFound or FailedPrecondition for what it names, AlreadyExists RESOURCE_EXISTS.
    """
    project = names.PROJECT.parse(parent, "parent")["project"]
    if run_id:
        names.check_id(run_id, "pipeline_run_id")
    completed = complete(spec, parent)
    _check_what_it_names(services_of(project), completed)
    return jobs.submit(
        names.PIPELINE_RUN.format(project, run_id or names.new_id()),
        KIND,
        parent=parent,
        spec=to_document(completed),
        request_id=request.id,
        method=request.method,
        fingerprint=request.fingerprint,
    )


def _check_what_it_names(services: Services, spec: RunSpec) -> None:
    if spec.dataset:
        services.datasets.check(spec.dataset)
    if spec.dataset_version and (state := services.datasets.version(spec.dataset_version).state) != SUCCEEDED:
        message = f"{spec.dataset_version} is {state}; it must have SUCCEEDED before a model can be trained on it"
        raise FailedPrecondition(
            "DATASET_VERSION_NOT_READY", message, field="pipeline_run.dataset_version", name=spec.dataset_version, state=state
        )
    if spec.incremental_model_version:
        services.training.recipe_of(spec.incremental_model_version)


def spec_of(job: Job) -> RunSpec:
    """What was asked."""
    return from_document(job.spec, RunSpec)


def step_states(job: Job) -> tuple[StepState, ...]:
    """The steps of a run as they are now, in order."""
    saved = {entry["step_id"]: from_document(entry, StepState) for entry in (job.saved or {}).get("steps", [])}
    return tuple(saved.get(step, StepState(step)) for step in steps_of(spec_of(job)))
