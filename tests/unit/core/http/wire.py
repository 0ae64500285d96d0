"""The client's side of an HTTP/2 connection in tests: bytes that a caller sends, and what a server sent, frame by frame."""

from __future__ import annotations

import asyncio
import dataclasses
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hpack import Decoder, Encoder

from modelyard.core.http import frames
from modelyard.core.http.connection import Http2Connection
from modelyard.core.http.front import Front
from modelyard.core.http.limits import Limits
from modelyard.core.http.methods import Methods

METHOD = "/inference.GRPCInferenceService/Echo"
OPENING = frames.PREFACE + frames.settings({})


@dataclass(frozen=True)
class Frame:
    """One frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class Wire:
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.writes = 0
        self.closed = self.aborted = self.reading = True
        self.closed = self.aborted = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.writes += 1
        self.sent += data

    def writelines(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int) -> None:
        assert high > 0

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def frames(self) -> list[Frame]:
        """What was sent since the last look."""
        found, at, data = [], 0, bytes(self.sent)
        while at < len(data):
            high, low, kind, flags, stream = frames.HEADER.unpack_from(data, at)
            size = high << 8 | low
            found.append(Frame(kind, flags, stream, data[at + 9 : at + 9 + size]))
            at += 9 + size
        assert at == len(data)
        self.sent.clear()
        return found


class Caller:
    """Makes what a gRPC client sends; one to a connection, because HPACK has a state."""

    def __init__(self) -> None:
        self.encoder, self.decoder = Encoder(), Decoder()

    def fields(self, path: str = METHOD, **more: str) -> list[tuple[str, str]]:
        fixed = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "here"), ("te", "trailers")]
        return [*fixed, ("content-type", "application/grpc"), *((key.replace("_", "-"), value) for key, value in more.items())]

    def headers(self, stream: int, fields: list[tuple[str, str]] | None = None, end: bool = False) -> bytes:
        block = self.encoder.encode(self.fields() if fields is None else fields)
        return frames.frame(frames.HEADERS, frames.END_HEADERS | (frames.END_STREAM if end else 0), stream, block)

    def call(self, stream: int, message: bytes, size: int = frames.LEAST_FRAME, **more: str) -> bytes:
        """A whole unary call, its body in DATA frames of at most `size` bytes."""
        return self.headers(stream, self.fields(**more)) + data(stream, message_frame(message), size)

    def block(self, frame: Frame) -> dict[str, str]:
        """The fields of a HEADERS frame."""
        return {str(name): str(value) for name, value in self.decoder.decode(frame.payload)}


def message_frame(message: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(message)) + message


def data(stream: int, body: bytes, size: int = frames.LEAST_FRAME, end: bool = True) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    ends = [frames.END_STREAM if end and number == len(pieces) - 1 else 0 for number in range(len(pieces))]
    return b"".join(frames.frame(frames.DATA, flags, stream, piece) for piece, flags in zip(pieces, ends, strict=True))


@dataclass
class Session:
    """A connection with its front, wire and caller."""

    front: Front
    connection: Http2Connection
    wire: Wire
    caller: Caller = dataclasses.field(default_factory=Caller)

    @property
    def budget(self) -> Any:
        return self.connection.budget

    def feed(self, *pieces: bytes) -> list[Frame]:
        """Give bytes to the server; what it sent."""
        for piece in pieces:
            self.connection.data_received(piece)
        return self.wire.frames()

    def answers(self, sent: list[Frame]) -> dict[int, tuple[bytes, dict[str, str]]]:
        """Body and last header block of each stream among the frames."""
        found: dict[int, tuple[bytes, dict[str, str]]] = {}
        for frame in sent:
            body, fields = found.get(frame.stream, (b"", {}))
            if frame.kind == frames.DATA:
                found[frame.stream] = (body + frame.payload, fields)
            elif frame.kind == frames.HEADERS:
                found[frame.stream] = (body, self.caller.block(frame))
        return found


async def as_it_is(continuation: Callable[[Any], Any], details: Any) -> Any:
    """The interceptor that wraps nothing."""
    return await continuation(details)


def session(natives: dict[str, Any] | None = None, methods: Methods | None = None, http: Any = None, **limits: Any) -> Session:
    """An open HTTP/2 connection; needs a running loop."""
    asyncio.get_running_loop()
    given = {METHOD: lambda call, message: call.answer(message)} if natives is None else natives
    front = Front(given, methods or Methods(), as_it_is, http, Limits(**limits))
    connection = Http2Connection(front.open_stream, front.limits, front.budget, front.lost)
    front.keep(connection)
    made = Session(front, connection, Wire())
    connection.connection_made(made.wire)
    made.wire.frames()
    return made
