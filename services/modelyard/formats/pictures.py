"""The one function that turns a picture file into an array: at the import check, in training, in evaluation and in serving.

Whatever reads a picture anywhere calls `decode`, so a model never meets pixels in service that it could not have met in
training. The function is Pillow's decoder, first frame, EXIF orientation applied, converted to RGB or grey, resized straight
to height x width with antialiased bilinear (the aspect ratio is not kept), uint8.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import InvalidArgument

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 50_000_000
"""Largest picture that is decoded, in pixels; checked from the header, before any pixel is read."""

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
"""Pillow's names of the file formats that are read; Pillow's other decoders are never tried."""

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"})
"""File name endings (lower case) of those formats."""

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"GIF8", b"RIFF", b"II*\x00", b"MM\x00*")
_MODES = frozenset({"1", "L", "P", "PA", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F"})
_ORIENTATION_TAG = 0x0112
_PLAIN_START, _PLAIN_END = b"\x89PNG\r\n\x1a\n\0\0\0\r", b"\0\0\0\0IEND\xae\x42\x60\x82"
_PLAIN_HEADER = struct.Struct(">IIBBBBB")
_PLAIN_LEAST = 33 + 12 + 12

Picture = npt.NDArray[np.uint8]
"""Pixels, uint8 [height, width, channels], 0 to 255."""

Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True)
class PictureInfo:
    """What a picture file holds: width and height in pixels as shown (EXIF orientation applied), Pillow's mode and format."""

    width: int
    height: int
    mode: str
    format: str


def decode(data: Bytes | BinaryIO, *, height: int, width: int, channels: int, name: str = "picture") -> Picture:
    """Pixels of a picture file as uint8 [height, width, channels]; channels is 1 (grey, ITU-R 601 luma) or 3 (RGB).

    The same bytes and size give the same pixels everywhere. A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size by the
    JPEG decoder itself when that still leaves twice the wanted size. 16-bit grey keeps its upper 8 bits; alpha is dropped.
    Raises InvalidArgument with reason EMPTY_FILE, NOT_A_PICTURE, TRUNCATED_PICTURE or PICTURE_TOO_LARGE; `name` is what the
    message calls the picture.
    """
    mode = _mode_of(channels)
    read = _read(data)
    plain = _plain_png(read, height, width, channels)
    if plain is not None:
        return plain
    image = _open(read, name)
    image.draft(None, (2 * max(height, width), 2 * max(height, width)))
    return _finish(_load(image, name), mode, height, width)


def probe(data: Bytes | BinaryIO, *, name: str = "picture") -> PictureInfo:
    """Reads a picture file to its last pixel and says what it is; raises as `decode` does."""
    return probe_with_thumbnail(data, size=0, name=name)[0]


def probe_with_thumbnail(data: Bytes | BinaryIO, *, size: int, name: str = "picture") -> tuple[PictureInfo, Picture]:
    """`probe`, and the picture as grey uint8 [size, size, 1] from the same reading ([0, 0, 1] for size 0)."""
    image = _open(_read(data), name)
    file_format, mode, (width, height) = image.format or "", image.mode, image.size
    image.draft(None, (max(4 * size, 1), max(4 * size, 1)))  # every byte of the stream is still read; fewer pixels are made
    loaded_shape = image.size
    upright = _load(image, name)
    if upright.size != loaded_shape and upright.size == loaded_shape[::-1]:
        width, height = height, width
    info = PictureInfo(width, height, mode, file_format)
    if size == 0:
        return info, np.empty((0, 0, 1), np.uint8)
    return info, _finish(upright, "L", size, size)


