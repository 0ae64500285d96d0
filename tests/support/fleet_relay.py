"""Somebody on the line between devices and their centre, who sees everything and has no key: what they say can be changed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from modelyard.serving.v1 import fleet_pb2
from modelyard.serving.v1 import fleet_service_pb2 as pb
from modelyard.serving.v1.fleet_service_pb2_grpc import (
    FleetServiceServicer,
    FleetServiceStub,
    add_FleetServiceServicer_to_server,
)


@dataclass
class Relay(FleetServiceServicer):
    """`spoil`: a byte of each bundle is changed; `spoilt` counts them. `replayed`: sent instead of every desired state.

    `states`: the signed states that went by; `replays`: how often one was sent instead.
    """

    centre: FleetServiceStub
    address: str = ""
    spoil: bool = False
    spoilt: int = 0
    replayed: fleet_pb2.SignedState | None = None
    replays: int = 0
    states: list[fleet_pb2.SignedState] = field(default_factory=list)

    def Enrol(self, request: pb.EnrolRequest, context: Any) -> Any:
        return self._asked(self.centre.Enrol, request, context)

    def CreateChallenge(self, request: pb.CreateChallengeRequest, context: Any) -> Any:
        return self._asked(self.centre.CreateChallenge, request, context)

    def OpenSession(self, request: pb.OpenSessionRequest, context: Any) -> Any:
        return self._asked(self.centre.OpenSession, request, context)

    def GetDesiredState(self, request: pb.GetDesiredStateRequest, context: Any) -> pb.GetDesiredStateResponse:
        answer: pb.GetDesiredStateResponse = self._asked(self.centre.GetDesiredState, request, context)
        if self.replayed is not None:
            self.replays += 1
            return pb.GetDesiredStateResponse(state=self.replayed)
        if answer.HasField("state"):
            self.states.append(answer.state)
        return answer

    def ReportState(self, request: pb.ReportStateRequest, context: Any) -> pb.ReportStateResponse:
        answer: pb.ReportStateResponse = self._asked(self.centre.ReportState, request, context)
        # Another number than the device has: it asks for the state.
        return answer if self.replayed is None else pb.ReportStateResponse(desired_number=1)

    def DownloadBundle(self, request: pb.DownloadBundleRequest, context: Any) -> Iterator[pb.DownloadBundleResponse]:
        spoil = self.spoil
        for answer in self._asked(self.centre.DownloadBundle, request, context):
            if spoil and answer.chunk:
                changed = bytearray(answer.chunk)
                changed[len(changed) // 2] ^= 1
                answer, spoil = pb.DownloadBundleResponse(chunk=bytes(changed)), False
                self.spoilt += 1
            yield answer

    def _asked(self, method: Any, request: Any, context: Any) -> Any:
        token = [(key, value) for key, value in context.invocation_metadata() if key == "authorization"]
        try:
            return method(request, metadata=token, timeout=30)
        except grpc.RpcError as error:
            told: Any = error
            details = [each for each in told.trailing_metadata() or () if each[0] == "grpc-status-details-bin"]
            context.set_trailing_metadata(details)
            context.abort(told.code(), told.details())


@contextmanager
def relay(address: str) -> Iterator[Relay]:
    """A relay to host:port."""
    server = grpc.server(ThreadPoolExecutor(8))
    with grpc.insecure_channel(address) as channel:
        made = Relay(FleetServiceStub(channel))
        add_FleetServiceServicer_to_server(made, server)
        made.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield made
        finally:
            server.stop(1).wait()
