"""Re-evaluations: whether an endpoint still answers as well as at its gate, asked again and again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Final, TypeVar

from google.protobuf import empty_pb2
from google.protobuf.message import Message

from modelyard.client._async.resource import TERMINAL, AsyncResource
from modelyard.client._status import job_failed
from modelyard.client.errors import WaitTimeout
from modelyard.client.names import new_request_id
from modelyard.pipeline.v1 import reevaluation_pb2, reevaluation_service_pb2
from modelyard.type.v1 import job_pb2

M = TypeVar("M", bound=Message)
API: Final = "modelyard.pipeline.v1.ReevaluationService"
POLL_S: Final = 0.5


class AsyncReevaluations(AsyncResource):
    """Names may be short: the re-evaluation's id, which is the endpoint's unless another was given."""

    service = "pipeline"

    async def _call(self, method: str, request: Message, answer: type[M], timeout_s: float | None = None) -> M:
        return await self._call_api(API, method, request, answer, timeout_s)

    async def create_reevaluation(
        self, reevaluation: reevaluation_pb2.Reevaluation, *, reevaluation_id: str = "", request_id: str = ""
    ) -> reevaluation_pb2.Reevaluation:
        """Creates it; its first run starts at once. Names inside the message are full names (`client.names`)."""
        request = reevaluation_service_pb2.CreateReevaluationRequest(
            parent=self.names.parent,
            reevaluation=reevaluation,
            reevaluation_id=reevaluation_id,
            request_id=request_id or new_request_id(),
        )
        return await self._call("CreateReevaluation", request, reevaluation_pb2.Reevaluation)

    async def get_reevaluation(self, reevaluation: str) -> reevaluation_pb2.Reevaluation:
        """With its last 20 runs, the newest first."""
        request = reevaluation_service_pb2.GetReevaluationRequest(name=self.names.reevaluation(reevaluation))
        return await self._call("GetReevaluation", request, reevaluation_pb2.Reevaluation)

    def list_reevaluations(self, *, page_size: int = 0) -> AsyncIterator[reevaluation_pb2.Reevaluation]:
        """All of the project, newest first, each with its last run."""
        request = reevaluation_service_pb2.ListReevaluationsRequest(parent=self.names.parent, page_size=page_size)
        answer = reevaluation_service_pb2.ListReevaluationsResponse
        return self._items("ListReevaluations", request, answer, "reevaluations")

    async def delete_reevaluation(self, reevaluation: str) -> None:
        """Takes it away with its runs; their evaluations stay."""
        request = reevaluation_service_pb2.DeleteReevaluationRequest(name=self.names.reevaluation(reevaluation))
        await self._call("DeleteReevaluation", request, empty_pb2.Empty)

    async def run_reevaluation(self, reevaluation: str) -> reevaluation_pb2.ReevaluationResult:
        """Starts a run now, or gives the one that is under way; look at it with get_reevaluation."""
        request = reevaluation_service_pb2.RunReevaluationRequest(name=self.names.reevaluation(reevaluation))
        return await self._call("RunReevaluation", request, reevaluation_pb2.ReevaluationResult)

    async def wait_reevaluation(
        self, reevaluation: str, run: str, timeout_s: float | None = None
    ) -> tuple[reevaluation_pb2.Reevaluation, reevaluation_pb2.ReevaluationResult]:
        """The re-evaluation once one of its last 20 runs (its full name) has ended, and that run. JobFailed, WaitTimeout."""
        begin = time.monotonic()
        while True:
            found = await self.get_reevaluation(reevaluation)
            result = next((each for each in found.results if each.name == run), None)
            if result is not None and result.status.state == job_pb2.JOB_STATE_SUCCEEDED:
                return found, result
            if result is not None and result.status.state in TERMINAL:
                cancelled = result.status.state == job_pb2.JOB_STATE_CANCELLED
                raise job_failed(run, result, result.status.error, cancelled=cancelled)
            if timeout_s is not None and time.monotonic() - begin > timeout_s:
                raise WaitTimeout(f"{run} has not ended after {timeout_s:g} s", reason="WAIT_TIMEOUT", values={"name": run})
            await self._transport.sleep(POLL_S)
