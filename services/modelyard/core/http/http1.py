"""HTTP/1.1 (RFC 9112) for the REST side, on httptools' parser: requests are read whole and answered one after the other."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httptools

from modelyard.core.http.calls import HttpHandler, HttpRequest, HttpResponse
from modelyard.core.http.http_answers import REASONS, BadRequest, answer_of, decoded_path, refused, response_fields, unpacked_body
from modelyard.core.http.limits import Budget, Limits
from modelyard.core.http.peers import names_of, peer_of

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
IDLE, ARRIVING, ANSWERING, UNTAKEN = "idle", "arriving", "answering", "untaken"
LINGER_S = 1.0
"""How long what a refused caller still sends is read, so that it sees the refusal and no reset."""


class Http1Connection(asyncio.Protocol):
    """One connection; the parser calls the `on_...` methods. While requests wait for their answers, no more is read."""

    def __init__(self, handler: HttpHandler | None, limits: Limits, budget: Budget, on_lost: Callable[[Any], None]) -> None:
        self.limits = limits
        self.heard = True
        self._handler, self._budget, self._on_lost = handler, budget, on_lost
        self._transport: Any = None
        self._peer = ""
        self._names: tuple[str, ...] = ()
        self._parser: Any = httptools.HttpRequestParser(self)
        self._requests: deque[tuple[HttpRequest | BadRequest, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._draining = self._closed = self._arriving = False
        self._was, self._since = "", 0.0
        """What `sweep` saw, and since when; empty: something has begun anew."""
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._held = 0
        self.on_message_begin()

    # --- the transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._peer, self._names = peer_of(transport), names_of(transport)
        transport.set_write_buffer_limits(high=self.limits.write_buffer)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        if self._closed:
            return
        inside = self._arriving and not self._head_done
        self._arriving = True
        try:
            self._feed(data)
        except httptools.HttpParserError:
            if not self._target and not self._requests and self._task is None:
                self._close()  # not HTTP at all
            else:
                self._stop_with(BadRequest(400, "this is no valid HTTP request"))
        else:
            self._check_head(len(data) if inside else 0)
        if self._requests:
            self._transport.pause_reading()
            self._task = self._task or asyncio.ensure_future(self._answer_all())

    def _feed(self, data: bytes) -> None:
        """Parse. Who asks for another protocol (Java's client does for h2c, with every first request) is read as if it had not:
        the parser would leave its body out, so a new one gets the head again without what asks.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._parser.get_method() == b"CONNECT":
                self._stop_with(BadRequest(405, "this server connects to no other"))
                return
            head = self._head_without_upgrade()
            self._parser = httptools.HttpRequestParser(self)
            self._feed(head + data[upgrade.args[0] :])

    def _head_without_upgrade(self) -> bytes:
        kept = {name: value for name, value in self._headers.items() if name not in ("upgrade", "connection", "http2-settings")}
        first = f"{self._parser.get_method().decode()} {self._target.decode('latin-1')} HTTP/{self._parser.get_http_version()}"
        return "\r\n".join([first, *(f"{name}: {value}" for name, value in kept.items()), "", ""]).encode("latin-1")

    def eof_received(self) -> bool:
        self._draining = True
        return self._task is not None  # who has said all may still want to hear the answer

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._parser = None  # it refers to the connection: without it both are freed at once
        self._can_write.set()
        self._requests.clear()
        self._budget.give(self._held)
        self._held = 0
        if self._task is not None:
            self._task.cancel()
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._can_write.clear()
        self._was = ""

    def resume_writing(self) -> None:
        self._can_write.set()

    # --- the parser

    def on_message_begin(self) -> None:
        self._was = ""
        self._target = b""
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []
        self._size = self._head_bytes = 0
        self._head_done = False

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > self.limits.header_bytes:
            return
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        self._head_done = True
        self._check_head(0)
        wrong = self._wrong_head()
        if wrong is not None:
            self._stop_with(wrong)
        elif self._parser.should_upgrade():
            return  # it is read once more
        elif self._headers.get("expect", "").lower() == "100-continue" and self._task is None:
            self._transport.write(CONTINUE)

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._closed:
            return
        if self._size > self.limits.message_bytes:
            self._stop_with(self._too_large())
        elif not self._budget.take(len(body)):
            self._stop_with(BadRequest(503, "too many large requests are on their way"))
        else:
            self._held += len(body)
            self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._closed or self._parser.should_upgrade():
            return
        self._arriving = False
        self._requests.append((self._request(), self._parser.should_keep_alive()))

    def _request(self) -> HttpRequest | BadRequest:
        body, self._parts = b"".join(self._parts), []
        try:
            path, query = decoded_path(_origin_form(self._target))
            body = unpacked_body(body, self._headers.get("content-encoding", ""), self.limits.message_bytes)
        except BadRequest as error:
            return error
        return HttpRequest(self._parser.get_method().decode("ascii"), path, query, self._headers, body, self._peer, self._names)

    def _wrong_head(self) -> BadRequest | None:
        if "host" not in self._headers and self._parser.get_http_version() == "1.1":
            return BadRequest(400, "the header Host is needed")
        if self._headers.get("transfer-encoding", "chunked").lower() != "chunked":
            return BadRequest(501, "transfer-encoding may only be chunked")
        if self._headers.get("expect", "100-continue").lower() != "100-continue":
            return BadRequest(417, "only 100-continue may be expected")
        length = self._headers.get("content-length", "0")
        if not length.isdigit() or len(length) > 18 or int(length) > self.limits.message_bytes:
            return self._too_large()
        return None

    def _check_head(self, more: int) -> None:
        """A head that grows too long, whole or not; `more`: bytes that came for one that had begun before."""
        if self._arriving and not self._head_done:
            self._head_bytes += more
        if self._head_bytes > self.limits.header_bytes:
            self._stop_with(BadRequest(431, f"the header is larger than {self.limits.header_bytes} bytes"))

    def _too_large(self) -> BadRequest:
        return BadRequest(413, f"the body is larger than {self.limits.message_bytes} bytes")

    # --- answers

    def _stop_with(self, error: BadRequest) -> None:
        """The last answer on this connection; whatever else comes is not looked at."""
        if not self._closed:
            self._closed = True
            self._requests.append((error, False))

    async def _answer_all(self) -> None:
        try:
            while self._requests:
                request, keep = self._requests.popleft()
                keep = await self._answer(request, keep) and keep
                if not keep:
                    self._close()
                    return
            self._budget.give(self._held)
            self._held = 0
        finally:
            self._task = None
        self._transport.resume_reading()

    async def _answer(self, request: HttpRequest | BadRequest, keep: bool) -> bool:
        """Send the answer; gives whether the connection stays open."""
        if isinstance(request, BadRequest):
            response = refused(request.status, request.why)
        elif self._handler is None:
            response = refused(404, "this port speaks gRPC only")
        else:
            response = await answer_of(self._handler, request)
        keep = keep and not self._draining
        self._send(response, keep, isinstance(request, HttpRequest) and request.method == "HEAD")
        await self._can_write.wait()
        return keep

    def _send(self, response: HttpResponse, keep: bool, head_only: bool) -> None:
        lines = [f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in response_fields(response)]
        lines += ["", ""] if keep else ["connection: close", "", ""]
        head = "\r\n".join(lines).encode("latin-1", "replace")
        if head_only or response.status in (204, 304):
            self._transport.write(head)
        elif len(response.body) < 1 << 16:
            self._transport.write(head + response.body)
        else:
            self._transport.write(head)
            self._transport.write(response.body)

    def _close(self) -> None:
        lingers, self._closed = self._closed, True
        if lingers and not self._transport.is_closing():
            self._transport.resume_reading()
            asyncio.get_running_loop().call_later(LINGER_S, self._transport.close)
        else:
            self._transport.close()

    # --- time

    def drain(self) -> None:
        """The next answer is the last; without a request the connection closes now."""
        self._draining = True
        if self._task is None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._task is not None

    def sweep(self, now: float) -> None:
        """Called now and then: closes what is idle, too slow with a request, or does not take its answer."""
        state = self._state()
        if state != self._was or (state == IDLE and self.heard):
            self._was, self._since = state, now
        self.heard = False
        patience = {ARRIVING: self.limits.patience(self._size), ANSWERING: math.inf}.get(state, self.limits.idle_s)
        if now - self._since <= patience:
            return
        if state == IDLE:
            self._transport.close()
        else:
            self.abort()

    def _state(self) -> str:
        if not self._can_write.is_set() or self._transport.is_closing():
            return UNTAKEN
        if self.busy:
            return ANSWERING
        return ARRIVING if self._arriving else IDLE


def _origin_form(target: bytes) -> str:
    """Path and query of a request's target, which may be a whole URL (RFC 9112 section 3.2.2)."""
    text = target.decode("latin-1")
    if text.startswith(("http://", "https://")):
        parts = urlsplit(text)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return text
