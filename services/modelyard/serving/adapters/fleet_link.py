"""The follower's side of FleetService. Every failure is raised as the error that the centre meant, or as Unavailable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from modelyard.client.access import Access
from modelyard.client.channels import bare_channel
from modelyard.core.errors import ModelyardError, Unavailable
from modelyard.core.jobs.convert import error_document
from modelyard.core.rpc.status import exception_of
from modelyard.serving.v1 import fleet_pb2
from modelyard.serving.v1 import fleet_service_pb2 as pb
from modelyard.serving.v1.fleet_service_pb2_grpc import FleetServiceStub

CALL_S: Final = 30.0
"""How long one answer may take."""
DOWNLOAD_S: Final = 600.0
"""How long one stream of a download may take, so that one that stands still is given up; the next goes on where it was."""
DETAILS: Final = "grpc-status-details-bin"


class FleetLink:
    """`channel`: to the centre, or to a cache of bundles. `token`: for `authorization: Bearer`, asked for at each call."""

    def __init__(self, channel: Any, address: str, token: Callable[[], str]) -> None:
        self._channel, self._address, self._token = channel, address, token
        self._stub = FleetServiceStub(channel)

    def state(self, known: int) -> fleet_pb2.SignedState | None:
        """The desired state; None where it is still the one with the number `known`."""
        with self._errors():
            answer = self._stub.GetDesiredState(
                pb.GetDesiredStateRequest(known_number=known), timeout=CALL_S, metadata=self._metadata()
            )
        return answer.state if answer.HasField("state") else None

    def watch(self, known: int) -> Iterator[fleet_pb2.SignedState | None]:
        """The desired states as they come; None: the connection is alive. Ends with an error only, or by `close`."""
        with self._errors():
            request = pb.WatchDesiredStateRequest(known_number=known)
            for answer in self._stub.WatchDesiredState(request, metadata=self._metadata()):
                yield answer.state if answer.HasField("state") else None
        raise self._gone("the watch ended")

    def download(self, sha256: str, offset: int) -> Iterator[bytes]:
        """See follower_ports.BundleSource."""
        with self._errors():
            request = pb.DownloadBundleRequest(sha256=sha256, offset=offset)
            for answer in self._stub.DownloadBundle(request, timeout=DOWNLOAD_S, metadata=self._metadata()):
                yield answer.chunk

    def report(self, report: fleet_pb2.StateReport) -> int:
        """Tells the centre how this follower fares; gives the number of the desired state that is current there."""
        with self._errors():
            request = pb.ReportStateRequest(report=report)
            answer = self._stub.ReportState(request, timeout=CALL_S, metadata=self._metadata())
        return int(answer.desired_number)

    def enrol(
        self, token: str, device_id: str, public_key: bytes, proof: bytes, inventory: fleet_pb2.Inventory
    ) -> pb.EnrolResponse:
        """See FleetService.Enrol."""
        request = pb.EnrolRequest(token=token, device_id=device_id, public_key=public_key, proof=proof, inventory=inventory)
        with self._errors():
            answer: pb.EnrolResponse = self._stub.Enrol(request, timeout=CALL_S)
        return answer

    def challenge(self, device: str) -> bytes:
        """See FleetService.CreateChallenge."""
        with self._errors():
            answer = self._stub.CreateChallenge(pb.CreateChallengeRequest(device=device), timeout=CALL_S)
        return bytes(answer.challenge)

    def open_session(self, device: str, challenge: bytes, signature: bytes) -> tuple[str, float]:
        """A token, and for how many seconds it holds. See FleetService.OpenSession."""
        request = pb.OpenSessionRequest(device=device, challenge=challenge, signature=signature)
        with self._errors():
            answer = self._stub.OpenSession(request, timeout=CALL_S)
        return str(answer.token), answer.lifetime.ToNanoseconds() / 1e9

    def close(self) -> None:
        """Ends the connection; a watch that waits ends with an error."""
        self._channel.close()

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._token()}"),)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise self._named(error) from error
        except ValueError as error:  # grpc's word for a channel that was closed
            raise self._gone(str(error)) from error

    def _named(self, error: Any) -> ModelyardError:
        details = dict(error.trailing_metadata() or ()).get(DETAILS)
        if isinstance(details, bytes):
            try:
                return exception_of(error_document(status_pb2.Status.FromString(details)))
            except DecodeError:
                pass
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED):
            return self._gone(error.details() or error.code().name)
        code = error.code().value[0]
        return exception_of({"code": code, "reason": error.code().name, "message": f"{self._address}: {error.details()}"})

    def _gone(self, what: str) -> Unavailable:
        return Unavailable("NO_CONNECTION", f"nobody answers at {self._address}: {what}", address=self._address)


def open_channel(address: str, ca: Path | None = None) -> Any:
    """A channel to the centre, kept alive so that a dead connection is found out. TLS where it says so, or with `ca`."""
    options = [
        ("grpc.max_receive_message_length", 128 << 20),
        ("grpc.max_send_message_length", 64 << 20),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 10_000),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 15_000),
        ("grpc.enable_retries", 0),
    ]
    return bare_channel(address, Access(ca=ca), options)
