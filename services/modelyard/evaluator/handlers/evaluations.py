"""Evaluations: started here, scored in their worker."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from modelyard.core import names
from modelyard.core.documents import from_document, to_document
from modelyard.core.jobs.job import Job
from modelyard.core.requests import Request
from modelyard.evaluator.domain.evaluation import EvaluationResult, EvaluationSpec, choose_usages, plan
from modelyard.evaluator.ports import DatasetVersions, Exports, Jobs

KIND: Final = "Evaluation"


def create_evaluation(
    jobs: Jobs,
    exports: Exports,
    versions: DatasetVersions,
    *,
    parent: str,
    export: str,
    dataset_version: str,
    usages: tuple[str, ...],
    request: Request,
    slice_columns: tuple[str, ...] = (),
) -> Job:
    """Starts an evaluation of an export, on the dataset version named or the one its model was trained on.

    Raises InvalidArgument for a bad name, usage or slice column, NotFound, FailedPrecondition (see domain.evaluation.plan).
    """
    project = names.PROJECT.parse(parent, "parent")["project"]
    names.EXPORT.parse(export, "evaluation.export")
    if dataset_version:
        names.DATASET_VERSION.parse(dataset_version, "evaluation.dataset_version")
    choose_usages(usages)
    scored = exports.get(export)
    spec = plan(scored, versions.get(dataset_version or scored.dataset_version), usages, slice_columns)
    # The same request is the same evaluation, so that a call tried again is no second look at the test set.
    id_ = names.derived_id("e", request.id) if request.id else names.new_id()
    name = names.EVALUATION.format(project, id_)
    spec = replace(spec, descriptor=versions.use(spec.dataset_version, name, spec.usages))
    return jobs.submit(
        name,
        KIND,
        parent=parent,
        spec=to_document(spec),
        request_id=request.id,
        method=request.method,
        fingerprint=request.fingerprint,
        instance_flavor=request.instance_flavor,
    )


def spec_of(job: Job) -> EvaluationSpec:
    """What was asked."""
    return from_document(job.spec, EvaluationSpec)


def result_of(job: Job) -> EvaluationResult | None:
    """What was found; None before it succeeded."""
    if not job.result or "results" not in job.result:
        return None
    return from_document(job.result, EvaluationResult)
