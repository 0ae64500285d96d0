"""Masks as Label Studio's brush has them: the bytes of an RGBA picture in the run lengths of thi.ng's rle-pack, read bit by bit.

The stream begins with the number of elements (32 bits), the bits of an element less one (5), and four sizes of run counts in
bits, each less one (4 each). Then blocks: one bit, whether it is a run; two bits, which of the four sizes; the count less one;
and one element (a run) or as many as were counted. The last of the four channels says where the brush was (0: nowhere).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import InvalidArgument

Mask = npt.NDArray[np.uint8]

_SIZES = (3, 4, 8, 16)
_MOST_ELEMENTS = 4 * 50_000_000


def decode(rle: list[int], height: int, width: int) -> Mask:
    """The mask uint8 [height, width], 1 where the brush was. Raises InvalidArgument BAD_BRUSH."""
    if any(not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 256 for value in rle):
        raise _bad("it is a list of whole numbers from 0 to 255")
    bits = np.unpackbits(np.asarray(rle, np.uint8))
    stream = _Bits(bits)
    count, word = stream.take(32), stream.take(5) + 1
    sizes = [stream.take(4) + 1 for _ in range(4)]
    if count != 4 * height * width or count > _MOST_ELEMENTS:
        raise _bad(f"it holds {count} numbers; a picture of {width} x {height} pixels has {4 * height * width}")
    if word > 8:
        raise _bad(f"its numbers have {word} bits; a brush has 8 or fewer")
    out = np.zeros(count, np.uint8)
    place = 0
    while place < count:
        is_run = stream.take(1)
        end = place + 1 + stream.take(sizes[stream.take(2)])
        if end > count:
            raise _bad("a run goes beyond the picture")
        out[place:end] = stream.take(word) if is_run else stream.take_many(end - place, word)
        place = end
    return (out.reshape(height, width, 4)[:, :, 3] > 0).astype(np.uint8)


def encode(mask: Mask) -> list[int]:
    """A mask uint8 [height, width] as such a list: all four channels of a pixel are 255 where it is not 0."""
    flat = np.repeat((mask.ravel() > 0).astype(np.uint8), 4)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [len(flat)]]) if len(flat) else np.zeros(1, np.int64)
    parts = [_number(len(flat), 32), _number(7, 5), *(_number(size - 1, 4) for size in _SIZES)]
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        value = 255 if flat[start] else 0
        while start < end:
            length = min(end - start, 1 << _SIZES[-1])
            size = next(place for place, bits in enumerate(_SIZES) if length - 1 < 1 << bits)
            parts += [_number(1, 1), _number(size, 2), _number(length - 1, _SIZES[size]), _number(value, 8)]
            start += length
    text = "".join(parts)
    bits = np.frombuffer(text.encode(), np.uint8) - ord("0")
    packed: list[int] = np.packbits(bits).tolist()
    return packed


class _Bits:
    def __init__(self, bits: npt.NDArray[np.uint8]) -> None:
        self._bits, self._at = bits, 0

    def take(self, count: int) -> int:
        """The next bits as a number."""
        value = 0
        for bit in self._next(count):
            value = value << 1 | int(bit)
        return value

    def take_many(self, count: int, word: int) -> npt.NDArray[np.uint8]:
        """The next numbers of `word` bits each."""
        table = self._next(count * word).reshape(count, word).astype(np.int64)
        return (table @ (1 << np.arange(word - 1, -1, -1))).astype(np.uint8)

    def _next(self, count: int) -> npt.NDArray[np.uint8]:
        if self._at + count > len(self._bits):
            raise _bad("it ends early")
        self._at += count
        return self._bits[self._at - count : self._at]


def _number(value: int, bits: int) -> str:
    return format(value, f"0{bits}b")


def _bad(why: str) -> InvalidArgument:
    return InvalidArgument("BAD_BRUSH", f"the run lengths of a brush cannot be read: {why}")
