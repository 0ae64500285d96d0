"""Finds references to files outside an ONNX model, without the onnx package (which a serving machine does not have).

It walks the protobuf wire format of `ModelProto` (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) through the few
fields that lead to tensors, and skips all others unread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH: Final = 64
# By message: field number -> the message inside it that may hold tensors.
_CHILDREN: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_LOCATION: Final = b"location"
_EXTERNAL_DATA, _DATA_LOCATION, _IS_EXTERNAL = 13, 14, 1


class NotOnnxError(ValueError):
    """The bytes are not a protobuf message of the expected form."""


def has_external_data(model: bytes) -> bool:
    """Whether any tensor of the model keeps its values in another file. Raises NotOnnxError when `model` is not protobuf."""
    if _LOCATION not in model:  # the key that every reference carries; spares the walk through large trees
        _first_field(model)
        return False
    return _searches(memoryview(model), "model", 0)


def _first_field(model: bytes) -> None:
    next(_fields(memoryview(model)), None)


def _searches(data: memoryview, kind: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise NotOnnxError(f"nested deeper than {_MAX_DEPTH} messages")
    children = _CHILDREN[kind]
    for number, value in _fields(data):
        if kind == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value == _IS_EXTERNAL)):
            return True
        child = children.get(number)
        if child and isinstance(value, memoryview) and _searches(value, child, depth + 1):
            return True
    return False


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview | None]]:
    """Number and value (an integer, the bytes, or None for fixed-width numbers) of each field of one message."""
    position, end = 0, len(data)
    while position < end:
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire == _BYTES:
            size, position = _varint(data, position)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise NotOnnxError(f"wire type {wire} at byte {position}")
        if position + size > end:
            raise NotOnnxError(f"a field of {size} bytes ends after its message")
        yield number, data[position : position + size] if wire == _BYTES else None
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise NotOnnxError("the message is cut short")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
    raise NotOnnxError(f"a number of more than 10 bytes at byte {position}")
