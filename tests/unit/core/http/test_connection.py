"""An HTTP/2 connection: the same calls however its bytes are cut, windows both ways, limits that end it with the right code."""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.http import frames
from modelyard.core.http.calls import UnaryCall
from modelyard.core.http.header_blocks import literals
from modelyard.core.http.limits import Allowance
from modelyard.core.http.methods import Methods
from modelyard.core.http.sending import ACK_S
from tests.unit.core.http.wire import METHOD, OPENING, Caller, Frame, data, message_frame, session


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]], *values: Any) -> None:
    asyncio.run(test(*values))


def goaway(sent: list[Frame]) -> int | None:
    """The code of GOAWAY among the frames."""
    return next((struct.unpack(">II", frame.payload[:8])[1] for frame in sent if frame.kind == frames.GOAWAY), None)


def resets(sent: list[Frame]) -> dict[int, int]:
    """The code of each stream that was reset."""
    return {frame.stream: frames.read_number(frame.payload) for frame in sent if frame.kind == frames.RST_STREAM}


def pieces(body: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(body) + 1) for place in places} | {0, len(body)})
    return [body[start:end] for start, end in itertools.pairwise(ends)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(max_size=400), min_size=1, max_size=6), st.lists(st.integers(0, 10_000), max_size=30), st.integers(1, 500)
)
def test_the_same_calls_however_the_bytes_are_cut(messages: list[bytes], places: list[int], size: int) -> None:
    async def run() -> None:
        made = session()
        body = OPENING + b"".join(made.caller.call(1 + 2 * n, message, size) for n, message in enumerate(messages))
        answers = made.answers(made.feed(*pieces(body, places)))
        for number, message in enumerate(messages):
            answer, fields = answers[1 + 2 * number]
            assert answer == message_frame(message)
            assert fields["grpc-status"] == "0"
        assert made.connection.streams == {}
        assert made.budget.held == 0

    on_a_loop(run)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=20), st.booleans())
def test_random_bytes_raise_nothing_and_leave_nothing(blobs: list[bytes], opened: bool) -> None:
    async def run() -> None:
        made = session()
        made.feed(OPENING if opened else b"")
        for blob in blobs:
            made.feed(blob)
        made.connection.connection_lost(None)
        assert (made.connection.streams, made.budget.held, made.front.connections) == ({}, 0, 0)

    on_a_loop(run)


KINDS = st.integers(0, 11)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(KINDS, st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40)), max_size=25))
def test_random_frames_raise_nothing_and_leave_nothing(parts: list[tuple[int, int, int, bytes]]) -> None:
    async def run() -> None:
        made = session()
        made.feed(OPENING, made.caller.headers(1), *(frames.frame(*part) for part in parts))
        assert goaway(made.feed()) != frames.INTERNAL_ERROR
        made.connection.connection_lost(None)
        assert (made.connection.streams, made.budget.held, made.connection._blocked) == ({}, 0, {})

    on_a_loop(run)


async def test_an_answer_waits_for_the_windows_and_goes_out_piece_by_piece() -> None:
    made = session()
    message = bytes(range(256)) * 400
    sent = made.feed(frames.PREFACE, frames.settings({frames.INITIAL_WINDOW_SIZE: 1000}), made.caller.call(1, message))
    got = b"".join(frame.payload for frame in sent if frame.kind == frames.DATA)
    assert len(got) == 1000
    while (left := 5 + len(message) - len(got)) > 0:
        sent = made.feed(frames.window_update(1, min(7000, left)), frames.window_update(0, min(7000, left)))
        new = b"".join(frame.payload for frame in sent if frame.kind == frames.DATA)
        assert 0 < len(new) <= 7000
        got += new
    assert got == message_frame(message)
    assert made.caller.block(sent[-1])["grpc-status"] == "0"
    assert made.budget.held == 0


