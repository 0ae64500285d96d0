"""Runs: checked and started here, taken from step to step by handlers.journey."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from modelyard.core import names
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.jobs.job import Job
from modelyard.core.requests import Request
from modelyard.pipeline.domain.progress import SUCCEEDED, StepState, steps_of
from modelyard.pipeline.domain.spec import RunSpec, TargetFacts, complete
from modelyard.pipeline.ports import Jobs, Services, ServicesOf

KIND: Final = "PipelineRun"


def create_run(jobs: Jobs, services_of: ServicesOf, *, parent: str, run_id: str, spec: RunSpec, request: Request) -> Job:
    """Starts a run. What can be wrong with it is found here, before anything is made.

    Raises InvalidArgument (see domain.spec), NotFound or FailedPrecondition for what it names, AlreadyExists RESOURCE_EXISTS.
    """
    project = names.PROJECT.parse(parent, "parent")["project"]
    if run_id:
        names.check_id(run_id, "pipeline_run_id")
    completed = complete(spec, parent)
    completed = _resolved(services_of(project), completed)
    return jobs.submit(
        names.PIPELINE_RUN.format(project, run_id or names.new_id()),
        KIND,
        parent=parent,
        spec=to_document(completed),
        request_id=request.id,
        method=request.method,
        fingerprint=request.fingerprint,
    )


def _resolved(services: Services, spec: RunSpec) -> RunSpec:
    """The spec with "latest" versions by their own names, once all it names has been found to be there."""
    if spec.dataset:
        services.datasets.check(spec.dataset)
    if spec.dataset_version:
        spec = replace(spec, dataset_version=_ready(services, spec.dataset_version))
    if spec.incremental_model_version:
        spec = replace(spec, incremental_model_version=services.training.version(spec.incremental_model_version)[0])
    if spec.instance_flavor:
        services.training.check_flavor(spec.instance_flavor)
    facts = _target(services, spec.target)
    if not facts.measurable:
        _check_no_latency(spec)
    return replace(spec, facts=facts)


def _check_no_latency(spec: RunSpec) -> None:
    """A latency that nothing can measure cannot be demanded: it would never be shown, and is never guessed."""
    limits = {
        "max_inference_duration_ms": spec.max_inference_ms if spec.latency_demanded else 0,
        "compression.max_latency_ms": spec.compression.max_latency_ms if spec.compression else 0,
    }
    for place, limit in limits.items():
        if limit:
            message = f"{place} is {limit:g}, but nothing can measure on {spec.target}; leave it out, or give the target an agent"
            raise InvalidArgument("LATENCY_UNMEASURED", message, field=f"pipeline_run.{place}", target=spec.target)


def _target(services: Services, target: str) -> TargetFacts:
    try:
        return services.exports.target(target)
    except (NotFound, InvalidArgument) as error:
        message = f"target is {target[:80]!r}; it must be a target of the project (`modelyard target list`): {error.message}"
        raise InvalidArgument("UNKNOWN_TARGET", message, field="pipeline_run.target", value=target[:80]) from error


def _ready(services: Services, dataset_version: str) -> str:
    found = services.datasets.version(dataset_version)
    if found.state != SUCCEEDED:
        message = f"{found.name} is {found.state}; it must have SUCCEEDED before a model can be trained on it"
        raise FailedPrecondition(
            "DATASET_VERSION_NOT_READY", message, field="pipeline_run.dataset_version", name=found.name, state=found.state
        )
    return found.name


def spec_of(job: Job) -> RunSpec:
    """What was asked."""
    return from_document(job.spec, RunSpec)


def step_states(job: Job) -> tuple[StepState, ...]:
    """The steps of a run as they are now, in order: those it took or means to take, so far as it knows."""
    saved = {entry["step_id"]: from_document(entry, StepState) for entry in (job.saved or {}).get("steps", [])}
    return tuple(saved.get(step, StepState(step)) for step in (saved or steps_of(spec_of(job))))
