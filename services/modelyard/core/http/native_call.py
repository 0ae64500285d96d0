"""A gRPC call that is answered here, on the event loop: the fast path.

Errors, metrics, log lines and request ids are those of core/rpc/shell.py, which wraps the methods behind the proxy.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import structlog

from modelyard.core.errors import DeadlineExceeded, InvalidArgument, ModelyardError, Unavailable, Unimplemented
from modelyard.core.http.calls import UnaryHandler
from modelyard.core.http.connection import Http2Connection
from modelyard.core.http.grpc_messages import (
    ACCEPTED,
    OK_TRAILERS,
    PREFIX_BYTES,
    RESPONSE,
    MessageReader,
    binary,
    encoding_of,
    framed,
    timeout_seconds,
    too_large,
    trailers,
)
from modelyard.core.http.head import Field, Head
from modelyard.core.http.header_blocks import literal
from modelyard.core.http.stream import Stream
from modelyard.core.jobs.convert import error_status
from modelyard.core.rpc.shell import CALLS, QUIET, SECONDS
from modelyard.core.rpc.status import code_from_number, error_of

log = structlog.get_logger()
_clock, _ticks = time.monotonic, time.perf_counter


class Native:
    """A method with its handler, and its metrics found once."""

    __slots__ = ("answered", "handler", "method", "quiet", "seconds")

    def __init__(self, method: str, handler: UnaryHandler) -> None:
        self.method, self.handler = method, handler
        self.answered = CALLS.labels(method, grpc.StatusCode.OK.name).inc
        self.seconds = SECONDS.labels(method).observe
        self.quiet = method.startswith(QUIET)


class NativeCall(Stream):
    """One call; a UnaryCall (core/http/calls.py)."""

    __slots__ = ("_cancels", "_deadline", "_fault", "_message", "_native", "_over", "_reader", "_start", "_timer")

    def __init__(self, native: Native, connection: Http2Connection, stream_id: int, head: Head, timeout: bytes | None) -> None:
        super().__init__(connection, stream_id, head)
        self._native = native
        self._start = _ticks()
        self._over = False
        self._cancels: list[Callable[[], None]] | None = None
        self._reader: MessageReader | None = None
        self._message: bytes | None = None
        self._fault: InvalidArgument | None = None
        self._timer: Any = None
        self._deadline: float | None = None
        if timeout is not None:
            self._set_deadline(timeout)

    @property
    def method(self) -> str:
        return self._native.method

    @property
    def deadline(self) -> float | None:
        return self._deadline

    @property
    def peer(self) -> str:
        """The caller's address."""
        return self.connection.peer

    @property
    def names(self) -> tuple[str, ...]:
        """What the caller's certificate says that it is."""
        return self.connection.names

    def metadata(self, key: str) -> str:
        value = self.head.texts.get(key, "")
        if value and key.endswith("-bin"):
            return binary(value.rpartition(",")[2].encode()).decode("utf-8", "replace")
        return value

    def answer(self, message: bytes) -> None:
        if self._over:
            return
        if len(message) > self.connection.limits.message_bytes:
            self.fail(too_large(self.connection.limits.message_bytes))
            return
        self._close()
        self._cancels = None
        self.connection.respond(self, RESPONSE, framed(message), OK_TRAILERS)
        native = self._native
        native.answered()
        native.seconds(_ticks() - self._start)
        if not native.quiet:
            self._log(grpc.StatusCode.OK)

    def fail(self, error: Exception) -> None:
        if self._over:
            return
        self._close()
        self._cancels = None
        request_id = (self.head.texts.get("x-request-id") or uuid.uuid4().hex)[:64]
        found = error_of(error)
        if not isinstance(error, ModelyardError | NotImplementedError):
            log.error("internal error", method=self.method, request_id=request_id, exc_info=error)
        self.connection.refuse(self, refusal(found, request_id))
        self._count(code_from_number(found["code"]), request_id=request_id, reason=found["reason"], message=found["message"])

    def on_cancel(self, do: Callable[[], None]) -> None:
        if self._cancels is None:
            self._cancels = []
        self._cancels.append(do)

    # --- what the connection tells

    def on_open(self) -> None:
        if self._fault is not None:
            self.fail(self._fault)
        elif self.ended:
            self.on_data(b"", 0)

    def on_data(self, payload: bytes, size: int) -> None:
        if (
            self.ended
            and self._reader is None
            and len(payload) >= PREFIX_BYTES
            and payload[0] == 0
            and int.from_bytes(payload[1:PREFIX_BYTES], "big") == len(payload) - PREFIX_BYTES
        ):
            self.connection.credit(None, size)
            self._handle(payload[PREFIX_BYTES:])
            return
        self.credit(size)
        if self._over:
            return
        try:
            message = self._read(payload)
        except ModelyardError as error:
            self.fail(error)
            return
        if message is not None:
            self.connection.budget.give(len(message))
            self._message = None  # from here on it is the handler's
            self._handle(message)

    def _read(self, payload: bytes) -> bytes | None:
        """The message, once the request has ended."""
        if self._reader is None:
            self._reader = MessageReader(encoding_of(self.head), self.connection.limits, self.connection.budget)
        for message in self._reader.feed(payload):
            if self._message is not None:
                raise Unimplemented("TOO_MANY_MESSAGES", f"{self.method} takes one message")
            if not self.connection.budget.take(len(message)):
                raise Unavailable("NO_MEMORY", "too many large messages are on their way", retry_after_s=1.0)
            self._message = message
        if not self.ended:
            return None
        if self._reader.unfinished:
            raise InvalidArgument("MESSAGE_CUT_OFF", "the request ended before its message did")
        if self._message is None:
            raise Unimplemented("NO_MESSAGE", f"{self.method} takes one message")
        return self._message

    def on_gone(self) -> None:
        if not self._over:
            self._close()
            self._count(grpc.StatusCode.CANCELLED)
            cancels, self._cancels = self._cancels, None
            self._cancel(cancels)

    # --- inside

    def _handle(self, message: bytes) -> None:
        if self._over:
            return
        try:
            self._native.handler(self, message)
        except Exception as error:
            self.fail(error)

    def _set_deadline(self, timeout: bytes) -> None:
        try:
            seconds = timeout_seconds(timeout)
        except InvalidArgument as error:
            self._fault = error
            return
        self._deadline = _clock() + seconds
        self._timer = self.connection.later(seconds, self._late)

    def _late(self) -> None:
        if not self._over:
            cancels = self._cancels
            self.fail(DeadlineExceeded("DEADLINE_EXCEEDED", "The deadline passed before the answer was there."))
            self._cancel(cancels)

    def _cancel(self, cancels: list[Callable[[], None]] | None) -> None:
        for do in cancels or ():
            try:
                do()
            except Exception as error:
                log.error("internal error after a call was cancelled", method=self.method, exc_info=error)

    def _close(self) -> None:
        self._over = True
        if self._message is not None:
            self.connection.budget.give(len(self._message))
            self._message = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._reader is not None:
            self._reader.close()

    def _count(self, code: grpc.StatusCode, **more: str) -> None:
        CALLS.labels(self.method, code.name).inc()
        self._native.seconds(_ticks() - self._start)
        if not self._native.quiet:
            self._log(code, **more)

    def _log(self, code: grpc.StatusCode, **more: str) -> None:
        milliseconds = round((_ticks() - self._start) * 1e3, 1)
        log.info("call", method=self.method, code=code.name, ms=milliseconds, **more)


def refusal(found: dict[str, Any], request_id: str) -> bytes:
    """The header block of a call that ends with an error document: trailers only, with google.rpc details."""
    status = error_status(found, request_id)
    fields: list[Field] = [(b"grpc-status-details-bin", status.SerializeToString()), (b"x-request-id", _ascii(request_id))]
    block = RESPONSE + trailers(status.code, status.message, fields)
    if found["reason"] == "UNKNOWN_ENCODING":
        block += literal(b"grpc-accept-encoding", ACCEPTED)
    return block


def _ascii(text: str) -> bytes:
    return "".join(character for character in text if " " <= character <= "~").encode().strip()
