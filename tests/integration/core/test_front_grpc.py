"""Real gRPC clients against the front end: natives and servicers, large, many at once, cancelled, late, drained, compressed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from modelyard.core.errors import InvalidArgument, ResourceExhausted
from modelyard.core.http.calls import UnaryCall
from modelyard.core.rpc.server import Mount
from tests.bench.load_client import NoLoadClient, load
from tests.support.front import ECHO, Served, echo, served
from tests.support.real_servers import absent

MIB = 1 << 20
S = "/sample.Sample/"
N = "/inference.GRPCInferenceService/"
LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Seen:
    """What the server's side saw."""

    def __init__(self) -> None:
        self.calls: list[UnaryCall] = []
        self.cancelled = threading.Event()
        self.taken = 0

    def wait(self, call: UnaryCall, message: bytes) -> None:
        self.calls.append(call)
        call.on_cancel(self.cancelled.set)

    async def endless(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(MIB)
                self.taken += 1
        finally:
            self.cancelled.set()


def fail(call: UnaryCall, message: bytes) -> None:
    if message == b"busy":
        call.fail(ResourceExhausted("QUEUE_FULL", "no room: 100% ü", retry_after_s=2.5))
    elif message == b"raise":
        raise InvalidArgument("BAD_NAME", "name is wrong", field="name", given="x")
    elif message == b"bug":
        raise KeyError("/secret/path")
    else:
        call.answer(call.metadata(message.decode()).encode())


async def both(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for message in requests:
        yield message


async def total(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return str(sum([len(message) async for message in requests])).encode()


async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for _ in range(int(request)):
        yield bytes(MIB)


async def metadata(request: bytes, context: Any) -> bytes:
    await context.send_initial_metadata((("x-first", "1"), ("x-first-bin", b"\xff\x00")))
    context.set_trailing_metadata((("x-last-bin", b"\x01"),))
    return repr(sorted(item for item in context.invocation_metadata() if item[0].startswith("x-"))).encode()


def blocking(request: bytes, context: Any) -> bytes:
    return f"{threading.current_thread().name} {context.time_remaining():.0f} {context.peer()}".encode()


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def server(seen: Seen) -> Iterator[Served]:
    handlers = {
        "Both": grpc.stream_stream_rpc_method_handler(both),
        "Total": grpc.stream_unary_rpc_method_handler(total),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Metadata": grpc.unary_unary_rpc_method_handler(metadata),
        "Blocking": grpc.unary_unary_rpc_method_handler(blocking),
        "Endless": grpc.stream_stream_rpc_method_handler(seen.endless),
    }
    mount = Mount(
        "sample.Sample",
        lambda it: it.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("sample.Sample", handlers),)),
    )
    natives = {ECHO: echo, f"{N}Fail": fail, f"{N}Wait": seen.wait}
    with served(natives, mounts=[mount], max_message_bytes=33 * MIB) as running:
        yield running


@pytest.fixture
def channel(server: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address, options=LARGE) as made:
        yield made


def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code()


def until(condition: Any, within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("size", [0, 1, 1000, 70_000, 32 * MIB])
def test_messages_of_all_sizes_both_ways(channel: grpc.Channel, size: int) -> None:
    message = (bytes(range(256)) * (size // 256 + 1))[:size]
    assert channel.unary_unary(ECHO)(message, timeout=60) == message
    assert list(channel.stream_stream(f"{S}Both")(iter([message] * 2), timeout=60)) == [message] * 2


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests(channel: grpc.Channel, compression: Any) -> None:
    message = b"the same again " * 10_000
    assert channel.unary_unary(ECHO)(message, compression=compression, timeout=10) == message
    assert channel.stream_unary(f"{S}Total")(iter([message] * 3), compression=compression, timeout=10) == b"450000"


@pytest.mark.parametrize("method", [ECHO, f"{S}Both"])
def test_a_message_too_large(channel: grpc.Channel, method: str) -> None:
    assert code_of(lambda: list(channel.stream_stream(method)(iter([bytes(34 * MIB)]), timeout=30))) is (
        grpc.StatusCode.RESOURCE_EXHAUSTED
    )
    assert channel.unary_unary(ECHO)(b"and on it goes", timeout=10)


def test_an_error_of_a_native_has_its_details(channel: grpc.Channel) -> None:
    call = channel.unary_unary(f"{N}Fail")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"busy", timeout=10, metadata=[("x-request-id", "mine")])
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "no room: 100% ü")
    trailers = dict(caught.value.trailing_metadata())
    assert trailers["x-request-id"] == "mine"
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    retry = error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 2500
    assert code_of(lambda: call(b"raise", timeout=10)) is grpc.StatusCode.INVALID_ARGUMENT


def test_a_bug_in_a_native_shows_nothing_of_the_inside(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"{N}Fail")(b"bug", timeout=10)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in repr((caught.value.details(), caught.value.trailing_metadata()))


def test_natives_see_metadata(channel: grpc.Channel) -> None:
    call = channel.unary_unary(f"{N}Fail")
    given = [("x-key", "first"), ("x-key", "last"), ("x-raw-bin", b"raw")]
    assert [call(key, timeout=10, metadata=given) for key in (b"x-key", b"x-raw-bin", b"x-none")] == [b"last", b"raw", b""]


def test_metadata_both_ways(channel: grpc.Channel) -> None:
    answer, call = channel.unary_unary(f"{S}Metadata").with_call(b"", metadata=[("x-b-bin", b"\xfe"), ("x-a", "1")], timeout=10)
    assert answer == b"[('x-a', '1'), ('x-b-bin', b'\\xfe')]"
    assert {("x-first", "1"), ("x-first-bin", b"\xff\x00")} <= set(call.initial_metadata())
    assert ("x-last-bin", b"\x01") in call.trailing_metadata()


def test_plain_functions_run_in_a_thread_and_see_deadline_and_peer(channel: grpc.Channel) -> None:
    answer = channel.unary_unary(f"{S}Blocking")(b"", timeout=30).decode()
    assert answer.startswith("rpc_")
    assert answer.split(" ")[1] in ("29", "30")
    assert "127.0.0.1" in answer


def test_an_unknown_method_and_too_many_messages(channel: grpc.Channel) -> None:
    assert code_of(lambda: channel.unary_unary("/no.Such/Method")(b"", timeout=10)) is grpc.StatusCode.UNIMPLEMENTED
    assert code_of(lambda: channel.stream_unary(ECHO)(iter([b"1", b"2"]), timeout=10)) is grpc.StatusCode.UNIMPLEMENTED
    assert code_of(lambda: channel.stream_unary(ECHO)(iter([]), timeout=10)) is grpc.StatusCode.UNIMPLEMENTED


def test_a_deadline_passes(channel: grpc.Channel, seen: Seen) -> None:
    assert code_of(lambda: channel.unary_unary(f"{N}Wait")(b"", timeout=0.2)) is grpc.StatusCode.DEADLINE_EXCEEDED
    assert seen.cancelled.wait(5)
    assert seen.calls[0].deadline is not None
    assert seen.calls[0].deadline < time.monotonic()
    seen.calls[0].answer(b"too late, and nobody minds")


def test_a_caller_gives_up(channel: grpc.Channel, seen: Seen) -> None:
    call = channel.unary_unary(f"{N}Wait").future(b"")
    until(lambda: seen.calls)
    call.cancel()
    assert seen.cancelled.wait(5)


def test_a_connection_is_lost(server: Served, seen: Seen) -> None:
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(f"{N}Wait").future(b"")
        until(lambda: seen.calls)
    assert call.cancelled() or call.done()
    assert seen.cancelled.wait(5)
    until(lambda: server.call(lambda: server.server.front.connections) == 0)


def test_a_stream_cancelled_half_way_ends_the_method(channel: grpc.Channel, seen: Seen) -> None:
    call = channel.stream_stream(f"{S}Endless")(iter([b"x"]))
    next(call)
    call.cancel()
    assert seen.cancelled.wait(5)


def test_a_caller_that_never_reads_holds_the_method_back(server: Served, channel: grpc.Channel, seen: Seen) -> None:
    call = channel.stream_stream(f"{S}Endless")(iter([b"x"]))
    next(call)
    until(lambda: seen.taken > 2)
    time.sleep(0.5)
    before = seen.taken
    time.sleep(0.5)
    assert seen.taken == before
    assert seen.taken < 40
    assert server.call(lambda: server.server.front.budget.held) < 4 * MIB
    call.cancel()
    until(lambda: server.call(lambda: server.server.front.budget.held) == 0)


def test_a_hundred_calls_at_once_on_one_connection(channel: grpc.Channel) -> None:
    call = channel.unary_unary(ECHO)
    messages = [bytes([number]) * (number * 997) for number in range(100)]
    assert [future.result(30) for future in [call.future(message) for message in messages]] == messages
    with ThreadPoolExecutor(20) as pool:
        streams = [pool.submit(lambda m: list(channel.stream_stream(f"{S}Both")(iter([m] * 20))), m) for m in messages]
        assert [stream.result(60) for stream in streams] == [[message] * 20 for message in messages]


def test_uploads_and_downloads_of_many_messages(channel: grpc.Channel) -> None:
    assert channel.stream_unary(f"{S}Total")((bytes(MIB) for _ in range(100)), timeout=60) == str(100 * MIB).encode()
    assert sum(len(message) for message in channel.unary_stream(f"{S}Count")(b"100", timeout=60)) == 100 * MIB


def test_health_can_be_watched(server: Served, channel: grpc.Channel) -> None:
    watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="sample.Sample"))
    assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
    server.run(server.server.drain())
    assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watched.cancel()


