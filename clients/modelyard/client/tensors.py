"""Tensors of the Open Inference Protocol: elements as little-endian bytes. Works without numpy; with it, arrays go in and out."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from inference import grpc_service_pb2 as oip
from modelyard.client.errors import DataLoss, InvalidArgument, Violation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# struct's code of each datatype.
_CODES: Final[Mapping[str, str]] = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
_NUMPY: Final[Mapping[str, str]] = {
    "BOOL": "bool",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}


@dataclass(frozen=True)
class Prediction:
    """An answer.

    outputs: each output's elements, row-major and flat. shapes: their shapes. response: the message itself.
    """

    model_name: str
    model_version: str
    outputs: Mapping[str, list[Any]]
    shapes: Mapping[str, tuple[int, ...]]
    response: oip.ModelInferResponse = field(repr=False)

    @property
    def labels(self) -> list[str]:
        """The predicted class of each example; empty for a model without classes."""
        return [str(label) for label in self.outputs.get("label", ())]

    def rows(self, output: str) -> list[Any]:
        """The elements of an output, one entry an example: a list of numbers, or the one value an example has."""
        values, shape = self.outputs[output], self.shapes[output]
        width = len(values) // shape[0] if shape and shape[0] else 1
        if width == 1:
            return list(values)
        return [values[start : start + width] for start in range(0, len(values), width)]

    def numpy(self, output: str) -> NDArray[Any]:
        """An output as an array of its shape. Needs numpy."""
        import numpy as np

        return np.array(self.outputs[output]).reshape(self.shapes[output])

    def _repr_html_(self) -> str:
        from modelyard.client.drawing.cells import prediction

        return prediction(self)


def request_of(
    model: str, version: str, tensors: Iterable[tuple[oip.ModelInferRequest.InferInputTensor, bytes]]
) -> oip.ModelInferRequest:
    """A request with its elements as raw bytes."""
    request = oip.ModelInferRequest(model_name=model, model_version=version)
    for tensor, raw in tensors:
        request.inputs.append(tensor)
        request.raw_input_contents.append(raw)
    return request


def picture_tensor(name: str, pictures: Sequence[str | Path | bytes]) -> tuple[oip.ModelInferRequest.InferInputTensor, bytes]:
    """JPEG or PNG files, by path or as their bytes: BYTES [N]."""
    files = [picture if isinstance(picture, bytes) else _file(Path(picture)) for picture in pictures]
    return _header(name, "BYTES", [len(files)]), pack_bytes(files)


def column_tensors(
    columns: Iterable[tuple[str, str]], rows: Sequence[Mapping[str, Any]]
) -> list[tuple[oip.ModelInferRequest.InferInputTensor, bytes]]:
    """One tensor [N, 1] a column, given as (name, datatype). None is a missing value; other keys of a row are ignored.

    InvalidArgument names a column that a row lacks, or the value that does not fit its type.
    """
    return [_column(name, datatype, rows) for name, datatype in columns]


def array_tensor(name: str, array: Any) -> tuple[oip.ModelInferRequest.InferInputTensor, bytes]:
    """A numpy array, whose dtype gives the datatype; strings, bytes and objects are BYTES."""
    import numpy as np

    values: np.ndarray[Any, Any] = np.asarray(array)
    if values.dtype.kind in "OSU":
        raw = pack_bytes([item if isinstance(item, bytes) else str(item).encode() for item in values.ravel().tolist()])
        return _header(name, "BYTES", values.shape), raw
    native = values.dtype.newbyteorder("=")
    datatype = next((oip_name for oip_name, known in _NUMPY.items() if native == np.dtype(known)), None)
    if datatype is None:
        raise _wrong(
            f"tensors.{name}", f"tensors.{name} has dtype {values.dtype}; give one of {', '.join(_NUMPY.values())} or text"
        )
    return _header(name, datatype, values.shape), np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def prediction(response: oip.ModelInferResponse) -> Prediction:
    """The decoded answer. DataLoss when the elements do not fit their shape."""
    outputs = {output.name: _elements(response, at, output) for at, output in enumerate(response.outputs)}
    shapes = {output.name: tuple(output.shape) for output in response.outputs}
    return Prediction(response.model_name, response.model_version, outputs, shapes, response)


def pack_bytes(items: Iterable[bytes]) -> bytes:
    """BYTES elements: a 4-byte little-endian length and that many bytes, each."""
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def unpack_bytes(raw: bytes) -> list[bytes]:
    items, at = [], 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        items.append(raw[at + 4 : at + 4 + length])
        at += 4 + length
    return items


def _elements(response: oip.ModelInferResponse, at: int, output: oip.ModelInferResponse.InferOutputTensor) -> list[Any]:
    raw = response.raw_output_contents[at] if at < len(response.raw_output_contents) else None
    values = _typed(output.contents, output.datatype) if raw is None else _raw(raw, output.datatype)
    if len(values) != math.prod(output.shape):
        message = (
            f"output {output.name} has {len(values)} elements; its shape {list(output.shape)} holds {math.prod(output.shape)}"
        )
        raise DataLoss(message, reason="WRONG_TENSOR", values={"output": output.name})
    return values


def _raw(raw: bytes, datatype: str) -> list[Any]:
    if datatype == "BYTES":
        return [_text(item) for item in unpack_bytes(raw)]
    code = _CODES.get(datatype)
    if code is None:
        raise DataLoss(f"the server answered with datatype {datatype}, which this client does not know", reason="WRONG_TENSOR")
    return list(struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw))


def _typed(contents: oip.InferTensorContents, datatype: str) -> list[Any]:
    if datatype == "BYTES":
        return [_text(item) for item in contents.bytes_contents]
    for _, values in contents.ListFields():
        return list(values)
    return []


def _text(item: bytes) -> str | bytes:
    try:
        return item.decode()
    except UnicodeDecodeError:
        return item


def _column(name: str, datatype: str, rows: Sequence[Mapping[str, Any]]) -> tuple[oip.ModelInferRequest.InferInputTensor, bytes]:
    values = []
    for at, row in enumerate(rows):
        if name not in row:
            message = f"rows[{at}] has no column {name!r}; give it, or null where the value is missing"
            raise _wrong(f"rows[{at}].{name}", message, reason="MISSING_COLUMN", column=name)
        values.append(row[name])
    if datatype == "BYTES":
        raw = pack_bytes([b"" if _missing(value) else str(value).encode() for value in values])
    else:
        raw = b"".join(_number(name, datatype, at, value) for at, value in enumerate(values))
    return _header(name, datatype, [len(rows), 1]), raw


def _number(name: str, datatype: str, at: int, value: Any) -> bytes:
    code = _CODES[datatype]
    try:
        if code in "efd":
            return struct.pack(f"<{code}", math.nan if _missing(value) else float(value))
        return struct.pack(f"<{code}", bool(value) if code == "?" else int(value))
    except (TypeError, ValueError, struct.error, OverflowError):
        message = f"rows[{at}].{name} is {value!r}; the model takes a number there ({datatype}), or null where it is missing"
        raise _wrong(f"rows[{at}].{name}", message, reason="NOT_A_NUMBER", column=name, value=str(value)) from None


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _header(name: str, datatype: str, shape: Iterable[int]) -> oip.ModelInferRequest.InferInputTensor:
    return oip.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=list(shape))


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _wrong("image", f"image is {str(path)!r}: {error.strerror or 'it cannot be read'}", reason="NO_SUCH_FILE") from None


def _wrong(field: str, message: str, reason: str = "WRONG_TENSOR", **values: str) -> InvalidArgument:
    return InvalidArgument(message, reason=reason, values=values, violations=(Violation(field, message),))
