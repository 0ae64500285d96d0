"""What a connection has to say leaves at once, on the standard event loop too.

Nagle's algorithm would hold a second small answer back until the first is acknowledged, which takes a client 40 ms.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import struct
import time

from modelyard.core.http import frames
from modelyard.core.http.calls import UnaryCall
from tests.support.front import ECHO, served

SETTINGS = frames.settings({})
"""They are acknowledged at once."""
DATA, HEADERS, END_HEADERS, END_STREAM = 0, 1, 4, 1


def answer_later(call: UnaryCall, message: bytes) -> None:
    asyncio.get_running_loop().call_later(0.002, call.answer, message)


def test_an_answer_does_not_wait_for_what_was_sent_before_it_to_be_acknowledged() -> None:
    with (
        served({ECHO: answer_later}, loop_factory=asyncio.new_event_loop) as server,
        socket.create_connection(("127.0.0.1", server.port)) as client,
    ):
        client.settimeout(5)
        client.sendall(frames.PREFACE + frames.settings({}))
        time.sleep(0.1)
        times = [_asked(client, number) for number in range(15)]
    assert statistics.median(times) < 0.03


def _asked(client: socket.socket, number: int) -> float:
    """Seconds from a request, with settings that are acknowledged before it, to the message of its answer."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)  # acknowledge as late as TCP allows
    stream, message = 1 + 2 * number, f"number {number:03d}".encode()
    body = struct.pack(">BI", 0, len(message)) + message
    begin, got = time.perf_counter(), b""
    client.sendall(SETTINGS + _frame(HEADERS, END_HEADERS, stream, _headers()) + _frame(DATA, END_STREAM, stream, body))
    while message not in got:
        got += client.recv(4096)
    return time.perf_counter() - begin


def _headers() -> bytes:
    """POST, http, and the rest as literals that nobody keeps (RFC 7541, 6.2.2); indexed names where the static table has them."""
    path = b"\x04" + bytes([len(ECHO)]) + ECHO.encode()
    kind = b"application/grpc"
    return b"\x83\x86" + path + b"\x01\x01a" + b"\x0f\x10" + bytes([len(kind)]) + kind + b"\x00\x02te\x08trailers"


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload
