"""gRPC in HTTP/2 bodies: messages however they are cut, compression with a cap, timeouts, metadata, status."""

from __future__ import annotations

import gzip
import itertools
import zlib

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument, ModelyardError, ResourceExhausted, Unavailable
from modelyard.core.http.grpc_messages import MessageReader, binary, metadata_of, timeout_seconds, trailers
from modelyard.core.http.head import Head
from modelyard.core.http.limits import Budget, Limits
from tests.unit.core.http.wire import message_frame

MOST = 1 << 12


def reader(encoding: str = "identity", held: int = 1 << 20) -> MessageReader:
    return MessageReader(encoding, Limits(message_bytes=MOST), Budget(held))


def cut(body: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({min(place, len(body)) for place in places} | {0, len(body)})
    return [body[start:end] for start, end in itertools.pairwise(ends)]


@given(st.lists(st.binary(max_size=300), max_size=6), st.lists(st.integers(0, 2000), max_size=20))
def test_messages_are_the_same_however_they_are_cut(messages: list[bytes], places: list[int]) -> None:
    budget = Budget(1 << 20)
    whole = MessageReader("identity", Limits(message_bytes=MOST), budget)
    found = [message for piece in cut(b"".join(map(message_frame, messages)), places) for message in whole.feed(piece)]
    assert found == messages
    assert not whole.unfinished
    assert budget.held == 0


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_random_bytes_hold_nothing_after_the_end(pieces: list[bytes]) -> None:
    budget = Budget(200)
    made = MessageReader("gzip", Limits(message_bytes=MOST), budget)
    try:
        for piece in pieces:
            made.feed(piece)
            assert 0 <= budget.held <= 200
    except ModelyardError:
        pass
    made.close()
    assert budget.held == 0


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_packed_messages(encoding: str, pack: object) -> None:
    assert callable(pack)
    message = bytes(range(256)) * 8
    assert reader(encoding).feed(message_frame(pack(message), 1) + message_frame(b"plain")) == [message, b"plain"]


def test_a_bomb_is_refused_before_it_is_unpacked_whole() -> None:
    with pytest.raises(ResourceExhausted, match="larger than 4096"):
        reader("gzip").feed(message_frame(gzip.compress(bytes(10 << 20))[:4000], 1))


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", message_frame(b"no gzip", 1)),
        ("gzip", message_frame(gzip.compress(b"cut off")[:-4], 1)),
        ("gzip", message_frame(gzip.compress(b"and more") + b"x", 1)),
        ("identity", message_frame(b"packed?", 1)),
        ("identity", message_frame(b"strange", 7)),
    ],
    # gzip writes the time into its bytes: as names of tests they would differ from process to process.
    ids=["no gzip", "cut off", "and more", "packed", "strange"],
)
def test_what_is_not_packed_as_said(encoding: str, body: bytes) -> None:
    with pytest.raises(InvalidArgument):
        reader(encoding).feed(body)


def test_a_message_too_large_is_refused_by_its_prefix() -> None:
    with pytest.raises(ResourceExhausted) as caught:
        reader().feed(b"\x00\x7f\xff\xff\xff")
    assert caught.value.reason == "MESSAGE_TOO_LARGE"


def test_no_more_is_held_than_the_budget() -> None:
    with pytest.raises(Unavailable):
        reader(held=100).feed(message_frame(bytes(1000))[:500])


@pytest.mark.parametrize(
    ("text", "seconds"), [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"4m", 0.004), (b"5u", 5e-6), (b"0n", 0)]
)
def test_timeouts(text: bytes, seconds: float) -> None:
    assert timeout_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"", b"1", b"S", b"123456789S", b"-1S", b"1s", b"1.5S", b" 1S"])
def test_wrong_timeouts(text: bytes) -> None:
    with pytest.raises(InvalidArgument):
        timeout_seconds(text)


@given(st.binary(max_size=100))
def test_binary_metadata_with_and_without_padding(value: bytes) -> None:
    import base64

    packed = base64.b64encode(value)
    assert binary(packed) == binary(packed.rstrip(b"=")) == value


def test_metadata_is_the_callers_own() -> None:
    fields = ((b":authority", b"x"), (b"te", b"trailers"), (b"grpc-encoding", b"gzip"), (b"x-a", b"1"), (b"x-a", b"2"))
    binary_ones = ((b"x-bin", b"AQI,Aw=="), (b"user-agent", b"me"))
    head = Head("POST", "/", fields + binary_ones, None)
    assert metadata_of(head) == [("x-a", "1"), ("x-a", "2"), ("x-bin", b"\x01\x02"), ("x-bin", b"\x03"), ("user-agent", "me")]


def test_metadata_that_is_no_text() -> None:
    with pytest.raises(InvalidArgument):
        metadata_of(Head("POST", "/", ((b"x-a", b"\xff"),), None))
    with pytest.raises(InvalidArgument):
        metadata_of(Head("POST", "/", ((b"x-bin", b"no base64!"),), None))


@given(st.text(max_size=60))
def test_the_message_of_a_status_can_be_read_back(message: str) -> None:
    from urllib.parse import unquote

    fields = dict(Decoder().decode(trailers(3, message, [(b"x-bin", b"\xff")])))
    assert unquote(fields.get("grpc-message", "")) == message.encode("utf-8", "replace").decode()
    assert fields["grpc-status"] == "3"
    assert fields["x-bin"] == "/w"
