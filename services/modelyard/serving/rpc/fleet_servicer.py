"""FleetService: what followers call. Each call says by its token whose it is, and gets what belongs to that subject only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from modelyard.core.jobs.convert import duration
from modelyard.serving.domain.desired_state import DesiredState
from modelyard.serving.domain.device import DeviceReport
from modelyard.serving.domain.fleet_tokens import Follower, TokenKind
from modelyard.serving.handlers.devices import Devices
from modelyard.serving.handlers.fleet_access import FleetAccess
from modelyard.serving.handlers.fleet_states import FleetStates
from modelyard.serving.rpc.device_convert import inventory_document, report_of
from modelyard.serving.state_messages import ENROL_TYPE, SESSION_TYPE
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
    devices: Devices
    sign: Callable[[DesiredState], fleet_pb2.SignedState]

    def Enrol(self, request: pb.EnrolRequest, context: Any) -> pb.EnrolResponse:
        """See the contract."""
        report = DeviceReport(datetime.now(UTC), inventory=inventory_document(request.inventory))
        device = self.devices.enrol(request.token, request.device_id, request.public_key, request.proof, report, ENROL_TYPE)
        return pb.EnrolResponse(device=device.name, state_keys=self.states.state_keys())

    def CreateChallenge(self, request: pb.CreateChallengeRequest, context: Any) -> pb.CreateChallengeResponse:
        """See the contract."""
        return pb.CreateChallengeResponse(challenge=self.devices.challenge(request.device))

    def OpenSession(self, request: pb.OpenSessionRequest, context: Any) -> pb.OpenSessionResponse:
        """See the contract."""
        token, lifetime_s = self.devices.session(request.device, request.challenge, request.signature, SESSION_TYPE)
        return pb.OpenSessionResponse(token=token, lifetime=duration(lifetime_s))

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
        if caller.kind is TokenKind.DEVICE:
            self.devices.store.report(caller.subject, report_of(request.report, datetime.now(UTC)))
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
