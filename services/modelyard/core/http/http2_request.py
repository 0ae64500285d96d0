"""An HTTP/2 request that is no gRPC: the same HttpHandler as over HTTP/1.1. A client that speaks TLS comes this way (ALPN h2)."""

from __future__ import annotations

import asyncio

from modelyard.core.http.calls import HttpHandler, HttpRequest, HttpResponse
from modelyard.core.http.connection import Http2Connection
from modelyard.core.http.head import Head
from modelyard.core.http.header_blocks import literals, status
from modelyard.core.http.http_answers import BadRequest, answer_of, decoded_path, refused, response_fields, unpacked_body
from modelyard.core.http.stream import Stream


class Http2Request(Stream):
    """One request; its body is gathered, then the handler runs in a task."""

    __slots__ = ("_handler", "_held", "_parts", "_task")

    def __init__(self, handler: HttpHandler | None, connection: Http2Connection, stream_id: int, head: Head) -> None:
        super().__init__(connection, stream_id, head)
        self._handler = handler
        self._parts: list[bytes] = []
        self._held = 0
        self._task: asyncio.Task[None] | None = None

    def on_open(self) -> None:
        if self._handler is None:
            self._respond(refused(415, "this port speaks gRPC; content-type must be application/grpc"))
        elif (self.expected or 0) > self.connection.limits.message_bytes:
            self._too_large()
        elif self.ended:
            self._begin()

    def on_data(self, payload: bytes, size: int) -> None:
        self.credit(size)
        if not self.open or self._task is not None:
            return
        if self.received > self.connection.limits.message_bytes:
            self._too_large()
        elif not self.connection.budget.take(len(payload)):
            self._respond(refused(503, "too many large requests are on their way"))
        else:
            self._held += len(payload)
            self._parts.append(payload)
            if self.ended:
                self._begin()

    def on_gone(self) -> None:
        self._let_go()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = asyncio.ensure_future(self._answer(b"".join(self._parts)))

    async def _answer(self, body: bytes) -> None:
        assert self._handler is not None
        headers = dict(self.head.texts)
        headers.setdefault("host", headers.pop(":authority", ""))
        try:
            path, query = decoded_path(self.head.path)
            body = unpacked_body(body, headers.get("content-encoding", ""), self.connection.limits.message_bytes)
        except BadRequest as error:
            response = refused(error.status, error.why)
        else:
            peer, names = self.connection.peer, self.connection.names
            response = await answer_of(self._handler, HttpRequest(self.head.method, path, query, headers, body, peer, names))
        self._respond(response)

    def _respond(self, response: HttpResponse) -> None:
        self._let_go()
        if not self.open:
            return
        fields = [(name.encode(), value.encode("latin-1", "replace")) for name, value in response_fields(response)]
        block = status(response.status) + literals(fields)
        if self.head.method == "HEAD" or not response.body:
            self.connection.refuse(self, block)
        else:
            self.connection.respond(self, block, response.body, None)

    def _too_large(self) -> None:
        self._respond(refused(413, f"the body is larger than {self.connection.limits.message_bytes} bytes"))

    def _let_go(self) -> None:
        self.connection.budget.give(self._held)
        self._held, self._parts = 0, []