async def test_new_windows_are_acknowledged_before_they_are_used() -> None:
    """Until the acknowledgement a client holds us to the old ones: C-core ends the stream otherwise."""
    made = session()
    made.feed(frames.PREFACE, frames.settings({frames.INITIAL_WINDOW_SIZE: 5}), made.caller.call(1, bytes(100)))
    sent = made.feed(frames.settings({frames.INITIAL_WINDOW_SIZE: 500}))
    assert [frame.kind for frame in sent] == [frames.SETTINGS, frames.DATA, frames.HEADERS]


async def test_a_smaller_window_takes_back_what_was_not_used() -> None:
    made = session()
    made.feed(frames.PREFACE, frames.settings({frames.INITIAL_WINDOW_SIZE: 100}), made.caller.call(1, bytes(200)))
    assert made.feed(frames.settings({frames.INITIAL_WINDOW_SIZE: 40}), frames.window_update(1, 60))[1:] == []
    sent = made.feed(frames.window_update(1, 10))
    assert [len(frame.payload) for frame in sent] == [10]


async def test_the_connections_window_is_shared_in_turn() -> None:
    made = session()
    made.feed(frames.PREFACE, frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 20}))
    made.feed(made.caller.call(1, bytes(60_000)), made.caller.call(3, bytes(60_000)), made.caller.call(5, b"small"))
    sent = made.feed(frames.window_update(0, 200_000))
    assert {frame.stream for frame in sent if frame.flags & frames.END_STREAM} == {3, 5}


async def test_windows_are_given_back_as_data_is_taken() -> None:
    made = session(stream_window=1 << 16, connection_window=1 << 17, message_bytes=1 << 20)
    made.feed(OPENING, made.caller.headers(1))
    given_back = {0: 0, 1: 0}
    for _ in range(30):
        for frame in made.feed(
            frames.frame(frames.DATA, 0, 1, bytes(10_000) if given_back[1] else message_frame(bytes(300_000))[:10_000])
        ):
            assert frame.kind == frames.WINDOW_UPDATE
            given_back[frame.stream] += frames.read_number(frame.payload)
    assert given_back[1] >= 300_000 - (1 << 16)
    assert given_back[0] >= 300_000 - (1 << 17)


async def test_more_than_a_window_is_a_flow_control_error() -> None:
    made = session(stream_window=10_000)
    sent = made.feed(OPENING, made.caller.headers(1), frames.frame(frames.DATA, 0, 1, message_frame(bytes(20_000))[:16_000]))
    assert resets(sent) == {1: frames.FLOW_CONTROL_ERROR}
    made = session({}, slow_methods(), stream_window=1 << 20, connection_window=1 << 16)
    made.feed(OPENING, made.caller.headers(1, made.caller.fields("/slow.Service/Take")))
    sent = made.feed(*[frames.frame(frames.DATA, 0, 1, message_frame(bytes(5000)))] * 20)
    assert goaway(sent) == frames.FLOW_CONTROL_ERROR


async def test_messages_of_requests_that_never_end_are_counted() -> None:
    made = session({METHOD: lambda call, message: call.answer(message)}, slow_methods(), held_bytes=100_000)
    unary = made.caller.fields("/slow.Service/One")
    bodies = [frames.frame(frames.DATA, 0, 1 + 2 * n, message_frame(bytes(10_000))) for n in range(20)]
    parts = [made.caller.headers(1 + 2 * n, unary if n % 2 else None) + body for n, body in enumerate(bodies)]
    refused = made.answers(made.feed(OPENING, *parts))
    for _ in range(5):
        await asyncio.sleep(0)
    assert 80_000 < made.budget.held <= 100_000
    assert {fields["grpc-status"] for _, fields in refused.values()} == {"14"}
    assert len(refused) >= 10
    made.connection.connection_lost(None)
    assert made.budget.held == 0


async def test_the_window_stays_shut_while_a_method_does_not_take_its_messages() -> None:
    made = session({}, slow_methods(), stream_window=1 << 16, connection_window=1 << 20)
    made.feed(OPENING, made.caller.headers(1, made.caller.fields("/slow.Service/Take")))
    sent = made.feed(*[frames.frame(frames.DATA, 0, 1, message_frame(bytes(5000)))] * 13)
    assert sent == []
    assert made.budget.held == 13 * 5000
    made.feed(frames.rst_stream(1, frames.CANCEL))
    await asyncio.sleep(0)
    assert made.budget.held == 0
    assert made.connection._owed == 13 * 5005  # what the stream took of the connection's window is given back


