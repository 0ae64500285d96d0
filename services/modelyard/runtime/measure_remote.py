"""Measures a bundle on another device, through the agent that runs there (modelyard.runtime.agent)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import grpc

from modelyard.agent.v1 import agent_pb2 as pb
from modelyard.agent.v1 import agent_pb2_grpc as rpc
from modelyard.client.access import Access
from modelyard.client.channels import open_channel
from modelyard.core.errors import DeadlineExceeded, ModelyardError, ResourceExhausted, Unavailable
from modelyard.core.latency import Latency
from modelyard.core.rpc.latency import latency_of
from modelyard.runtime.agent import CODES, REASON

CHUNK_BYTES: Final = 1 << 20
BUSY: Final = "AGENT_BUSY"
BUSY_WAIT_S: Final = 2.0
_ERRORS: Final = {code: error for error, code in CODES.items()} | {grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded}


def measure_on(
    agent_address: str,
    token: str,
    path: Path,
    *,
    target: str,
    seconds: float = 2.0,
    threads: int = 0,
    timeout_s: float = 600.0,
    ca: Path | None = None,
    sleep: Callable[[float], object] = time.sleep,
) -> Latency:
    """Measures the bundle at `path` on the device whose agent listens at host:port, waiting while it measures another.

    `agent_address`: host:port, or https://host:port of one with a certificate, from an authority in `ca` or the system's.
    `threads` 0: all that the device has. `token`: the content of the agent's token file, or empty. `timeout_s`: for everything.
    Raises Unavailable AGENT_UNREACHABLE or LATENCY_NOT_MEASURED, PermissionDenied WRONG_TOKEN, DeadlineExceeded,
    ResourceExhausted BUNDLE_TOO_LARGE or AGENT_BUSY, FailedPrecondition RUNTIME_NOT_INSTALLED, InvalidArgument INVALID_BUNDLE.
    """
    end = time.monotonic() + timeout_s
    options = pb.MeasureOptions(seconds=seconds, threads=threads, target=target, size_bytes=path.stat().st_size)
    # An agent's address alone means plain text (modelyard.runtime.agent says so); https:// is for one with a certificate.
    address = agent_address if "://" in agent_address else f"http://{agent_address}"
    with open_channel(address, Access(token=token, ca=ca), [("grpc.enable_http_proxy", 0)]) as channel:
        while True:
            try:
                return _measured(channel, path, options, end - time.monotonic(), agent_address)
            except ResourceExhausted as error:
                if error.reason != BUSY or time.monotonic() + BUSY_WAIT_S > end:
                    raise
                sleep(BUSY_WAIT_S)


def _measured(channel: Any, path: Path, options: pb.MeasureOptions, timeout_s: float, address: str) -> Latency:
    try:
        answer = rpc.MeasureServiceStub(channel).Measure(_messages(path, options), timeout=max(0.0, timeout_s))
    except grpc.RpcError as error:
        raise _named(error, address) from error
    return latency_of(answer)


def _messages(path: Path, options: pb.MeasureOptions) -> Iterator[pb.MeasureRequest]:
    yield pb.MeasureRequest(options=options)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield pb.MeasureRequest(chunk=chunk)


def _named(error: Any, address: str) -> ModelyardError:
    """The agent's error as it was there; one of the connection as AGENT_UNREACHABLE."""
    reason = dict(error.trailing_metadata() or ()).get(REASON, "")
    kind = _ERRORS.get(error.code(), Unavailable)
    if reason:
        return kind(str(reason), f"agent {address}: {error.details()}", agent=address)
    if kind is DeadlineExceeded:
        return DeadlineExceeded("AGENT_TIMEOUT", f"agent {address} did not answer in time", agent=address)
    message = f"agent {address} does not answer ({error.code().name}: {str(error.details())[:300]})"
    return Unavailable("AGENT_UNREACHABLE", message, agent=address)
