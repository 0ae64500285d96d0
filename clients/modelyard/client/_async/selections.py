"""Model selections: candidates that compete for a training time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from modelyard.client._async.resource import AsyncResource, OnChange
from modelyard.client._messages import duration
from modelyard.client.names import new_request_id
from modelyard.trainer.v1 import selection_pb2, selection_service_pb2, trainer_pb2

API: Final = "modelyard.trainer.v1.ModelSelectionService"


class AsyncModelSelections(AsyncResource):
    """Names may be short: the id of the selection."""

    service = "trainer"
    api = API

    async def create_model_selection(
        self,
        dataset_version: str,
        model: str,
        max_training_s: float,
        *,
        recipes: Sequence[trainer_pb2.Recipe] = (),
        target: str = "",
        max_inference_duration_ms: float = 0.0,
        max_size_bytes: int = 0,
        max_candidates: int = 0,
        hyperparameters: trainer_pb2.Hyperparameters | None = None,
        instance_flavor: str = "",
        model_selection_id: str = "",
        request_id: str = "",
    ) -> selection_pb2.ModelSelection:
        """Candidates (none given: the catalogue's) are measured on the target, set aside where they miss its limits, and compete
        for the training time; the best becomes a model version. Goes on when the client goes away."""
        job = trainer_pb2.TrainingJob(
            dataset_version=self.names.dataset_version(dataset_version),
            model=self.names.model(model),
            max_training_time=duration(max_training_s),
            instance_flavor=instance_flavor,
        )
        if hyperparameters is not None:
            job.recipe.hyperparameters.CopyFrom(hyperparameters)
        wanted = selection_pb2.ModelSelection(
            training_job=job,
            recipes=recipes,
            target=target,
            max_inference_duration_ms=max_inference_duration_ms,
            max_size_bytes=max_size_bytes,
            max_candidates=max_candidates,
        )
        request = selection_service_pb2.CreateModelSelectionRequest(
            parent=self.names.parent,
            model_selection=wanted,
            model_selection_id=model_selection_id,
            request_id=request_id or new_request_id(),
        )
        return await self._call("CreateModelSelection", request, selection_pb2.ModelSelection)

    async def get_model_selection(self, model_selection: str) -> selection_pb2.ModelSelection:
        request = selection_service_pb2.GetModelSelectionRequest(name=self.names.model_selection(model_selection))
        return await self._call("GetModelSelection", request, selection_pb2.ModelSelection)

    def list_model_selections(self, *, page_size: int = 0) -> AsyncIterator[selection_pb2.ModelSelection]:
        """Those of the project, newest first."""
        request = selection_service_pb2.ListModelSelectionsRequest(parent=self.names.parent, page_size=page_size)
        answer = selection_service_pb2.ListModelSelectionsResponse
        return self._items("ListModelSelections", request, answer, "model_selections")

    def watch_model_selection(
        self, model_selection: str, *, after_sequence: int = 0
    ) -> AsyncIterator[selection_service_pb2.WatchModelSelectionResponse]:
        """It now, then every change, until it ends."""
        request = selection_service_pb2.WatchModelSelectionRequest(
            name=self.names.model_selection(model_selection), after_sequence=after_sequence
        )
        return self._watch("WatchModelSelection", request, selection_service_pb2.WatchModelSelectionResponse, "model_selection")

    async def wait_model_selection(
        self, model_selection: str, timeout_s: float | None = None, on_change: OnChange | None = None
    ) -> selection_pb2.ModelSelection:
        """Waits for the end; `on_change` gets every WatchModelSelectionResponse. JobFailed, WaitTimeout."""
        name = self.names.model_selection(model_selection)
        request = selection_service_pb2.WatchModelSelectionRequest(name=name)
        answer = selection_service_pb2.WatchModelSelectionResponse
        return await self._wait(
            "WatchModelSelection",
            request,
            answer,
            "model_selection",
            lambda: self.get_model_selection(name),
            timeout_s,
            on_change,
        )

    async def stop_model_selection(self, model_selection: str) -> selection_pb2.ModelSelection:
        """Ends it early; the best model so far becomes the model version."""
        request = selection_service_pb2.StopModelSelectionRequest(name=self.names.model_selection(model_selection))
        return await self._call("StopModelSelection", request, selection_pb2.ModelSelection)

    async def cancel_model_selection(self, model_selection: str) -> selection_pb2.ModelSelection:
        """Ends it without a model version; what has been trained stays."""
        request = selection_service_pb2.CancelModelSelectionRequest(name=self.names.model_selection(model_selection))
        return await self._call("CancelModelSelection", request, selection_pb2.ModelSelection)
