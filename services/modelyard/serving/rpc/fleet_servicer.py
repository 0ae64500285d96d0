"""FleetService: what followers call. Each call says by its token whose it is, and gets what belongs to that subject only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

from modelyard.serving.domain.desired_state import DesiredState
from modelyard.serving.domain.fleet_tokens import Follower
from modelyard.serving.handlers.fleet_access import FleetAccess
from modelyard.serving.handlers.fleet_states import FleetStates
from modelyard.serving.v1 import fleet_pb2
from modelyard.serving.v1 import fleet_service_pb2 as pb
from modelyard.serving.v1.fleet_service_pb2_grpc import FleetServiceServicer

CHUNK_BYTES: Final = 1 << 20
LOOK_S: Final = 1.0
"""How often a watched state is looked at."""
ALIVE_S: Final = 15.0
"""How often a watcher is told that nothing is new."""
BEARER: Final = "bearer "


@dataclass(frozen=True)
class FleetServicer(FleetServiceServicer):
    """`sign`: a desired state with the centre's signature."""

    access: FleetAccess
    states: FleetStates
    sign: Callable[[DesiredState], fleet_pb2.SignedState]

    def GetDesiredState(self, request: pb.GetDesiredStateRequest, context: Any) -> pb.GetDesiredStateResponse:
        """See the contract."""
        return pb.GetDesiredStateResponse(state=self._newer(self._caller(context), request.known_number))

    async def WatchDesiredState(
        self, request: pb.WatchDesiredStateRequest, context: Any
    ) -> AsyncIterator[pb.WatchDesiredStateResponse]:
        """See the contract."""
        known, told = request.known_number, 0.0
        while True:
            # The token is looked at each time: one that was revoked ends the stream.
            caller = await asyncio.to_thread(self._caller, context)
            state, number = await asyncio.to_thread(self._newest, caller, known)
            if state is not None or time.monotonic() - told >= ALIVE_S:
                yield pb.WatchDesiredStateResponse(state=state)
                known, told = number, time.monotonic()
            await asyncio.sleep(LOOK_S)

    async def DownloadBundle(self, request: pb.DownloadBundleRequest, context: Any) -> AsyncIterator[pb.DownloadBundleResponse]:
        """See the contract."""
        caller = await asyncio.to_thread(self._caller, context)
        blob = await asyncio.to_thread(self.states.blob, caller.subject, request.sha256)
        stream = await asyncio.to_thread(self.states.bundles.open, blob, request.offset)
        with stream:
            while chunk := await asyncio.to_thread(stream.read, CHUNK_BYTES):
                yield pb.DownloadBundleResponse(chunk=chunk)

    def ReportState(self, request: pb.ReportStateRequest, context: Any) -> pb.ReportStateResponse:
        """See the contract."""
        caller = self._caller(context)
        return pb.ReportStateResponse(desired_number=self.states.current(caller.subject).number)

    def _caller(self, context: Any) -> Follower:
        return self.access.follower(bearer_of(context))

    def _newer(self, caller: Follower, known: int) -> fleet_pb2.SignedState | None:
        return self._newest(caller, known)[0]

    def _newest(self, caller: Follower, known: int) -> tuple[fleet_pb2.SignedState | None, int]:
        state = self.states.current(caller.subject)
        return (self.sign(state) if state.number != known else None), state.number


def bearer_of(context: Any) -> str:
    """The token of a call; empty without one."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value.lower().startswith(BEARER):
            return value[len(BEARER) :].strip()
    return ""
