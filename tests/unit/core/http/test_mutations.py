"""Whole sessions of a caller, damaged: nothing is raised, no error is our own, nothing is held once the connection is gone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from modelyard.core.http import frames
from modelyard.core.http.calls import HttpRequest, HttpResponse
from modelyard.core.http.methods import Methods
from tests.unit.core.http.wire import METHOD, Caller, Session, data, message_frame, session

SESSIONS = 150
TIGHT = {"stream_window": 5000, "connection_window": 70_000, "message_bytes": 3000, "held_bytes": 9000, "streams": 5}


async def both(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for message in requests:
        yield message


async def one(request: bytes, context: Any) -> bytes:
    return request


async def http(request: HttpRequest) -> HttpResponse:
    return HttpResponse(200, b"x" * 10)


def methods() -> Methods:
    made = Methods()
    handlers = {"Both": grpc.stream_stream_rpc_method_handler(both), "One": grpc.unary_unary_rpc_method_handler(one)}
    made.add_registered_method_handlers("a.B", handlers)
    return made


def request(draw: random.Random, caller: Caller, number: int) -> bytes:
    stream = draw.choice([2 * number + 1] * 3 + [2 * draw.randrange(8) + 1])
    more = draw.choice([{}, {"grpc_timeout": "5m"}, {"grpc_encoding": "gzip"}, {"content_length": "5"}, {"x_a_bin": "AQ"}])
    fields = caller.fields(draw.choice([METHOD, "/a.B/Both", "/a.B/One", "/no.Such/Method"]), **more)
    if draw.random() < 0.2:
        fields = [field for field in fields if field[0] != "content-type"]
    messages = message_frame(draw.randbytes(draw.randrange(3500)), draw.choice([0, 0, 0, 1, 2])) * draw.randrange(1, 3)
    parts = [
        caller.headers(stream, fields, draw.random() < 0.1),
        data(stream, messages, draw.randrange(1, 2000), draw.random() < 0.8),
    ]
    if draw.random() < 0.3:
        parts.append(frames.rst_stream(stream, frames.CANCEL))
    if draw.random() < 0.3:
        parts.append(frames.window_update(draw.choice([0, stream]), draw.randrange(1 << 16)))
    if draw.random() < 0.1:
        parts.append(frames.settings({draw.randrange(1, 7): draw.choice([0, 1, 16_384, 70_000, 1 << 31])}))
    return b"".join(parts)


def damaged(draw: random.Random, whole: bytearray) -> bytearray:
    for _ in range(draw.choice([0, 0, 1, 3, 6])):
        at = draw.randrange(len(frames.PREFACE), len(whole))
        match draw.randrange(3):
            case 0:
                whole[at] = draw.randrange(256)
            case 1:
                del whole[at : at + draw.randrange(1, 9)]
            case _:
                whole[at:at] = draw.randbytes(draw.randrange(1, 9))
    return whole


async def play(draw: random.Random, made: Session, whole: bytes) -> None:
    at = 0
    while at < len(whole):
        size = draw.randrange(1, 4000)
        made.connection.data_received(whole[at : at + size])
        at += size
        if draw.random() < 0.1:
            draw.choice([made.connection.pause_writing, made.connection.resume_writing])()
        if draw.random() < 0.3:
            await asyncio.sleep(0)
        assert 0 <= made.budget.held <= made.budget.limit + TIGHT["message_bytes"]


@pytest.mark.parametrize("seed", range(4))
async def test_damaged_sessions(seed: int) -> None:
    draw = random.Random(seed)
    with capture_logs() as logs:
        for _ in range(SESSIONS):
            made = session(None, methods(), http, **TIGHT)
            opening = frames.PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: draw.choice([0, 5, 100, 70_000])})
            requests = [request(draw, made.caller, number) for number in range(draw.randrange(1, 14))]
            await play(draw, made, bytes(damaged(draw, bytearray(opening + b"".join(requests)))))
            made.connection.connection_lost(None)
            for _ in range(5):
                await asyncio.sleep(0)
            assert (made.budget.held, made.connection.streams, made.connection._blocked) == (0, {}, {})
    assert [entry for entry in logs if "internal" in entry["event"]] == []
    assert len(asyncio.all_tasks()) == 1
