"""Advice on training jobs, trainings that follow it, and cross-validations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from modelyard.client._async.resource import AsyncResource, OnChange
from modelyard.client._messages import duration
from modelyard.client.names import new_request_id
from modelyard.trainer.v1 import advice_pb2, advice_service_pb2, trainer_pb2

API: Final = "modelyard.trainer.v1.AdvisorService"


class AsyncAdvisor(AsyncResource):
    """Names may be short: the id of the job, the advised training, the cross-validation."""

    service = "trainer"
    api = API

    async def advise(self, training_job: str, *, short_run_steps: int = 0, short_run_share: float = 0.0) -> advice_pb2.Advice:
        """Which case a run is, by what evidence, and what to try next. Starts nothing."""
        request = advice_service_pb2.AdviseTrainingJobRequest(
            name=self.names.training_job(training_job), short_run_steps=short_run_steps, short_run_share=short_run_share
        )
        return await self._call("AdviseTrainingJob", request, advice_pb2.Advice)

    async def create_advised_training(
        self,
        training_job: str,
        budget_s: float,
        *,
        short_run_steps: int = 0,
        short_run_share: float = 0.0,
        baseline_runs: int = 0,
        max_steps: int = 0,
        advised_training_id: str = "",
        request_id: str = "",
    ) -> advice_pb2.AdvisedTraining:
        """Takes the advisor's steps from a job that has ended, inside a budget; goes on when the client goes away."""
        wanted = advice_pb2.AdvisedTraining(
            training_job=self.names.training_job(training_job),
            budget=duration(budget_s),
            short_run_steps=short_run_steps,
            short_run_share=short_run_share,
            baseline_runs=baseline_runs,
            max_steps=max_steps,
        )
        request = advice_service_pb2.CreateAdvisedTrainingRequest(
            parent=self.names.parent,
            advised_training=wanted,
            advised_training_id=advised_training_id,
            request_id=request_id or new_request_id(),
        )
        return await self._call("CreateAdvisedTraining", request, advice_pb2.AdvisedTraining)

    async def get_advised_training(self, advised_training: str) -> advice_pb2.AdvisedTraining:
        request = advice_service_pb2.GetAdvisedTrainingRequest(name=self.names.advised_training(advised_training))
        return await self._call("GetAdvisedTraining", request, advice_pb2.AdvisedTraining)

    def list_advised_trainings(self, *, page_size: int = 0) -> AsyncIterator[advice_pb2.AdvisedTraining]:
        """Those of the project, newest first."""
        request = advice_service_pb2.ListAdvisedTrainingsRequest(parent=self.names.parent, page_size=page_size)
        answer = advice_service_pb2.ListAdvisedTrainingsResponse
        return self._items("ListAdvisedTrainings", request, answer, "advised_trainings")

    def watch_advised_training(
        self, advised_training: str, *, after_sequence: int = 0
    ) -> AsyncIterator[advice_service_pb2.WatchAdvisedTrainingResponse]:
        """It now, then every change, until it ends."""
        request = advice_service_pb2.WatchAdvisedTrainingRequest(
            name=self.names.advised_training(advised_training), after_sequence=after_sequence
        )
        return self._watch("WatchAdvisedTraining", request, advice_service_pb2.WatchAdvisedTrainingResponse, "advised_training")

    async def wait_advised_training(
        self, advised_training: str, timeout_s: float | None = None, on_change: OnChange | None = None
    ) -> advice_pb2.AdvisedTraining:
        """Waits for the end; `on_change` gets every WatchAdvisedTrainingResponse. JobFailed, WaitTimeout."""
        name = self.names.advised_training(advised_training)
        request = advice_service_pb2.WatchAdvisedTrainingRequest(name=name)
        answer = advice_service_pb2.WatchAdvisedTrainingResponse
        return await self._wait(
            "WatchAdvisedTraining",
            request,
            answer,
            "advised_training",
            lambda: self.get_advised_training(name),
            timeout_s,
            on_change,
        )

    async def cancel_advised_training(self, advised_training: str) -> advice_pb2.AdvisedTraining:
        """Ends it; what has been trained stays."""
        request = advice_service_pb2.CancelAdvisedTrainingRequest(name=self.names.advised_training(advised_training))
        return await self._call("CancelAdvisedTraining", request, advice_pb2.AdvisedTraining)

    async def create_cross_validation(
        self,
        training_job: trainer_pb2.TrainingJob,
        *,
        folds: int = 0,
        repeats: int = 0,
        group_by: str = "",
        cross_validation_id: str = "",
        request_id: str = "",
    ) -> advice_pb2.CrossValidation:
        """Trains the job's recipe on several folds (0: with other seeds only). Names inside the message are full names."""
        wanted = advice_pb2.CrossValidation(training_job=training_job, folds=folds, repeats=repeats, group_by=group_by)
        request = advice_service_pb2.CreateCrossValidationRequest(
            parent=self.names.parent,
            cross_validation=wanted,
            cross_validation_id=cross_validation_id,
            request_id=request_id or new_request_id(),
        )
        return await self._call("CreateCrossValidation", request, advice_pb2.CrossValidation)

    async def get_cross_validation(self, cross_validation: str) -> advice_pb2.CrossValidation:
        request = advice_service_pb2.GetCrossValidationRequest(name=self.names.cross_validation(cross_validation))
        return await self._call("GetCrossValidation", request, advice_pb2.CrossValidation)

    def list_cross_validations(self, *, skip: int = 0, page_size: int = 0) -> AsyncIterator[advice_pb2.CrossValidation]:
        """Those of the project, newest first, but for the first `skip`."""
        request = advice_service_pb2.ListCrossValidationsRequest(parent=self.names.parent, skip=skip, page_size=page_size)
        answer = advice_service_pb2.ListCrossValidationsResponse
        return self._items("ListCrossValidations", request, answer, "cross_validations")

    def watch_cross_validation(
        self, cross_validation: str, *, after_sequence: int = 0
    ) -> AsyncIterator[advice_service_pb2.WatchCrossValidationResponse]:
        """It now, then every change, until it ends."""
        request = advice_service_pb2.WatchCrossValidationRequest(
            name=self.names.cross_validation(cross_validation), after_sequence=after_sequence
        )
        return self._watch("WatchCrossValidation", request, advice_service_pb2.WatchCrossValidationResponse, "cross_validation")

    async def wait_cross_validation(
        self, cross_validation: str, timeout_s: float | None = None, on_change: OnChange | None = None
    ) -> advice_pb2.CrossValidation:
        """Waits for the end; `on_change` gets every WatchCrossValidationResponse. JobFailed, WaitTimeout."""
        name = self.names.cross_validation(cross_validation)
        request = advice_service_pb2.WatchCrossValidationRequest(name=name)
        answer = advice_service_pb2.WatchCrossValidationResponse
        return await self._wait(
            "WatchCrossValidation",
            request,
            answer,
            "cross_validation",
            lambda: self.get_cross_validation(name),
            timeout_s,
            on_change,
        )

    async def cancel_cross_validation(self, cross_validation: str) -> advice_pb2.CrossValidation:
        """Ends it; the runs that ended stay."""
        request = advice_service_pb2.CancelCrossValidationRequest(name=self.names.cross_validation(cross_validation))
        return await self._call("CancelCrossValidation", request, advice_pb2.CrossValidation)