def slow_methods() -> Methods:
    """A method that takes a stream and never reads it, and one that takes one message."""

    async def take(requests: Any, context: Any) -> bytes:
        await asyncio.sleep(60)
        return b""

    async def one(request: bytes, context: Any) -> bytes:
        return request

    handlers = {"Take": grpc.stream_unary_rpc_method_handler(take), "One": grpc.unary_unary_rpc_method_handler(one)}
    methods = Methods()
    methods.add_registered_method_handlers("slow.Service", handlers)
    return methods


def flood(kind: str, caller: Caller) -> bytes:
    """Many frames that cost the sender little."""
    if kind == "ping":
        return frames.frame(frames.PING, 0, 0, bytes(8)) * 3000
    if kind == "settings":
        return frames.settings({}) * 3000
    if kind == "empty data":
        return caller.headers(1) + frames.frame(frames.DATA, 0, 1) * 3000
    if kind == "priority":
        return frames.frame(frames.PRIORITY, 0, 1, bytes(5)) * 3000
    if kind == "window update":
        return caller.headers(1) + frames.window_update(1, 1) * 3000
    if kind == "unknown":
        return frames.frame(77, 0, 0) * 3000
    assert kind == "rapid reset"
    return b"".join(caller.headers(1 + 2 * n) + frames.rst_stream(1 + 2 * n, frames.CANCEL) for n in range(3000))


@pytest.mark.parametrize("kind", ["ping", "settings", "empty data", "priority", "window update", "unknown", "rapid reset"])
async def test_floods_end_the_connection(kind: str) -> None:
    made = session()
    assert goaway(made.feed(OPENING, flood(kind, made.caller))) == frames.ENHANCE_YOUR_CALM
    assert made.wire.closed


PING = frames.frame(frames.PING, 0, 0, b"are you?")


async def test_a_ping_on_a_connection_without_calls_is_answered_at_once() -> None:
    assert [frame.payload for frame in session().feed(OPENING, PING) if frame.kind == frames.PING] == [b"are you?"]


async def test_a_ping_beside_a_call_is_answered_with_it_in_one_piece() -> None:
    calls: list[UnaryCall] = []
    made = session({METHOD: lambda call, message: calls.append(call)})
    sent = made.feed(OPENING, PING + made.caller.call(1, b"x"))
    assert frames.PING not in [frame.kind for frame in sent]
    before = made.wire.writes
    calls[0].answer(b"y")
    assert [frame.kind for frame in made.wire.frames()] == [frames.PING, frames.HEADERS, frames.DATA, frames.HEADERS]
    assert made.wire.writes == before + 1
    await asyncio.sleep(3 * ACK_S)
    assert made.wire.frames() == []


async def test_a_ping_beside_a_slow_call_is_answered_soon_and_once() -> None:
    made = session({METHOD: lambda call, message: None})
    assert frames.PING not in [frame.kind for frame in made.feed(OPENING, made.caller.call(1, b"x") + PING + PING)]
    await asyncio.sleep(3 * ACK_S)
    assert [(frame.kind, frame.flags) for frame in made.wire.frames()] == [(frames.PING, frames.ACK)] * 2
    await asyncio.sleep(3 * ACK_S)
    assert made.wire.frames() == []


async def test_calls_that_are_answered_are_no_flood() -> None:
    made = session()
    body = b"".join(made.caller.call(1 + 2 * n, b"x") + frames.frame(frames.PING, 0, 0, bytes(8)) for n in range(10_000))
    assert goaway(made.feed(OPENING, body)) is None


