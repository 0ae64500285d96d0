"""Unpacking small pieces whole, whose sizes are known: by libdeflate where it is installed, which takes half of zlib's time for
them, else by zlib. Both say the same (tests/unit/formats/test_inflating.py)."""

from __future__ import annotations

import zlib

try:
    import deflate as libdeflate
except ImportError:  # pragma: no cover  # no wheel for this machine
    libdeflate = None  # type: ignore[assignment]

_RAW_WINDOW = -15
_MOST = 2**31


def inflate(packed: bytes, size: int) -> bytes | None:
    """The `size` bytes of a raw deflate stream; None where it holds more, fewer, or is none. What follows the stream is left."""
    data = _unpacked(packed, size, raw=True)
    return data if data is not None and len(data) == size else None


def unzlib(packed: bytes, size: int) -> bytes | None:
    """The `size` bytes of a zlib stream that ends where `packed` does; None where it holds more, fewer, or is none."""
    data = _unpacked(packed, size, raw=False)
    if data is None or len(data) != size:
        return None
    # The stream's own checksum is right; it is the last that is there unless something follows.
    return data if zlib.adler32(data) == int.from_bytes(packed[-4:], "big") else None


def _unpacked(packed: bytes, size: int, *, raw: bool) -> bytes | None:
    if libdeflate is None or not 0 < size < _MOST:  # 0 means to it that nobody knows
        return _by_zlib(packed, size, _RAW_WINDOW if raw else zlib.MAX_WBITS)
    try:
        return bytes((libdeflate.deflate_decompress if raw else libdeflate.zlib_decompress)(packed, size))
    except libdeflate.DeflateError:
        return None


def _by_zlib(packed: bytes, size: int, window: int) -> bytes | None:
    inflater = zlib.decompressobj(window)
    try:
        data = inflater.decompress(packed, size + 1)
    except zlib.error:
        return None
    return data if inflater.eof else None
