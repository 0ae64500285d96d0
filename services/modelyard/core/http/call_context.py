"""What a servicer's method gets as its context from our front end: the part of grpc.aio.ServicerContext that there is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc

Metadata = Sequence[tuple[str, str | bytes]]


class CallContext:
    """The state of one call. `send` takes a message to the caller, `begin` the initial metadata."""

    def __init__(
        self,
        metadata: list[tuple[str, str | bytes]],
        deadline: float | None,
        peer: str,
        begin: Callable[[Metadata], None],
        send: Callable[[Any], Awaitable[None]],
        client_names: tuple[str, ...] = (),
    ) -> None:
        self._metadata, self._deadline, self._peer = tuple(metadata), deadline, peer
        self._begin, self._send = begin, send
        self.client_names = client_names
        """What the caller's certificate says that it is (mutual TLS)."""
        self._callbacks: list[Callable[[Any], None]] = []
        self._done = self._cancelled = False
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: Metadata = ()

    def invocation_metadata(self) -> Metadata:
        """The caller's metadata; -bin values are bytes."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, not below 0; None without one."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def peer(self) -> str:
        """The caller's address: ipv4:host:port, ipv6:[host]:port."""
        return self._peer

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> None:
        """End the call with an error: raises grpc.aio.AbortError."""
        if code is grpc.StatusCode.OK:
            code, details = grpc.StatusCode.UNKNOWN, "an abort must not be OK"
        self._code, self._details = code, details
        self._trailing = trailing_metadata or self._trailing
        raise grpc.aio.AbortError(details)

    def set_code(self, code: grpc.StatusCode) -> None:
        """The code to end with."""
        self._code = code

    def set_details(self, details: str) -> None:
        """The message to end with."""
        self._details = details

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """What goes with the status."""
        self._trailing = metadata

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Before the first message."""
        self._begin(metadata)

    async def write(self, message: Any) -> None:
        """Send a message of a stream; waits while the caller is behind."""
        await self._send(message)

    def code(self) -> grpc.StatusCode | None:
        """What was set."""
        return self._code

    def details(self) -> str:
        """What was set."""
        return self._details

    def trailing_metadata(self) -> Metadata:
        """What was set."""
        return self._trailing

    def cancelled(self) -> bool:
        """Whether the caller went away before the end."""
        return self._cancelled

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._done

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Called once the call has ended."""
        self._callbacks.append(callback)

    def finish(self, cancelled: bool) -> None:
        """Not for servicers: the call has ended."""
        if self._done:
            return
        self._done, self._cancelled = True, cancelled
        for callback in self._callbacks:
            asyncio.get_running_loop().call_soon(callback, self)
