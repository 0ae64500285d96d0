"""The service's values as they lie in resources and jobs."""

from __future__ import annotations

from modelyard.core.documents import from_document
from modelyard.core.errors import FailedPrecondition, NotFound
from modelyard.core.jobs.job import Job
from modelyard.dataset.domain.dataset import Dataset
from modelyard.dataset.domain.records import ExportResult, ImportResult, ReportResult, VersionResult
from modelyard.dataset.ports import Jobs, Resources


def import_result(job: Job) -> ImportResult | None:
    """What an import found; None before it came to a result."""
    return from_document(job.result, ImportResult) if job.result and "content" in job.result else None


def report_result(job: Job) -> ReportResult | None:
    """What a report found; None before it came to a result."""
    return from_document(job.result, ReportResult) if job.result and "findings" in job.result else None


def version_result(job: Job) -> VersionResult | None:
    """What a publication made; None before it came to a result."""
    return from_document(job.result, VersionResult) if job.result and "descriptor" in job.result else None


def export_result(job: Job) -> ExportResult | None:
    """What an export wrote; None before it came to a result."""
    return from_document(job.result, ExportResult) if job.result and "archive" in job.result else None


def read_dataset(resources: Resources, name: str) -> Dataset:
    """A dataset. Raises NotFound DATASET_NOT_FOUND."""
    try:
        return from_document(resources.get(name).document, Dataset)
    except NotFound as error:
        raise NotFound("DATASET_NOT_FOUND", f"{name} does not exist", name=name) from error


def read_job(jobs: Jobs, name: str, reason: str) -> Job:
    """A job. Raises NotFound with this reason."""
    try:
        return jobs.get(name)
    except NotFound as error:
        raise NotFound(reason, f"{name} does not exist", name=name) from error


def present_content(jobs: Jobs, resources: Resources, dataset: str) -> tuple[str, ImportResult]:
    """The import whose content is the dataset's present one. Raises NotFound, FailedPrecondition NO_CONTENT."""
    name = read_dataset(resources, dataset).current_import
    imported = import_result(jobs.get(name)) if name else None
    if imported is None:
        message = f"{dataset} is empty: no import of it has succeeded yet"
        raise FailedPrecondition("NO_CONTENT", message, name=dataset)
    return name, imported
