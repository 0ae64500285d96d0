"""Exports and imported models: started here, made in their worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelyard.core import names
from modelyard.core.artifacts import Blob, parse_uri
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import InvalidArgument, NotFound
from modelyard.core.jobs.job import Job
from modelyard.core.requests import Request
from modelyard.exporter.domain.compression import check_measurable
from modelyard.exporter.domain.export import (
    DEFAULT_TRAINING_S,
    ExportResult,
    ExportSpec,
    Imported,
    Wish,
    check_imported,
    check_watched,
    complete,
    import_format,
    ready_descriptor,
)
from modelyard.exporter.ports import DatasetVersions, Jobs, ModelVersions, Targets, Uploads

KIND: Final = "Export"


@dataclass(frozen=True)
class Ports:
    """What exports need of the outside."""

    jobs: Jobs
    models: ModelVersions
    versions: DatasetVersions
    targets: Targets
    uploads: Uploads


def create_export(ports: Ports, parent: str, wish: Wish, request: Request) -> Job:
    """Starts the export of a model version.

    Raises InvalidArgument for a bad name, form, target or limit, NotFound, FailedPrecondition DATASET_VERSION_NOT_READY or
    LATENCY_UNMEASURED.
    """
    names.PROJECT.parse(parent, "parent")
    names.MODEL_VERSION.parse(wish.model_version, "export.model_version")
    target = ports.targets.find(parent, wish.target, "export.target")
    complete(wish, "image_classification", target)  # what is wrong for every task is said before others are asked
    model = ports.models.get(wish.model_version)
    wish = complete(wish, model.task, target)
    if wish.limits is not None:
        check_watched(wish.limits, model.task)
        check_measurable(wish.limits, target.unmeasured_reason)
    version = ports.versions.get(model.dataset_version)
    spec = ExportSpec(
        model_version=model.name,
        task=model.task,
        model_file=model.model_file,
        dataset_version=version.name,
        dataset_digest=version.digest,
        descriptor=ready_descriptor(version),
        format=wish.format,
        precision=wish.precision,
        target=target.id,
        quantization=wish.quantization,
        pruning=wish.pruning,
        limits=wish.limits,
        max_training_s=wish.max_training_s or DEFAULT_TRAINING_S,
        facts=target,
    )
    return _submit(ports.jobs, parent, spec, request)


def import_model(
    ports: Ports,
    parent: str,
    *,
    file: Blob,
    imported: Imported,
    task: str,
    dataset_version: str,
    target: str,
    request: Request,
) -> Job:
    """Starts taking in a model file from elsewhere.

    Raises InvalidArgument for what is said of it (see domain.export.check_imported), NotFound FILE_NOT_FOUND,
    FailedPrecondition DATASET_VERSION_NOT_READY.
    """
    names.PROJECT.parse(parent, "parent")
    names.DATASET_VERSION.parse(dataset_version, "imported_model.dataset_version")
    found = ports.targets.find(parent, target, "target")
    version = ports.versions.get(dataset_version)
    imported = check_imported(imported, task, version.task)
    spec = ExportSpec(
        model_version="",
        task=task,
        model_file=_uploaded(ports.uploads, file),
        dataset_version=version.name,
        dataset_digest=version.digest,
        descriptor=ready_descriptor(version),
        format=import_format(imported.file_name),
        precision="",
        target=found.id,
        facts=found,
        imported=imported,
    )
    return _submit(ports.jobs, parent, spec, request)


def _uploaded(uploads: Uploads, file: Blob) -> Blob:
    field = "imported_model.blob"
    if not file.uri:
        raise InvalidArgument("MISSING_FILE", "blob is empty; upload the model file first", field=field)
    try:
        parse_uri(file.uri)
    except InvalidArgument as error:
        raise InvalidArgument(error.reason, error.message, field=f"{field}.uri", uri=file.uri[:200]) from error
    if file.size_bytes <= 0:
        raise InvalidArgument(
            "EMPTY_FILE", f"blob.size_bytes is {file.size_bytes}; the file is empty", field=f"{field}.size_bytes"
        )
    if not uploads.exists(file):
        raise NotFound("FILE_NOT_FOUND", f"{file.uri} does not exist; upload the model file first", field=field, uri=file.uri)
    return file


def _submit(jobs: Jobs, parent: str, spec: ExportSpec, request: Request) -> Job:
    return jobs.submit(
        names.EXPORT.format(names.PROJECT.parse(parent)["project"], names.new_id()),
        KIND,
        parent=parent,
        spec=to_document(spec),
        request_id=request.id,
        method=request.method,
        fingerprint=request.fingerprint,
        instance_flavor=request.instance_flavor,
    )


def spec_of(job: Job) -> ExportSpec:
    """What was asked."""
    return from_document(job.spec, ExportSpec)


def result_of(job: Job) -> ExportResult | None:
    """What was made; None before it succeeded."""
    if not job.result or "artifact" not in job.result:
        return None
    return from_document(job.result, ExportResult)