def test_an_allowance_grows_again_but_not_beyond_its_most() -> None:
    allowance = Allowance(3, 1.0)
    assert [allowance.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert allowance.take(13.0)
    for _ in range(100):
        allowance.give()
    assert [allowance.take(13.0) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("size", [0, 1, 4000])
async def test_a_header_block_that_never_ends_is_cut_short(size: int) -> None:
    made = session()
    start = frames.frame(frames.HEADERS, 0, 1, b"\x82")
    sent = made.feed(OPENING, start, *[frames.frame(frames.CONTINUATION, 0, 1, bytes(size))] * 50)
    assert goaway(sent) == frames.ENHANCE_YOUR_CALM


async def test_a_header_block_in_pieces() -> None:
    made = session()
    block = made.caller.encoder.encode(made.caller.fields(x_long="y" * 3000))
    parts = [frames.frame(frames.CONTINUATION, 0, 1, block[at : at + 1000]) for at in range(1000, len(block), 1000)]
    end = frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1)
    sent = made.feed(OPENING, frames.frame(frames.HEADERS, 0, 1, block[:1000]), *parts, end, data(1, message_frame(b"m")))
    assert made.answers(sent)[1][0] == message_frame(b"m")


async def test_padding_is_left_out_but_counts() -> None:
    made = session()
    block = made.caller.encoder.encode(made.caller.fields())
    headers = frames.frame(
        frames.HEADERS, frames.END_HEADERS | frames.PADDED | frames.WITH_PRIORITY, 1, b"\x03" + bytes(5) + block + bytes(3)
    )
    body = message_frame(b"m")
    padded = frames.frame(frames.DATA, frames.END_STREAM | frames.PADDED, 1, b"\xff" + body + bytes(255))
    assert made.answers(made.feed(OPENING, headers, padded))[1][0] == body
    assert made.connection._owed == 1 + len(body) + 255


async def test_one_stream_too_many_is_refused_and_the_others_go_on() -> None:
    made = session({METHOD: lambda call, message: None}, streams=3)
    sent = made.feed(OPENING, *[made.caller.call(1 + 2 * n, b"x") for n in range(5)])
    assert resets(sent) == {7: frames.REFUSED_STREAM, 9: frames.REFUSED_STREAM}
    assert sorted(made.connection.streams) == [1, 3, 5]


async def test_frames_too_large_and_header_lists_too_large() -> None:
    made = session()
    assert goaway(made.feed(OPENING, frames.frame(frames.DATA, 0, 1, bytes((1 << 16) + 1)))) == frames.FRAME_SIZE_ERROR
    made = session()
    block = b"\x82" + literals([(b"x", b"y" * 100)]) * 300
    assert goaway(made.feed(OPENING, made.caller.headers(1), frames.frame(frames.HEADERS, 4, 3, block[:16_000]))) in (
        frames.COMPRESSION_ERROR,
        frames.ENHANCE_YOUR_CALM,
    )


async def test_a_caller_that_does_not_read_is_not_read_either() -> None:
    made = session()
    made.feed(OPENING)
    made.connection.pause_writing()
    assert not made.wire.reading
    sent = made.feed(made.caller.call(1, bytes(1000)))
    assert [frame.kind for frame in sent] == [frames.HEADERS]
    made.connection.resume_writing()
    assert made.wire.reading
    assert [frame.kind for frame in made.wire.frames()] == [frames.DATA, frames.HEADERS]


async def test_answers_that_are_made_at_once_do_not_pile_up_before_the_socket() -> None:
    made = session({METHOD: lambda call, message: call.answer(bytes(1 << 20))}, write_buffer=1 << 16)
    written: list[int] = []
    made.wire.writelines = lambda pieces: written.append(sum(map(len, pieces)))  # type: ignore[method-assign]
    made.wire.write = lambda data: (written.append(len(data)), made.connection.pause_writing())  # type: ignore
    wide = frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 30}) + frames.window_update(0, 1 << 30)
    for piece in (frames.PREFACE + wide, b"".join(made.caller.call(1 + 2 * n, b"x") for n in range(50))):
        made.connection.data_received(piece)
    assert sum(written) < 1 << 18
    assert made.budget.held > 40 << 20


