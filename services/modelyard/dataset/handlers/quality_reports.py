"""Quality reports: start, read, list, cancel."""

from __future__ import annotations

from dataclasses import replace

from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import InvalidArgument
from modelyard.core.jobs.job import Job, JobPage
from modelyard.core.names import DATASET, QUALITY_REPORT, new_id
from modelyard.core.requests import Request
from modelyard.dataset.domain.records import FULL, ReportSpec, VersionResult, VersionSpec
from modelyard.dataset.handlers import kinds
from modelyard.dataset.handlers.documents import present_content, read_dataset, read_job
from modelyard.dataset.handlers.versions import ready_version
from modelyard.dataset.ports import Jobs, Kept, Resources


def create_quality_report(
    jobs: Jobs, resources: Resources, parent: str, request: Request, *, version: str = "", depth: str = FULL, base: str = ""
) -> Job:
    """Starts a check of the dataset's present content, or of a version ("": none). `depth`: quick or full. With a `base`, another
    version, it starts a comparison with that instead.

    Raises NotFound, FailedPrecondition NO_CONTENT or DATASET_VERSION_NOT_READY, InvalidArgument OTHER_DATASET.
    """
    ids = DATASET.parse(parent, "parent")
    spec = replace(_spec(jobs, resources, parent, version), depth=depth)
    if base:
        job, result = _version(jobs, resources, parent, base, "quality_report.base_version")
        spec = replace(spec, base=job.name, base_descriptor=result.descriptor)
    return jobs.submit(
        QUALITY_REPORT.format(ids["project"], ids["dataset"], new_id()),
        kinds.QUALITY_REPORT,
        parent=parent,
        spec=to_document(spec),
        request_id=request.id,
        method=request.method,
        fingerprint=request.fingerprint,
    )


def _spec(jobs: Jobs, resources: Resources, parent: str, version: str) -> ReportSpec:
    if not version:
        import_name, imported = present_content(jobs, resources, parent)
        return ReportSpec(parent, import_name, imported)
    job, result = _version(jobs, resources, parent, version, "quality_report.dataset_version")
    made = from_document(job.spec, VersionSpec)
    return ReportSpec(parent, made.import_name, made.imported, job.name, result.descriptor)


def _version(jobs: Jobs, resources: Resources, parent: str, name: str, field: str) -> tuple[Job, VersionResult]:
    """A version of this dataset that can be read."""
    job, result = ready_version(jobs, resources, name, field)
    if job.parent != parent:
        message = f"{field} is {name}, a version of another dataset than {parent}"
        raise InvalidArgument("OTHER_DATASET", message, field=field, value=name)
    return job, result


def get_quality_report(jobs: Jobs, name: str) -> Job:
    """Reads a report. Raises NotFound QUALITY_REPORT_NOT_FOUND."""
    QUALITY_REPORT.parse(name)
    return read_job(jobs, name, "QUALITY_REPORT_NOT_FOUND")


def list_quality_reports(jobs: Jobs, resources: Resources, parent: str, page_size: int, page_token: str) -> JobPage:
    """The reports of a dataset, newest first. Raises NotFound DATASET_NOT_FOUND."""
    DATASET.parse(parent, "parent")
    read_dataset(resources, parent)
    return jobs.list(kinds.QUALITY_REPORT, parent, page_size, page_token)


def cancel_quality_report(jobs: Jobs, name: str) -> Job:
    """Cancels a running report; one that has ended stays as it is."""
    return jobs.cancel(get_quality_report(jobs, name).name)


def forget_saved(kept: Kept, job: Job) -> None:
    """Removes what a job that failed or was cancelled had kept for an attempt to come."""
    for uri in (job.saved or {}).values():
        if isinstance(uri, str) and uri.startswith("artifact://"):
            kept.delete(uri)
