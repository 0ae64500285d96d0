"""Connections by the thousand: opened and dropped, too many at once, silent ones; nothing grows, and the others are served."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import time
from pathlib import Path

import grpc

from modelyard.core.http import frames
from tests.support.front import ECHO, Served, hello, served
from tests.unit.core.http.wire import OPENING, Caller

GREETINGS = (
    b"",
    b"P",
    frames.PREFACE[:10],
    frames.PREFACE,
    frames.PREFACE + frames.settings({}),
    b"GET / HTTP/1.1\r\n",
    b"\xff" * 50,
)
HALF = frames.PREFACE + frames.settings({}) + frames.frame(frames.HEADERS, 0, 1, b"\x82") + b"\x00\x00"


def resident() -> int:
    """Bytes of memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_and_drop(running: Served, count: int) -> None:
    for number in range(count):
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as made, contextlib.suppress(OSError):
            made.sendall((*GREETINGS, HALF)[number % (len(GREETINGS) + 1)])
            if number % 3 == 0:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def gone(running: Served, within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while running.call(lambda: running.server.front.connections):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_ten_thousand_connections_leave_nothing() -> None:
    with served(http=hello) as running:
        open_and_drop(running, 1000)
        gone(running)
        gc.collect()
        before, files = resident(), len(os.listdir("/proc/self/fd"))
        open_and_drop(running, 10_000)
        gone(running)
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= files
        assert resident() - before < 3 << 20
        assert running.call(lambda: running.server.front.budget.held) == 0
        with grpc.insecure_channel(running.address) as channel:
            assert channel.unary_unary(ECHO)(b"x", timeout=10) == b"x"


def test_more_connections_than_allowed_are_closed_at_once() -> None:
    with served(http=hello, max_connections=5) as running:
        kept = [socket.create_connection(("127.0.0.1", running.port), timeout=10) for _ in range(5)]
        for made in kept:
            made.sendall(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
            assert made.recv(100).startswith(b"HTTP/1.1 200")
        refused = socket.create_connection(("127.0.0.1", running.port), timeout=10)
        with refused, contextlib.suppress(ConnectionResetError):
            assert refused.recv(10) == b""
        kept.pop().close()
        time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as made:
            made.sendall(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
            assert made.recv(100).startswith(b"HTTP/1.1 200")
        for made in kept:
            made.close()


def test_a_caller_that_sends_and_never_reads_is_not_read_for_long() -> None:
    with served(http=hello) as running, socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.connect(("127.0.0.1", running.port))
        made.settimeout(1.0)
        made.sendall(OPENING + frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 30}) + frames.window_update(0, 1 << 30))
        caller, before, sent = Caller(), resident(), 0
        with contextlib.suppress(TimeoutError):
            for number in range(10_000):
                piece = caller.call(1 + 2 * number, bytes(50_000))
                made.sendall(piece)
                sent += len(piece)
        assert sent < 64 << 20
        assert resident() - before < 64 << 20
        with grpc.insecure_channel(running.address) as channel:
            assert channel.unary_unary(ECHO)(b"x", timeout=10) == b"x"
        made.close()
        gone(running)
        assert running.call(lambda: running.server.front.budget.held) == 0


def test_an_idle_connection_is_closed() -> None:
    with served(http=hello, idle_s=1) as running:
        made = [socket.create_connection(("127.0.0.1", running.port), timeout=15) for _ in range(2)]
        made[0].sendall(frames.PREFACE + frames.settings({}))
        made[1].sendall(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
        for one in made:
            while one.recv(1000):
                pass
            one.close()
        gone(running)


def test_a_client_keeps_working_when_its_idle_connection_was_closed() -> None:
    with served(http=hello, idle_s=1) as running, grpc.insecure_channel(running.address) as channel:
        call = channel.unary_unary(ECHO)
        assert call(b"x", timeout=10) == b"x"
        gone(running)
        assert call(b"y", timeout=10) == b"y"