def test_a_go_client(server: Served, tmp_path: Path) -> None:
    """Go's gRPC indexes every field it sends, so its header blocks differ from call to call."""
    (tmp_path / "body").write_bytes(bytes(100))
    given = {"body": tmp_path / "body", "method": ECHO, "seconds": 0.5, "warm": 0.1, "callers": 20, "connections": 2}
    try:
        plain = load(server.address, header="x-key=value", **given)
    except NoLoadClient as error:
        absent(str(error))
    assert (plain.errors, plain.requests > 0) == (0, True), plain.example
    hasty = load(server.address, timeout="2ms", **given)
    assert set(hasty.codes) <= {"DeadlineExceeded"}, hasty.example


async def test_an_aio_client(server: Served) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        answers = await asyncio.gather(*(channel.unary_unary(ECHO)(b"%d" % number) for number in range(50)))
        assert answers == [b"%d" % number for number in range(50)]
        stream = channel.stream_stream(f"{S}Both")()
        for number in range(3):
            await stream.write(b"%d" % number)
            assert await stream.read() == b"%d" % number
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF


def test_draining_lets_a_running_call_end(server: Served, seen: Seen) -> None:
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(f"{N}Wait").future(b"")
        until(lambda: seen.calls)
        stopping = asyncio.run_coroutine_threadsafe(server.server.stop(10), server.loop)
        time.sleep(0.2)
        assert not stopping.done()
        server.call(lambda: seen.calls[0].answer(b"the last"))
        assert call.result(5) == b"the last"
        stopping.result(5)
        assert code_of(lambda: channel.unary_unary(ECHO)(b"", timeout=2)) in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )


def test_calls_are_counted_by_method_and_code(channel: grpc.Channel) -> None:
    def counted(code: str) -> float:
        return REGISTRY.get_sample_value("modelyard_rpc_calls_total", {"method": f"{N}Fail", "code": code}) or 0.0

    before = [counted(code) for code in ("OK", "INTERNAL")]
    channel.unary_unary(f"{N}Fail")(b"x", timeout=10)
    code_of(lambda: channel.unary_unary(f"{N}Fail")(b"bug", timeout=10))
    assert [counted(code) for code in ("OK", "INTERNAL")] == [before[0] + 1, before[1] + 1]
