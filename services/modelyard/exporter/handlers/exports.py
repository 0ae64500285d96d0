"""Exports: started here, made in their worker."""

from __future__ import annotations

from typing import Final

from modelyard.core import names
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import InvalidArgument
from modelyard.core.jobs.job import Job
from modelyard.core.requests import Request
from modelyard.exporter.domain.export import FORMATS, PRECISIONS, ExportResult, ExportSpec, check_target, ready_descriptor
from modelyard.exporter.ports import DatasetVersions, Jobs, ModelVersions

KIND: Final = "Export"


def create_export(
    jobs: Jobs,
    models: ModelVersions,
    versions: DatasetVersions,
    *,
    parent: str,
    model_version: str,
    format: str,
    precision: str,
    target: str,
    request: Request,
) -> Job:
    """Starts the export of a model version.

    Raises InvalidArgument for a bad name, format, precision or target, NotFound, FailedPrecondition DATASET_VERSION_NOT_READY.
    """
    project = names.PROJECT.parse(parent, "parent")["project"]
    names.MODEL_VERSION.parse(model_version, "export.model_version")
    _check_one_of(format, FORMATS, "export.format")
    _check_one_of(precision, PRECISIONS, "export.precision")
    target = check_target(target, "export.target")
    model = models.get(model_version)
    version = versions.get(model.dataset_version)
    spec = ExportSpec(
        model_version=model.name,
        task=model.task,
        model_file=model.model_file,
        dataset_version=version.name,
        dataset_digest=version.digest,
        descriptor=ready_descriptor(version),
        format=format,
        precision=precision,
        target=target,
    )
    return jobs.submit(
        names.EXPORT.format(project, names.new_id()),
        KIND,
        parent=parent,
        spec=to_document(spec),
        request_id=request.id,
        method=request.method,
        fingerprint=request.fingerprint,
    )


def spec_of(job: Job) -> ExportSpec:
    """What was asked."""
    return from_document(job.spec, ExportSpec)


def result_of(job: Job) -> ExportResult | None:
    """What was made; None before it succeeded."""
    if not job.result or "artifact" not in job.result:
        return None
    return from_document(job.result, ExportResult)


def _check_one_of(value: str, known: tuple[str, ...], field: str) -> None:
    if value not in known:
        message = f"{field} is {value!r:.80}; this version of Modelyard makes {', '.join(known)}"
        raise InvalidArgument("UNSUPPORTED_EXPORT", message, field=field, value=value[:80])
