"""A gRPC call that goes on, message by message, to the grpc.aio server behind: unary and streams alike."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import grpc
import structlog

from modelyard.core.errors import InvalidArgument, ModelyardError
from modelyard.core.http import frames
from modelyard.core.http.connection import Http2Connection
from modelyard.core.http.grpc_messages import (
    RESPONSE,
    MessageReader,
    encoding_of,
    framed,
    metadata_block,
    metadata_of,
    timeout_seconds,
    trailers,
)
from modelyard.core.http.head import Field, Head
from modelyard.core.http.native_call import refusal
from modelyard.core.http.stream import Stream
from modelyard.core.rpc.status import error_of

log = structlog.get_logger()
MESSAGES_AHEAD = 2
"""Messages read from the caller before the server behind has taken them; beyond that its windows stay shut."""
WAITING_BYTES = 1 << 20
"""Of answers, that the caller has not taken; beyond that no more are read from behind."""


class ProxiedCall(Stream):
    """One call. `channel` is a grpc.aio channel with no serializers of its own."""

    __slots__ = ("_arrived", "_call", "_channel", "_drained", "_messages", "_path", "_reader", "_task", "_timeout", "_withheld")

    def __init__(
        self, channel: Any, path: str, connection: Http2Connection, stream_id: int, head: Head, timeout: bytes | None
    ) -> None:
        super().__init__(connection, stream_id, head)
        self._channel, self._path, self._timeout = channel, path, timeout
        self._messages: deque[bytes] = deque()
        self._arrived, self._drained = asyncio.Event(), asyncio.Event()
        self._withheld = 0
        self._reader: MessageReader | None = None
        self._call: Any = None
        self._task: asyncio.Task[None] | None = None

    def is_due(self) -> bool:
        return False

    # --- what the connection tells

    def on_open(self) -> None:
        try:
            self._reader = MessageReader(encoding_of(self.head), self.connection.limits, self.connection.budget)
            metadata = metadata_of(self.head)
            timeout = timeout_seconds(self._timeout) if self._timeout is not None else None
        except ModelyardError as error:
            self._fail(error)
            return
        self._task = asyncio.ensure_future(self._run(metadata, timeout))

    def on_data(self, payload: bytes, size: int) -> None:
        if self._reader is None:
            self.credit(size)
            return
        try:
            for message in self._reader.feed(payload):
                self._messages.append(message)
                self.connection.budget.held += len(message)
            if self.ended and self._reader.unfinished:
                raise InvalidArgument("MESSAGE_CUT_OFF", "the request ended before its message did")
        except ModelyardError as error:
            self.credit(size)
            self._fail(error)
            return
        if len(self._messages) < MESSAGES_AHEAD:
            self.credit(size)
        else:
            self._withheld += size
        self._arrived.set()

    def on_drained(self) -> None:
        self._drained.set()

    def on_gone(self) -> None:
        self._close()

    # --- inside

    async def _run(self, metadata: list[tuple[str, str | bytes]], timeout: float | None) -> None:
        upload: asyncio.Future[None] | None = None
        try:
            self._call = self._channel.stream_stream(self._path)(timeout=timeout, metadata=metadata)
            upload = asyncio.ensure_future(self._upload())
            await self._download()
        except asyncio.CancelledError:
            pass
        except Exception as error:
            log.error("internal error in a proxied call", method=self._path, exc_info=error)
            self._fail(error)
        finally:
            if upload is not None:
                upload.cancel()
            self._close()

    async def _upload(self) -> None:
        """The caller's messages, each once the one before was taken."""
        try:
            while (message := await self._next()) is not None:
                await self._call.write(message)
            await self._call.done_writing()
        except (asyncio.CancelledError, grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            return  # the call has ended; what it ended with is seen where its answers are read

    async def _next(self) -> bytes | None:
        while not self._messages:
            if self.ended:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        message = self._messages.popleft()
        self.connection.budget.give(len(message))
        if self._withheld and len(self._messages) < MESSAGES_AHEAD:
            withheld, self._withheld = self._withheld, 0
            self.credit(withheld)
        return message

    async def _download(self) -> None:
        begun = False
        try:
            metadata = await self._call.initial_metadata()
            if not self._call.done():
                begun = True
                self.connection.begin(self, RESPONSE + metadata_block(_fields(metadata)))
            while (message := await self._call.read()) is not grpc.aio.EOF:
                if not begun:
                    begun = True
                    self.connection.begin(self, RESPONSE + metadata_block(_fields(metadata)))
                await self._send(message)
        except grpc.aio.AioRpcError:
            pass  # its code is read below
        await self._end(begun)

    async def _send(self, message: bytes) -> None:
        self.connection.send(self, framed(message))
        while self.waiting_bytes > WAITING_BYTES and self.open:
            self._drained.clear()
            await self._drained.wait()

    async def _end(self, begun: bool) -> None:
        code, details = await self._call.code(), await self._call.details()
        block = trailers(code.value[0], details or "", _fields(await self._call.trailing_metadata()))
        if begun:
            self.connection.finish(self, block)
        else:
            self.connection.refuse(self, RESPONSE + block)

    def _fail(self, error: Exception) -> None:
        """An error of this side of the proxy."""
        request_id = self.head.texts.get("x-request-id", "")[:64]
        if self.open:
            if self.waiting is None:
                self.connection.refuse(self, refusal(error_of(error), request_id))
            else:
                self.connection.reset(self, frames.INTERNAL_ERROR)
        self._close()

    def _close(self) -> None:
        if self._call is not None and not self._call.done():
            self._call.cancel()
        if self._task is not None and not self._task.done() and self._task is not asyncio.current_task():
            self._task.cancel()
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self.connection.budget.give(sum(map(len, self._messages)))
        self._messages.clear()
        withheld, self._withheld = self._withheld, 0
        if withheld:
            self.connection.credit(None, withheld)


def _fields(metadata: Any) -> list[Field]:
    """grpc.aio's metadata as header fields."""
    found: list[Field] = []
    for key, value in metadata or ():
        if key not in ("grpc-status", "grpc-message"):
            found.append((key.encode(), value if isinstance(value, bytes) else value.encode()))
    return found
