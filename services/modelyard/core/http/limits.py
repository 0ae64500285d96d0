"""How much one caller may ask for, and what is counted against it."""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds of the front end. Sizes in bytes, times in seconds."""

    message_bytes: int = 64 * MIB
    """Largest gRPC message (unpacked), largest HTTP body (unpacked)."""
    held_bytes: int = 256 * MIB
    """All requests half read and answers not yet taken, of all connections together."""
    connections: int = 4096
    streams: int = 1000
    """Calls at once on one HTTP/2 connection."""
    header_bytes: int = 32 * KIB
    """Of one request: names, values and 32 bytes for each field, as RFC 9113 section 6.5.2 counts."""
    frame_bytes: int = 64 * KIB
    """Largest payload of an HTTP/2 frame that is read; at least 16 KiB (RFC 9113)."""
    stream_window: int = MIB
    connection_window: int = 16 * MIB
    """Bytes in flight to us that nobody has taken yet."""
    write_buffer: int = MIB
    """What waits in the socket's queue before the connection is no longer read."""
    nuisances: int = 2000
    nuisances_per_s: float = 200.0
    """Resets, pings, settings, empty frames... that a connection may send at once, and how fast that grows again."""
    idle_s: float = 300.0
    """A connection without a call is closed after this."""
    request_s: float = 30.0
    bytes_per_s: int = 32 * KIB
    """A request must be complete `request_s` after it began, plus the time its bytes take at this rate."""
    handshake_s: float = 10.0
    """For TLS."""
    sweep_s: float = 2.0

    def patience(self, received: int) -> float:
        """Seconds that a request may take to arrive, with `received` bytes here."""
        return self.request_s + received / self.bytes_per_s


class Budget:
    """Bytes held for callers, of all connections together."""

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def take(self, size: int) -> bool:
        """Whether there was room; then it is taken."""
        if self.held + size > self.limit:
            return False
        self.held += size
        return True

    def give(self, size: int) -> None:
        """Take back what was taken."""
        self.held -= size


class Allowance:
    """A bucket of tokens: each nuisance takes one, time and finished calls put some back."""

    __slots__ = ("_at", "_most", "_per_s", "_tokens")

    def __init__(self, most: int, per_s: float) -> None:
        self._most, self._per_s = most, per_s
        self._tokens, self._at = float(most), 0.0

    def take(self, now: float) -> bool:
        """False when there is none left."""
        self._tokens = min(float(self._most), self._tokens + (now - self._at) * self._per_s if self._at else self._tokens)
        self._at = now
        self._tokens -= 1.0
        return self._tokens >= 0

    def give(self) -> None:
        """One more: a call was answered."""
        self._tokens += 1.0
