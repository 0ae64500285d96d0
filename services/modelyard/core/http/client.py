"""A lean gRPC client: unary calls as bytes over one HTTP/2 connection (RFC 9113), on the event loop, without grpcio between.

It knows what grpcio does not tell: whether a call that failed was begun. Not begun, and so safe to send elsewhere, is what the
peer refused (REFUSED_STREAM, a stream above the last of its GOAWAY) and what never left. docs/decisions/0026-serving-pods.md.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import structlog

from modelyard.core.http import frames
from modelyard.core.http.frames import ConnectionFault
from modelyard.core.http.grpc_messages import PREFIX_BYTES, binary, framed
from modelyard.core.http.head import Field
from modelyard.core.http.header_blocks import HeaderBlocks, literals

log = structlog.get_logger()

HEADER_LIST_BYTES: Final = 64 << 10
CONNECTION_WINDOW: Final = 256 << 20
FRAME_BYTES: Final = 1 << 20
LONGEST_CACHED_BLOCK: Final = 512
SILENT_S: Final = 3.0
"""A connection with calls on it from which nothing came for so long is asked for a sign of life."""
LOST_S: Final = 8.0
"""Without any for so long it is given up: its peer lost its power, or its network."""
CONNECT_S: Final = 5.0
UNAVAILABLE: Final = 14
INTERNAL: Final = 13
_unpack = frames.HEADER.unpack_from


class CallFailed(NamedTuple):
    """Why there is no answer. `begun`: whether the peer may have begun with it. `details`: grpc-status-details-bin."""

    code: int
    message: str
    begun: bool
    details: bytes = b""


Done = Callable[[bytes | CallFailed], None]


class _Call:
    """A call on its way: what the windows do not allow yet, and what came."""

    __slots__ = ("body", "done", "fields", "parts", "send_window")

    def __init__(self, done: Done, send_window: int) -> None:
        self.done = done
        self.send_window = send_window
        self.body: memoryview | None = None
        self.parts: list[bytes] = []
        self.fields: list[Field] = []


class GrpcConnection(asyncio.Protocol):
    """One connection to one server. Everything on the loop that it was made on; `connect` makes one."""

    def __init__(self, authority: str, scheme: str, most_bytes: int, on_lost: Callable[[GrpcConnection], None]) -> None:
        self._head = [(b":method", b"POST"), (b":scheme", scheme.encode()), (b":authority", authority.encode())]
        self._most_bytes = most_bytes
        self._on_lost = on_lost
        self._transport: Any = None
        self._loop = asyncio.get_running_loop()
        self._blocks = HeaderBlocks(HEADER_LIST_BYTES)
        self._known: dict[bytes, list[Field]] = {}
        self._calls: dict[int, _Call] = {}
        self._next = 1
        self._rest = b""
        self._block: tuple[int, int, bytes] | None = None
        self._peer_window = self._send_window = frames.DEFAULT_WINDOW
        self._most_frame = frames.LEAST_FRAME
        self._owed = 0
        self._most_calls = 100
        self._blocked: deque[int] = deque()
        self._heard = self._loop.time()
        self._asked = False
        self.usable = False
        """Whether new calls may be made: not before the peer's SETTINGS, nor after its GOAWAY."""
        self.settled: asyncio.Future[bool] = self._loop.create_future()
        self.lost = False

    def __len__(self) -> int:
        """Calls that are on their way."""
        return len(self._calls)

    @property
    def is_full(self) -> bool:
        """Whether the peer takes no more calls at once."""
        return len(self._calls) >= self._most_calls

    def head(self, path: str, fields: Sequence[Field] = ()) -> bytes:
        """The header block of calls to a method, without their timeout: made once."""
        ordinary = [(b"te", b"trailers"), (b"content-type", b"application/grpc"), *fields]
        return literals([*self._head, (b":path", path.encode()), *ordinary])

    def call(self, head: bytes, message: bytes, timeout_s: float | None, done: Done) -> Callable[[], None]:
        """Sends a message. `done` is called once, on the loop, unless the call was taken back. Gives what takes it back."""
        number, self._next = self._next, self._next + 2
        if self._next > frames.MOST_WINDOW - 2:
            self.usable = False
        call = self._calls[number] = _Call(done, self._peer_window)
        if len(self._calls) == 1:  # silence before is no sign of anything
            self._heard, self._asked = self._loop.time(), False
        block = head if timeout_s is None else head + literals([(b"grpc-timeout", _timeout(timeout_s))])
        body = framed(message)
        size = len(body)
        if size <= self._most_frame and size <= self._send_window and size <= call.send_window and len(block) <= self._most_frame:
            self._send_window -= size
            first = frames.HEADER.pack(len(block) >> 8, len(block) & 0xFF, frames.HEADERS, frames.END_HEADERS, number)
            second = frames.HEADER.pack(size >> 8, size & 0xFF, frames.DATA, frames.END_STREAM, number)
            self._transport.write(b"".join((first, block, second, body)))
        else:
            self._transport.write(frames.header_frames(number, block, False, self._most_frame))
            call.body = memoryview(body)
            self._pump(number, call)
        return lambda: self._take_back(number)

    def close(self) -> None:
        """No new calls; closes once those on their way have ended."""
        self.usable = False
        self._close_when_done()

    def abort(self) -> None:
        """Closes at once; what is on its way fails."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def sweep(self, now: float) -> None:
        """Called about once a second: finds out that a peer is gone that cannot say so."""
        silent = now - self._heard
        if not self._calls or self._transport is None:
            return
        if silent > LOST_S:
            self.abort()
        elif silent > SILENT_S and not self._asked:
            self._asked = True
            self._transport.write(frames.frame(frames.PING, 0, 0, bytes(8)))

    # --- the transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        values = {
            frames.HEADER_TABLE_SIZE: 0,
            frames.ENABLE_PUSH: 0,
            frames.INITIAL_WINDOW_SIZE: min(self._most_bytes + (1 << 16), frames.MOST_WINDOW),
            frames.MAX_FRAME_SIZE: FRAME_BYTES,
        }
        more = CONNECTION_WINDOW - frames.DEFAULT_WINDOW
        transport.write(frames.PREFACE + frames.settings(values) + frames.window_update(0, more))

    def data_received(self, data: bytes) -> None:
        self._heard, self._asked = self._loop.time(), False
        data = self._rest + data if self._rest else data
        try:
            self._rest = data[self._read(data) :]
        except ConnectionFault as fault:
            log.warning("a server broke the protocol", why=fault.why)
            self.abort()
        except Exception as error:
            log.error("internal error in a connection to a server", exc_info=error)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable, self.lost = False, True
        if not self.settled.done():
            self.settled.set_result(False)
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            begun = call.body is None or bool(call.parts)
            _give(call.done, CallFailed(UNAVAILABLE, "the connection was lost", begun))
        self._on_lost(self)

    # --- reading

    def _read(self, data: bytes) -> int:
        at, end = 0, len(data)
        while end - at >= frames.HEADER_BYTES:
            high, low, kind, flags, number = _unpack(data, at)
            length = high << 8 | low
            if length > FRAME_BYTES:
                raise ConnectionFault(frames.FRAME_SIZE_ERROR, "a frame is larger than allowed")
            stop = at + frames.HEADER_BYTES + length
            if stop > end:
                break
            payload = data[at + frames.HEADER_BYTES : stop]
            at = stop
            if self._block is not None and kind != frames.CONTINUATION:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "a header block is interrupted")
            if kind == frames.DATA:
                self._on_data(flags, number, payload)
            elif kind == frames.HEADERS:
                self._on_headers(flags, number, payload)
            else:
                self._on_other(kind, flags, number, payload)
        return at

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        self._owed += len(payload)
        if self._owed * 2 >= CONNECTION_WINDOW:
            self._transport.write(frames.window_update(0, self._owed))
            self._owed = 0
        call = self._calls.get(number)
        if call is None:
            return
        if flags & frames.PADDED:
            payload = frames.unpadded(payload)
        call.parts.append(payload)
        if flags & frames.END_STREAM:
            self._end(number, [])

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        if flags & frames.PADDED:
            payload = frames.unpadded(payload)
        if flags & frames.WITH_PRIORITY:
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._on_block(flags, number, payload)
        else:
            self._block = flags, number, payload

    def _on_block(self, flags: int, number: int, block: bytes) -> None:
        fields = self._known.get(block)
        if fields is None:
            fields, changed = self._blocks.answer(block)
            if changed:
                self._known.clear()
            elif len(block) <= LONGEST_CACHED_BLOCK and len(self._known) < 64:
                self._known[block] = fields
        if flags & frames.END_STREAM:
            self._end(number, fields)

    def _on_other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == frames.WINDOW_UPDATE:
            self._on_window(number, frames.read_number(payload))
        elif kind == frames.RST_STREAM:
            self._on_reset(number, frames.read_number(payload))
        elif kind == frames.PING:
            if not flags & frames.ACK:
                self._transport.write(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.SETTINGS:
            if not flags & frames.ACK:
                self._on_settings(payload)
        elif kind == frames.GOAWAY:
            self._on_goaway(frames.read_number(payload))
        elif kind == frames.CONTINUATION:
            self._on_continuation(flags, number, payload)

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None or self._block[1] != number or len(self._block[2]) + len(payload) > HEADER_LIST_BYTES:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a continuation of nothing, or of too much")
        self._block = (self._block[0], number, self._block[2] + payload)
        if flags & frames.END_HEADERS:
            (first, _, block), self._block = self._block, None
            self._on_block(first, number, block)

    def _on_settings(self, payload: bytes) -> None:
        for key, value in frames.read_settings(payload):
            if key == frames.INITIAL_WINDOW_SIZE:
                change, self._peer_window = value - self._peer_window, value
                for call in self._calls.values():
                    call.send_window += change
            elif key == frames.MAX_FRAME_SIZE:
                self._most_frame = min(value, FRAME_BYTES)
            elif key == frames.MAX_CONCURRENT_STREAMS:
                self._most_calls = value
        self._transport.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        if not self.settled.done():
            self.usable = True
            self.settled.set_result(True)
        self._unblock()

    def _on_goaway(self, last: int) -> None:
        """The peer ends: it will not begin what came after `last`, and finish the rest."""
        self.usable = False
        refused = [number for number in self._calls if number > last]
        for number in refused:
            self._fail(number, CallFailed(UNAVAILABLE, "the server is ending", False))
        self._close_when_done()

    def _on_reset(self, number: int, code: int) -> None:
        begun = code != frames.REFUSED_STREAM
        if code == frames.NO_ERROR and number in self._calls and self._calls[number].body is not None:
            begun = True
        self._fail(number, CallFailed(UNAVAILABLE, f"the server reset the call (code {code})", begun))
        self._close_when_done()

    def _fail(self, number: int, why: CallFailed) -> None:
        call = self._calls.pop(number, None)
        if call is not None:
            _give(call.done, why)

    def _on_window(self, number: int, increment: int) -> None:
        if number:
            call = self._calls.get(number)
            if call is not None:
                call.send_window += increment
                if call.body is not None:
                    self._pump(number, call)
            return
        self._send_window += increment
        self._unblock()

    # --- sending what had to wait, and the end of calls

    def _unblock(self) -> None:
        waiting, self._blocked = self._blocked, deque()
        for number in waiting:
            call = self._calls.get(number)
            if call is not None and call.body is not None:
                self._pump(number, call)

    def _pump(self, number: int, call: _Call) -> None:
        while call.body is not None:
            size = min(len(call.body), self._most_frame, self._send_window, call.send_window)
            if size <= 0:
                if number not in self._blocked:
                    self._blocked.append(number)
                return
            piece, rest = call.body[:size], call.body[size:]
            self._send_window -= size
            call.send_window -= size
            call.body = rest if len(rest) else None
            flags = frames.END_STREAM if call.body is None else 0
            self._transport.write(frames.frame(frames.DATA, flags, number, bytes(piece)))

    def _take_back(self, number: int) -> None:
        if self._calls.pop(number, None) is not None and not self.lost:
            self._transport.write(frames.rst_stream(number, frames.CANCEL))
            self._close_when_done()

    def _end(self, number: int, fields: list[Field]) -> None:
        call = self._calls.pop(number, None)
        if call is not None:
            if call.body is not None:  # it was answered before it was all there
                self._transport.write(frames.rst_stream(number, frames.CANCEL))
            _give(call.done, _outcome(call.parts, fields, self._most_bytes))
        self._close_when_done()

    def _close_when_done(self) -> None:
        if not self.usable and self.settled.done() and not self._calls and self._transport is not None:
            self._transport.close()


async def connect(
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    most_bytes: int = 64 << 20,
    on_lost: Callable[[GrpcConnection], None] = lambda _: None,
) -> GrpcConnection:
    """A connection that is ready for calls. `most_bytes`: largest answer. Raises OSError (also TimeoutError, ssl.SSLError)."""
    loop = asyncio.get_running_loop()
    authority = server_name or (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    def made() -> GrpcConnection:
        return GrpcConnection(authority, "https" if tls else "http", most_bytes, on_lost)

    async with asyncio.timeout(CONNECT_S):
        name = (server_name or host) if tls else None
        _, connection = await loop.create_connection(made, host, port, ssl=tls, server_hostname=name)
        try:
            settled = await asyncio.shield(connection.settled)
        except BaseException:
            connection.abort()
            raise
    if not settled:
        raise ConnectionResetError(f"{host}:{port} closed the connection before its settings came; it speaks no HTTP/2 so")
    return connection


def _outcome(parts: list[bytes], fields: list[Field], most: int) -> bytes | CallFailed:
    """What the peer says: the one message where its status is 0."""
    found = dict(fields)
    status = found.get(b"grpc-status")
    if status == b"0":
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        size = int.from_bytes(data[1:PREFIX_BYTES], "big")
        if len(data) < PREFIX_BYTES or data[0] or len(data) != PREFIX_BYTES + size or size > most:
            return CallFailed(INTERNAL, "the server's answer is not one message without compression", True)
        return data[PREFIX_BYTES:]
    if status is None or not status.isdigit():
        return CallFailed(UNAVAILABLE, f"the answer has no grpc-status (:status {found.get(b':status', b'?')!r})", True)
    message = unquote(found.get(b"grpc-message", b"").decode("ascii", "replace"))
    return CallFailed(int(status), message, True, binary(found.get(b"grpc-status-details-bin", b"")))


def _timeout(seconds: float) -> bytes:
    """grpc-timeout: at most eight digits."""
    microseconds = max(1, int(seconds * 1e6))
    return b"%du" % microseconds if microseconds < 10**8 else b"%dm" % min(microseconds // 1000, 10**8 - 1)


def _give(done: Done, outcome: bytes | CallFailed) -> None:
    """One caller's trouble must not take the answers of the others."""
    try:
        done(outcome)
    except Exception:
        log.exception("an answer of a server could not be given")