async def test_draining_lets_calls_end_and_refuses_new_ones() -> None:
    calls: list[UnaryCall] = []
    made = session({METHOD: lambda call, message: calls.append(call)})
    made.feed(OPENING, made.caller.call(1, b"x"))
    made.connection.drain()
    assert goaway(made.wire.frames()) == frames.NO_ERROR
    assert resets(made.feed(made.caller.call(3, b"x"))) == {3: frames.REFUSED_STREAM}
    assert not made.wire.closed
    calls[0].answer(b"y")
    assert made.wire.closed
    assert made.answers(made.wire.frames())[1][0] == message_frame(b"y")


async def test_idle_and_silent_connections_are_closed() -> None:
    made = session(idle_s=10, request_s=5)
    made.feed(OPENING)
    made.connection.sweep(100.0)
    made.connection.sweep(109.0)
    assert not made.wire.closed
    made.connection.sweep(111.0)
    assert made.wire.closed
    made = session({METHOD: lambda call, message: None}, idle_s=10, request_s=5)
    made.feed(OPENING, made.caller.call(1, b"x"))
    made.connection.sweep(100.0)
    made.connection.sweep(111.0)
    assert [frame.kind for frame in made.wire.frames()] == [frames.PING]
    made.connection.sweep(116.0)
    assert made.wire.aborted


async def test_a_request_that_does_not_get_on_is_reset() -> None:
    made = session(request_s=5, bytes_per_s=1000)
    made.feed(OPENING, made.caller.headers(1), frames.frame(frames.DATA, 0, 1, message_frame(bytes(9000))[:2000]))
    made.connection.sweep(100.0)
    made.connection.sweep(106.9)
    assert made.wire.frames() == []
    made.connection.sweep(107.1)
    assert resets(made.wire.frames()) == {1: frames.CANCEL}
    assert made.budget.held == 0


async def test_an_answer_that_nobody_takes_is_reset() -> None:
    made = session(idle_s=50, request_s=5)
    made.feed(frames.PREFACE, frames.settings({frames.INITIAL_WINDOW_SIZE: 10}), made.caller.call(1, bytes(1000)))
    assert made.budget.held > 900
    for now in (100.0, 120.0, 149.0):
        made.feed(frames.frame(frames.PING, 0, 0, bytes(8)))
        made.connection.sweep(now)
    assert resets(made.wire.frames()) == {}
    made.feed(frames.frame(frames.PING, 0, 0, bytes(8)))
    made.connection.sweep(151.0)
    assert resets(made.wire.frames()) == {1: frames.CANCEL}
    assert made.budget.held == 0


async def test_what_is_no_http2_is_refused() -> None:
    made = session()
    assert goaway(made.feed(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")) == frames.PROTOCOL_ERROR
    assert made.wire.closed


async def test_a_request_that_goes_on_after_its_answer_is_stopped_a_little_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reset that comes together with the answer makes HAProxy forget the answer."""
    monkeypatch.setattr("modelyard.core.http.sending.STOP_AFTER_S", 0.05)
    made = session()
    nowhere = made.caller.fields("/no.Service/Nowhere")
    sent = made.feed(OPENING, made.caller.headers(1, nowhere), made.caller.headers(3, nowhere), made.caller.headers(5, nowhere))
    assert {stream: fields["grpc-status"] for stream, (_, fields) in made.answers(sent).items()} == {1: "12", 3: "12", 5: "12"}
    assert resets(sent) == {}
    made.feed(data(1, b"abc", end=False), data(3, b"abc"), frames.rst_stream(5, frames.CANCEL))
    await asyncio.sleep(0.2)
    assert resets(made.wire.frames()) == {1: frames.NO_ERROR}  # of 3 all has come, 5 was given up


async def test_what_comes_between_an_answer_and_its_reset_is_no_nuisance() -> None:
    made = session(nuisances=20, nuisances_per_s=0)
    made.feed(OPENING, made.caller.headers(1, made.caller.fields("/no.Service/Nowhere")))
    sent = made.feed(*(data(1, b"x", end=False) for _ in range(200)))
    assert goaway(sent) is None
    assert not made.wire.closed
