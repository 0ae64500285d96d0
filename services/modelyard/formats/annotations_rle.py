"""Masks as run lengths, as COCO has them: column by column, zeros first; packed, six bits a character (COCO API, maskApi.c)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import InvalidArgument

Mask = npt.NDArray[np.uint8]
"""uint8 [H, W], 1 where the object is."""

_LARGEST = 2**40


def encode(mask: Mask) -> bytes:
    """The packed run lengths of a mask; any value but 0 is the object."""
    return pack(counts_of(mask))


def counts_of(mask: Mask) -> list[int]:
    """The run lengths of a mask: of zeros, of ones, of zeros..."""
    flat = np.asarray(mask != 0).flatten(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    edges = np.concatenate([[0], changes, [len(flat)]])
    counts: list[int] = np.diff(edges).tolist()
    return [0, *counts] if len(flat) and flat[0] else counts


def decode(packed: bytes, height: int, width: int) -> Mask:
    """The mask uint8 [height, width]. Raises InvalidArgument BAD_RUN_LENGTHS."""
    counts = unpack(packed)
    if sum(counts) != height * width:
        message = f"the run lengths cover {sum(counts)} pixels, the picture has {width} x {height}"
        raise InvalidArgument("BAD_RUN_LENGTHS", message, pixels=sum(counts), width=width, height=height)
    values = np.arange(len(counts)) % 2
    return np.repeat(values, counts).astype(np.uint8).reshape((height, width), order="F")


def pack(counts: Sequence[int]) -> bytes:
    """Run lengths, packed; from the third on each as its difference from the one before the last."""
    out = bytearray()
    for place, count in enumerate(counts):
        rest = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            bits = rest & 0x1F
            rest >>= 5
            more = rest != -1 if bits & 0x10 else rest != 0
            out.append((bits | 0x20 if more else bits) + 48)
    return bytes(out)


def unpack(packed: bytes) -> list[int]:
    """The run lengths. Raises InvalidArgument BAD_RUN_LENGTHS."""
    counts: list[int] = []
    value = shift = 0
    for character in packed:
        bits = character - 48
        if not 0 <= bits < 64 or shift > 40:
            raise _bad(f"character {chr(character)!r} is none of packed run lengths")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value |= -1 << shift
        if len(counts) > 2:
            value += counts[-2]
        if not 0 <= value < _LARGEST:
            raise _bad(f"a run of {value} pixels")
        counts.append(value)
        value = shift = 0
    if shift:
        raise _bad("they end early")
    return counts


def plain(counts: Sequence[int]) -> list[int]:
    """The same runs in the one way: no empty run but the first."""
    out: list[int] = [counts[0] if counts else 0]
    value = 0
    for place, count in enumerate(counts[1:], start=1):
        if not count:
            continue
        if place % 2 == value:
            out[-1] += count
        else:
            out.append(count)
            value = place % 2
    return out


def box_of(mask: Mask) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a mask; four zeros for an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0.0, 0.0, 0.0, 0.0
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def fill(polygons: Sequence[Sequence[float]], height: int, width: int) -> Mask:
    """Polygons as a mask uint8 [height, width]: their union, drawn by Pillow."""
    from PIL import Image, ImageDraw

    image = Image.new("L", (width, height))
    draw = ImageDraw.Draw(image)
    for ring in polygons:
        draw.polygon([(x - 0.5, y - 0.5) for x, y in zip(ring[::2], ring[1::2], strict=True)], fill=1, outline=1)
    return np.asarray(image, dtype=np.uint8)


def _bad(why: str) -> InvalidArgument:
    return InvalidArgument("BAD_RUN_LENGTHS", f"the run lengths of a mask cannot be read: {why}")
