"""The lean gRPC client against grpcio's own server, and against peers that refuse, leave and break the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

from modelyard.core.http import frames
from modelyard.core.http.client import CallFailed, GrpcConnection, connect

PATH = "/test.Echo/Say"


@asynccontextmanager
async def grpcio_server(answer: Callable[[bytes, grpc.aio.ServicerContext], object]) -> AsyncIterator[int]:
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Say": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0.2)


@asynccontextmanager
async def raw_server(say: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]) -> AsyncIterator[int]:
    """A peer that says hello (SETTINGS) and then what it likes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(frames.PREFACE))
        writer.write(frames.settings({}))
        await say(reader, writer)  # type: ignore[misc]

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def ask(connection: GrpcConnection, message: bytes = b"x", timeout_s: float | None = 5.0) -> bytes | CallFailed:
    done: asyncio.Future[bytes | CallFailed] = asyncio.get_running_loop().create_future()
    connection.call(connection.head(PATH), message, timeout_s, done.set_result)
    return await asyncio.wait_for(done, 10)


async def _headers_of(reader: asyncio.StreamReader) -> int:
    """Reads frames until a call's HEADERS; gives its stream."""
    while True:
        high, low, kind, _, stream = frames.HEADER.unpack(await reader.readexactly(9))
        await reader.readexactly(high << 8 | low)
        if kind == frames.HEADERS:
            return int(stream)


async def test_messages_of_all_sizes_come_back_from_grpcio() -> None:
    async def echo(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return message[::-1]

    async with grpcio_server(echo) as port:
        connection = await connect("127.0.0.1", port)
        for size in (0, 1, 16_000, 70_000, 3_000_000):
            message = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
            assert await ask(connection, message) == message[::-1]
        several = await asyncio.gather(*(ask(connection, str(number).encode()) for number in range(50)))
        assert several == [str(number).encode()[::-1] for number in range(50)]
        assert len(connection) == 0
        connection.close()


async def test_statuses_and_deadlines_come_back_as_they_are() -> None:
    async def refuse(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        if message == b"slow":
            await asyncio.sleep(5)
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: 100 % ü")
        raise AssertionError

    async with grpcio_server(refuse) as port:
        connection = await connect("127.0.0.1", port)
        said = await ask(connection)
        assert isinstance(said, CallFailed)
        assert (said.code, said.message, said.begun) == (9, "not now: 100 % ü", True)
        late = await ask(connection, b"slow", 0.2)
        assert isinstance(late, CallFailed)
        assert late.code in (1, 4)


async def test_what_was_refused_or_came_after_the_goodbye_was_not_begun() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await _headers_of(reader)
        writer.write(frames.rst_stream(first, frames.REFUSED_STREAM))
        await _headers_of(reader)
        writer.write(frames.goaway(first, frames.NO_ERROR))

    async with raw_server(refuse) as port:
        connection = await connect("127.0.0.1", port)
        for _ in range(2):
            said = await ask(connection)
            assert isinstance(said, CallFailed)
            assert (said.code, said.begun) == (14, False)
        assert not connection.usable


async def test_a_lost_connection_may_have_begun_what_was_sent() -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _headers_of(reader)
        writer.transport.abort()

    lost: list[GrpcConnection] = []
    async with raw_server(leave) as port:
        connection = await connect("127.0.0.1", port, on_lost=lost.append)
        said = await ask(connection)
    assert isinstance(said, CallFailed)
    assert (said.code, said.begun) == (14, True)
    assert lost == [connection]


async def test_a_peer_that_is_silent_is_asked_and_given_up() -> None:
    pinged = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _headers_of(reader)
        while not pinged.is_set():
            high, low, kind, _, _ = frames.HEADER.unpack(await reader.readexactly(9))
            await reader.readexactly(high << 8 | low)
            if kind == frames.PING:
                pinged.set()
        await asyncio.sleep(5)

    async with raw_server(silent) as port:
        connection = await connect("127.0.0.1", port)
        asked = asyncio.ensure_future(ask(connection))
        await asyncio.sleep(0.05)
        now = asyncio.get_running_loop().time()
        connection.sweep(now + 4)
        await asyncio.wait_for(pinged.wait(), 5)
        connection.sweep(now + 20)
        said = await asked
    assert isinstance(said, CallFailed)
    assert said.begun


@pytest.mark.parametrize("nonsense", [b"\xff" * 9, frames.frame(frames.CONTINUATION, 0, 1, b"x"), b"HTTP/1.1 400 no\r\n\r\n"])
async def test_a_peer_that_breaks_the_protocol_loses_its_connection_only(nonsense: bytes) -> None:
    async def break_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _headers_of(reader)
        writer.write(nonsense)
        await asyncio.sleep(2)

    async with raw_server(break_it) as port:
        connection = await connect("127.0.0.1", port)
        said = await ask(connection)
    assert isinstance(said, CallFailed)
    assert connection.lost


async def test_what_is_taken_back_is_not_answered() -> None:
    async def echo(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await asyncio.sleep(0.2)
        return message

    async with grpcio_server(echo) as port:
        connection = await connect("127.0.0.1", port)
        told: list[object] = []
        take_back = connection.call(connection.head(PATH), b"x", 5.0, told.append)
        take_back()
        assert len(connection) == 0
        assert await ask(connection, b"y") == b"y"
        assert not told


async def test_nobody_there_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="111"):
        await connect("127.0.0.1", 1)
