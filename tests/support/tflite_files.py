"""Small .tflite files, written by hand through the flatbuffer schema: no converter, no TensorFlow, milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

Array = NDArray[Any]
_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int32": schema.TensorType.INT32,
}


@dataclass(frozen=True)
class Tensor:
    """A tensor of a graph: with `values` a constant; `scale` 0 is not quantized; `signature`: the shape, -1 where free."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    scale: float = 0.0
    zero_point: int = 0
    values: Array | None = None
    signature: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Operator:
    """An operator: its builtin code (or the name of a custom one), tensors by place, and options (their class and object)."""

    code: int | str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options_type: int = 0
    options: Any = None


def tflite_file(tensors: list[Tensor], operators: list[Operator], inputs: tuple[int, ...], outputs: tuple[int, ...]) -> bytes:
    """The bytes of a .tflite file with one graph."""
    model = schema.ModelT()
    model.version = 3
    model.description = "test"
    model.buffers = [schema.BufferT()]
    model.operatorCodes = [_operator_code(operator.code) for operator in operators]
    graph = schema.SubGraphT()
    graph.name = "main"
    graph.tensors = [_tensor(tensor, model.buffers) for tensor in tensors]
    graph.operators = [_operator(operator, place) for place, operator in enumerate(operators)]
    graph.inputs, graph.outputs = list(inputs), list(outputs)
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def red_or_green(*, quantized: bool = False, batch: int = 1, scaled: bool = True, nchw: bool = False) -> bytes:
    """Probabilities [batch, 2] of "red" and "green": softmax of 8 times the difference of the two channels' means (of 0 to 1).

    `image` is [batch, 4, 4, 3] in 0 to 1 (`scaled`) or 0 to 255; int8, scale 1/255, when quantized; channels first with `nchw`.
    """
    unit = 1.0 if scaled else 1 / 255
    weights = np.array([[8, -8, 0], [-8, 8, 0]], np.float32) * np.float32(unit)
    q = _Quantized() if quantized else None
    picture = (batch, 3, 4, 4) if nchw else (batch, 4, 4, 3)
    axes = np.array([2, 3] if nchw else [1, 2], np.int32)
    tensors = [
        Tensor("image", picture, **_kind(q.pixels if q else None)),
        Tensor("axes", (2,), "int32", values=axes),
        Tensor("mean", (batch, 3), **_kind(q.pixels if q else None)),
        Tensor("weights", (2, 3), **_kind(q.weights if q else None), values=q.stored(weights) if q else weights),
        Tensor("bias", (2,), **_kind(q.bias if q else None), values=np.zeros(2, np.int32 if q else np.float32)),
        Tensor("scores", (batch, 2), **_kind(q.scores if q else None)),
        Tensor("probabilities", (batch, 2), **_kind(q.probabilities if q else None)),
    ]
    reducer, softmax = schema.ReducerOptionsT(), schema.SoftmaxOptionsT()
    reducer.keepDims, softmax.beta = False, 1.0
    kinds, names = schema.BuiltinOptions, schema.BuiltinOperator
    operators = [
        Operator(names.MEAN, (0, 1), (2,), kinds.ReducerOptions, reducer),
        Operator(names.FULLY_CONNECTED, (2, 3, 4), (5,), kinds.FullyConnectedOptions, schema.FullyConnectedOptionsT()),
        Operator(names.SOFTMAX, (5,), (6,), kinds.SoftmaxOptions, softmax),
    ]
    return tflite_file(tensors, operators, (0,), (6,))


def custom_operator(name: str) -> bytes:
    """A file whose only operator is a custom one of this name."""
    tensors = [Tensor("image", (1, 4, 4, 3)), Tensor("probabilities", (1, 2))]
    return tflite_file(tensors, [Operator(name, (0,), (1,))], (0,), (1,))


def passing(dtype: str, shape: tuple[int, ...], scale: float, zero_point: int) -> bytes:
    """A file that gives back what it takes, as a tensor of this datatype and quantization."""
    tensors = [Tensor("x", shape, dtype, scale, zero_point), Tensor("y", shape, dtype, scale, zero_point)]
    tensors.append(Tensor("shape", (len(shape),), "int32", values=np.array(shape, np.int32)))
    operator = Operator(
        schema.BuiltinOperator.RESHAPE, (0, 2), (1,), schema.BuiltinOptions.ReshapeOptions, schema.ReshapeOptionsT()
    )
    return tflite_file(tensors, [operator], (0,), (1,))


class _Quantized:
    """Datatype, scale and zero point of the tensors of `red_or_green` in int8."""

    pixels = ("int8", 1 / 255, -128)
    weights = ("int8", 8 / 127, 0)
    bias = ("int32", 8 / 127 / 255, 0)
    scores = ("int8", 16 / 255, 0)
    probabilities = ("int8", 1 / 256, -128)

    def stored(self, weights: Array) -> Array:
        rounded: Array = np.round(weights / self.weights[1]).astype(np.int8)
        return rounded


def _kind(quantized: tuple[str, float, int] | None) -> dict[str, Any]:
    return dict(zip(("dtype", "scale", "zero_point"), quantized, strict=True)) if quantized else {}


def _tensor(tensor: Tensor, buffers: list[Any]) -> Any:
    made = schema.TensorT()
    made.name, made.shape, made.type = tensor.name, list(tensor.shape), _TYPES[tensor.dtype]
    made.shapeSignature = list(tensor.signature) if tensor.signature else None
    made.buffer = 0
    if tensor.values is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(tensor.values).tobytes(), np.uint8)
        made.buffer = len(buffers)
        buffers.append(buffer)
    if tensor.scale:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = [tensor.scale], [tensor.zero_point]
    return made


def _operator_code(code: int | str) -> Any:
    made = schema.OperatorCodeT()
    custom = isinstance(code, str)
    made.builtinCode = made.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM if custom else code
    made.customCode = code if custom else None
    made.version = 1 if custom else _VERSIONS.get(int(code), 1)
    return made


_VERSIONS = {schema.BuiltinOperator.MEAN: 2, schema.BuiltinOperator.FULLY_CONNECTED: 4, schema.BuiltinOperator.SOFTMAX: 2}


def _operator(operator: Operator, place: int) -> Any:
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = place, list(operator.inputs), list(operator.outputs)
    made.builtinOptionsType, made.builtinOptions = operator.options_type, operator.options
    return made
