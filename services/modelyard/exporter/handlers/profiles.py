"""Latency profiles: started here, measured in their worker."""

from __future__ import annotations

from typing import Final

from modelyard.core import names
from modelyard.core.documents import from_document, to_document
from modelyard.core.jobs.job import Job
from modelyard.core.requests import Request
from modelyard.exporter.domain.export import (
    Candidate,
    ProfileResult,
    ProfileSpec,
    check_candidates,
    ready_descriptor,
)
from modelyard.exporter.ports import DatasetVersions, Jobs, Targets

KIND: Final = "LatencyProfile"


def create_profile(
    jobs: Jobs,
    versions: DatasetVersions,
    targets: Targets,
    *,
    parent: str,
    dataset_version: str,
    candidates: tuple[Candidate, ...],
    target: str,
    request: Request,
) -> Job:
    """Starts measuring candidate recipes. Raises InvalidArgument, NotFound, FailedPrecondition DATASET_VERSION_NOT_READY."""
    project = names.PROJECT.parse(parent, "parent")["project"]
    names.DATASET_VERSION.parse(dataset_version, "latency_profile.dataset_version")
    found = targets.find(parent, target, "latency_profile.target")
    version = versions.get(dataset_version)
    spec = ProfileSpec(version.name, ready_descriptor(version), check_candidates(candidates, version.task), found.id, found)
    return jobs.submit(
        names.LATENCY_PROFILE.format(project, names.new_id()),
        KIND,
        parent=parent,
        spec=to_document(spec),
        request_id=request.id,
        method=request.method,
        fingerprint=request.fingerprint,
    )


def spec_of(job: Job) -> ProfileSpec:
    """What was asked."""
    return from_document(job.spec, ProfileSpec)


def result_of(job: Job) -> ProfileResult | None:
    """What was measured; None before it succeeded."""
    if not job.result or "measured" not in job.result:
        return None
    return from_document(job.result, ProfileResult)
