"""Many small PNG files at once: checked to their last pixel, and made into thumbnails, as `pictures.probe_with_thumbnail` does.

One by one, a library's calls cost ten times what the pixels of a small picture do. Here files of one size are decoded side by
side, row by
row, over all of them. Only the plainest files are taken (square, 8-bit grey or RGB, not interlaced, one IDAT, nothing that says
more of the picture, all
checksums right); of any other nothing is said, and `probe_with_thumbnail` must be asked. What is said is what that says, to the
last bit
(tests/unit/formats/test_png_batch.py): filters as ISO/IEC 15948 has them, grey as ITU-R 601 in 16-bit fixed point, and the
antialiased bilinear of Pillow's resize in 22-bit fixed point, across first, then down.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

LARGEST_SIDE = 128
"""Height and width up to which files are taken: of larger ones the pixels are the work, and libraries do them well."""

LEAST_ALIKE = 64
"""Fewer files of one size are not worth it."""

_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_HEADER = struct.Struct(">IIBBBBB")
_LEAST = 33 + 12 + 12
_BITS = 22
_PIXELS_AT_ONCE = 4_000_000
_RESIZED_AT_ONCE = 256


def probe(files: Sequence[bytes], size: int) -> tuple[npt.NDArray[np.int32], Pixels, npt.NDArray[np.bool_]]:
    """Width and height int32 [n, 2], thumbnails uint8 [n, size, size], and which files they are said of, bool [n]."""
    sizes, small = np.zeros((len(files), 2), np.int32), np.zeros((len(files), size, size), np.uint8)
    known = np.zeros(len(files), np.bool_)
    alike: dict[tuple[int, int, int], list[tuple[int, bytes]]] = {}
    for number, data in enumerate(files):
        opened = _open(data)
        if opened is not None:
            alike.setdefault(opened[0], []).append((number, opened[1]))
    for (width, height, channels), found in alike.items():
        if len(found) < LEAST_ALIKE:
            continue
        at_once = max(1, _PIXELS_AT_ONCE // (width * height * channels))
        for start in range(0, len(found), at_once):
            some = found[start : start + at_once]
            lines = np.frombuffer(b"".join(pixels for _, pixels in some), np.uint8).reshape(len(some), height, -1)
            pixels, good = _unfiltered(lines, channels)
            rows = np.array([number for number, _ in some], np.int64)[good]
            small[rows] = _resized(_grey(pixels[good]), size)
            sizes[rows] = (width, height)
            known[rows] = True
    return sizes, small, known


def _open(data: bytes) -> tuple[tuple[int, int, int], bytes] | None:
    """Width, height and channels of a plain file, and its filtered rows; None for any other."""
    if len(data) < _LEAST or not data.startswith(_START) or not data.endswith(_END) or data[37:41] != b"IDAT":
        return None
    width, height, depth, colour, *rest = _HEADER.unpack_from(data, 16)
    if depth != 8 or colour not in (0, 2) or any(rest) or width != height or not 0 < width <= LARGEST_SIDE:
        return None  # of one that is not square Pillow may go down first, then across
    size, crc = int.from_bytes(data[33:37], "big"), int.from_bytes(data[-16:-12], "big")
    if size != len(data) - 57 or zlib.crc32(data[37:-16]) != crc or zlib.crc32(data[12:29]) != int.from_bytes(data[29:33], "big"):
        return None
    channels = 3 if colour == 2 else 1
    wanted = height * (1 + width * channels)
    inflate = zlib.decompressobj()
    try:
        pixels = inflate.decompress(data[41:-16], wanted + 1)
    except zlib.error:
        return None
    if len(pixels) != wanted or not inflate.eof or inflate.unused_data:
        return None
    return (width, height, channels), pixels


def _unfiltered(lines: Pixels, channels: int) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """Pixels uint8 [n, height, width, channels] of filtered rows uint8 [n, height, 1 + width * channels], and whose filters are
    right."""
    count, height, wide = lines.shape
    kinds = lines[:, :, 0]
    good: npt.NDArray[np.bool_] = np.all(kinds <= 4, axis=1)
    out = np.ascontiguousarray(lines[:, :, 1:]).reshape(count, height, (wide - 1) // channels, channels)
    above = np.zeros((count, *out.shape[2:]), np.uint8)
    for row in range(height):
        now = out[:, row]
        for kind in np.unique(kinds[:, row]).tolist():
            if kind == 0 or kind > 4:
                continue
            chosen = np.flatnonzero(kinds[:, row] == kind)
            raw, over = now[chosen], above[chosen]
            if kind == 1:
                now[chosen] = np.cumsum(raw, axis=1, dtype=np.uint8)
            elif kind == 2:
                now[chosen] = raw + over
            else:
                now[chosen] = (_averaged if kind == 3 else _paeth)(raw, over)
        above = now
    return out, good


def _averaged(raw: Pixels, over: Pixels) -> Pixels:
    columns, up = _by_column(raw), _by_column(over).astype(np.uint16)
    left = np.zeros(columns.shape[1:], np.uint16)
    for column in range(len(columns)):
        columns[column] += ((left + up[column]) >> 1).astype(np.uint8)
        left = columns[column].astype(np.uint16)
    return _by_row(columns, raw.shape[2])


def _paeth(raw: Pixels, over: Pixels) -> Pixels:
    """Each pixel is told by which of left, above and above left is nearest to left + above - above left; in this order where
    equal."""
    columns, up = _by_column(raw), _by_column(over).astype(np.int16)
    left, corner = np.zeros(columns.shape[1:], np.int16), np.zeros(columns.shape[1:], np.int16)
    for column in range(len(columns)):
        top = up[column]
        to_left, to_top = top - corner, left - corner  # the distances are of left + top - corner
        far_left, far_top, far_corner = np.abs(to_left), np.abs(to_top), np.abs(to_left + to_top)
        guess = np.where(far_top <= far_corner, top, corner)
        guess = np.where((far_left <= far_top) & (far_left <= far_corner), left, guess)
        columns[column] += guess.astype(np.uint8)
        left, corner = columns[column].astype(np.int16), top
    return _by_row(columns, raw.shape[2])


def _by_column(values: Pixels) -> Pixels:
    """[n, width, channels] as [width, n * channels], in memory of its own."""
    return np.ascontiguousarray(values.transpose(1, 0, 2)).reshape(values.shape[1], -1)


def _by_row(columns: Pixels, channels: int) -> Pixels:
    """[width, n * channels] as [n, width, channels]."""
    return columns.reshape(len(columns), -1, channels).transpose(1, 0, 2)


def _grey(pixels: Pixels) -> Pixels:
    """uint8 [n, height, width]: grey as it is, RGB by its luma."""
    if pixels.shape[3] == 1:
        return pixels[:, :, :, 0]
    red, green, blue = (pixels[:, :, :, channel].astype(np.uint32) for channel in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)


def _resized(grey: Pixels, size: int) -> Pixels:
    """uint8 [n, size, size]. Whole numbers below 2^53, so that floating point is exact and matrix products may do it."""
    side = grey.shape[1]
    if side == size:
        return grey
    weights = _weights(side, size)
    out = np.empty((len(grey), size, size), np.uint8)
    for start in range(0, len(grey), _RESIZED_AT_ONCE):
        some = grey[start : start + _RESIZED_AT_ONCE]
        across = _fixed(some.reshape(-1, side).astype(np.float64) @ weights.T).reshape(-1, side, size)
        out[start : start + len(some)] = _fixed(np.matmul(weights, across.astype(np.float64)))
    return out


def _fixed(sums: npt.NDArray[np.float64]) -> Pixels:
    """Rounded and back in units of 1: adding, halving and cutting off are exact. Weights add up to one, so nothing leaves 0 to
    255."""
    return ((sums + (1 << (_BITS - 1))) * 2.0**-_BITS).astype(np.uint8)


@lru_cache(maxsize=256)
def _weights(before: int, after: int) -> npt.NDArray[np.float64]:
    """What each of `before` pixels adds to each of `after`, in units of 2^-22: float64 [after, before], whole numbers."""
    scale = before / after
    stretch = max(scale, 1.0)
    weights = np.zeros((after, before))
    for place in range(after):
        centre = (place + 0.5) * scale
        first, end = max(int(centre - stretch + 0.5), 0), min(int(centre + stretch + 0.5), before)
        parts = [max(0.0, 1.0 - abs((at + first - centre + 0.5) * (1.0 / stretch))) for at in range(end - first)]
        total = sum(parts)
        weights[place, first:end] = [int(0.5 + part / total * (1 << _BITS)) for part in parts]
    return weights
