"""Curves of training jobs as TensorBoard's event files, written without TensorBoard: FOLDER/JOB/events.out.tfevents.*.

An event file is a sequence of TFRecords: length (8 bytes), its checksum, an Event message, its checksum. Checksums are CRC-32C
(Castagnoli), rotated and offset as TFRecord wants them. Of Event only wall_time, step, file_version and summary are needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from modelyard.trainer.v1 import trainer_pb2

VERSION: Final = b"brain.Event:2"
_POLYNOMIAL: Final = 0x82F63B78
_OFFSET: Final = 0xA282EAD8


def write_curves(folder: Path, job_id: str, points: Iterable[trainer_pb2.TrainingPoint]) -> Path:
    """Writes the curves of a job below a log folder; gives the file. The same points give the same bytes."""
    held = list(points)
    began = held[0].time.ToSeconds() if held else 0
    path = folder / job_id / f"events.out.tfevents.{began}.modelyard"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(record(_double(1, float(began)) + _bytes(3, VERSION)))
        for point in held:
            file.write(record(event(point)))
    return path


def event(point: trainer_pb2.TrainingPoint) -> bytes:
    """A point as an Event message: a summary with a value for the loss, the learning rate, the speed and each metric."""
    summary = b"".join(_bytes(1, _bytes(1, tag.encode()) + _float(2, value)) for tag, value in scalars(point))
    return _double(1, point.time.ToMilliseconds() / 1000) + _number(2, point.step) + _bytes(5, summary)


def scalars(point: Any) -> Iterator[tuple[str, float]]:
    """Tags as TensorBoard groups them (by what stands before the slash), and values."""
    if point.loss or not point.metrics:
        yield "train/loss", point.loss
    yield "train/learning_rate", point.learning_rate
    if point.examples_per_second:
        yield "train/examples_per_second", point.examples_per_second
    for name, value in sorted(point.metrics.items()):
        kind, _, rest = name.partition("_")
        yield {"val": f"validation/{rest}", "train": f"train_sample/{rest}"}.get(kind, f"metrics/{name}"), value


def record(data: bytes) -> bytes:
    """A TFRecord."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(length)) + data + struct.pack("<I", masked(data))


def masked(data: bytes) -> int:
    """The checksum as TFRecord has it."""
    value = crc32c(data)
    return (((value >> 15) | (value << 17)) + _OFFSET) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), RFC 3720 appendix B.4."""
    value = 0xFFFFFFFF
    for byte in data:
        value = (value >> 8) ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def _table() -> list[int]:
    rows = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        rows.append(value)
    return rows


_TABLE: Final = _table()


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)
