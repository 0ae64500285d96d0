"""Sound files: their header, and their samples as float32. WAV is read here, with numpy alone; FLAC by libsndfile.

A WAV file that holds less than its header says is refused; a length of 0 or 0xFFFFFFFF stands for "to the end", as recorders
that cannot go back write it. Format: RIFF WAVE (IBM and Microsoft 1991), WAVE_FORMAT_EXTENSIBLE.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import InvalidArgument

EXTENSIONS = (".wav", ".wave", ".flac")
"""File name endings (lower case) that are read."""

Samples = npt.NDArray[np.float32]
"""float32 [frames, channels], -1 to 1."""

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_UNKNOWN = (0, 0xFFFFFFFF)
_MAX_RATE = 1_000_000
_MAX_CHANNELS = 256


@dataclass(frozen=True)
class SoundInfo:
    """Frames a second in Hz, frames (samples of each channel), channels, and bits of a sample (negative: float)."""

    rate: int
    frames: int
    channels: int
    bits: int


def is_sound_name(name: str) -> bool:
    """Whether a file name ends as a sound's does."""
    return name.lower().endswith(EXTENSIONS)


def probe(data: bytes, *, name: str) -> SoundInfo:
    """What a sound file holds. Raises InvalidArgument EMPTY_FILE, NOT_A_SOUND, TRUNCATED_SOUND, EMPTY_SOUND."""
    if not data:
        raise InvalidArgument("EMPTY_FILE", f"{name} is empty (0 bytes); a WAV or FLAC file is needed", file=name)
    info = _wav(data, name)[0] if _is_wav(data) else _flac_info(data, name)
    if not info.frames:
        raise InvalidArgument("EMPTY_SOUND", f"{name} holds no sample", file=name)
    return info


def samples(data: bytes, *, name: str = "sound") -> tuple[Samples, int]:
    """The samples and their rate in Hz; raises as `probe` does."""
    if not _is_wav(data):
        return _flac(data, name)
    info, body = _wav(data, name)
    return _to_float(body, info).reshape(-1, info.channels), info.rate


def write_wav(values: npt.NDArray[np.int16], rate: int) -> bytes:
    """A WAV file of int16 [frames] or [frames, channels]."""
    channels = 1 if values.ndim == 1 else values.shape[1]
    body = values.astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", _PCM, channels, rate, rate * channels * 2, channels * 2, 16)
    chunks = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def _is_wav(data: bytes) -> bool:
    return data[:4] in (b"RIFF", b"RIFX") and data[8:12] == b"WAVE"


def _wav(data: bytes, name: str) -> tuple[SoundInfo, bytes]:
    """The header and the bytes of the samples."""
    if data[:4] == b"RIFX":
        raise _not_read(name, "its numbers are big-endian (RIFX)")
    at, form = 12, None
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        at += 8
        if kind == b"fmt ":
            form = _form(data[at : at + size], name)
        if kind == b"data":
            if form is None:
                raise _not_read(name, "its samples come before their format")
            return _body(data, at, size, form, name)
        at += size + size % 2
    raise InvalidArgument("TRUNCATED_SOUND", f"{name} is cut short: it ends before its samples ({len(data)} bytes)", file=name)


def _form(block: bytes, name: str) -> tuple[int, int, int]:
    """Rate, channels and bits (negative: float)."""
    if len(block) < 16:
        raise _not_read(name, f"its format block has {len(block)} bytes, 16 are needed")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", block)
    if tag == _EXTENSIBLE and len(block) >= 26:
        tag = struct.unpack_from("<H", block, 24)[0]
    known = (tag == _PCM and bits in (8, 16, 24, 32)) or (tag == _FLOAT and bits in (32, 64))
    if not known:
        raise _not_read(name, f"it has coding {tag} with {bits} bits; PCM of 8, 16, 24, 32 bits and float of 32, 64 are read")
    if not (0 < rate <= _MAX_RATE and 0 < channels <= _MAX_CHANNELS):
        raise _not_read(name, f"it says {rate} Hz and {channels} channels")
    return rate, channels, -bits if tag == _FLOAT else bits


def _body(data: bytes, at: int, size: int, form: tuple[int, int, int], name: str) -> tuple[SoundInfo, bytes]:
    rate, channels, bits = form
    there = len(data) - at
    if size in _UNKNOWN and there:
        size = there
    if size > there:
        message = f"{name} is cut short: its header says {size} bytes of samples, the file holds {there}"
        raise InvalidArgument("TRUNCATED_SOUND", message, file=name, expected_bytes=size, found_bytes=there)
    width = channels * abs(bits) // 8
    frames = size // width
    return SoundInfo(rate, frames, channels, bits), data[at : at + frames * width]


def _to_float(body: bytes, info: SoundInfo) -> Samples:
    if info.bits < 0:
        return np.frombuffer(body, "<f4" if info.bits == -32 else "<f8").astype(np.float32)
    if info.bits == 8:
        return np.asarray((np.frombuffer(body, np.uint8).astype(np.float32) - 128) / 128, dtype=np.float32)
    if info.bits == 24:
        wide = np.zeros((len(body) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(body, np.uint8).reshape(-1, 3)
        return np.asarray(wide.view("<i4")[:, 0] / 2.0**31, dtype=np.float32)
    kind = "<i2" if info.bits == 16 else "<i4"
    return np.asarray(np.frombuffer(body, kind) / 2.0 ** (info.bits - 1), dtype=np.float32)


def _flac_info(data: bytes, name: str) -> SoundInfo:
    """Decodes the file to its last sample, so that a broken one shows."""
    if not data.startswith(b"fLaC"):
        raise InvalidArgument("NOT_A_SOUND", f"{name} is no sound file that can be read; WAV and FLAC are", file=name)
    values, rate = _flac(data, name)
    return SoundInfo(rate, len(values), values.shape[1], 16)


def _flac(data: bytes, name: str) -> tuple[Samples, int]:
    try:
        import soundfile
    except ImportError as error:
        message = f"{name} is a FLAC file, for which soundfile is not installed here; send it as WAV"
        raise InvalidArgument("FLAC_NOT_READ", message, file=name) from error
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            expected, rate = file.frames, int(file.samplerate)
            values = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise InvalidArgument("TRUNCATED_SOUND", f"{name} is cut short or damaged: {error}", file=name) from error
    if len(values) < expected:
        message = f"{name} is cut short: its header says {expected} samples, {len(values)} could be read"
        raise InvalidArgument("TRUNCATED_SOUND", message, file=name, expected=expected, found=len(values))
    return values, rate


def _not_read(name: str, why: str) -> InvalidArgument:
    return InvalidArgument("NOT_A_SOUND", f"{name} is a WAV file that is not read: {why}", file=name)
