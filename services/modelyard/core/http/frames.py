"""HTTP/2 frames (RFC 9113 sections 4 and 6): numbers, and bytes for those that are sent."""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER = struct.Struct(">HBBBI")
"""Length (upper 16 bits, lower 8), type, flags, stream."""
HEADER_BYTES = 9
MOST_WINDOW = (1 << 31) - 1
DEFAULT_WINDOW = 65_535
LEAST_FRAME, MOST_FRAME = 1 << 14, (1 << 24) - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, WITH_PRIORITY = 0x4, 0x8, 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR = range(7)
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY, HTTP_1_1_REQUIRED = range(7, 14)

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = range(1, 7)

_NUMBER = struct.Struct(">I")
_TWO_NUMBERS = struct.Struct(">II")
_SETTING = struct.Struct(">HI")
_pack = HEADER.pack


class ConnectionFault(Exception):
    """The peer broke the protocol or a limit: the connection ends with GOAWAY and this code."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code, self.why = code, why


class StreamFault(Exception):
    """One stream ends with RST_STREAM and this code; the connection goes on."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code, self.why = code, why


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Any frame."""
    size = len(payload)
    return _pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """SETTINGS."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(key, value) for key, value in values.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Identifiers and values of SETTINGS, in order."""
    return list(_SETTING.iter_unpack(payload))


def window_update(stream: int, increment: int) -> bytes:
    """WINDOW_UPDATE; stream 0 is the connection."""
    return _pack(0, 4, WINDOW_UPDATE, 0, stream) + _NUMBER.pack(increment)


def rst_stream(stream: int, code: int) -> bytes:
    """RST_STREAM."""
    return _pack(0, 4, RST_STREAM, 0, stream) + _NUMBER.pack(code)


def goaway(last_stream: int, code: int, why: str = "") -> bytes:
    """GOAWAY."""
    return frame(GOAWAY, 0, 0, _TWO_NUMBERS.pack(last_stream, code) + why.encode()[:128])


def read_number(payload: bytes) -> int:
    """The 31 bits of WINDOW_UPDATE, a priority's stream..., without the reserved one."""
    number: int = _NUMBER.unpack_from(payload)[0]
    return number & MOST_WINDOW


def unpadded(payload: bytes) -> bytes:
    """The payload of a padded frame without its padding. Raises ConnectionFault when there is more padding than payload."""
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(PROTOCOL_ERROR, "padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def header_frames(stream: int, block: bytes, end: bool, most: int) -> bytes:
    """HEADERS, with CONTINUATION when the block is longer than a frame of the peer may be."""
    flags = END_STREAM if end else 0
    if len(block) <= most:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    pieces = [block[at : at + most] for at in range(0, len(block), most)]
    made = [frame(HEADERS, flags, stream, pieces[0])]
    made += [frame(CONTINUATION, 0, stream, piece) for piece in pieces[1:-1]]
    return b"".join([*made, frame(CONTINUATION, END_HEADERS, stream, pieces[-1])])
