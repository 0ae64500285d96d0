"""A gRPC call of any kind to a servicer's method, through the shell of core/rpc/shell.py, in a task of its own.

The method sees what grpc.aio would show it: messages as its deserializer makes them, an iterator of them where the caller
streams, a context, asyncio.CancelledError when the caller goes away or its deadline passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import grpc
import structlog

from modelyard.core.errors import DeadlineExceeded, InvalidArgument, ModelyardError, Unimplemented
from modelyard.core.http import frames
from modelyard.core.http.call_context import CallContext, Metadata
from modelyard.core.http.connection import Http2Connection
from modelyard.core.http.grpc_messages import (
    RESPONSE,
    MessageReader,
    encoding_of,
    framed,
    metadata_block,
    metadata_of,
    timeout_seconds,
    too_large,
    trailers,
)
from modelyard.core.http.head import Field, Head
from modelyard.core.http.native_call import refusal
from modelyard.core.http.stream import Stream
from modelyard.core.rpc.status import error_of

log = structlog.get_logger()
MESSAGES_AHEAD = 2
"""Messages read from the caller before the method has taken them; beyond that its window stays shut."""
WAITING_BYTES = 1 << 20
"""Of answers that the caller has not taken; beyond that the method waits."""

Wrap = Callable[[Callable[[Any], Awaitable[Any]], Any], Awaitable[Any]]
"""A server interceptor's `intercept_service`."""


