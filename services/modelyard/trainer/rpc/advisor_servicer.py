"""modelyard.trainer.v1.AdvisorService: convert, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from modelyard.core import names
from modelyard.core.errors import ModelyardError
from modelyard.core.jobs.job import Job
from modelyard.core.requests import Request
from modelyard.core.rpc.requests import fingerprint
from modelyard.trainer.handlers import advising, cross_validation, ladder
from modelyard.trainer.handlers.children import World
from modelyard.trainer.rpc import convert_advice as convert
from modelyard.trainer.rpc.servicer import Watch
from modelyard.trainer.v1 import advice_pb2 as pb
from modelyard.trainer.v1 import advice_service_pb2 as service_pb
from modelyard.trainer.v1 import advice_service_pb2_grpc as rpc


class AdvisorServicer(rpc.AdvisorServiceServicer):
    """The servicer over its handlers."""

    def __init__(self, world: World, watch: Watch) -> None:
        self._world = world
        self._jobs = world.jobs
        self._watch = watch

    def AdviseTrainingJob(self, request: service_pb.AdviseTrainingJobRequest, context: Any) -> pb.Advice:
        short = advising.check_short_runs(request.short_run_steps, request.short_run_share)
        return convert.advice_message(self._advice(request.name, short))

    def CreateAdvisedTraining(self, request: service_pb.CreateAdvisedTrainingRequest, context: Any) -> pb.AdvisedTraining:
        asked = Request(request.request_id, "CreateAdvisedTraining", fingerprint(request))
        spec = convert.ladder_spec(request)
        job = ladder.create_advised_training(self._world, request.parent, request.advised_training_id, spec, asked)
        return self._advised(job)

    def GetAdvisedTraining(self, request: service_pb.GetAdvisedTrainingRequest, context: Any) -> pb.AdvisedTraining:
        return self._advised(ladder.get_advised_training(self._jobs, request.name))

    def ListAdvisedTrainings(
        self, request: service_pb.ListAdvisedTrainingsRequest, context: Any
    ) -> service_pb.ListAdvisedTrainingsResponse:
        names.PROJECT.parse(request.parent, "parent")
        page = self._jobs.list(ladder.KIND, request.parent, request.page_size, request.page_token)
        found = [convert.advised_training_message(job) for job in page.items]
        return service_pb.ListAdvisedTrainingsResponse(advised_trainings=found, next_page_token=page.next_page_token)

    async def WatchAdvisedTraining(
        self, request: service_pb.WatchAdvisedTrainingRequest, context: Any
    ) -> AsyncIterator[service_pb.WatchAdvisedTrainingResponse]:
        names.ADVISED_TRAINING.parse(request.name)
        async for change in self._watch(request.name, request.after_sequence):
            shown = convert.advised_training_message(change.job)
            yield service_pb.WatchAdvisedTrainingResponse(sequence=change.sequence, advised_training=shown)

    def CancelAdvisedTraining(self, request: service_pb.CancelAdvisedTrainingRequest, context: Any) -> pb.AdvisedTraining:
        job = ladder.get_advised_training(self._jobs, request.name)
        return self._advised(self._jobs.cancel(job.name))

    def CreateCrossValidation(self, request: service_pb.CreateCrossValidationRequest, context: Any) -> pb.CrossValidation:
        wanted = request.cross_validation
        new, shown = convert.cross_job(request)
        job = cross_validation.create_cross_validation(
            self._world,
            new,
            job_id=request.cross_validation_id,
            folds=wanted.folds,
            repeats=wanted.repeats,
            group_by=wanted.group_by,
            shown=shown,
            request=Request(request.request_id, "CreateCrossValidation", fingerprint(request)),
        )
        return convert.cross_validation_message(job)

    def GetCrossValidation(self, request: service_pb.GetCrossValidationRequest, context: Any) -> pb.CrossValidation:
        return convert.cross_validation_message(cross_validation.get_cross_validation(self._jobs, request.name))

    def ListCrossValidations(
        self, request: service_pb.ListCrossValidationsRequest, context: Any
    ) -> service_pb.ListCrossValidationsResponse:
        names.PROJECT.parse(request.parent, "parent")
        page = self._jobs.list(cross_validation.KIND, request.parent, request.page_size, request.page_token, skip=request.skip)
        found = [convert.cross_validation_message(job) for job in page.items]
        return service_pb.ListCrossValidationsResponse(cross_validations=found, next_page_token=page.next_page_token)

    async def WatchCrossValidation(
        self, request: service_pb.WatchCrossValidationRequest, context: Any
    ) -> AsyncIterator[service_pb.WatchCrossValidationResponse]:
        names.CROSS_VALIDATION.parse(request.name)
        async for change in self._watch(request.name, request.after_sequence):
            shown = convert.cross_validation_message(change.job)
            yield service_pb.WatchCrossValidationResponse(sequence=change.sequence, cross_validation=shown)

    def CancelCrossValidation(self, request: service_pb.CancelCrossValidationRequest, context: Any) -> pb.CrossValidation:
        job = cross_validation.get_cross_validation(self._jobs, request.name)
        return convert.cross_validation_message(self._jobs.cancel(job.name))

    def _advice(self, name: str, short: advising.ShortRuns | None = None) -> advising.Advice:
        return advising.advise(self._world.jobs, self._world.datasets, self._world.resources, name, short)

    def _advised(self, job: Job) -> pb.AdvisedTraining:
        """With the advice on the best job once it has ended."""
        advice = None
        if job.state.terminal:
            with suppress(ModelyardError):  # the best job may be deleted, and what it was trained on
                advice = convert.advice_message(self._advice(ladder.state_of_ladder(job).best))
        return convert.advised_training_message(job, advice)
