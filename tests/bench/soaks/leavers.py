"""Callers that go away: connections opened and dropped at every stage, streams and calls cancelled half-way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from pathlib import Path

import grpc

from inference import grpc_service_pb2 as oip
from inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.bench.peers.asking import infer_request
from tests.bench.peers.models import BenchModel
from tests.bench.soaks.bundle_server import served, still_right
from tests.bench.soaks.outcome import Footing, Outcome, compare

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
HEADERS_CUT = b"\x00\x00\x40\x01\x04\x00\x00\x00\x01\x83\x86"
STAGES = (
    b"",
    PREFACE[:9],
    PREFACE,
    PREFACE + SETTINGS,
    PREFACE + SETTINGS + HEADERS_CUT,
    b"POST /v2/models/mlp/infer HTTP/1.1\r\nHo",
)
AT_ONCE = 100
SETTLE_S = 3.0


def leavers(connections: int, streams: int, folder: Path) -> Outcome:
    """`connections` that end at every stage, half of them reset; `streams` and as many calls that are cancelled half-way."""
    outcome = Outcome("leavers", {"connections": connections, "streams": streams})
    with served(folder) as (server, models):
        address = server.addresses["mlp"]
        _open_and_drop(address, connections // 10)
        asyncio.run(_cancel(address, models, streams // 10))
        time.sleep(SETTLE_S)
        before = Footing.of(server.pids[0])
        _open_and_drop(address, connections)
        asyncio.run(_cancel(address, models, streams))
        time.sleep(SETTLE_S)
        still_right(server, models)
        compare(outcome, before, Footing.of(server.pids[0]), 0.05)
    return outcome


def _open_and_drop(address: str, connections: int) -> None:
    host, _, port = address.rpartition(":")
    held: list[socket.socket] = []
    for number in range(connections):
        held.append(_opened(host, int(port), number))
        if len(held) == AT_ONCE:
            _drop(held)
    _drop(held)


def _opened(host: str, port: int, number: int) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=10)
    if number % 2:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends a reset
    with contextlib.suppress(OSError):
        connection.sendall(STAGES[number % len(STAGES)])
    return connection


def _drop(held: list[socket.socket]) -> None:
    while held:
        held.pop().close()


async def _cancel(address: str, models: list[BenchModel], count: int) -> None:
    """Streams that have sent some requests and read few answers, and calls that have just begun; 20 at once."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        requests = [infer_request(model, model.example()) for model in models]
        for begin in range(0, count, 20):
            numbers = range(begin, min(begin + 20, count))
            await asyncio.gather(*(_cancelled_stream(stub, requests[number % 2]) for number in numbers))
            await asyncio.gather(*(_cancelled_call(stub, requests[number % 3], number) for number in numbers))


async def _cancelled_stream(stub: GRPCInferenceServiceStub, request: oip.ModelInferRequest) -> None:
    call = stub.ModelStreamInfer()
    with contextlib.suppress(grpc.RpcError, asyncio.CancelledError, asyncio.InvalidStateError):
        for _ in range(4):
            await call.write(request)
        await call.read()
        call.cancel()


async def _cancelled_call(stub: GRPCInferenceServiceStub, request: oip.ModelInferRequest, number: int) -> None:
    call = stub.ModelInfer(request)
    await asyncio.sleep(0.002 * (number % 5))
    call.cancel()
    with contextlib.suppress(grpc.RpcError, asyncio.CancelledError):
        await call
