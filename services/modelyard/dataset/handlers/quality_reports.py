"""Quality reports: start, read, list, cancel."""

from __future__ import annotations

from modelyard.core.documents import to_document
from modelyard.core.errors import FailedPrecondition
from modelyard.core.jobs.job import Job, JobPage
from modelyard.core.names import DATASET, QUALITY_REPORT, new_id
from modelyard.core.requests import Request
from modelyard.dataset.domain.records import ImportResult, ReportSpec
from modelyard.dataset.handlers import kinds
from modelyard.dataset.handlers.documents import import_result, read_dataset, read_job
from modelyard.dataset.ports import Jobs, Resources


def create_quality_report(jobs: Jobs, resources: Resources, parent: str, request: Request) -> Job:
    """Starts a check of the dataset's present content. Raises NotFound, FailedPrecondition NO_CONTENT."""
    ids = DATASET.parse(parent, "parent")
    import_name, imported = present_content(jobs, resources, parent)
    return jobs.submit(
        QUALITY_REPORT.format(ids["project"], ids["dataset"], new_id()),
        kinds.QUALITY_REPORT,
        parent=parent,
        spec=to_document(ReportSpec(parent, import_name, imported)),
        request_id=request.id,
        method=request.method,
        fingerprint=request.fingerprint,
    )


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


def present_content(jobs: Jobs, resources: Resources, dataset: str) -> tuple[str, ImportResult]:
    """The import whose content is the dataset's present one. Raises NotFound, FailedPrecondition NO_CONTENT."""
    name = read_dataset(resources, dataset).current_import
    imported = import_result(jobs.get(name)) if name else None
    if imported is None:
        message = f"{dataset} is empty: no import of it has succeeded yet"
        raise FailedPrecondition("NO_CONTENT", message, name=dataset)
    return name, imported