def open_upright(data: Bytes, size: int = 0) -> tuple[Image.Image, str]:
    """The picture as it is shown (EXIF orientation applied), in a mode that PNG has, and Pillow's name of the file's format;
    raises as `decode` does. size: pixels of the preview that is made of it: a JPEG need not be decoded in full; 0: all.
    """
    image = _open(_read(data), "picture")
    format_ = image.format or ""
    if size:
        image.draft(None, (2 * size, 2 * size))
    upright = _load(image, "picture")
    return upright if upright.mode in ("L", "RGB", "RGBA") else upright.convert("RGB"), format_


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG file of uint8 [H, W], [H, W, 1] or [H, W, 3]: no row filters, fastest compression.

    Written here because it is three times as fast as Pillow for the small pictures of IDX files. Format: ISO/IEC 15948.
    """
    height, width = pixels.shape[:2]
    colour = 2 if pixels.ndim == 3 and pixels.shape[2] == 3 else 0
    rows = np.zeros((height, 1 + pixels.size // height), np.uint8)  # each row starts with the number of its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _plain_png(data: bytes, height: int, width: int, channels: int) -> Picture | None:
    """The pixels of a PNG as `encode_png` writes it, when it has the wanted size; None for any other file, also a damaged one.

    A fifth of Pillow's time for a small picture, which is what training on an IDX file spends beside the network itself.
    """
    if len(data) < _PLAIN_LEAST or data[:12] != _PLAIN_START or data[-12:] != _PLAIN_END or data[37:41] != b"IDAT":
        return None
    columns, rows, depth, colour, *rest = _PLAIN_HEADER.unpack_from(data, 16)
    if (rows, columns, depth) != (height, width, 8) or colour not in (0, 2) or any(rest) or (colour == 2 and channels == 1):
        return None
    size, crc = int.from_bytes(data[33:37], "big"), int.from_bytes(data[-16:-12], "big")
    if size != len(data) - 57 or zlib.crc32(data[37:-16]) != crc or zlib.crc32(data[12:29]) != int.from_bytes(data[29:33], "big"):
        return None
    wide = 1 + width * (3 if colour == 2 else 1)
    inflate = zlib.decompressobj()
    try:
        pixels = inflate.decompress(data[41:-16], height * wide + 1)
    except zlib.error:
        return None
    if len(pixels) != height * wide or not inflate.eof:
        return None
    lines = np.frombuffer(pixels, np.uint8).reshape(height, wide)
    if lines[:, 0].any():
        return None
    shown = lines[:, 1:].reshape(height, width, -1)
    return shown.copy() if shown.shape[2] == channels else np.repeat(shown, channels, 2)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def is_picture_name(name: str) -> bool:
    """Whether a file name ends as a picture's does."""
    dot = name.rfind(".")
    return dot >= 0 and name[dot:].lower() in EXTENSIONS


def _mode_of(channels: int) -> str:
    if channels not in (1, 3):
        message = f"channels is {channels}; a picture is decoded to 1 (grey) or 3 (RGB) channels"
        raise InvalidArgument("BAD_CHANNELS", message, field="channels", channels=channels)
    return "L" if channels == 1 else "RGB"


def _read(data: Bytes | BinaryIO) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    return data.read()


def _open(data: bytes, name: str) -> Image.Image:
    """The picture with its header read and its size checked, no pixel decoded yet."""
    from PIL import Image

    if not data:
        raise InvalidArgument("EMPTY_FILE", f"{name} is empty (0 bytes); a picture file is needed", file=name)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, str(error)) from error
    except Exception as error:  # Pillow's parsers raise nearly anything on hostile bytes
        raise _unreadable(data, name) from error
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name, f"{image.width} x {image.height} pixels")
    if image.mode not in _MODES and not image.mode.startswith("I;16"):
        raise InvalidArgument(
            "NOT_A_PICTURE", f"{name} has pixels of mode {image.mode}, which is not read", file=name, mode=image.mode
        )
    return image


def _load(image: Image.Image, name: str) -> Image.Image:
    """Decodes all pixels of the first frame and turns them upright."""
    from PIL import ImageOps

    try:
        image.load()
    except Exception as error:  # a broken stream shows as OSError, SyntaxError, ValueError, struct.error, zlib.error...
        raise _truncated(name, str(error)) from error
    if image.format != "TIFF" and not any("exif" in str(key).lower() or "xmp" in str(key).lower() for key in image.info):
        return image
    try:
        turned = image.getexif().get(_ORIENTATION_TAG, 1) in range(2, 9)
    except Exception:  # a broken EXIF block says nothing about the pixels
        return image
    return ImageOps.exif_transpose(image) if turned else image


def _finish(image: Image.Image, mode: str, height: int, width: int) -> Picture:
    from PIL import Image

    if image.mode != mode and image.mode != "L":
        image = _convert(image, mode)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    if image.mode != mode:  # grey to RGB after resizing: the same pixels for a third of the work
        image = image.convert(mode)
    pixels = np.array(image, dtype=np.uint8)
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def _convert(image: Image.Image, mode: str) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):  # Pillow would clip 16-bit grey to white instead of scaling it
        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode not in ("L", "LA", "1", "RGB", "RGBA", "F"):
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _unreadable(data: bytes, name: str) -> InvalidArgument:
    if data.startswith(_MAGIC):
        return _truncated(name, "its header cannot be read")
    formats = ", ".join(FORMATS)
    return InvalidArgument("NOT_A_PICTURE", f"{name} is not a picture file that can be read; {formats} are", file=name)


def _truncated(name: str, detail: str) -> InvalidArgument:
    return InvalidArgument("TRUNCATED_PICTURE", f"{name} is cut short or damaged: {detail}", file=name, detail=detail)


def _too_large(name: str, detail: str) -> InvalidArgument:
    message = f"{name} is too large: {detail}; at most {MAX_PIXELS} pixels are read"
    return InvalidArgument("PICTURE_TOO_LARGE", message, file=name, limit_pixels=MAX_PIXELS)
