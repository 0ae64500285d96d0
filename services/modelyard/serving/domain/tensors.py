"""Tensors as the Open Inference Protocol carries them: raw bytes, typed lists and numpy arrays, with every check.

Source of the format: the Open Inference Protocol, version 2 (gRPC): elements row-major and little-endian; a BYTES element is a
4-byte little-endian length and that many bytes. Shapes and lengths come from callers, so nothing is believed: sizes are computed
with Python's integers (no overflow) and compared with the bytes that came before any memory is taken. A request goes from the
wire to the model's process as the bytes it came in (`check_raw`); arrays are made there.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument

Array = NDArray[Any]

BYTES: Final = "BYTES"
BF16: Final = "BF16"
NUMERIC: Final = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""The fixed-size datatypes. BF16 is in the protocol too, but numpy has no such type and no bundle is made with it."""

FLOATS: Final = frozenset({"FP16", "FP32", "FP64"})

TYPED_FIELDS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Which list of `contents` holds the elements of each datatype. FP16 has none: it travels raw."""

MAX_DIMENSIONS: Final = 16
"""Most dimensions of a tensor; numpy ends at 64, no model comes near."""

_LENGTH = struct.Struct("<I")


def known_datatype(name: str, datatype: str) -> str:
    """The datatype. Raises InvalidArgument UNKNOWN_DATATYPE; `name` is the input's."""
    if datatype in NUMERIC or datatype == BYTES:
        return datatype
    known = ", ".join((*NUMERIC, BYTES))
    raise _wrong(
        name, "UNKNOWN_DATATYPE", f"has the datatype {datatype[:40]!r}; it must be one of {known}", datatype=datatype[:40]
    )


def element_count(name: str, shape: Sequence[int]) -> int:
    """How many elements a shape holds: 1 or more.

    Raises InvalidArgument BAD_SHAPE for no or too many dimensions, and for any that is negative or zero.
    """
    if not 1 <= len(shape) <= MAX_DIMENSIONS:
        raise _wrong(name, "BAD_SHAPE", f"has {len(shape)} dimensions; it must have 1 to {MAX_DIMENSIONS}", dimensions=len(shape))
    if min(shape) < 1:
        raise _wrong(name, "BAD_SHAPE", f"has the shape {list(shape)}; every dimension must be 1 or more", shape=list(shape))
    return math.prod(shape)


