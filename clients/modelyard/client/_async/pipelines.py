"""Pipeline runs: from data to endpoint in one call."""

from __future__ import annotations

from collections.abc import AsyncIterator

from modelyard.client._async.resource import AsyncResource, OnChange
from modelyard.client.names import new_request_id
from modelyard.pipeline.v1 import pipeline_pb2, pipeline_service_pb2


class AsyncPipelines(AsyncResource):
    """Names may be short: the run's id."""

    service = "pipeline"

    async def create_pipeline_run(
        self, pipeline_run: pipeline_pb2.PipelineRun, *, pipeline_run_id: str = "", request_id: str = ""
    ) -> pipeline_pb2.PipelineRun:
        """Starts a run; it goes on when the client goes away. Names inside the message are full names (`client.names`)."""
        request = pipeline_service_pb2.CreatePipelineRunRequest(
            parent=self.names.parent,
            pipeline_run=pipeline_run,
            pipeline_run_id=pipeline_run_id,
            request_id=request_id or new_request_id(),
        )
        return await self._call("CreatePipelineRun", request, pipeline_pb2.PipelineRun)

    async def get_pipeline_run(self, pipeline_run: str) -> pipeline_pb2.PipelineRun:
        request = pipeline_service_pb2.GetPipelineRunRequest(name=self.names.pipeline_run(pipeline_run))
        return await self._call("GetPipelineRun", request, pipeline_pb2.PipelineRun)

    def list_pipeline_runs(self, *, skip: int = 0, page_size: int = 0) -> AsyncIterator[pipeline_pb2.PipelineRun]:
        """All runs of the project, newest first, but for the first `skip`; their scores without classes and confusion."""
        request = pipeline_service_pb2.ListPipelineRunsRequest(parent=self.names.parent, skip=skip, page_size=page_size)
        return self._items("ListPipelineRuns", request, pipeline_service_pb2.ListPipelineRunsResponse, "pipeline_runs")

    def watch_pipeline_run(
        self, pipeline_run: str, *, after_sequence: int = 0
    ) -> AsyncIterator[pipeline_service_pb2.WatchPipelineRunResponse]:
        request = pipeline_service_pb2.WatchPipelineRunRequest(
            name=self.names.pipeline_run(pipeline_run), after_sequence=after_sequence
        )
        return self._watch("WatchPipelineRun", request, pipeline_service_pb2.WatchPipelineRunResponse, "pipeline_run")

    async def wait_pipeline_run(
        self, pipeline_run: str, timeout_s: float | None = None, on_change: OnChange | None = None
    ) -> pipeline_pb2.PipelineRun:
        """Waits for the end; `on_change` gets every WatchPipelineRunResponse. JobFailed, WaitTimeout."""
        name = self.names.pipeline_run(pipeline_run)
        request = pipeline_service_pb2.WatchPipelineRunRequest(name=name)
        answer = pipeline_service_pb2.WatchPipelineRunResponse
        return await self._wait(
            "WatchPipelineRun", request, answer, "pipeline_run", lambda: self.get_pipeline_run(name), timeout_s, on_change
        )

    async def cancel_pipeline_run(self, pipeline_run: str) -> pipeline_pb2.PipelineRun:
        """Cancels a run and whatever it is waiting for."""
        request = pipeline_service_pb2.CancelPipelineRunRequest(name=self.names.pipeline_run(pipeline_run))
        return await self._call("CancelPipelineRun", request, pipeline_pb2.PipelineRun)
