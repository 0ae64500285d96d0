"""Which part of a call's outputs belongs to which request."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Final

from modelyard.formats.bundle import TensorSpec
from modelyard.serving.domain.tensors import BYTES, NUMERIC
from modelyard.serving.ports import Tensor

_LENGTH: Final = struct.Struct("<I")


class RowCutter:
    """Cuts the raw outputs of a call, whose sizes are not believed, into those of its requests."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._specs = [(spec.name, spec.datatype, spec.shape[1:], row_bytes(spec), math.prod(spec.shape[1:])) for spec in specs]

    def cut(self, outputs: Sequence[bytes | memoryview], rows: Sequence[int]) -> list[tuple[Tensor, ...]]:
        """The outputs of each request, which has so many `rows`. Raises ValueError for sizes that do not fit."""
        total = sum(rows)
        columns: list[list[Tensor]] = []
        for (name, datatype, tail, size, elements), data in zip(self._specs, outputs, strict=True):
            ends = _numeric_ends(len(data), size, rows, total) if size else _bytes_ends(data, elements, rows)
            column, start = [], 0
            for count, end in zip(rows, ends, strict=True):
                column.append(Tensor(name, datatype, (count, *tail), bytes(data[start:end])))
                start = end
            columns.append(column)
        return list(zip(*columns, strict=True))


def row_bytes(spec: TensorSpec) -> int:
    """Bytes of one example; 0 where each has its own length (BYTES)."""
    return 0 if spec.datatype == BYTES else NUMERIC[spec.datatype].itemsize * math.prod(spec.shape[1:])


def _numeric_ends(size: int, row: int, rows: Sequence[int], total: int) -> list[int]:
    if size != row * total:
        raise ValueError(f"{size} bytes for {total} rows of {row}")
    ends, end = [], 0
    for count in rows:
        end += count * row
        ends.append(end)
    return ends


def _bytes_ends(data: bytes | memoryview, elements: int, rows: Sequence[int]) -> list[int]:
    """Where the elements of each request end, by their 4-byte lengths."""
    ends, end, size = [], 0, len(data)
    for count in rows:
        for _ in range(count * elements):
            if end + 4 > size:
                raise ValueError("a length is cut off")
            end += 4 + _LENGTH.unpack_from(data, end)[0]
        if end > size:
            raise ValueError("an element is cut off")
        ends.append(end)
    if end != size:
        raise ValueError(f"{size - end} bytes too many")
    return ends
