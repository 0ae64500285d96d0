"""The server's side of one HTTP/2 connection (RFC 9113): frames in, streams of their own class out, windows both ways, limits.

It is an asyncio protocol that never raises: what the peer does wrong ends a stream (RST_STREAM) or the connection (GOAWAY).
Frames are read in one loop with no object for each. Priorities are ignored (RFC 9113 section 5.3), and nothing is pushed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from modelyard.core.http import frames
from modelyard.core.http.frames import ConnectionFault, StreamFault
from modelyard.core.http.head import Head, check_field
from modelyard.core.http.header_blocks import HeaderBlocks
from modelyard.core.http.limits import Budget, Limits
from modelyard.core.http.peers import names_of, peer_of
from modelyard.core.http.sending import Acknowledgements, Sending
from modelyard.core.http.stream import Stream

log = structlog.get_logger()

OpenStream = Callable[["Http2Connection", int, Head, "bytes | None"], Stream]
"""Makes the stream of a request from its connection, number, head and grpc-timeout. It answers from `on_open` on."""
CONTINUATIONS = 16
_unpack = frames.HEADER.unpack_from


class Http2Connection(Sending):
    """Reads frames, opens streams, sends what they answer."""

    def __init__(
        self,
        open_stream: OpenStream,
        limits: Limits,
        budget: Budget,
        on_lost: Callable[[Any], None],
        acknowledgements: Acknowledgements | None = None,
    ) -> None:
        """`acknowledgements`: of all connections of this loop; None: of this one."""
        super().__init__(limits, budget, acknowledgements or Acknowledgements(asyncio.get_running_loop()))
        self.heard = True
        """Whether anything came since the last look (`sweep`)."""
        self.peer = ""
        """The caller's address as grpc writes it."""
        self.names: tuple[str, ...] = ()
        """What the caller's certificate says that it is, where it has shown one (mutual TLS)."""
        self._open_stream = open_stream
        self._on_lost = on_lost
        self._blocks = HeaderBlocks(limits.header_bytes)
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._started = False
        self._block: list[bytes] | None = None
        self._block_of = (0, 0)
        self._silent_since: float | None = None
        self._asked = False
        self._handlers: list[Callable[[int, int, bytes], None]] = [
            self._on_data,
            self._on_headers,
            self._on_priority,
            self._on_rst_stream,
            self._on_settings,
            self._on_push_promise,
            self._on_ping,
            self._on_goaway,
            self._on_window_update,
            self._on_continuation,
        ]

    # --- the transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.peer = peer_of(transport)
        self.names = names_of(transport)
        transport.set_write_buffer_limits(high=self.limits.write_buffer)
        values = {
            frames.MAX_CONCURRENT_STREAMS: self.limits.streams,
            frames.INITIAL_WINDOW_SIZE: self.limits.stream_window,
            frames.MAX_FRAME_SIZE: self.limits.frame_bytes,
            frames.MAX_HEADER_LIST_SIZE: self.limits.header_bytes,
        }
        more = self.limits.connection_window - frames.DEFAULT_WINDOW
        transport.write(frames.settings(values) + frames.window_update(0, more))

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        self.heard = True
        self._out = []
        try:
            at = self._finish_frame(data) if self._rest else 0
            if at < len(data):
                self._rest = data[self._read(data, at) :]
        except ConnectionFault as fault:
            self._end(fault.code, fault.why)
        except Exception as error:
            log.error("internal error in a connection", exc_info=error)
            self._end(frames.INTERNAL_ERROR, "")
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        streams, self.streams = list(self.streams.values()), {}
        self._blocked.clear()
        for stream in streams:
            self._gone(stream)
        self._handlers.clear()  # they refer to the connection: without them it is freed at once
        self._on_lost(self)

    def eof_received(self) -> bool:
        return False

    # --- reading

    def _finish_frame(self, data: bytes) -> int:
        """Complete the frame (or the preface) whose beginning is here, and handle it. Gives how much of the data that took."""
        taken = 0
        while missing := self._missing():
            piece = data[taken : taken + missing]
            self._rest += piece
            taken += len(piece)
            if len(piece) < missing:
                if not self._started:
                    self._read(self._rest, 0)  # only to refuse what cannot become a preface
                return taken
        whole, self._rest = self._rest, b""
        self._read(whole, 0)
        return taken

    def _missing(self) -> int:
        """Bytes until what is here is a whole preface, frame header, or frame."""
        rest = self._rest
        if not self._started:
            return len(frames.PREFACE) - len(rest)
        if len(rest) < frames.HEADER_BYTES:
            return frames.HEADER_BYTES - len(rest)
        length = rest[0] << 16 | rest[1] << 8 | rest[2]
        self._check_size(length)
        return frames.HEADER_BYTES + length - len(rest)

    def _check_size(self, length: int) -> None:
        if length > self.limits.frame_bytes:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "a frame is larger than allowed")

    def _read(self, data: bytes, at: int) -> int:
        """Handle all whole frames from there on; gives where the first unfinished one begins."""
        end = len(data)
        if not self._started:
            if not data.startswith(frames.PREFACE):
                return self._no_preface_yet(data)
            self._started, at = True, len(frames.PREFACE)
        handlers, most = self._handlers, self.limits.frame_bytes
        while end - at >= 9:
            high, low, kind, flags, stream_id = _unpack(data, at)
            length = high << 8 | low
            if length > most:
                self._check_size(length)
            stop = at + 9 + length
            if stop > end:
                break
            if self._block is not None and kind != frames.CONTINUATION:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "a header block is interrupted")
            stream_id &= frames.MOST_WINDOW
            if kind < 10:
                try:
                    handlers[kind](flags, stream_id, data[at + 9 : stop])
                except StreamFault as fault:
                    self._nuisance()
                    self._reset(stream_id, fault.code)
            else:
                self._nuisance()
            at = stop
        return at

    def _no_preface_yet(self, data: bytes) -> int:
        if not frames.PREFACE.startswith(data):
            raise ConnectionFault(frames.PROTOCOL_ERROR, "this is not HTTP/2")
        return 0

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "more data than the connection's window allows")
        stream = self.streams.get(stream_id)
        if stream is None or stream.ended:
            self._on_late_data(flags, stream_id, size)
            return
        stream.receive_window -= size
        if stream.receive_window < 0:
            self.credit(None, size)
            raise StreamFault(frames.FLOW_CONTROL_ERROR, "more data than the stream's window allows")
        if flags & frames.PADDED:
            payload = frames.unpadded(payload)
        ended = flags & frames.END_STREAM
        if ended:
            stream.ended = True
        elif not payload:
            self._nuisance()
        else:
            self._allowance.give()  # a long stream of small messages brings pings and window updates with it
        stream.received += len(payload)
        if stream.expected is not None:
            self._check_length(stream, size)
        stream.on_data(payload, size)

    def _check_length(self, stream: Stream, size: int) -> None:
        assert stream.expected is not None
        if stream.received > stream.expected or (stream.ended and stream.received != stream.expected):
            self.credit(None, size)
            raise StreamFault(frames.PROTOCOL_ERROR, "content-length is not the length of the body")

    def _on_late_data(self, flags: int, stream_id: int, size: int) -> None:
        """Data for a stream that has ended: on its way when we ended it, or wrong."""
        if stream_id == 0 or stream_id > self._last_stream:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "data for a stream that is not open")
        self.credit(None, size)
        if stream_id not in self._unfinished:
            self._nuisance()
        elif flags & frames.END_STREAM:
            self._unfinished.discard(stream_id)
        if stream_id not in self._ended_here:
            raise StreamFault(frames.STREAM_CLOSED, "data after the end")

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a client's streams have odd numbers")
        if flags & frames.PADDED:
            payload = frames.unpadded(payload)
        fault = None
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(frames.FRAME_SIZE_ERROR, "a priority has five bytes")
            fault = self._depends_on_itself(stream_id, payload)
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._on_block(flags, stream_id, payload, fault)
        else:
            self._block, self._block_of = [payload], (flags, stream_id)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._block
        if block is None or self._block_of[1] != stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a continuation of nothing")
        block.append(payload)
        if len(block) > CONTINUATIONS or sum(map(len, block)) > self.limits.header_bytes:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "a header block is too large")
        if flags & frames.END_HEADERS:
            self._block = None
            self._on_block(self._block_of[0], stream_id, b"".join(block), None)

    def _on_block(self, flags: int, stream_id: int, block: bytes, fault: StreamFault | None) -> None:
        """A whole header block: a new request, or the trailers of one."""
        if stream_id <= self._last_stream:
            self._on_trailers(flags, stream_id, block)
            return
        self._last_stream = stream_id
        head, timeout = self._blocks.request(block)
        if fault is not None:
            raise fault
        if len(self.streams) >= self.limits.streams or self.draining:
            self._nuisance()
            raise StreamFault(frames.REFUSED_STREAM, "no more streams")
        stream = self._open_stream(self, stream_id, head, timeout)
        self.streams[stream_id] = stream
        if flags & frames.END_STREAM:
            stream.ended = True
            if stream.expected:
                raise StreamFault(frames.PROTOCOL_ERROR, "content-length without a body")
        stream.on_open()

    def _on_trailers(self, flags: int, stream_id: int, block: bytes) -> None:
        fields = self._blocks.fields(block)
        stream = self.streams.get(stream_id)
        if stream is None or stream.ended:
            if stream is None and stream_id in self._ended_here:
                self._unfinished.discard(stream_id)
                return self._nuisance()
            if stream is None:
                raise ConnectionFault(frames.STREAM_CLOSED, "a header block for a stream that has ended")
            raise StreamFault(frames.STREAM_CLOSED, "a header block after the end")
        if not flags & frames.END_STREAM:
            raise StreamFault(frames.PROTOCOL_ERROR, "trailers must end the stream")
        for name, value in fields:
            check_field(name, value)
        stream.ended = True
        if stream.expected is not None:
            self._check_length(stream, 0)
        stream.on_data(b"", 0)
        return None

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._nuisance()
        if stream_id == 0:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a priority of no stream")
        if len(payload) != 5:
            raise StreamFault(frames.FRAME_SIZE_ERROR, "a priority has five bytes")
        fault = self._depends_on_itself(stream_id, payload)
        if fault is not None:
            raise fault

    def _depends_on_itself(self, stream_id: int, payload: bytes) -> StreamFault | None:
        if frames.read_number(payload) == stream_id:
            return StreamFault(frames.PROTOCOL_ERROR, "a stream depends on itself")
        return None

    def _on_rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "RST_STREAM has four bytes")
        if stream_id == 0 or stream_id > self._last_stream:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a reset of a stream that is not open")
        self._nuisance()
        self._unfinished.discard(stream_id)
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            self._gone(stream)
            self._close_when_drained()

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._nuisance()
        if stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "settings of a stream")
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "settings have six bytes each")
        if flags & frames.ACK:
            return
        for key, value in frames.read_settings(payload):
            self._set(key, value)
        self.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._unblock()  # after the acknowledgement: until it arrives the peer holds us to the windows of before

    def _set(self, key: int, value: int) -> None:
        if key == frames.INITIAL_WINDOW_SIZE:
            self._set_window(value)
        elif key == frames.MAX_FRAME_SIZE:
            if not frames.LEAST_FRAME <= value <= frames.MOST_FRAME:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range")
            self._most_frame = min(value, frames.LEAST_FRAME * 4)
        elif key == frames.ENABLE_PUSH and value > 1:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")

    def _set_window(self, value: int) -> None:
        if value > frames.MOST_WINDOW:
            raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
        change, self.peer_window = value - self.peer_window, value
        for stream in self.streams.values():
            stream.send_window += change
            if stream.send_window > frames.MOST_WINDOW:
                raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "a window is too large")

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ConnectionFault(frames.PROTOCOL_ERROR, "clients push nothing")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a ping of a stream")
        if len(payload) != 8:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "a ping has eight bytes")
        self._nuisance()
        if not flags & frames.ACK:
            self._acks += frames.frame(frames.PING, frames.ACK, 0, payload)

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._nuisance()
        if stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "GOAWAY of a stream")

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "a window update has four bytes")
        increment = frames.read_number(payload)
        if stream_id == 0:
            self._widen(increment)
            return
        if stream_id > self._last_stream:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a window update of a stream that is not open")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._nuisance()
            return
        stream.send_window += increment
        if increment == 0 or stream.send_window > frames.MOST_WINDOW:
            raise StreamFault(
                frames.FLOW_CONTROL_ERROR if increment else frames.PROTOCOL_ERROR, "a window update is out of range"
            )
        if stream.waiting:
            self._pump(stream)
        else:
            self._nuisance()

    def _widen(self, increment: int) -> None:
        self._send_window += increment
        if increment == 0:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a window update of nothing")
        if self._send_window > frames.MOST_WINDOW:
            raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "the connection's window is too large")
        self._unblock()

    def _nuisance(self) -> None:
        if not self._allowance.take(self._loop.time()):
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    # --- time

    def later(self, seconds: float, do: Callable[[], None]) -> asyncio.TimerHandle:
        """Run something on the loop after so many seconds."""
        return self._loop.call_later(seconds, do)

    def drain(self) -> None:
        """No new streams; those that run end, then the connection closes."""
        if not self._closed and not self.draining:
            self.draining = True
            self.write(frames.goaway(self._last_stream, frames.NO_ERROR))
            self._close_when_drained()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def sweep(self, now: float) -> None:
        """Called now and then: closes what is idle, asks what is silent, resets requests that do not get on."""
        if self.heard or self._silent_since is None:
            self.heard, self._silent_since, self._asked = False, now, False
        silent = now - self._silent_since
        if self._closed:
            if silent > self.limits.request_s:
                self.abort()
        elif not self.streams:
            if silent > self.limits.idle_s:
                self._end(frames.NO_ERROR, "idle")
        elif silent > self.limits.idle_s + self.limits.request_s:
            self.abort()
        elif silent > self.limits.idle_s and not self._asked:
            self._asked = True
            self.write(frames.frame(frames.PING, 0, 0, bytes(8)))
        self._reset_slow(now)

    def _reset_slow(self, now: float) -> None:
        """Requests that do not get on, and whole answers that nobody takes."""
        for stream in [stream for stream in self.streams.values() if stream.tail is not None or stream.is_due()]:
            stream.began = stream.began or now
            patience = self.limits.patience(stream.received) if stream.tail is None else self.limits.idle_s
            if now - stream.began > patience:
                self.reset(stream, frames.CANCEL)
