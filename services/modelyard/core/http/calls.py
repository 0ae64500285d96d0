"""What the front end hands to whoever answers: gRPC calls as bytes, HTTP requests as they came.

A method that is answered here, without grpcio between, is a `UnaryHandler`: it runs on the event loop and must not block. All
other methods go on to the grpc.aio server behind. docs/decisions/0015-front-end.md says why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


class UnaryCall(Protocol):
    """A call that waits for its one answer. Exactly one of `answer` and `fail` is called, once, on the event loop.

    After the caller went away both do nothing.
    """

    @property
    def method(self) -> str:
        """/package.Service/Method"""

    @property
    def deadline(self) -> float | None:
        """When the caller stops waiting, as a time.monotonic(); None: never."""

    def metadata(self, key: str) -> str:
        """The caller's metadata under a lower-case key, the last of several; empty when there is none."""

    def answer(self, message: bytes) -> None:
        """Ends the call with its answer and status OK."""

    def fail(self, error: Exception) -> None:
        """Ends the call with an error: core.errors as their own status with details, anything else as INTERNAL (and logged)."""

    def on_cancel(self, do: Callable[[], None]) -> None:
        """What to do when the caller goes away, or its deadline passes, before the call has ended."""


UnaryHandler = Callable[[UnaryCall, bytes], None]
"""Takes a call with its request message. What it raises ends the call as UnaryCall.fail does."""


@dataclass(frozen=True)
class HttpRequest:
    """An HTTP/1.1 request, read whole. `path` is percent-decoded once, without the query; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    peer: str = ""
    """The caller's address as grpc writes it."""
    names: tuple[str, ...] = ()
    """What the caller's certificate says that it is (mutual TLS)."""


@dataclass(frozen=True)
class HttpResponse:
    """What goes back. Content-Length is added."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


HttpHandler = Callable[[HttpRequest], Awaitable[HttpResponse]]
"""Answers HTTP/1.1 requests. What it raises becomes 500 with a fixed text and a request id, and is logged."""
