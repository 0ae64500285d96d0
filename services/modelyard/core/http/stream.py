"""One request on an HTTP/2 connection: what comes in goes to a subclass, what goes out waits here for the peer's windows."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from modelyard.core.http.head import Head

if TYPE_CHECKING:
    from modelyard.core.http.connection import Http2Connection


class Stream:
    """Open from HEADERS until both sides have ended, or one has reset it."""

    __slots__ = (
        "began",
        "connection",
        "ended",
        "expected",
        "head",
        "id",
        "open",
        "owed",
        "receive_window",
        "received",
        "send_window",
        "tail",
        "waiting",
        "waiting_bytes",
    )

    def __init__(self, connection: Http2Connection, stream_id: int, head: Head) -> None:
        self.connection = connection
        self.id = stream_id
        self.head = head
        self.open = True
        """Whether the peer still hears what is sent."""
        self.ended = False
        """Whether the peer has sent all it will."""
        self.began = 0.0
        """When it was found to be waiting for its peer: for the rest of the request, or to take the answer. 0: not yet."""
        self.send_window = connection.peer_window
        self.receive_window = connection.limits.stream_window
        self.owed = 0
        self.received = 0
        self.expected = head.content_length
        self.waiting: deque[bytes] | None = None
        """What the peer's windows do not allow yet. None: nothing, and nothing was ever."""
        self.waiting_bytes = 0
        self.tail: bytes | None = None
        """The frame that ends the stream after what waits."""

    def on_open(self) -> None:
        """The stream is open; when `ended` there will be no body."""
        if self.ended:
            self.on_data(b"", 0)

    def on_data(self, payload: bytes, size: int) -> None:
        """A piece of the body, the last when `ended`; `size` is what it takes of the windows: `credit` gives it back."""
        raise NotImplementedError

    def on_gone(self) -> None:
        """The peer has reset the stream, or its connection is lost. Nothing more is sent."""

    def on_drained(self) -> None:
        """What was waiting has been sent."""

    def is_due(self) -> bool:
        """Whether the rest of the request should come soon (not for streams that may pause as long as they like)."""
        return not self.ended

    def credit(self, size: int) -> None:
        """The bytes have been taken: the peer may send as many more."""
        self.connection.credit(self, size)
