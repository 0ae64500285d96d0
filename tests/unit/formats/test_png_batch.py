"""Pictures read many at once: to the last bit what Pillow makes of each, and silence about whatever is not plain and whole."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from modelyard.formats import png_batch
from modelyard.formats.pictures import encode_png, probe_with_thumbnail

FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def filtered(pixels: np.ndarray, kinds: np.ndarray) -> bytes:
    """A PNG whose row r has the filter kinds[r], after ISO/IEC 15948."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    rows = pixels.reshape(height, width * channels).astype(int)
    out = bytearray()
    for y in range(height):
        out.append(int(kinds[y]))
        for x in range(width * channels):
            left = rows[y, x - channels] if x >= channels else 0
            up = rows[y - 1, x] if y else 0
            corner = rows[y - 1, x - channels] if y and x >= channels else 0
            guess = left + up - corner
            near = min((abs(guess - each), place) for place, each in enumerate((left, up, corner)))[1]
            taken = (0, left, up, (left + up) // 2, (left, up, corner)[near])[int(kinds[y])]
            out.append((rows[y, x] - taken) % 256)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(out))) + chunk(b"IEND", b"")


@FEW
@given(st.integers(1, 40), st.sampled_from([1, 3]), st.integers(0, 2**32 - 1), st.sampled_from([16, 5]))
def test_all_filters_sizes_and_colours_are_as_pillow_has_them(side: int, channels: int, seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (side, side, 3) if channels == 3 else (side, side)
    files = []
    for _ in range(4):
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        files.append(filtered(pixels, rng.integers(0, 5, side)))
    files += files[:1] * png_batch.LEAST_ALIKE
    sizes, small, known = png_batch.probe(files, size)
    assert known.all()
    for place, data in enumerate(files[:4]):
        info, thumbnail = probe_with_thumbnail(data, size=size)
        assert sizes[place].tolist() == [info.width, info.height]
        assert np.array_equal(small[place], thumbnail[:, :, 0])


def test_what_libraries_write_is_read() -> None:
    rng = np.random.default_rng(0)
    files = []
    for number in range(200):
        smooth = (np.add.outer(np.arange(28), np.arange(28)) * (number % 7) + rng.integers(0, 9, (28, 28))).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(smooth).save(out, "PNG")
        files.append(out.getvalue())
    _, small, known = png_batch.probe(files, 16)
    assert known.all()
    assert all(np.array_equal(small[i], probe_with_thumbnail(data, size=16)[1][:, :, 0]) for i, data in enumerate(files))


def damaged(data: bytes, how: str) -> bytes:
    flipped = bytearray(data)
    if how == "cut":
        return data[:-20]
    if how == "checksum":
        flipped[60] ^= 1
    elif how == "more":
        return data + b"x"
    elif how == "header":
        flipped[19] ^= 1
    elif how == "empty":
        return b""
    elif how == "jpeg":
        out = io.BytesIO()
        Image.new("L", (28, 28)).save(out, "JPEG")
        return out.getvalue()
    elif how == "deep":
        out = io.BytesIO()
        Image.fromarray(np.zeros((28, 28), np.uint16)).save(out, "PNG")
        return out.getvalue()
    elif how == "large":
        return encode_png(np.zeros((129, 129), np.uint8))
    elif how == "oblong":
        return encode_png(np.zeros((28, 30), np.uint8))
    return bytes(flipped)


@pytest.mark.parametrize("how", ["cut", "checksum", "more", "header", "empty", "jpeg", "deep", "large", "oblong"])
def test_nothing_is_said_of_a_file_that_is_not_plain_and_whole(how: str) -> None:
    good = [encode_png(np.full((28, 28), number, np.uint8)) for number in range(png_batch.LEAST_ALIKE)]
    _, _, known = png_batch.probe([*good, *[damaged(good[0], how)] * png_batch.LEAST_ALIKE], 16)
    assert known[: len(good)].all()
    assert not known[len(good) :].any()


def test_a_filter_that_does_not_exist_is_found() -> None:
    def with_filter(kind: int) -> bytes:
        raw = zlib.compress(bytes([kind] + [7] * 28) * 28, 1)
        start = encode_png(np.zeros((28, 28), np.uint8))[:33]
        body = struct.pack(">I", len(raw)) + b"IDAT" + raw + struct.pack(">I", zlib.crc32(b"IDAT" + raw))
        return start + body + b"\0\0\0\0IEND\xae\x42\x60\x82"

    _, _, known = png_batch.probe([with_filter(0)] * 64 + [with_filter(5)] * 64, 16)
    assert known.tolist() == [True] * 64 + [False] * 64


def test_few_alike_are_left_to_the_library() -> None:
    files = [encode_png(np.zeros((9, 9), np.uint8))] * (png_batch.LEAST_ALIKE - 1)
    assert not png_batch.probe(files, 16)[2].any()
