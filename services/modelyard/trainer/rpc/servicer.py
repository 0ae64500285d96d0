"""modelyard.trainer.v1.TrainerService: convert, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from google.protobuf import empty_pb2

from modelyard.core import names
from modelyard.core.access.guard import CALLER
from modelyard.core.jobs.job import JobChange
from modelyard.core.requests import Request
from modelyard.core.rpc.requests import fingerprint, mask_paths
from modelyard.trainer.handlers import ledger, models, recipe_previews, recipes, search, training_jobs
from modelyard.trainer.ports import Datasets, Jobs, Resources
from modelyard.trainer.rpc import convert, convert_ledger, convert_preview
from modelyard.trainer.v1 import recipe_preview_pb2 as preview_pb
from modelyard.trainer.v1 import trainer_pb2 as pb
from modelyard.trainer.v1 import trainer_service_pb2 as service_pb
from modelyard.trainer.v1 import trainer_service_pb2_grpc as rpc

_MODEL_FIELDS = {"display_name", "description"}
_VERSION_FIELDS = {"description"}
_JOB_FIELDS = {"tags"}


class Watch(Protocol):
    """Follows a job (core.jobs.engine.JobEngine.watch)."""

    def __call__(self, name: str, after_sequence: int = 0) -> AsyncIterator[JobChange]:
        """The job now, then every change with its events, until it ends."""


class TrainerServicer(rpc.TrainerServiceServicer):
    """The servicer over its handlers."""

    def __init__(self, jobs: Jobs, resources: Resources, datasets: Datasets, watch: Watch) -> None:
        self._jobs = jobs
        self._resources = resources
        self._datasets = datasets
        self._watch = watch

    def CreateTrainingJob(self, request: service_pb.CreateTrainingJobRequest, context: Any) -> pb.TrainingJob:
        new = convert.new_training_job(request, fingerprint(request))
        return convert.training_job_message(training_jobs.create_training_job(self._jobs, self._datasets, self._resources, new))

    def GetTrainingJob(self, request: service_pb.GetTrainingJobRequest, context: Any) -> pb.TrainingJob:
        return convert.training_job_message(training_jobs.get_training_job(self._jobs, request.name))

    def ListTrainingJobs(self, request: service_pb.ListTrainingJobsRequest, context: Any) -> service_pb.ListTrainingJobsResponse:
        wanted = convert_ledger.filter_from(request)
        page = search.list_training_jobs(self._jobs, request.parent, wanted, request.page_size, request.page_token, request.skip)
        found = [convert.training_job_message(job) for job in page.items]
        return service_pb.ListTrainingJobsResponse(training_jobs=found, next_page_token=page.next_page_token)

    async def WatchTrainingJob(
        self, request: service_pb.WatchTrainingJobRequest, context: Any
    ) -> AsyncIterator[service_pb.WatchTrainingJobResponse]:
        training_jobs.check_watchable(request.name)
        async for change in self._watch(request.name, request.after_sequence):
            yield convert.watch_response(change)

    def StopTrainingJob(self, request: service_pb.StopTrainingJobRequest, context: Any) -> pb.TrainingJob:
        return convert.training_job_message(training_jobs.stop_training_job(self._jobs, request.name))

    def CancelTrainingJob(self, request: service_pb.CancelTrainingJobRequest, context: Any) -> pb.TrainingJob:
        return convert.training_job_message(training_jobs.cancel_training_job(self._jobs, request.name))

    def DeleteTrainingJob(self, request: service_pb.DeleteTrainingJobRequest, context: Any) -> empty_pb2.Empty:
        training_jobs.delete_training_job(self._jobs, self._resources, request.name)
        return empty_pb2.Empty()

    def UpdateTrainingJob(self, request: service_pb.UpdateTrainingJobRequest, context: Any) -> pb.TrainingJob:
        job = training_jobs.get_training_job(self._jobs, request.training_job.name, "training_job.name")
        if mask_paths(request.update_mask, _JOB_FIELDS) and (request.update_mask.paths or request.training_job.tags):
            job = ledger.set_tags(self._jobs, job.name, request.training_job.tags)
        return convert.training_job_message(job)

    def AddTrainingRemark(self, request: service_pb.AddTrainingRemarkRequest, context: Any) -> pb.TrainingJob:
        training_jobs.get_training_job(self._jobs, request.name)
        return convert.training_job_message(ledger.add_remark(self._jobs, request.name, request.text, CALLER.get().name))

    def CompareTrainingJobs(
        self, request: service_pb.CompareTrainingJobsRequest, context: Any
    ) -> service_pb.CompareTrainingJobsResponse:
        found = search.compare_training_jobs(self._jobs, self._resources, request.parent, request.names)
        return convert_ledger.comparison_message(found)

    def ListRecipes(self, request: service_pb.ListRecipesRequest, context: Any) -> service_pb.ListRecipesResponse:
        found = recipes.list_recipes(convert.task_name(request.task, "task"))
        return service_pb.ListRecipesResponse(recipes=[convert.recipe_message(recipe) for recipe in found])

    def SuggestRecipes(self, request: service_pb.SuggestRecipesRequest, context: Any) -> service_pb.SuggestRecipesResponse:
        found = recipes.suggest_recipes(self._datasets, request.dataset_version, sizes=request.sizes)
        return service_pb.SuggestRecipesResponse(recipes=[convert.recipe_message(recipe) for recipe in found])

    def CreateRecipePreview(self, request: service_pb.CreateRecipePreviewRequest, context: Any) -> preview_pb.RecipePreview:
        wanted = request.recipe_preview
        job = recipe_previews.create_recipe_preview(
            self._jobs,
            self._datasets,
            request.parent,
            request.recipe_preview_id,
            wanted.dataset_version,
            convert_preview.preview_recipe(wanted),
            (wanted.example_count, wanted.variant_count),
            Request(request.request_id, "CreateRecipePreview", fingerprint(request)),
        )
        return convert_preview.preview_message(job)

    def GetRecipePreview(self, request: service_pb.GetRecipePreviewRequest, context: Any) -> preview_pb.RecipePreview:
        return convert_preview.preview_message(recipe_previews.get_recipe_preview(self._jobs, request.name))

    def ListRecipePreviews(
        self, request: service_pb.ListRecipePreviewsRequest, context: Any
    ) -> service_pb.ListRecipePreviewsResponse:
        page = recipe_previews.list_recipe_previews(self._jobs, request.parent, request.page_size, request.page_token)
        found = [convert_preview.preview_message(job) for job in page.items]
        return service_pb.ListRecipePreviewsResponse(recipe_previews=found, next_page_token=page.next_page_token)

    async def WatchRecipePreview(
        self, request: service_pb.WatchRecipePreviewRequest, context: Any
    ) -> AsyncIterator[service_pb.WatchRecipePreviewResponse]:
        names.RECIPE_PREVIEW.parse(request.name)
        async for change in self._watch(request.name, request.after_sequence):
            shown = convert_preview.preview_message(change.job)
            yield service_pb.WatchRecipePreviewResponse(sequence=change.sequence, recipe_preview=shown)

    def CancelRecipePreview(self, request: service_pb.CancelRecipePreviewRequest, context: Any) -> preview_pb.RecipePreview:
        job = recipe_previews.get_recipe_preview(self._jobs, request.name)
        return convert_preview.preview_message(self._jobs.cancel(job.name))

    def GetModel(self, request: service_pb.GetModelRequest, context: Any) -> pb.Model:
        return convert.model_message(models.get_model(self._resources, request.name))

    def ListModels(self, request: service_pb.ListModelsRequest, context: Any) -> service_pb.ListModelsResponse:
        page = models.list_models(self._resources, request.parent, request.page_size, request.page_token)
        found = [convert.model_message(item) for item in page.items]
        return service_pb.ListModelsResponse(models=found, next_page_token=page.next_page_token)

    def UpdateModel(self, request: service_pb.UpdateModelRequest, context: Any) -> pb.Model:
        allowed = mask_paths(request.update_mask, _MODEL_FIELDS)
        values = convert.changes(request.model, request.update_mask.paths, allowed)
        return convert.model_message(models.update_model(self._resources, request.model.name, values, request.model.etag))

    def GetModelVersion(self, request: service_pb.GetModelVersionRequest, context: Any) -> pb.ModelVersion:
        return convert.model_version_message(models.get_model_version(self._resources, request.name))

    def ListModelVersions(
        self, request: service_pb.ListModelVersionsRequest, context: Any
    ) -> service_pb.ListModelVersionsResponse:
        page = models.list_model_versions(self._resources, request.parent, request.page_size, request.page_token)
        found = [convert.model_version_message(item) for item in page.items]
        return service_pb.ListModelVersionsResponse(model_versions=found, next_page_token=page.next_page_token)

    def UpdateModelVersion(self, request: service_pb.UpdateModelVersionRequest, context: Any) -> pb.ModelVersion:
        version = request.model_version
        allowed = mask_paths(request.update_mask, _VERSION_FIELDS)
        values = convert.changes(version, request.update_mask.paths, allowed)
        updated = models.update_model_version(self._resources, version.name, values, version.etag)
        return convert.model_version_message(updated)

    def DeleteModelVersion(self, request: service_pb.DeleteModelVersionRequest, context: Any) -> empty_pb2.Empty:
        models.delete_model_version(self._resources, request.name)
        return empty_pb2.Empty()
