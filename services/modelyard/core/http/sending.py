"""The sending half of an HTTP/2 connection: frames out, what the peer's windows allow, what waits for them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import structlog

from modelyard.core.http import frames
from modelyard.core.http.limits import Allowance, Budget, Limits
from modelyard.core.http.stream import Stream

log = structlog.get_logger()
REMEMBERED = 256
STOP_AFTER_S = 0.25
"""How long after its answer a request that has not ended may go on before its stream is reset. A reset that comes with the answer
makes a proxy forget it: HAProxy 2.6 tells its caller CANCELLED then instead of what was answered."""
"""Streams that ended here before their request did: what is still on its way to them is no fault."""
JOINED = 8
"""Up to so many pieces are sent as one."""


ACK_S = 0.01
"""Longest that a ping's acknowledgement waits for an answer to travel with."""


class Acknowledgements:
    """Pings that are answered a little later, of all connections of a loop: one timer for all.

    grpc's clients in C++, Go and Java send a ping with nearly every call, to estimate the bandwidth. Answered at once, each costs
    both sides a system call and the client a wake-up; with the answer of the call it costs nothing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Sending] = []

    def add(self, connection: Sending) -> None:
        """Its acknowledgements are sent within ACK_S."""
        if not self._waiting:
            self._loop.call_later(ACK_S, self._send)
        self._waiting.append(connection)

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            connection.acknowledge()


class Sending(asyncio.Protocol):
    """What both halves of a connection share, and how it answers."""

    def __init__(self, limits: Limits, budget: Budget, acknowledgements: Acknowledgements) -> None:
        self.limits = limits
        self.budget = budget
        self._acknowledgements = acknowledgements
        self._acks = b""
        """Acknowledgements of pings that go out with whatever is sent next, or soon."""
        self._acks_due = False
        self.peer_window = frames.DEFAULT_WINDOW
        """What a new stream may send."""
        self.streams: dict[int, Stream] = {}
        self.draining = False
        self._allowance = Allowance(limits.nuisances, limits.nuisances_per_s)
        self._transport: Any = None
        self._closed = False
        self._last_stream = 0
        self._ended_here: deque[int] = deque(maxlen=REMEMBERED)
        self._unfinished: set[int] = set()
        """Of these streams: answered, while the request has not ended and was not told to."""
        self._send_window = frames.DEFAULT_WINDOW
        self._receive_window = limits.connection_window
        self._owed = 0
        self._most_frame = frames.LEAST_FRAME
        self._blocked: dict[int, Stream] = {}
        self._out: list[bytes] | None = None
        """What is sent while frames are read, to go out in one piece; None at other times."""
        self._gathered = 0
        self._paused = self._held_up = False
        """Whether the socket's queue is full; whether it, or what is gathered for it, is."""

    # --- the transport

    def pause_writing(self) -> None:
        self._paused = self._held_up = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = self._held_up = False
        self._unblock()
        if not self._paused and not self._closed:
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send; while frames are read it is gathered and sent once."""
        if self._out is not None:
            self._out.append(data)
            self._gathered += len(data)
            if self._gathered > self.limits.write_buffer:
                self._held_up = True
        elif not self._closed:
            if self._acks:
                data, self._acks = self._acks + data, b""
            self._transport.write(data)

    def acknowledge(self) -> None:
        """What is left to acknowledge is, now."""
        self._acks_due = False
        if self._acks and not self._closed:
            acks, self._acks = self._acks, b""
            self._transport.write(acks)

    def _flush(self) -> None:
        out, self._out = self._out, None
        self._gathered, self._held_up = 0, self._paused
        if self._acks:
            if out or self._closed or not self.streams:
                out, self._acks = [self._acks, *(out or ())], b""
            elif not self._acks_due:
                self._acks_due = True
                self._acknowledgements.add(self)
        if not out:
            pass
        elif len(out) > JOINED:
            self._transport.writelines(out)
        else:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        if self._closed:
            self._transport.close()
        elif self._blocked and not self._held_up:
            self._unblock()

    def _end(self, code: int, why: str) -> None:
        """GOAWAY, and close once it is sent."""
        self.write(frames.goaway(self._last_stream, code, why))
        self._close()
        if code != frames.NO_ERROR:
            log.debug("connection refused", code=code, why=why)

    def _close(self) -> None:
        self._closed = True
        if self._out is None:
            self._transport.close()

    def _close_when_drained(self) -> None:
        if self.draining and not self.streams and not self._closed:
            self._close()

    # --- streams

    def credit(self, stream: Stream | None, size: int) -> None:
        """Bytes have been taken: let the peer send as many more, once half a window is due."""
        self._owed += size
        if self._owed * 2 >= self.limits.connection_window:
            self._receive_window += self._owed
            self.write(frames.window_update(0, self._owed))
            self._owed = 0
        if stream is not None and not stream.ended and stream.open:
            stream.owed += size
            if stream.owed * 2 >= self.limits.stream_window:
                stream.receive_window += stream.owed
                self.write(frames.window_update(stream.id, stream.owed))
                stream.owed = 0

    def respond(self, stream: Stream, head: bytes, body: bytes, tail: bytes | None) -> None:
        """The whole answer: header block, body, and the block of the trailers (None: the body ends it, it must not be empty)."""
        size = len(body)
        if tail is None or size > stream.send_window or size > self._send_window or size > self._most_frame or self._held_up:
            self.write(frames.header_frames(stream.id, head, False, self._most_frame))
            self.send(stream, body)
            self.finish(stream, tail)
            return
        stream_id = stream.id
        self._send_window -= size
        self.write(
            frames.HEADER.pack(0, len(head), 1, 4, stream_id)
            + head
            + frames.HEADER.pack(size >> 8, size & 0xFF, 0, 0, stream_id)
            + body
            + frames.HEADER.pack(0, len(tail), 1, 5, stream_id)
            + tail
        )
        self._leave(stream)

    def begin(self, stream: Stream, head: bytes) -> None:
        """Only the header block; `send` and `finish` follow."""
        if stream.open:
            self.write(frames.header_frames(stream.id, head, False, self._most_frame))

    def refuse(self, stream: Stream, head: bytes) -> None:
        """An answer that is a header block only (gRPC: trailers only)."""
        if stream.open:
            self.write(frames.header_frames(stream.id, head, True, self._most_frame))
            self._leave(stream)

    def send(self, stream: Stream, body: bytes) -> None:
        """Body, as far as the windows allow; the rest waits in the stream."""
        if not stream.open or not body:
            return
        if not self.budget.take(len(body)):
            self.reset(stream, frames.ENHANCE_YOUR_CALM)
            return
        if stream.waiting is None:
            stream.waiting = deque()
        stream.waiting.append(body)
        stream.waiting_bytes += len(body)
        self._pump(stream)

    def finish(self, stream: Stream, tail: bytes | None) -> None:
        """End the stream after what waits: with trailers, or (None) with an empty DATA."""
        if not stream.open:
            return
        if tail is None:
            stream.tail = frames.frame(frames.DATA, frames.END_STREAM, stream.id)
        else:
            stream.tail = frames.header_frames(stream.id, tail, True, self._most_frame)
        stream.began = 0.0
        if not stream.waiting:
            self._send_tail(stream)

    def reset(self, stream: Stream, code: int) -> None:
        """End a stream that cannot be answered."""
        if stream.open:
            self._reset(stream.id, code)

    def _pump(self, stream: Stream) -> None:
        waiting = stream.waiting
        assert waiting is not None
        while waiting and not self._held_up:
            size = min(stream.send_window, self._send_window, self._most_frame)
            if size <= 0:
                break
            body = waiting.popleft()
            if len(body) > size:
                waiting.appendleft(memoryview(body)[size:])  # type: ignore[arg-type]  # only sliced again, or sent
                body = body[:size]
            size = len(body)
            stream.send_window -= size
            self._send_window -= size
            stream.waiting_bytes -= size
            self.budget.give(size)
            self._allowance.give()  # the peer answers with a window update
            self.write(frames.frame(frames.DATA, 0, stream.id, bytes(body)))
        if waiting:
            self._blocked[stream.id] = stream
            return
        self._blocked.pop(stream.id, None)
        if stream.tail is not None:
            self._send_tail(stream)
        else:
            stream.on_drained()

    def _unblock(self) -> None:
        """Room on the connection: those that wait go on, in turn."""
        for stream in list(self._blocked.values()):
            if self._held_up or self._send_window <= 0:
                return
            if stream.send_window > 0 and stream.open:
                del self._blocked[stream.id]
                self._pump(stream)

    def _send_tail(self, stream: Stream) -> None:
        assert stream.tail is not None
        self.write(stream.tail)
        self._leave(stream)

    def _leave(self, stream: Stream) -> None:
        """An answer is out: the stream has ended here; if the rest of the request is still on its way, it need not come."""
        stream.open = False
        self.streams.pop(stream.id, None)
        self._allowance.give()
        if not stream.ended:
            self._ended_here.append(stream.id)
            self._unfinished.add(stream.id)
            asyncio.get_running_loop().call_later(STOP_AFTER_S, self._stop_request, stream.id)
        self._close_when_drained()

    def _stop_request(self, stream_id: int) -> None:
        """The answer has long been sent: what is left of the request is not wanted."""
        if stream_id in self._unfinished:
            self._unfinished.discard(stream_id)
            self.write(frames.rst_stream(stream_id, frames.NO_ERROR))

    def _reset(self, stream_id: int, code: int) -> None:
        self._ended_here.append(stream_id)
        self.write(frames.rst_stream(stream_id, code))
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            self._gone(stream)
        self._close_when_drained()

    def _gone(self, stream: Stream) -> None:
        stream.open = False
        self._blocked.pop(stream.id, None)
        self.budget.give(stream.waiting_bytes)
        stream.waiting_bytes = 0
        try:
            stream.on_gone()
        except Exception as error:
            log.error("internal error after a call was cancelled", exc_info=error)
