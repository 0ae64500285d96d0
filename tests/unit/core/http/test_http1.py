"""HTTP/1.1: requests however they are cut, bodies of all kinds, and what is refused with which status."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.http import http1
from modelyard.core.http.calls import HttpRequest, HttpResponse
from modelyard.core.http.http1 import Http1Connection
from modelyard.core.http.limits import Budget, Limits
from tests.unit.core.http.wire import Wire

Answer = tuple[int, dict[str, str], bytes]


class Session:
    """A connection, what its handler was asked, and what was sent."""

    def __init__(self, **limits: Any) -> None:
        self.asked: list[HttpRequest] = []
        self.gate: asyncio.Event | None = None
        self.wire, self.budget = Wire(), Budget(1 << 20)
        self.lost: list[Any] = []
        self.connection = Http1Connection(
            self.handle, Limits(**{"message_bytes": 1 << 14, **limits}), self.budget, self.lost.append
        )
        self.connection.connection_made(self.wire)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        if self.gate is not None:
            await self.gate.wait()
        self.asked.append(request)
        if request.path == "/bug":
            raise KeyError("/secret/path")
        if request.path == "/split":
            return HttpResponse(200, b"", headers={"x": "1\r\nset-cookie: 2"})
        if request.path == "/none":
            return HttpResponse(204)
        return HttpResponse(200, request.body or b"hello", "text/plain", {"X-Own": "1"})

    async def feed(self, *pieces: bytes) -> list[Answer]:
        for piece in pieces:
            self.connection.data_received(piece)
        for _ in range(400):
            await asyncio.sleep(0)
        return self.answers()

    def answers(self) -> list[Answer]:
        found, data = [], bytes(self.wire.sent)
        self.wire.sent.clear()
        while data:
            head, _, data = data.partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            fields = dict(line.split(": ", 1) for line in lines[1:])
            size = int(fields.get("content-length", 0)) if self.asked[-1:] == [] or self.asked[-1].method != "HEAD" else 0
            found.append((int(lines[0].split(" ")[1]), fields, data[:size]))
            data = data[size:]
        return found


def request(method: str = "GET", path: str = "/x", body: bytes = b"", **headers: str) -> bytes:
    fields = {"host": "here", **({"content-length": str(len(body))} if body else {})} | {
        key.replace("_", "-"): value for key, value in headers.items()
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {value}" for key, value in fields.items() if value is not None), "", ""]
    return "\r\n".join(lines).encode() + body


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


async def test_a_request_and_its_answer() -> None:
    made = Session()
    [(status, fields, body)] = await made.feed(request("POST", "/a%20b/%C3%BC?x=1%202", b"body", X_Key="Value"))
    assert (status, body) == (200, b"body")
    assert (fields["content-type"], fields["x-own"], fields["content-length"]) == ("text/plain", "1", "4")
    assert "date" in fields
    [asked] = made.asked
    assert (asked.method, asked.path, asked.query, asked.headers["x-key"]) == ("POST", "/a b/ü", "x=1%202", "Value")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 400), max_size=12), st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=4))
def test_the_same_requests_however_the_bytes_are_cut(places: list[int], bodies: list[bytes]) -> None:
    async def run() -> None:
        made = Session()
        data = b"".join(
            request("POST", "/x", body)
            if number % 2
            else request("POST", "/x", chunked(body), content_length=None, transfer_encoding="chunked")  # type: ignore[arg-type]
            for number, body in enumerate(bodies)
        )
        ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
        answers = await made.feed(*(data[start:end] for start, end in itertools.pairwise(ends)))
        assert [(status, body) for status, _, body in answers] == [(200, body) for body in bodies]
        assert made.budget.held == 0
        assert not made.wire.closed

    asyncio.run(run())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=10), st.booleans())
def test_random_bytes_raise_nothing_and_leave_nothing(blobs: list[bytes], begun: bool) -> None:
    async def run() -> None:
        made = Session()
        await made.feed(b"POST /x HTTP/1.1\r\nhost: x\r\n" if begun else b"", *blobs)
        made.connection.connection_lost(None)
        await asyncio.sleep(0)
        assert made.budget.held == 0
        assert made.lost == [made.connection]

    asyncio.run(run())


async def test_pipelined_requests_are_answered_in_order_and_no_more_is_read_meanwhile() -> None:
    made = Session()
    made.gate = asyncio.Event()
    assert await made.feed(request("POST", "/x", b"1") + request("POST", "/x", b"2")) == []
    assert not made.wire.reading
    made.gate.set()
    assert [body for _, _, body in await made.feed()] == [b"1", b"2"]
    assert made.wire.reading


async def test_head_has_a_length_and_no_body() -> None:
    made = Session()
    await made.feed(request("HEAD"))
    made = Session()
    made.connection.data_received(request("HEAD"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert b"content-length: 5" in made.wire.sent
    assert made.wire.sent.endswith(b"\r\n\r\n")


async def test_an_answer_without_content() -> None:
    [(status, fields, _)] = await Session().feed(request(path="/none"))
    assert status == 204
    assert "content-length" not in fields


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)])
async def test_packed_bodies(encoding: str, pack: Any) -> None:
    made = Session()
    body = pack(b"again and again " * 100)
    assert (await made.feed(request("POST", "/x", body, content_encoding=encoding)))[0][2] == b"again and again " * 100


BIG = b"x" * (1 << 15)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("POST", "/x", BIG), 413),
        (request("POST", "/x", chunked(BIG, BIG), content_length=None, transfer_encoding="chunked"), 413),  # type: ignore[arg-type]
        (request("POST", "/x", gzip.compress(bytes(1 << 20)), content_encoding="gzip"), 413),
        (request("POST", "/x", b"no gzip", content_encoding="gzip"), 400),
        (request("POST", "/x", b"x", content_encoding="br"), 415),
        (request(x_long="y" * 40_000), 431),
        (request(**{f"x-{number}": "y" * 100 for number in range(400)}), 431),
        (request(path="/" + "y" * 40_000), 431),
        (request(expect="200-maybe"), 417),
        (request("POST", "/x", chunked(b"x"), content_length=None, transfer_encoding="gzip, chunked"), 501),  # type: ignore[arg-type]
        (request("POST", "/x", chunked(b"x"), content_length="3", transfer_encoding="chunked"), 400),
        (b"GET /x HTTP/1.1\r\n\r\n", 400),
        (request(path="/%zz"), 400),
        (request(path="/%ff"), 400),
        (request("OPTIONS", "*"), 400),
        (request(content_length="1, 2"), 400),
        (request(content_length="99999999999999999999"), 400),
        (b"GET /x HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n", 400),
    ],
)
async def test_what_is_refused(data: bytes, status: int) -> None:
    made = Session()
    answers = await made.feed(data)
    assert [found for found, _, _ in answers][-1:] == [status]
    assert "error" in json.loads(answers[-1][2])
    assert made.asked == []
    assert made.budget.held == 0


async def test_who_asks_for_another_protocol_gets_an_answer_in_this_one() -> None:
    made = Session()
    asks = request("POST", "/x", b"body", connection="upgrade, http2-settings", upgrade="h2c", http2_settings="AAMAAABk")
    for pieces in ([asks], [asks[:30], asks[30:-2], asks[-2:]], [asks + asks]):
        assert {(status, body) for status, _, body in await made.feed(*pieces)} == {(200, b"body")}
    assert len(made.asked) == 4
    assert not made.wire.closed
    assert [status for status, _, _ in await made.feed(b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n")] == [405]


async def test_what_is_no_http_is_closed_without_a_word() -> None:
    made = Session()
    assert await made.feed(b"\x16\x03\x01 hello\r\n\r\n") == []
    assert made.wire.closed


async def test_a_bug_in_the_handler_is_500_with_a_request_id() -> None:
    [(status, _, body)] = await Session().feed(request(path="/bug", x_request_id="mine"))
    assert status == 500
    assert json.loads(body)["request_id"] == "mine"
    assert b"secret" not in body


async def test_a_handler_cannot_write_other_headers_than_it_names() -> None:
    [(status, fields, _)] = await Session().feed(request(path="/split"))
    assert status == 500
    assert "set-cookie" not in fields


async def test_who_expects_continue_is_told_to() -> None:
    made = Session()
    head, _, body = request("POST", "/x", b"body", expect="100-continue").partition(b"\r\n\r\n")
    assert [status for status, _, _ in await made.feed(head + b"\r\n\r\n")] == [100]
    assert [status for status, _, _ in await made.feed(body)] == [200]
    made = Session()
    head, _, _ = request("POST", "/x", BIG, expect="100-continue").partition(b"\r\n\r\n")
    assert [status for status, _, _ in await made.feed(head + b"\r\n\r\n")] == [413]


@pytest.mark.parametrize(
    ("data", "stays"), [(request(), True), (request(connection="close"), False), (b"GET /x HTTP/1.0\r\n\r\n", False)]
)
async def test_keep_alive(data: bytes, stays: bool) -> None:
    made = Session()
    [(status, fields, _)] = await made.feed(data)
    assert status == 200
    assert made.wire.closed is not stays
    assert ("connection" in fields) is not stays


async def test_a_refused_caller_may_finish_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "LINGER_S", 0.5)
    made = Session()
    await made.feed(request("POST", "/x", BIG))
    assert not made.wire.closed
    await asyncio.sleep(0.6)
    assert made.wire.closed


async def test_a_slow_request_and_an_idle_connection_are_closed() -> None:
    made = Session(request_s=5, idle_s=50)
    await made.feed(request()[:-4])
    made.connection.sweep(100.0)
    await made.feed(b"x")
    made.connection.sweep(104.0)
    assert not made.wire.closed
    await made.feed(b"x")
    made.connection.sweep(106.0)
    assert made.wire.aborted
    made = Session(request_s=5, idle_s=50)
    await made.feed(request())
    made.connection.sweep(100.0)
    made.connection.sweep(149.0)
    assert not made.wire.closed
    made.connection.sweep(151.0)
    assert made.wire.closed


async def test_one_large_request_after_the_other_is_not_slow() -> None:
    made = Session(request_s=5, idle_s=50)
    for now in range(100, 200, 4):
        await made.feed(
            request("POST", "/x", b"x" * 1000)[-500:] if now > 100 else b"", request("POST", "/x", b"x" * 1000)[:-500]
        )
        made.connection.sweep(float(now))
    assert not made.wire.closed


async def test_an_answer_that_nobody_takes_is_given_up() -> None:
    made = Session(idle_s=50)
    made.connection.pause_writing()
    await made.feed(request())
    made.connection.sweep(100.0)
    made.connection.sweep(149.0)
    assert not made.wire.aborted
    made.connection.sweep(151.0)
    assert made.wire.aborted
    made = Session(idle_s=50)
    await made.feed(request(connection="close"))
    made.connection.sweep(100.0)
    made.connection.sweep(151.0)
    assert made.wire.aborted


async def test_a_long_answer_is_waited_for() -> None:
    made = Session(idle_s=50, request_s=5)
    made.gate = asyncio.Event()
    await made.feed(request())
    made.connection.sweep(100.0)
    made.connection.sweep(1000.0)
    assert not made.wire.closed
    made.gate.set()
    assert [status for status, _, _ in await made.feed()] == [200]


async def test_draining_closes_after_the_answer() -> None:
    made = Session()
    made.gate = asyncio.Event()
    await made.feed(request())
    made.connection.drain()
    assert not made.wire.closed
    made.gate.set()
    [(status, fields, _)] = await made.feed()
    assert (status, fields["connection"]) == (200, "close")
    assert made.wire.closed


async def test_a_request_whose_caller_has_gone_is_cancelled() -> None:
    made = Session()
    made.gate = asyncio.Event()
    await made.feed(request("POST", "/x", b"body"))
    made.connection.connection_lost(None)
    made.gate.set()
    await asyncio.sleep(0.01)
    assert made.asked == []
    assert made.budget.held == 0
