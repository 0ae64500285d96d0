"""Whole numbers as Protocol Buffers write them."""

from __future__ import annotations

from typing import Final

_ONE_BYTE: Final = tuple(bytes([value]) for value in range(128))


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    if value < 128:
        return _ONE_BYTE[value]
    made = bytearray()
    while value >= 128:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)
