"""ModelSelectionService: convert, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from modelyard.core import names
from modelyard.core.requests import Request
from modelyard.core.rpc.requests import fingerprint
from modelyard.trainer.handlers import model_selections
from modelyard.trainer.handlers.children import World
from modelyard.trainer.ports import Profiling
from modelyard.trainer.rpc import convert_selection as convert
from modelyard.trainer.rpc.servicer import Watch
from modelyard.trainer.v1 import selection_pb2 as pb
from modelyard.trainer.v1 import selection_service_pb2 as service_pb
from modelyard.trainer.v1 import selection_service_pb2_grpc as rpc


class ModelSelectionServicer(rpc.ModelSelectionServiceServicer):
    """The servicer over its handlers."""

    def __init__(self, world: World, profiling: Profiling, watch: Watch) -> None:
        self._world = world
        self._jobs = world.jobs
        self._profiling = profiling
        self._watch = watch

    def CreateModelSelection(self, request: service_pb.CreateModelSelectionRequest, context: Any) -> pb.ModelSelection:
        new, spec = convert.new_selection(request)
        asked = Request(request.request_id, "CreateModelSelection", fingerprint(request))
        job_id = request.model_selection_id
        job = model_selections.create_model_selection(self._world, self._profiling, new, spec, job_id=job_id, request=asked)
        return convert.model_selection_message(job)

    def GetModelSelection(self, request: service_pb.GetModelSelectionRequest, context: Any) -> pb.ModelSelection:
        return convert.model_selection_message(model_selections.get_model_selection(self._jobs, request.name))

    def ListModelSelections(
        self, request: service_pb.ListModelSelectionsRequest, context: Any
    ) -> service_pb.ListModelSelectionsResponse:
        names.PROJECT.parse(request.parent, "parent")
        page = self._jobs.list(model_selections.KIND, request.parent, request.page_size, request.page_token)
        found = [convert.model_selection_message(job) for job in page.items]
        return service_pb.ListModelSelectionsResponse(model_selections=found, next_page_token=page.next_page_token)

    async def WatchModelSelection(
        self, request: service_pb.WatchModelSelectionRequest, context: Any
    ) -> AsyncIterator[service_pb.WatchModelSelectionResponse]:
        names.MODEL_SELECTION.parse(request.name)
        async for change in self._watch(request.name, request.after_sequence):
            shown = convert.model_selection_message(change.job)
            yield service_pb.WatchModelSelectionResponse(sequence=change.sequence, model_selection=shown)

    def StopModelSelection(self, request: service_pb.StopModelSelectionRequest, context: Any) -> pb.ModelSelection:
        return convert.model_selection_message(model_selections.stop_model_selection(self._jobs, request.name))

    def CancelModelSelection(self, request: service_pb.CancelModelSelectionRequest, context: Any) -> pb.ModelSelection:
        job = model_selections.get_model_selection(self._jobs, request.name)
        return convert.model_selection_message(self._jobs.cancel(job.name))