def decode_raw(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Array:
    """The array that raw little-endian bytes hold: a read-only view for numbers, dtype object holding bytes for BYTES.

    Raises InvalidArgument UNKNOWN_DATATYPE, BAD_SHAPE, SIZE_MISMATCH, BAD_BYTES or BAD_BOOL, naming the input.
    """
    count = element_count(name, shape)
    dtype = NUMERIC.get(known_datatype(name, datatype))
    if dtype is None:
        return _shaped(split_bytes(name, raw, count), shape)
    if len(raw) != count * dtype.itemsize:
        needed = count * dtype.itemsize
        what = f"holds {len(raw)} bytes; {datatype} {list(shape)} needs {needed}"
        raise _wrong(name, "SIZE_MISMATCH", what, size_bytes=len(raw), needed_bytes=needed)
    if datatype == "BOOL":
        _check_bool(name, raw)
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


def check_raw(name: str, datatype: str, count: int, raw: bytes) -> None:
    """Whether `raw` is `count` elements of a known datatype, without reading more than it must.

    Raises InvalidArgument SIZE_MISMATCH, BAD_BYTES or BAD_BOOL, naming the input.
    """
    if datatype == BYTES:
        deque(_spans(name, raw, count), maxlen=0)
        return
    needed = count * NUMERIC[datatype].itemsize
    if len(raw) != needed:
        what = f"holds {len(raw)} bytes; {count} elements of {datatype} need {needed}"
        raise _wrong(name, "SIZE_MISMATCH", what, size_bytes=len(raw), needed_bytes=needed)
    if datatype == "BOOL":
        _check_bool(name, raw)


def pack(name: str, datatype: str, count: int, values: Sequence[Any]) -> bytes:
    """The raw bytes of a typed list: numbers, truth values, or byte strings for BYTES.

    Raises InvalidArgument SIZE_MISMATCH, OUT_OF_RANGE.
    """
    if len(values) != count:
        what = f"holds {len(values)} elements; its shape needs {count}"
        raise _wrong(name, "SIZE_MISMATCH", what, elements=len(values), needed_elements=count)
    if datatype == BYTES:
        return join_bytes(values)
    try:
        return np.fromiter(values, NUMERIC[datatype], count).tobytes()
    except OverflowError as error:
        raise _wrong(name, "OUT_OF_RANGE", f"holds a value that {datatype} cannot ({error})", datatype=datatype) from error


def unpack(datatype: str, raw: bytes | memoryview) -> list[Any]:
    """The elements of a well-formed tensor: numbers, truth values, or byte strings for BYTES."""
    if datatype == BYTES:
        whole = bytes(raw)
        return [whole[start:end] for start, end in _spans("", whole, None)]
    values: list[Any] = np.frombuffer(raw, NUMERIC[datatype]).tolist()
    return values


def join_bytes(elements: Sequence[bytes]) -> bytes:
    """A BYTES tensor: each element after its 4-byte length."""
    return b"".join(part for element in elements for part in (_LENGTH.pack(len(element)), element))


def bf16_to_fp32(raw: bytes) -> bytes:
    """BF16 as FP32, which is exact: a BF16 is the upper half of an FP32. `raw` holds whole elements."""
    return (np.frombuffer(raw, "<u2").astype("<u4") << 16).astype("<u4").tobytes()


def split_bytes(name: str, raw: bytes, count: int) -> list[bytes]:
    """The elements of a BYTES tensor. Raises InvalidArgument BAD_BYTES unless `raw` is exactly `count` of them."""
    return [bytes(raw[start:end]) for start, end in _spans(name, raw, count)]


def encode_raw(array: Array) -> bytes:
    """The bytes of an array, row-major and little-endian; of dtype object (str or bytes): each with its 4-byte length."""
    if array.dtype != object:
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return join_bytes([each if isinstance(each, bytes) else str(each).encode() for each in array.ravel().tolist()])


def _spans(name: str, raw: bytes, count: int | None) -> Iterator[tuple[int, int]]:
    """Where each element of a BYTES tensor begins and ends. `count`: how many there must be; None: as many as there are.

    Raises InvalidArgument BAD_BYTES.
    """
    size = len(raw)
    if count is not None and size < count * _LENGTH.size:
        what = f"holds {size} bytes, which is too little for {count} elements with their 4-byte lengths"
        raise _wrong(name, "BAD_BYTES", what, size_bytes=size, elements=count)
    position = index = 0
    while position < size if count is None else index < count:
        start = position + _LENGTH.size
        if start > size:
            raise _wrong(name, "BAD_BYTES", f"ends within the length of element {index}", element=index)
        position = start + _LENGTH.unpack_from(raw, start - _LENGTH.size)[0]
        if position > size:
            what = f"says that element {index} has {position - start} bytes, but {size - start} are left"
            raise _wrong(name, "BAD_BYTES", what, element=index, announced=position - start, left=size - start)
        yield start, position
        index += 1
    if position != size:
        what = f"holds {size - position} bytes after its last element, of {count}"
        raise _wrong(name, "BAD_BYTES", what, left=size - position, elements=count)


def _shaped(elements: list[bytes], shape: Sequence[int]) -> Array:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array.reshape(shape)


def _check_bool(name: str, raw: bytes) -> None:
    """Any byte but 0 and 1 in a numpy bool is undefined behaviour further on."""
    others = bytes(raw).translate(None, b"\x00\x01")
    if others:
        wrong = others[0]
        raise _wrong(name, "BAD_BOOL", f"holds the byte {wrong}; a BOOL is 0 or 1", value=wrong)


def _wrong(name: str, reason: str, what: str, **values: Any) -> InvalidArgument:
    return InvalidArgument(reason, f"input {name[:200]!r} {what}", field=f"inputs.{name[:200]}", input=name[:200], **values)
