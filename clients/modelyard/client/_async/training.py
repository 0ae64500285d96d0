"""Training jobs, recipes, models and model versions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from google.protobuf.field_mask_pb2 import FieldMask

from modelyard.client._async.resource import AsyncResource, OnChange
from modelyard.client._messages import EMPTY, duration
from modelyard.client.drawing.curves import Curves
from modelyard.client.enums import enum_number
from modelyard.client.names import new_request_id
from modelyard.trainer.v1 import recipe_preview_pb2, trainer_pb2, trainer_service_pb2
from modelyard.type.v1 import learning_pb2


class AsyncTraining(AsyncResource):
    """Training jobs and recipes. Names may be short: the job's id."""

    service = "trainer"

    async def create_training_job(
        self,
        training_job: trainer_pb2.TrainingJob | None = None,
        *,
        dataset_version: str = "",
        model: str = "",
        recipe: trainer_pb2.Recipe | str | None = None,
        hyperparameters: trainer_pb2.Hyperparameters | None = None,
        max_training_time_s: float | None = None,
        resume_from: str = "",
        checkpoint: trainer_pb2.CheckpointKind.ValueType | str = "",
        warm_start_model_version: str = "",
        display_name: str = "",
        instance_flavor: str = "",
        repeat_reason: str = "",
        tags: Sequence[str] = (),
        training_job_id: str = "",
        request_id: str = "",
    ) -> trainer_pb2.TrainingJob:
        """Starts a training job, given as a message, or by keywords; it goes on when the client goes away.

        recipe: a message or a recipe's id; empty: the service chooses.
        hyperparameters: what differs from the recipe's own.
        resume_from: a training job to go on from, at its `checkpoint` ("last", "best").
        warm_start_model_version: start from its weights; `flowers/best` is the version with the best validation metric.
        repeat_reason: why an experiment that exists is run again; without it such a job is refused with AlreadyExists
            EXPERIMENT_REPEATED.
        tags: words to find it by.
        instance_flavor: size of machine, see `client.jobs.list_instance_flavors`.
        """
        job = training_job or self._job(dataset_version, model, recipe, hyperparameters, display_name)
        if instance_flavor:
            job.instance_flavor = instance_flavor
        if repeat_reason:
            job.repeat_reason = repeat_reason
        job.tags.extend(tags)
        if max_training_time_s is not None:
            job.max_training_time.CopyFrom(duration(max_training_time_s))
        if resume_from:
            kind = enum_number(trainer_pb2.CheckpointKind, checkpoint, "training_job.resume_from.checkpoint")
            job.resume_from.CopyFrom(trainer_pb2.ResumeFrom(training_job=self.names.training_job(resume_from), checkpoint=kind))
        if warm_start_model_version:
            job.warm_start_model_version = self.names.model_version(warm_start_model_version)
        request = trainer_service_pb2.CreateTrainingJobRequest(
            parent=self.names.parent,
            training_job=job,
            training_job_id=training_job_id,
            request_id=request_id or new_request_id(),
        )
        return await self._call("CreateTrainingJob", request, trainer_pb2.TrainingJob)

    def _job(
        self,
        dataset_version: str,
        model: str,
        recipe: trainer_pb2.Recipe | str | None,
        hyperparameters: trainer_pb2.Hyperparameters | None,
        display_name: str,
    ) -> trainer_pb2.TrainingJob:
        job = trainer_pb2.TrainingJob(
            dataset_version=self.names.dataset_version(dataset_version), model=self.names.model(model), display_name=display_name
        )
        if recipe:
            job.recipe.CopyFrom(trainer_pb2.Recipe(recipe_id=recipe) if isinstance(recipe, str) else recipe)
        if hyperparameters is not None:
            job.recipe.hyperparameters.MergeFrom(hyperparameters)
        return job

    async def get_training_job(self, training_job: str) -> trainer_pb2.TrainingJob:
        request = trainer_service_pb2.GetTrainingJobRequest(name=self.names.training_job(training_job))
        return await self._call("GetTrainingJob", request, trainer_pb2.TrainingJob)

    def list_training_jobs(
        self,
        *,
        dataset: str = "",
        model: str = "",
        task: learning_pb2.Task.ValueType | str = "",
        tag: str = "",
        text: str = "",
        experiment: str = "",
        order_by: str = "",
        show_parts: bool = False,
        skip: int = 0,
        page_size: int = 0,
    ) -> AsyncIterator[trainer_pb2.TrainingJob]:
        """The training jobs of the project, newest first; those that every given word lets through, but for the first `skip`.

        dataset: `flowers`, or one of its versions, `flowers/V002`. text: stands in id, name, recipe, tags, notes or remarks.
        order_by: a validation metric; the best come first. show_parts: also steps of advised trainings and cross-validations.
        """
        about = (self.names.dataset_version(dataset) if "/versions/" in dataset or dataset.count("/") == 1 else "") or (
            self.names.dataset(dataset) if dataset else ""
        )
        request = trainer_service_pb2.ListTrainingJobsRequest(
            parent=self.names.parent,
            page_size=page_size,
            dataset=about,
            model=self.names.model(model) if model else "",
            task=enum_number(learning_pb2.Task, task, "task"),
            tag=tag,
            text=text,
            experiment=experiment,
            order_by=order_by,
            show_parts=show_parts,
            skip=skip,
        )
        return self._items("ListTrainingJobs", request, trainer_service_pb2.ListTrainingJobsResponse, "training_jobs")

    async def curves(self, training_job: str) -> Curves:
        """Its curves so far (at most 200 points, spread over the run), which a notebook draws."""
        compared = await self.compare_training_jobs([training_job])
        return Curves(compared.jobs[0].points)

    def watch_training_job(
        self, training_job: str, *, after_sequence: int = 0
    ) -> AsyncIterator[trainer_service_pb2.WatchTrainingJobResponse]:
        """The job now, then its curve point by point and every change of state, until it ends."""
        request = trainer_service_pb2.WatchTrainingJobRequest(
            name=self.names.training_job(training_job), after_sequence=after_sequence
        )
        return self._watch("WatchTrainingJob", request, trainer_service_pb2.WatchTrainingJobResponse, "training_job")

    async def wait_training_job(
        self, training_job: str, timeout_s: float | None = None, on_change: OnChange | None = None
    ) -> trainer_pb2.TrainingJob:
        """Waits for the end; `on_change` gets every WatchTrainingJobResponse. JobFailed, WaitTimeout."""
        name = self.names.training_job(training_job)
        request = trainer_service_pb2.WatchTrainingJobRequest(name=name)
        answer = trainer_service_pb2.WatchTrainingJobResponse
        return await self._wait(
            "WatchTrainingJob", request, answer, "training_job", lambda: self.get_training_job(name), timeout_s, on_change
        )

    async def stop_training_job(self, training_job: str) -> trainer_pb2.TrainingJob:
        """Ends it early and keeps its best model: it succeeds with reason STOPPED."""
        request = trainer_service_pb2.StopTrainingJobRequest(name=self.names.training_job(training_job))
        return await self._call("StopTrainingJob", request, trainer_pb2.TrainingJob)

    async def cancel_training_job(self, training_job: str) -> trainer_pb2.TrainingJob:
        """Ends it early without a model version; its checkpoints stay."""
        request = trainer_service_pb2.CancelTrainingJobRequest(name=self.names.training_job(training_job))
        return await self._call("CancelTrainingJob", request, trainer_pb2.TrainingJob)

    async def delete_training_job(self, training_job: str) -> None:
        """Deletes a job that ended, with its checkpoints; model versions stay."""
        request = trainer_service_pb2.DeleteTrainingJobRequest(name=self.names.training_job(training_job))
        await self._call("DeleteTrainingJob", request, EMPTY)

    async def set_training_tags(self, training_job: str, tags: Sequence[str]) -> trainer_pb2.TrainingJob:
        """Replaces the tags of a job."""
        job = trainer_pb2.TrainingJob(name=self.names.training_job(training_job), tags=tags)
        request = trainer_service_pb2.UpdateTrainingJobRequest(training_job=job, update_mask=FieldMask(paths=["tags"]))
        return await self._call("UpdateTrainingJob", request, trainer_pb2.TrainingJob)

    async def add_training_remark(self, training_job: str, text: str) -> trainer_pb2.TrainingJob:
        """Writes down a remark about a job, with author and time."""
        request = trainer_service_pb2.AddTrainingRemarkRequest(name=self.names.training_job(training_job), text=text)
        return await self._call("AddTrainingRemark", request, trainer_pb2.TrainingJob)

    async def compare_training_jobs(self, training_jobs: Sequence[str]) -> trainer_service_pb2.CompareTrainingJobsResponse:
        """Puts jobs side by side; the first is what the others are compared with."""
        request = trainer_service_pb2.CompareTrainingJobsRequest(
            parent=self.names.parent, names=[self.names.training_job(name) for name in training_jobs]
        )
        return await self._call("CompareTrainingJobs", request, trainer_service_pb2.CompareTrainingJobsResponse)

    async def list_recipes(self, task: learning_pb2.Task.ValueType | str = "") -> list[trainer_pb2.Recipe]:
        """The recipes of the catalogue, the most accurate first."""
        request = trainer_service_pb2.ListRecipesRequest(task=enum_number(learning_pb2.Task, task, "task"))
        answer = await self._call("ListRecipes", request, trainer_service_pb2.ListRecipesResponse)
        return list(answer.recipes)

    async def suggest_recipes(self, dataset_version: str, *, sizes: bool = False) -> list[trainer_pb2.Recipe]:
        """The recipes that fit a dataset version, the most accurate first; sizes: some at several input sizes."""
        name = self.names.dataset_version(dataset_version)
        request = trainer_service_pb2.SuggestRecipesRequest(dataset_version=name, sizes=sizes)
        answer = await self._call("SuggestRecipes", request, trainer_service_pb2.SuggestRecipesResponse)
        return list(answer.recipes)

    async def create_recipe_preview(
        self,
        dataset_version: str,
        recipe: trainer_pb2.Recipe | str | None = None,
        *,
        example_count: int = 0,
        variant_count: int = 0,
        recipe_preview_id: str = "",
        request_id: str = "",
    ) -> recipe_preview_pb2.RecipePreview:
        """Shows what a recipe makes of some training examples: its features, or its augmentation.

        recipe: a message or a recipe's id; empty: the service chooses. example_count: 1 to 64, 0: 8. variant_count: changed
        versions of each picture, sound or series, 1 to 8, 0: 3.
        """
        wanted = recipe_preview_pb2.RecipePreview(
            dataset_version=self.names.dataset_version(dataset_version), example_count=example_count, variant_count=variant_count
        )
        if recipe:
            wanted.recipe.CopyFrom(trainer_pb2.Recipe(recipe_id=recipe) if isinstance(recipe, str) else recipe)
        request = trainer_service_pb2.CreateRecipePreviewRequest(
            parent=self.names.parent,
            recipe_preview=wanted,
            recipe_preview_id=recipe_preview_id,
            request_id=request_id or new_request_id(),
        )
        return await self._call("CreateRecipePreview", request, recipe_preview_pb2.RecipePreview)

    async def get_recipe_preview(self, recipe_preview: str) -> recipe_preview_pb2.RecipePreview:
        request = trainer_service_pb2.GetRecipePreviewRequest(name=self.names.recipe_preview(recipe_preview))
        return await self._call("GetRecipePreview", request, recipe_preview_pb2.RecipePreview)

    def list_recipe_previews(self, *, page_size: int = 0) -> AsyncIterator[recipe_preview_pb2.RecipePreview]:
        """Those of the project, newest first."""
        request = trainer_service_pb2.ListRecipePreviewsRequest(parent=self.names.parent, page_size=page_size)
        return self._items("ListRecipePreviews", request, trainer_service_pb2.ListRecipePreviewsResponse, "recipe_previews")

    def watch_recipe_preview(
        self, recipe_preview: str, *, after_sequence: int = 0
    ) -> AsyncIterator[trainer_service_pb2.WatchRecipePreviewResponse]:
        """It now, then every change, until it ends."""
        request = trainer_service_pb2.WatchRecipePreviewRequest(
            name=self.names.recipe_preview(recipe_preview), after_sequence=after_sequence
        )
        return self._watch("WatchRecipePreview", request, trainer_service_pb2.WatchRecipePreviewResponse, "recipe_preview")

    async def wait_recipe_preview(
        self, recipe_preview: str, timeout_s: float | None = None, on_change: OnChange | None = None
    ) -> recipe_preview_pb2.RecipePreview:
        """Waits for the end; `on_change` gets every WatchRecipePreviewResponse. JobFailed, WaitTimeout."""
        name = self.names.recipe_preview(recipe_preview)
        request = trainer_service_pb2.WatchRecipePreviewRequest(name=name)
        answer = trainer_service_pb2.WatchRecipePreviewResponse
        return await self._wait(
            "WatchRecipePreview", request, answer, "recipe_preview", lambda: self.get_recipe_preview(name), timeout_s, on_change
        )

    async def cancel_recipe_preview(self, recipe_preview: str) -> recipe_preview_pb2.RecipePreview:
        """Ends it."""
        request = trainer_service_pb2.CancelRecipePreviewRequest(name=self.names.recipe_preview(recipe_preview))
        return await self._call("CancelRecipePreview", request, recipe_preview_pb2.RecipePreview)


