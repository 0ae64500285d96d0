"""Many small PNG files at once: checked to their last pixel, and made into thumbnails, as `pictures.probe_with_thumbnail` does.

One by one, a library's calls cost ten times what the pixels of a small picture do. Here files of one size are decoded together.
Only the plainest are taken (square, 8-bit grey or RGB, not interlaced, one IDAT, nothing that says more of the picture, all
checksums right); of any other nothing is said, and `probe_with_thumbnail` must be asked. What is said is what that says, to the
last bit (tests/unit/formats/test_png_batch.py): grey as ITU-R 601 in 16-bit fixed point, and the antialiased bilinear of
Pillow's resize in 22-bit fixed point, across first, then down.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from modelyard.formats.inflating import unzlib

Pixels = npt.NDArray[np.uint8]

LARGEST_SIDE = 128
"""Height and width up to which files are taken: of larger ones the pixels are the work, and libraries do them well."""

LEAST_ALIKE = 64
"""Fewer files of one size are not worth it."""

_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_HEAD = 41
_LEAST = 33 + 12 + 12
_BITS = 22
_PIXELS_AT_ONCE = 4_000_000
_RESIZED_AT_ONCE = 256


def probe(files: Sequence[bytes], size: int) -> tuple[npt.NDArray[np.int32], Pixels, npt.NDArray[np.bool_]]:
    """Width and height int32 [n, 2], thumbnails uint8 [n, size, size], and which files they are said of, bool [n]."""
    sizes, small = np.zeros((len(files), 2), np.int32), np.zeros((len(files), size, size), np.uint8)
    known = np.zeros(len(files), np.bool_)
    for (width, height, channels), numbers in _alike(files).items():
        wanted = height * (1 + width * channels)
        at_once = max(1, _PIXELS_AT_ONCE // wanted)
        for start in range(0, len(numbers), at_once):
            unpacked = [(number, rows) for number in numbers[start : start + at_once] if (rows := _rows(files[number], wanted))]
            if not unpacked:
                continue
            lines = np.frombuffer(b"".join(rows for _, rows in unpacked), np.uint8).reshape(len(unpacked), height, -1)
            pixels, good = _unfiltered(lines, channels)
            of = np.array([number for number, _ in unpacked], np.int64)[good]
            small[of] = _resized(_grey(pixels[good]), size)
            sizes[of] = (width, height)
            known[of] = True
    return sizes, small, known


def _alike(files: Sequence[bytes]) -> dict[tuple[int, int, int], list[int]]:
    """The numbers of plain files by their width, height and channels; those of which there are few are left out."""
    lengths = np.fromiter(map(len, files), np.int64, len(files))
    numbers = np.flatnonzero(lengths >= _LEAST)
    ends = np.cumsum(lengths)
    starts, ends = (ends - lengths)[numbers], ends[numbers]
    joined = np.frombuffer(b"".join(files), np.uint8)
    heads = joined[starts[:, None] + np.arange(_HEAD)]
    tails = joined[ends[:, None] - np.arange(len(_END), 0, -1)]
    plain = (heads[:, :16] == _bytes(_START)).all(1) & (heads[:, 37:41] == _bytes(b"IDAT")).all(1)
    plain &= (tails == _bytes(_END)).all(1)
    plain &= (heads[:, 24] == 8) & ((heads[:, 25] == 0) | (heads[:, 25] == 2)) & ~heads[:, 26:29].any(1)
    words = np.ascontiguousarray(heads[:, [16, 17, 18, 19, 20, 21, 22, 23, 33, 34, 35, 36]]).view(">u4").astype(np.int64)
    width, height, data_bytes = words.T
    plain &= (width == height) & (width > 0) & (width <= LARGEST_SIDE)  # of others Pillow may go down first, then across
    plain &= data_bytes == lengths[numbers] - 57
    found: dict[tuple[int, int, int], list[int]] = {}
    right: dict[bytes, bool] = {}
    rows = zip(numbers[plain].tolist(), width[plain].tolist(), heads[plain, 25].tolist(), strict=True)
    for number, side, colour in rows:
        header = files[number][12:33]
        if header not in right:
            right[header] = zlib.crc32(header[:17]) == int.from_bytes(header[17:], "big")
        if right[header]:
            found.setdefault((side, side, 3 if colour == 2 else 1), []).append(number)
    return {alike: numbers for alike, numbers in found.items() if len(numbers) >= LEAST_ALIKE}


def _bytes(text: bytes) -> Pixels:
    return np.frombuffer(text, np.uint8)


def _rows(data: bytes, wanted: int) -> bytes:
    """The filtered rows of a plain file; b"" where they are not as they should be."""
    if zlib.crc32(data[37:-16]) != int.from_bytes(data[-16:-12], "big"):
        return b""
    return unzlib(data[41:-16], wanted) or b""


def _unfiltered(lines: Pixels, channels: int) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """Pixels uint8 [n, height, width, channels] of filtered rows uint8 [n, height, 1 + width * channels], and whose filters are
    right.

    Pillow's decoder undoes the filters of all of them as if they were one tall picture, a row of zeros before each: what is above
    a first row counts as zeros.
    """
    count, height, wide = lines.shape
    good: npt.NDArray[np.bool_] = np.all(lines[:, :, 0] <= 4, axis=1)
    rows = np.zeros((count, height + 1, wide), np.uint8)
    rows[good, 1:] = lines[good]
    mode, width = "L" if channels == 1 else "RGB", (wide - 1) // channels
    tall = Image.frombytes(mode, (width, count * (height + 1)), zlib.compress(rows.data, 0), "zip", mode)
    return np.asarray(tall).reshape(count, height + 1, width, channels)[:, 1:], good


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
