"""What follows a training that went well: its model version."""

from __future__ import annotations

from modelyard.core.jobs.job import Job
from modelyard.recipes.recipe import recipe_document
from modelyard.trainer.domain.model import ModelVersion
from modelyard.trainer.domain.training_job import TrainingResult, TrainingSpec, result_from, spec_from
from modelyard.trainer.handlers.models import keep_version
from modelyard.trainer.ports import Resources


def keep_trained_model(resources: Resources, job: Job) -> dict[str, str]:
    """Makes the job's model version; gives what the job's result gains. Asked again it gives the same version.

    A job that is there to be measured makes none.
    """
    return {} if spec_from(job.spec).measure_only else {"model_version": keep_model_of(resources, job)}


def keep_model_of(resources: Resources, job: Job) -> str:
    """The model version of a job that ended well, also of one that was there to be measured: its name. The same again when asked
    again."""
    spec, result = spec_from(job.spec), result_from(job.result or {})
    return keep_version(resources, spec.model, _version_of(job.name, spec, result))


def _version_of(training_job: str, spec: TrainingSpec, result: TrainingResult) -> ModelVersion:
    return ModelVersion(
        training_job=training_job,
        dataset_version=spec.dataset_version,
        dataset_digest=spec.dataset_digest,
        task=spec.recipe.task,
        recipe=recipe_document(result.recipe),
        model_file=result.model_file,
        classes=spec.classes,
        training_metrics=result.metrics,
        parameter_count=result.parameter_count,
        parent_version=spec.warm_start.model_version if spec.warm_start else "",
    )
