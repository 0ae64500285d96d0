"""formats.pictures: one decoder, and clear words for what is no picture."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from modelyard.core.errors import InvalidArgument
from modelyard.formats import pictures

RANDOM = np.random.default_rng(0)


def noise(height: int = 20, width: int = 30, channels: int = 3) -> np.ndarray:
    pixels = RANDOM.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return pixels[:, :, 0] if channels == 1 else pixels


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def reason_of(data: bytes) -> str:
    with pytest.raises(InvalidArgument) as caught:
        pictures.probe(data, name="a.png")
    assert "a.png" in caught.value.message
    return caught.value.reason


def outcome(data: bytes) -> str:
    """The reason why bytes cannot be decoded, or ""."""
    try:
        pictures.decode(data, height=4, width=4, channels=3)
    except InvalidArgument as error:
        return error.reason
    return ""


MAGIC = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"RIFF", b"II*\x00"]


def test_same_size_keeps_every_pixel() -> None:
    pixels = noise()
    assert np.array_equal(pictures.decode(encoded(pixels), height=20, width=30, channels=3), pixels)


def test_shape_and_type() -> None:
    decoded = pictures.decode(encoded(noise()), height=8, width=6, channels=1)
    assert decoded.shape == (8, 6, 1)
    assert decoded.dtype == np.uint8


def test_file_bytes_and_streams_are_the_same() -> None:
    data = encoded(noise(), "JPEG")
    one = pictures.decode(data, height=7, width=7, channels=3)
    assert np.array_equal(one, pictures.decode(io.BytesIO(data), height=7, width=7, channels=3))
    assert np.array_equal(one, pictures.decode(memoryview(data), height=7, width=7, channels=3))


def test_resizing_is_pillows_antialiased_bilinear() -> None:
    pixels = noise(64, 48)
    expected = np.asarray(Image.fromarray(pixels).resize((12, 16), Image.Resampling.BILINEAR))
    assert np.array_equal(pictures.decode(encoded(pixels), height=16, width=12, channels=3), expected)


def test_grey_to_colour_is_the_same_before_or_after_resizing() -> None:
    pixels = noise(40, 40, 1)
    expected = np.asarray(Image.fromarray(pixels).convert("RGB").resize((9, 9), Image.Resampling.BILINEAR))
    assert np.array_equal(pictures.decode(encoded(pixels), height=9, width=9, channels=3), expected)


def test_exif_orientation_is_applied() -> None:
    pixels = noise(10, 20)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    data = encoded(pixels, "PNG", exif=exif)
    assert np.array_equal(pictures.decode(data, height=20, width=10, channels=3), np.rot90(pixels, -1))
    assert (pictures.probe(data).width, pictures.probe(data).height) == (10, 20)


def test_probe_gives_the_size_of_a_large_jpeg_that_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    info = pictures.probe(encoded(noise(300, 400), "JPEG", exif=exif))
    assert (info.width, info.height, info.mode, info.format) == (300, 400, "RGB", "JPEG")


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    pixels = np.full((4, 4), 0x8000, np.uint16)
    assert set(np.unique(pictures.decode(encoded(pixels), height=4, width=4, channels=1))) == {0x80}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_is_read(mode: str, channels: int) -> None:
    bright = Image.new("L", (5, 4), 255 if mode == "1" else 200)  # Pillow dithers 200 to black and white
    image = bright.convert(mode) if mode != "I;16" else Image.new("I;16", (5, 4), 200 << 8)
    out = io.BytesIO()
    image.save(out, "TIFF" if mode == "CMYK" else "PNG")
    decoded = pictures.decode(out.getvalue(), height=4, width=5, channels=channels)
    assert decoded.shape == (4, 5, channels)
    assert np.all(decoded >= 198)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("L", (4, 4), value) for value in (10, 250)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    assert pictures.decode(out.getvalue(), height=4, width=4, channels=1).max() < 20


def test_a_large_jpeg_is_close_to_its_full_decoding() -> None:
    rows, columns = np.mgrid[0:1000, 0:1500]
    pixels = np.stack([rows * 255 // 1000, columns * 255 // 1500, (rows + columns) * 255 // 2500], axis=2).astype(np.uint8)
    data = encoded(pixels, "JPEG", quality=95)
    full = np.asarray(Image.open(io.BytesIO(data)).resize((96, 96), Image.Resampling.BILINEAR), dtype=int)
    assert np.abs(pictures.decode(data, height=96, width=96, channels=3) - full).mean() < 1


def test_empty_file() -> None:
    assert reason_of(b"") == "EMPTY_FILE"


def test_text_is_no_picture() -> None:
    assert reason_of(b"hello, this is a text") == "NOT_A_PICTURE"


def test_formats_that_are_not_allowed_are_no_pictures() -> None:
    assert reason_of(encoded(noise(), "PPM")) == "NOT_A_PICTURE"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated(kind: str, share: float) -> None:
    data = encoded(noise(64, 64), kind)
    assert reason_of(data[: max(int(len(data) * share), 6)]) == "TRUNCATED_PICTURE"


def test_twenty_thousand_squared_is_refused_by_its_header() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    assert reason_of(data) == "PICTURE_TOO_LARGE"
    header = struct.pack(">IIBBBBB", 10_000, 5_001, 8, 0, 0, 0, 0)  # below Pillow's own limit, above ours
    assert reason_of(data[:8] + chunk(b"IHDR", header) + data[33:]) == "PICTURE_TOO_LARGE"


def test_channels_are_one_or_three() -> None:
    with pytest.raises(InvalidArgument, match="channels is 2"):
        pictures.decode(encoded(noise()), height=4, width=4, channels=2)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_encode_png_round_trip(height: int, width: int, channels: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    data = pictures.encode_png(pixels)
    assert np.array_equal(pictures.decode(data, height=height, width=width, channels=channels), pixels)


@given(
    st.binary(max_size=200),
    st.sampled_from(MAGIC),
)
@settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_hostile_bytes_give_a_clear_error(tail: bytes, magic: bytes) -> None:
    assert outcome(magic + tail) in {"", "EMPTY_FILE", "NOT_A_PICTURE", "TRUNCATED_PICTURE", "PICTURE_TOO_LARGE"}


@pytest.mark.parametrize(("name", "is_picture"), [("a.JPG", True), ("b.tar.png", True), ("c.txt", False), ("jpg", False)])
def test_picture_names(name: str, is_picture: bool) -> None:
    assert pictures.is_picture_name(name) is is_picture


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    colours=st.sampled_from([1, 3]),
    channels=st.sampled_from([1, 3]),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 255)), max_size=2),
    shorter=st.integers(0, 3),
)
def test_the_quick_way_for_plain_png_files_gives_what_pillow_gives(
    height: int, width: int, colours: int, channels: int, changes: list[tuple[int, int]], shorter: int
) -> None:
    """Also of damaged files, which it leaves to Pillow."""
    data = bytearray(pictures.encode_png(noise(height, width, colours)))
    for place, change in changes:
        data[place % len(data)] ^= change
    file = bytes(data[: len(data) - shorter])

    def result() -> object:
        try:
            return pictures.decode(file, height=height, width=width, channels=channels).tolist()
        except InvalidArgument as error:
            return error.reason

    quick = result()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "_plain_png", lambda *_: None)
        assert quick == result()
