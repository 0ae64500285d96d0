"""Imports: start, read, list, cancel; and what follows one that went well."""

from __future__ import annotations

import threading
from dataclasses import replace

from modelyard.core.artifacts import Blob, parse_uri
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.jobs.job import Job, JobPage
from modelyard.core.names import DATASET, IMPORT, new_id
from modelyard.core.requests import Request
from modelyard.dataset.domain.dataset import Dataset, clean_file_name
from modelyard.dataset.domain.records import ImportSpec, LocalFolder
from modelyard.dataset.handlers import kinds
from modelyard.dataset.handlers.documents import import_result, read_dataset, read_job
from modelyard.dataset.ports import Jobs, LocalFolders, Resources, Sources

_claiming = threading.Lock()


def create_import(
    jobs: Jobs,
    resources: Resources,
    sources: Sources,
    folders: LocalFolders,
    parent: str,
    spec: ImportSpec,
    request: Request,
) -> Job:
    """Starts an import. Raises InvalidArgument, NotFound, FailedPrecondition IMPORT_RUNNING while another one runs, and what
    LocalFolders does."""
    ids = DATASET.parse(parent, "parent")
    read_dataset(resources, parent)
    source = _source(sources, spec.source) if spec.local_folder is None else _no_source(folders, spec.local_folder, spec.source)
    checked = replace(spec, dataset=parent, source=source, file_name=clean_file_name(spec.file_name))
    with _claiming:
        name = earlier_name(jobs, kinds.IMPORT, parent, request)
        if not name:
            name = IMPORT.format(ids["project"], ids["dataset"], new_id())
            _claim(jobs, resources, parent, name)
        return jobs.submit(
            name,
            kinds.IMPORT,
            parent=parent,
            spec=to_document(checked),
            labels={"request_id": request.id},
            request_id=request.id,
            method=request.method,
            fingerprint=request.fingerprint,
            instance_flavor=request.instance_flavor,
        )


def get_import(jobs: Jobs, name: str) -> Job:
    """Reads an import. Raises NotFound IMPORT_NOT_FOUND."""
    IMPORT.parse(name)
    return read_job(jobs, name, "IMPORT_NOT_FOUND")


def list_imports(jobs: Jobs, resources: Resources, parent: str, page_size: int, page_token: str) -> JobPage:
    """The imports of a dataset, newest first. Raises NotFound DATASET_NOT_FOUND."""
    DATASET.parse(parent, "parent")
    read_dataset(resources, parent)
    return jobs.list(kinds.IMPORT, parent, page_size, page_token)


def cancel_import(jobs: Jobs, name: str) -> Job:
    """Cancels a running import; one that has ended stays as it is."""
    return jobs.cancel(get_import(jobs, name).name)


def keep_import(resources: Resources, job: Job) -> None:
    """Makes the content of an import that went well the present one of its dataset. Idempotent."""
    result = import_result(job)
    if result is None:
        raise AssertionError(f"{job.name} completed without content")
    task = result.content.task

    def change(document: dict[str, object]) -> dict[str, object]:
        dataset = from_document(document, Dataset)
        return to_document(replace(dataset, current_import=job.name, task=task, claimed_import=""))

    resources.update(job.parent, change)


def earlier_name(jobs: Jobs, kind: str, parent: str, request: Request) -> str:
    """Name of the job that an earlier call with the same request id started; "" when there is none."""
    if not request.id:
        return ""
    return next((job.name for job in jobs.find(kind, parent=parent) if job.labels.get("request_id") == request.id), "")


def _claim(jobs: Jobs, resources: Resources, dataset: str, name: str) -> None:
    """Notes in the dataset which import runs, unless one does: one transaction, so also among several servers."""

    def change(document: dict[str, object]) -> dict[str, object]:
        known = from_document(document, Dataset)
        if known.claimed_import and _runs(jobs, known.claimed_import):
            message = f"{known.claimed_import} of this dataset is still running; cancel it or wait for its end"
            raise FailedPrecondition("IMPORT_RUNNING", message, name=known.claimed_import, dataset=dataset)
        return to_document(replace(known, claimed_import=name))

    resources.update(dataset, change)


def _runs(jobs: Jobs, name: str) -> bool:
    try:
        return not jobs.get(name).state.terminal
    except NotFound:
        return False


def _no_source(folders: LocalFolders, folder: LocalFolder, source: Blob) -> Blob:
    if source.uri:
        message = "dataset_import has a source and a local_folder; give one of them"
        raise InvalidArgument("SEVERAL_SOURCES", message, field="dataset_import.local_folder")
    folders.check(folder)
    return source


def _source(sources: Sources, source: Blob) -> Blob:
    """The source as the store knows it, whatever size the caller claims. Raises InvalidArgument, NotFound."""
    field = "dataset_import.source"
    if not source.uri:
        message = f"{field}.uri is empty; it names what was uploaded: artifact://namespace/sha256"
        raise InvalidArgument("SOURCE_REQUIRED", message, field=f"{field}.uri")
    _, sha256 = parse_uri(source.uri)
    if source.sha256 and source.sha256 != sha256:
        message = f"{field}.sha256 is {source.sha256!r}, but its uri names {sha256}"
        raise InvalidArgument("SHA256_MISMATCH", message, field=f"{field}.sha256", value=source.sha256, expected=sha256)
    return replace(sources.stat(source.uri), sha256=sha256)
