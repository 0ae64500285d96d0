"""gRPC's frames inside the body, its status, timeouts and binary metadata: the published PROTOCOL-HTTP2 of grpc/grpc."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from functools import lru_cache
from urllib.parse import quote_from_bytes

from modelyard.core.errors import InvalidArgument, ModelyardError, ResourceExhausted, Unavailable, Unimplemented
from modelyard.core.http.head import Field, Head
from modelyard.core.http.header_blocks import literal, literals, status
from modelyard.core.http.limits import Budget, Limits

PREFIX_BYTES = 5
ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""Message encodings beside identity, with zlib's number for them."""
ACCEPTED = b"identity,deflate,gzip"
RESPONSE = status(200) + literal(b"content-type", b"application/grpc")
OK_TRAILERS = literal(b"grpc-status", b"0")
_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_OURS = {"te", "content-type", "content-length", "host", "accept-encoding"}
_TEXT_VALUE = re.compile(r"[\x20-\x7e]*")
_METADATA_NAME = re.compile(rb"[0-9a-z_.\-]+")
# What grpc-message may hold as it is: printable ASCII without %.
_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


@lru_cache(1024)
def timeout_seconds(value: bytes) -> float:
    """grpc-timeout in seconds. Raises InvalidArgument BAD_TIMEOUT."""
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        raise InvalidArgument("BAD_TIMEOUT", "grpc-timeout must be at most 8 digits and one of H, M, S, m, u, n")
    return int(found[1]) * _UNITS[found[2]]


def framed(message: bytes) -> bytes:
    """A message with its prefix, not compressed."""
    return b"\x00" + len(message).to_bytes(4, "big") + message


def trailers(code: int, message: str = "", fields: tuple[Field, ...] | list[Field] = ()) -> bytes:
    """The header block that ends a call; fields are raw (binary ones not yet base64)."""
    if code == 0 and not message and not fields:
        return OK_TRAILERS
    made = literal(b"grpc-status", str(code).encode())
    if message:
        made += literal(b"grpc-message", quote_from_bytes(message.encode(), safe=_PLAIN).encode())
    return made + metadata_block(fields)


def metadata_block(fields: tuple[Field, ...] | list[Field]) -> bytes:
    """Metadata as header fields: binary values in base64."""
    return literals((name, _without_padding(value) if name.endswith(b"-bin") else value) for name, value in fields)


def _without_padding(value: bytes) -> bytes:
    return base64.b64encode(value).rstrip(b"=")


def metadata_of(head: Head) -> list[tuple[str, str | bytes]]:
    """A caller's own metadata: binary values decoded, what belongs to the transport left out. Raises InvalidArgument."""
    found: list[tuple[str, str | bytes]] = []
    for name, value in head.fields:
        text = name.decode("ascii")
        if text in _OURS or text[:1] == ":" or (text.startswith("grpc-") and not text.endswith("-bin")):
            continue
        found += [(text, item) for item in _values(text, value)] if _METADATA_NAME.fullmatch(name) else []
    return found


def _values(name: str, value: bytes) -> list[str | bytes]:
    if name.endswith("-bin"):
        return [binary(item) for item in value.split(b",")]
    text = value.decode("latin-1")
    if not _TEXT_VALUE.fullmatch(text):
        raise InvalidArgument("BAD_METADATA", f"the metadata {name} must be printable ASCII, or end in -bin", field=name)
    return [text]


def binary(value: bytes) -> bytes:
    """A binary value from its base64, with or without padding. Raises InvalidArgument BAD_METADATA."""
    value = value.strip()
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        raise InvalidArgument("BAD_METADATA", "metadata that ends in -bin must be base64") from None


def encoding_of(head: Head) -> str:
    """The message encoding of a call. Raises Unimplemented for one that is not known here."""
    encoding = head.texts.get("grpc-encoding", "identity")
    if encoding != "identity" and encoding not in ENCODINGS:
        raise Unimplemented("UNKNOWN_ENCODING", f"grpc-encoding is {encoding[:40]!r}; known are identity, gzip, deflate")
    return encoding


def inflate(data: bytes, window: int, most: int) -> bytes:
    """Uncompress at most `most` bytes. Raises ResourceExhausted for more, InvalidArgument for what is not compressed so."""
    unpack = zlib.decompressobj(window)
    try:
        found = unpack.decompress(data, most + 1)
    except zlib.error:
        raise InvalidArgument("BAD_COMPRESSION", "the message is not compressed as its encoding says") from None
    if len(found) > most:
        raise too_large(most)
    if not unpack.eof or unpack.unused_data:
        raise InvalidArgument("BAD_COMPRESSION", "the compressed message is cut off, or goes on after its end")
    return found


def too_large(most: int) -> ResourceExhausted:
    """The error for a message beyond max_message_bytes."""
    return ResourceExhausted("MESSAGE_TOO_LARGE", f"the message is larger than {most} bytes", max_message_bytes=most)


class MessageReader:
    """Cuts a body into messages. What is half read is counted against the budget until `close`."""

    __slots__ = ("_budget", "_flag", "_held", "_limits", "_missing", "_parts", "_prefix", "_window")

    def __init__(self, encoding: str, limits: Limits, budget: Budget) -> None:
        self._window = ENCODINGS.get(encoding, 0)
        self._limits, self._budget = limits, budget
        self._prefix = b""
        self._parts: list[bytes] = []
        self._held = self._missing = self._flag = 0

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun and is not whole."""
        return bool(self._prefix)

    def feed(self, payload: bytes) -> list[bytes]:
        """The messages that are whole now. Raises ModelyardError, after which the reader is of no more use."""
        found: list[bytes] = []
        at, end = 0, len(payload)
        while at < end:
            if len(self._prefix) < PREFIX_BYTES:
                at = self._read_prefix(payload, at)
                if len(self._prefix) < PREFIX_BYTES:
                    break
            stop = min(at + self._missing, end)
            self._keep(payload[at:stop] if at or stop < end else payload)
            at = stop
            if not self._missing:
                found.append(self._message())
        return found

    def close(self) -> None:
        """Give back what was counted."""
        self._budget.give(self._held)
        self._held, self._parts, self._prefix = 0, [], b""

    def _read_prefix(self, payload: bytes, at: int) -> int:
        stop = at + PREFIX_BYTES - len(self._prefix)
        self._prefix += payload[at:stop]
        if len(self._prefix) == PREFIX_BYTES:
            self._flag, self._missing = self._prefix[0], int.from_bytes(self._prefix[1:], "big")
            if self._missing > self._limits.message_bytes:
                raise too_large(self._limits.message_bytes)
            if self._flag > 1 or (self._flag and not self._window):
                raise _bad_flag(self._flag)
        return min(stop, len(payload))

    def _keep(self, part: bytes) -> None:
        size = len(part)
        if not self._budget.take(size):
            raise Unavailable("NO_MEMORY", "too many large messages are on their way", retry_after_s=1.0)
        self._parts.append(part)
        self._held += size
        self._missing -= size

    def _message(self) -> bytes:
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self.close()
        return inflate(data, self._window, self._limits.message_bytes) if self._flag else data


def _bad_flag(flag: int) -> ModelyardError:
    if flag == 1:
        return InvalidArgument("BAD_COMPRESSION", "a message says that it is compressed, but the call names no grpc-encoding")
    return InvalidArgument("BAD_FRAME", f"a message begins with the byte {flag}; it must be 0, or 1 when compressed")