class AsyncModels(AsyncResource):
    """Models and their versions. Names may be short: `flowers`, `flowers/V002`."""

    service = "trainer"

    async def get_model(self, model: str) -> trainer_pb2.Model:
        request = trainer_service_pb2.GetModelRequest(name=self.names.model(model))
        return await self._call("GetModel", request, trainer_pb2.Model)

    def list_models(self, *, page_size: int = 0) -> AsyncIterator[trainer_pb2.Model]:
        """All models of the project, newest first."""
        request = trainer_service_pb2.ListModelsRequest(parent=self.names.parent, page_size=page_size)
        return self._items("ListModels", request, trainer_service_pb2.ListModelsResponse, "models")

    async def update_model(self, model: trainer_pb2.Model, update_mask: Sequence[str] = ()) -> trainer_pb2.Model:
        """Changes display_name or description. Aborted when a set etag does not match."""
        request = trainer_service_pb2.UpdateModelRequest(model=model, update_mask=FieldMask(paths=update_mask))
        return await self._call("UpdateModel", request, trainer_pb2.Model)

    async def get_model_version(self, model_version: str) -> trainer_pb2.ModelVersion:
        """`flowers/V002`; `flowers` or `flowers/latest` is the newest."""
        request = trainer_service_pb2.GetModelVersionRequest(name=self.names.model_version(model_version))
        return await self._call("GetModelVersion", request, trainer_pb2.ModelVersion)

    def list_model_versions(self, model: str, *, page_size: int = 0) -> AsyncIterator[trainer_pb2.ModelVersion]:
        request = trainer_service_pb2.ListModelVersionsRequest(parent=self.names.model(model), page_size=page_size)
        return self._items("ListModelVersions", request, trainer_service_pb2.ListModelVersionsResponse, "model_versions")

    async def update_model_version(
        self, model_version: trainer_pb2.ModelVersion, update_mask: Sequence[str] = ()
    ) -> trainer_pb2.ModelVersion:
        """Changes the description. Aborted when a set etag does not match."""
        request = trainer_service_pb2.UpdateModelVersionRequest(
            model_version=model_version, update_mask=FieldMask(paths=update_mask)
        )
        return await self._call("UpdateModelVersion", request, trainer_pb2.ModelVersion)

    async def delete_model_version(self, model_version: str) -> None:
        """Deletes a version; its exports and deployments stay."""
        request = trainer_service_pb2.DeleteModelVersionRequest(name=self.names.model_version(model_version))
        await self._call("DeleteModelVersion", request, EMPTY)