class HandledCall(Stream):
    """One call. `handler` is a grpc.RpcMethodHandler, None for a method that nobody has."""

    __slots__ = (
        "_arrived", "_begun", "_context", "_drained", "_handler", "_messages", "_reader", "_task", "_timeout", "_timer",
        "_withheld", "_wrap",
    )  # fmt: skip

    def __init__(
        self, handler: Any, wrap: Wrap, connection: Http2Connection, stream_id: int, head: Head, timeout: bytes | None
    ) -> None:
        super().__init__(connection, stream_id, head)
        self._handler, self._wrap, self._timeout = handler, wrap, timeout
        self._messages: deque[bytes] = deque()
        self._arrived, self._drained = asyncio.Event(), asyncio.Event()
        self._withheld = 0
        self._begun = False
        self._reader: MessageReader | None = None
        self._context: CallContext | None = None
        self._timer: Any = None
        self._task: asyncio.Task[None] | None = None

    def is_due(self) -> bool:
        return not self.ended and self._handler is not None and not self._handler.request_streaming

    # --- what the connection tells

    def on_open(self) -> None:
        try:
            self._start()
        except ModelyardError as error:
            self._fail(error)

    def on_data(self, payload: bytes, size: int) -> None:
        if self._reader is None:
            self.credit(size)
            return
        try:
            self._keep(self._reader.feed(payload))
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
        self._close(cancelled=True)

    # --- inside

    def _start(self) -> None:
        if self._handler is None:
            raise Unimplemented("UNIMPLEMENTED", "Method not found!")
        self._reader = MessageReader(encoding_of(self.head), self.connection.limits, self.connection.budget)
        metadata, deadline = metadata_of(self.head), None
        if self._timeout is not None:
            seconds = timeout_seconds(self._timeout)
            deadline = time.monotonic() + seconds
            self._timer = self.connection.later(seconds, self._late)
        self._context = CallContext(metadata, deadline, self.connection.peer, self._begin, self._send, self.connection.names)
        self._task = asyncio.ensure_future(self._run(self._context))

    def _keep(self, messages: list[bytes]) -> None:
        for message in messages:
            self._messages.append(message)
            self.connection.budget.held += len(message)
        if self.ended and self._reader is not None and self._reader.unfinished:
            raise InvalidArgument("MESSAGE_CUT_OFF", "the request ended before its message did")

    async def _run(self, context: CallContext) -> None:
        try:
            await self._call(context)
        except grpc.aio.AbortError:
            pass
        except asyncio.CancelledError:
            self._close(cancelled=True)
            raise
        except ModelyardError as error:
            self._fail(error)
            return
        except Exception as error:
            log.error("internal error", method=self.head.path, exc_info=error)
            self._fail(error)
            return
        self._end(context)

    async def _call(self, context: CallContext) -> None:
        handler = self._handler
        details = SimpleNamespace(method=self.head.path, invocation_metadata=context.invocation_metadata())
        wrapped = await self._wrap(self._found, details)
        request = self._requests() if handler.request_streaming else await self._only_request()
        if handler.request_streaming:
            behavior = wrapped.stream_stream if handler.response_streaming else wrapped.stream_unary
        else:
            behavior = wrapped.unary_stream if handler.response_streaming else wrapped.unary_unary
        answers = behavior(request, context)
        if hasattr(answers, "__aiter__"):
            async with contextlib.aclosing(answers):
                async for message in answers:
                    await self._send(message)
            return
        message = await answers
        if not handler.response_streaming:
            await self._send(message)

    async def _found(self, _: Any) -> Any:
        return self._handler

    async def _requests(self) -> AsyncIterator[Any]:
        while (message := await self._next()) is not None:
            yield self._deserialized(message)

    async def _only_request(self) -> Any:
        while not self.ended and len(self._messages) < 2:
            self._arrived.clear()
            await self._arrived.wait()
        if len(self._messages) != 1:
            reason = "TOO_MANY_MESSAGES" if self._messages else "NO_MESSAGE"
            raise Unimplemented(reason, f"{self.head.path} takes one message")
        return self._deserialized(await self._next() or b"")

    def _deserialized(self, message: bytes) -> Any:
        deserialize = self._handler.request_deserializer
        if deserialize is None:
            return message
        try:
            return deserialize(message)
        except Exception:
            raise InvalidArgument("BAD_MESSAGE", "the request's bytes are no message of its type") from None

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

    def _begin(self, metadata: Metadata) -> None:
        if not self._begun:
            self._begun = True
            self.connection.begin(self, RESPONSE + metadata_block(_fields(metadata)))

    async def _send(self, message: Any) -> None:
        serialize = self._handler.response_serializer
        body = message if serialize is None else serialize(message)
        if len(body) > self.connection.limits.message_bytes:
            raise too_large(self.connection.limits.message_bytes)
        self._begin(())
        self.connection.send(self, framed(body))
        while self.waiting_bytes > WAITING_BYTES and self.open:
            self._drained.clear()
            await self._drained.wait()

    def _end(self, context: CallContext) -> None:
        code = context.code() or grpc.StatusCode.OK
        block = trailers(code.value[0], context.details(), _fields(context.trailing_metadata()))
        if self._begun:
            self.connection.finish(self, block)
        else:
            self.connection.refuse(self, RESPONSE + block)
        self._close(cancelled=False)

    def _fail(self, error: Exception) -> None:
        """An error outside the shell: of the transport, or of a method that the shell does not wrap."""
        if self.open:
            block = refusal(error_of(error), self.head.texts.get("x-request-id", "")[:64])
            if self._begun:
                self.connection.finish(self, block[len(RESPONSE) :])
            else:
                self.connection.refuse(self, block)
        self._close(cancelled=True)

    def _late(self) -> None:
        if self.waiting:  # the caller does not take what it asked for: no trailers would get through either
            self.connection.reset(self, frames.CANCEL)
        else:
            self._fail(DeadlineExceeded("DEADLINE_EXCEEDED", "The deadline passed before the answer was there."))

    def _close(self, cancelled: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._context is not None:
            self._context.finish(cancelled)
            self._context = None
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


def _fields(metadata: Metadata | None) -> list[Field]:
    """A servicer's metadata as header fields."""
    return [(key.encode(), value if isinstance(value, bytes) else value.encode()) for key, value in metadata or ()]
