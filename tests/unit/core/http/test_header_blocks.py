"""HPACK: what we read is what the hpack library reads, whatever the caller's encoder does; caches change nothing."""

from __future__ import annotations

import contextlib

import pytest
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.http.frames import ConnectionFault, StreamFault
from modelyard.core.http.header_blocks import HeaderBlocks, literals, status

NAMES = st.sampled_from([b"x-a", b"x-b", b"grpc-timeout", b"te", b"user-agent", b"x-trace-bin"])
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=40)), max_size=8)
FIXED = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C"), (b"content-type", b"application/grpc")]


@given(st.lists(st.tuples(FIELDS, st.booleans(), st.sampled_from([None, 0, 64, 4096])), max_size=12))
def test_any_encoder_is_understood(blocks: list[tuple[list[tuple[bytes, bytes]], bool, int | None]]) -> None:
    encoder, blocks_read = Encoder(), HeaderBlocks(1 << 16)
    for fields, huffman, table in blocks:
        if table is not None:
            encoder.header_table_size = table
        assert blocks_read.fields(encoder.encode(fields, huffman=huffman)) == fields


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_random_bytes_are_read_as_the_library_reads_them_or_refused(blocks: list[bytes]) -> None:
    ours, theirs = HeaderBlocks(1 << 16), Decoder()
    for block in blocks:
        try:
            expected = [(bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True)]
        except (HPACKError, IndexError):
            with pytest.raises(ConnectionFault):
                ours.fields(block)
            return
        assert ours.fields(block) == expected


def test_the_same_block_gives_the_same_head_and_another_timeout_does_too() -> None:
    encoder, blocks = Encoder(), HeaderBlocks(1 << 16)
    heads = []
    for number in range(50):
        fields = [*FIXED, (b"grpc-timeout", b"%du" % (900_000 + number % 7))]
        head, timeout = blocks.request(encoder.encode(fields))
        assert timeout == b"%du" % (900_000 + number % 7)
        heads.append(head)
    assert all(head is heads[0] for head in heads)
    assert heads[0].path == "/a.B/C"


def test_a_block_means_something_else_once_the_table_has_changed() -> None:
    blocks = HeaderBlocks(1 << 16)
    blocks.request(literals([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/")]) + b"\x40\x03x-a\x011")
    block = literals([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/")]) + b"\xbe"
    assert blocks.request(block)[0].texts["x-a"] == "1"
    assert blocks.request(block)[0].texts["x-a"] == "1"
    blocks.fields(b"\x40\x03x-a\x012")
    assert blocks.request(block)[0].texts["x-a"] == "2"


def test_a_list_that_grows_out_of_few_bytes_is_refused() -> None:
    blocks = HeaderBlocks(1 << 15)
    blocks.fields(b"\x40\x01a\x7f\xe1\x1d" + b"x" * 3936)  # one entry of nearly the whole table
    with pytest.raises(ConnectionFault, match="too large"):
        blocks.fields(b"\xbe" * 100)


def test_caches_stay_small() -> None:
    blocks, encoder = HeaderBlocks(1 << 16), Encoder()
    for number in range(1000):
        blocks.request(encoder.encode([*FIXED, (b"x-request-id", b"%d" % number)]))
        blocks.request(literals([*FIXED, (b"x-request-id", b"%d" % number)]))
    for number in range(100):
        blocks.request(literals([*FIXED, (b"x-request-id", b"%d" % number * 1000)]))
    assert 0 < len(blocks._blocks) <= 32
    assert 0 < len(blocks._heads) <= 32
    assert max(map(len, blocks._blocks)) <= 512
    assert max(sum(map(len, head.texts.values())) for head in blocks._heads.values()) <= 1024


@pytest.mark.parametrize(
    "fields",
    [
        [(b":method", b"POST"), (b":scheme", b"http")],
        [*FIXED, (b":path", b"/again")],
        [*FIXED, (b":status", b"200")],
        [*FIXED, (b"Upper", b"x")],
        [*FIXED, (b"connection", b"close")],
        [*FIXED, (b"te", b"gzip")],
        [*FIXED, (b"x-a", b"one\r\ntwo: 3")],
        [*FIXED, (b"content-length", b"1"), (b"content-length", b"2")],
        [*FIXED, (b"content-length", b"-1")],
        [(b":method", b"POST"), (b":scheme", b"http"), (b":path", "/ü".encode())],
    ],
)
def test_malformed_requests_end_their_stream(fields: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(StreamFault):
        HeaderBlocks(1 << 16).request(literals(fields))


@given(st.lists(st.tuples(NAMES, st.binary(max_size=300)), max_size=5), st.sampled_from([200, 204, 404, 503]))
def test_what_we_write_any_client_reads(fields: list[tuple[bytes, bytes]], code: int) -> None:
    found = [(bytes(name), bytes(value)) for name, value in Decoder().decode(status(code) + literals(fields), raw=True)]
    assert found == [(b":status", str(code).encode()), *fields]


@given(st.binary(max_size=200))
def test_nothing_but_faults_is_raised(block: bytes) -> None:
    with contextlib.suppress(ConnectionFault, StreamFault):
        HeaderBlocks(1 << 12).request(block)
