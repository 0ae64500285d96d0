"""PipelineService: convert, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from modelyard.core import names
from modelyard.core.requests import Request
from modelyard.core.rpc.requests import fingerprint
from modelyard.pipeline.handlers.runs import KIND, create_run
from modelyard.pipeline.ports import Jobs, ServicesOf
from modelyard.pipeline.rpc import convert
from modelyard.pipeline.v1 import pipeline_pb2 as pb
from modelyard.pipeline.v1 import pipeline_service_pb2 as messages
from modelyard.pipeline.v1.pipeline_service_pb2_grpc import PipelineServiceServicer


class PipelineServicer(PipelineServiceServicer):
    """Pipeline runs."""

    def __init__(self, jobs: Jobs, services_of: ServicesOf) -> None:
        self._jobs = jobs
        self._services_of = services_of

    def CreatePipelineRun(self, request: messages.CreatePipelineRunRequest, context: Any) -> pb.PipelineRun:
        """Starts a run; returns at once."""
        job = create_run(
            self._jobs,
            self._services_of,
            parent=request.parent,
            run_id=request.pipeline_run_id,
            spec=convert.spec_from(request.pipeline_run),
            request=Request(request.request_id, "CreatePipelineRun", fingerprint(request)),
        )
        return convert.run_message(job)

    def GetPipelineRun(self, request: messages.GetPipelineRunRequest, context: Any) -> pb.PipelineRun:
        """Reads a run."""
        names.PIPELINE_RUN.parse(request.name)
        return convert.run_message(self._jobs.get(request.name))

    def ListPipelineRuns(self, request: messages.ListPipelineRunsRequest, context: Any) -> messages.ListPipelineRunsResponse:
        """Lists the runs of a project, newest first."""
        names.PROJECT.parse(request.parent, "parent")
        page = self._jobs.list(KIND, request.parent, request.page_size, request.page_token, skip=request.skip)
        return messages.ListPipelineRunsResponse(
            pipeline_runs=[convert.run_summary(job) for job in page.items], next_page_token=page.next_page_token
        )

    async def WatchPipelineRun(
        self, request: messages.WatchPipelineRunRequest, context: Any
    ) -> AsyncIterator[messages.WatchPipelineRunResponse]:
        """Sends the run now and at every change, with the curve of its training, until it ends."""
        names.PIPELINE_RUN.parse(request.name)
        async for change in self._jobs.watch(request.name, request.after_sequence):
            yield messages.WatchPipelineRunResponse(
                sequence=change.sequence,
                pipeline_run=convert.run_message(change.job),
                points=convert.points(change.events),
            )

    def CancelPipelineRun(self, request: messages.CancelPipelineRunRequest, context: Any) -> pb.PipelineRun:
        """Cancels a run and whatever it is waiting for."""
        names.PIPELINE_RUN.parse(request.name)
        return convert.run_message(self._jobs.cancel(request.name))
