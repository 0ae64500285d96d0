"""The head of a request over HTTP/2: what RFC 9113 section 8 makes of its fields."""

from __future__ import annotations

import re
from functools import cached_property, lru_cache

from modelyard.core.http.frames import PROTOCOL_ERROR, StreamFault

Field = tuple[bytes, bytes]
LONGEST_CACHED = 64

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE = re.compile(rb"[\x00\r\n]|^[ \t]|[ \t]$")
_PSEUDO = {b":method", b":scheme", b":authority", b":path"}
_OF_ONE_CONNECTION = {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}


class Head:
    """A request's head. The same object serves all calls that came with the same fields; nobody may change it."""

    def __init__(self, method: str, path: str, fields: tuple[Field, ...], content_length: int | None) -> None:
        self.method = method
        self.path = path
        """With the query."""
        self.fields = fields
        """Without those that begin with a colon, in the order they came."""
        self.content_length = content_length

    @cached_property
    def texts(self) -> dict[str, str]:
        """The last value of each field."""
        return {name.decode("ascii"): value.decode("utf-8", "replace") for name, value in self.fields}

    @cached_property
    def is_grpc(self) -> bool:
        """By its content type: application/grpc, +proto, ;charset..."""
        kind = self.texts.get("content-type", "")
        return kind == "application/grpc" or kind.startswith(("application/grpc+", "application/grpc;"))


def head_of(fields: tuple[Field, ...]) -> Head:
    """Checks the fields of a request and reads its head. Raises StreamFault PROTOCOL_ERROR for what is malformed."""
    pseudo: dict[bytes, bytes] = {}
    ordinary: list[Field] = []
    for name, value in fields:
        if name[:1] == b":":
            if ordinary or name in pseudo or name not in _PSEUDO:
                raise _malformed(f"the field {name!r} is out of place")
            pseudo[name] = value
        else:
            (_check_short if len(value) <= LONGEST_CACHED else check_field)(name, value)
            ordinary.append((name, value))
    method, path = pseudo.get(b":method"), pseudo.get(b":path")
    if not method or not path or not pseudo.get(b":scheme"):
        raise _malformed(":method, :path and :scheme are needed")
    if b":authority" in pseudo:
        ordinary.append((b":authority", pseudo[b":authority"]))
    return Head(_ascii(method), _ascii(path), tuple(ordinary), _content_length(ordinary))


def check_field(name: bytes, value: bytes) -> None:
    """Raises StreamFault for a field that a request or its trailers may not have."""
    if not _NAME.fullmatch(name) or name in _OF_ONE_CONNECTION or _BAD_VALUE.search(value):
        raise _malformed("a field has no valid name, or no valid value")
    if name == b"te" and value != b"trailers":
        raise _malformed("te is not trailers")


_check_short = lru_cache(4096)(check_field)


def _ascii(value: bytes) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        raise _malformed("a field is not ASCII") from None


def _content_length(fields: list[Field]) -> int | None:
    values = {value for name, value in fields if name == b"content-length"}
    if not values:
        return None
    value = values.pop()
    if values or not value.isdigit() or len(value) > 18:
        raise _malformed("content-length is no length")
    return int(value)


def _malformed(why: str) -> StreamFault:
    return StreamFault(PROTOCOL_ERROR, why)
