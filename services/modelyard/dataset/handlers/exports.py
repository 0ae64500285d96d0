"""Exports of versions as files of a format: start, read, list, cancel."""

from __future__ import annotations

from modelyard.core.documents import to_document
from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.core.jobs.job import Job, JobPage
from modelyard.core.names import DATASET, DATASET_EXPORT, new_id, parent_of
from modelyard.core.requests import Request
from modelyard.dataset.domain.records import FORMATS, ExportSpec
from modelyard.dataset.handlers import kinds
from modelyard.dataset.handlers.documents import read_dataset, read_job, version_result
from modelyard.dataset.handlers.versions import get_version
from modelyard.dataset.ports import Jobs, Resources


def create_export(
    jobs: Jobs, resources: Resources, parent: str, version: str, format_: str, lossy: bool, request: Request
) -> Job:
    """Starts an export. Raises InvalidArgument, NotFound, FailedPrecondition VERSION_NOT_READY."""
    ids = DATASET.parse(parent, "parent")
    if not format_:
        message = f"dataset_export.format is not set; it is one of {', '.join(FORMATS)}"
        raise InvalidArgument("FORMAT_REQUIRED", message, field="dataset_export.format")
    found = get_version(jobs, resources, version)
    if parent_of(found.name) != parent:
        message = f"dataset_export.dataset_version is {version!r}; a version of {parent} is needed"
        raise InvalidArgument("OTHER_DATASET", message, field="dataset_export.dataset_version", value=version)
    result = version_result(found)
    if result is None:
        message = f"{found.name} is {found.state}; only a version whose publication succeeded can be exported"
        raise FailedPrecondition("VERSION_NOT_READY", message, name=found.name, state=found.state)
    return jobs.submit(
        DATASET_EXPORT.format(ids["project"], ids["dataset"], new_id()),
        kinds.DATASET_EXPORT,
        parent=parent,
        spec=to_document(ExportSpec(parent, found.name, result.descriptor_blob, format_, lossy)),
        request_id=request.id,
        method=request.method,
        fingerprint=request.fingerprint,
    )


def get_export(jobs: Jobs, name: str) -> Job:
    """Reads an export. Raises NotFound DATASET_EXPORT_NOT_FOUND."""
    DATASET_EXPORT.parse(name)
    return read_job(jobs, name, "DATASET_EXPORT_NOT_FOUND")


def list_exports(jobs: Jobs, resources: Resources, parent: str, page_size: int, page_token: str) -> JobPage:
    """The exports of a dataset, newest first. Raises NotFound DATASET_NOT_FOUND."""
    DATASET.parse(parent, "parent")
    read_dataset(resources, parent)
    return jobs.list(kinds.DATASET_EXPORT, parent, page_size, page_token)


def cancel_export(jobs: Jobs, name: str) -> Job:
    """Cancels a running export; one that has ended stays as it is."""
    return jobs.cancel(get_export(jobs, name).name)
