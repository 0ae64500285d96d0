"""The .tflite file format: tensors and operators put together into the bytes of a flatbuffer, and its numbers read back.

Constants begin at multiples of 16 bytes, as the schema asks: a microcontroller faults on a bias that does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument

Array = NDArray[Any]

SIGNATURE: Final = "serving_default"
MARK: Final = b"TFL3"
_ALIGNMENT: Final = 16
_TYPES: Final[Mapping[str, int]] = {
    "float32": schema.TensorType.FLOAT32,
    "int8": schema.TensorType.INT8,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "uint8": schema.TensorType.UINT8,
    "bool": schema.TensorType.BOOL,
}
_WIDTHS: Final[Mapping[int, int]] = {
    schema.TensorType.FLOAT32: 4,
    schema.TensorType.FLOAT16: 2,
    schema.TensorType.INT32: 4,
    schema.TensorType.UINT8: 1,
    schema.TensorType.INT8: 1,
    schema.TensorType.BOOL: 1,
    schema.TensorType.INT16: 2,
    schema.TensorType.INT64: 8,
}


@dataclass(frozen=True)
class Scales:
    """Real value = scale * (number - zero_point). Several scales: one for each place along `axis`."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0


@dataclass
class FileWriter:
    """A model in the making; operators run in the order they were added."""

    tensors: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])
    operators: list[Any] = field(default_factory=list)
    codes: dict[tuple[int, int], int] = field(default_factory=dict)

    def tensor(self, name: str, shape: tuple[int, ...], dtype: str, scales: Scales | None = None) -> int:
        """Adds a tensor that is computed; its number."""
        made = schema.TensorT(shape=np.array(shape, np.int32), type=_TYPES[dtype], name=name, buffer=0)
        if scales is not None:
            made.quantization = _SharedScales(scales)
        self.tensors.append(made)
        return len(self.tensors) - 1

    def constant(self, name: str, value: Array, scales: Scales | None = None) -> int:
        """Adds a constant; its number."""
        number = self.tensor(name, value.shape, value.dtype.name, scales)
        self.tensors[number].buffer = len(self.buffers)
        self.buffers.append(_AlignedBuffer(data=np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)))
        return number

    def operator(self, code: str, version: int, inputs: list[int], output: int | list[int], options: Any = None) -> None:
        """Adds an operator by its name in the schema, with its output or outputs; options is an object of its class."""
        key = (getattr(schema.BuiltinOperator, code), version)
        made = schema.OperatorT(
            opcodeIndex=self.codes.setdefault(key, len(self.codes)),
            inputs=np.array(inputs, np.int32),
            outputs=np.array(np.atleast_1d(output), np.int32),
        )
        if options is not None:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            made.builtinOptions = options
        self.operators.append(made)

    def finish(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> bytes:
        """The file; inputs and outputs by the names that callers use."""
        graph = schema.SubGraphT(
            tensors=self.tensors,
            operators=self.operators,
            inputs=np.array(list(inputs.values()), np.int32),
            outputs=np.array(list(outputs.values()), np.int32),
            name="main",
        )
        codes = [
            schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=version)
            for code, version in self.codes
        ]
        sides = ([schema.TensorMapT(name=name, tensorIndex=at) for name, at in side.items()] for side in (inputs, outputs))
        signature = schema.SignatureDefT(*sides, signatureKey=SIGNATURE, subgraphIndex=0)
        model = schema.ModelT(
            version=3,
            operatorCodes=codes,
            subgraphs=[graph],
            buffers=self.buffers,
            description="modelyard",
            signatureDefs=[signature],
        )
        builder = _Builder()
        builder.Finish(model.Pack(builder), MARK)
        return bytes(builder.Output())


class _SharedScales(schema.QuantizationParametersT):  # type: ignore[misc]  # generated code has no types
    """Scales whose vectors are written once in a file however many tensors have them: a zero for each channel takes 8 bytes."""

    def __init__(self, scales: Scales) -> None:
        super().__init__(quantizedDimension=scales.axis)
        self.scales = scales

    def Pack(self, builder: _Builder) -> Any:  # noqa: N802  # the generated code's name
        scale = _once(builder, np.array(self.scales.scales, np.float32))
        zero_point = _once(builder, np.array(self.scales.zero_points, np.int64))
        schema.QuantizationParametersStart(builder)
        schema.QuantizationParametersAddScale(builder, scale)
        schema.QuantizationParametersAddZeroPoint(builder, zero_point)
        schema.QuantizationParametersAddQuantizedDimension(builder, self.quantizedDimension)
        return schema.QuantizationParametersEnd(builder)


class _Builder(flatbuffers.Builder):  # type: ignore[misc]  # the package has no types
    """Remembers the vectors that it wrote."""

    def __init__(self) -> None:
        super().__init__(1 << 16)
        self.written: dict[tuple[str, bytes], int] = {}


def _once(builder: _Builder, values: Array) -> int:
    """A vector of the file, the same one for equal values."""
    key = (values.dtype.name, values.tobytes())
    if key not in builder.written:
        builder.written[key] = int(builder.CreateNumpyVector(values))
    return builder.written[key]


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]  # generated code has no types
    """A buffer that begins at a multiple of 16; the generated code leaves the schema's force_align out."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802  # the generated code's name
        payload = self.data.tobytes()
        builder.StartVector(1, len(payload), _ALIGNMENT)
        builder.head -= len(payload)
        builder.Bytes[builder.head : builder.head + len(payload)] = payload
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


# Reading


@dataclass(frozen=True)
class TensorFacts:
    """A tensor of a file: its name, shape, size in bytes, whether it is a constant, and its first scale and zero point."""

    name: str
    shape: tuple[int, ...]
    type: str
    size_bytes: int
    constant: bool
    scale: float
    zero_point: int


@dataclass(frozen=True)
class FileFacts:
    """What a .tflite file holds: operators in order (name, tensors read, tensors written), tensors, inputs and outputs."""

    operators: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    tensors: tuple[TensorFacts, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def operator_names(self) -> tuple[str, ...]:
        """Each operator once, sorted."""
        return tuple(sorted({name for name, _, _ in self.operators}))


def read_facts(data: bytes, name: str) -> FileFacts:
    """Reads a .tflite file. Raises InvalidArgument NOT_A_TFLITE_FILE naming `name` for bytes that are something else."""
    try:
        if data[4:8] != MARK:
            raise ValueError("it does not carry the mark TFL3")
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
        return _facts(model)
    except Exception as error:  # the flatbuffers package raises many kinds on bytes that are something else
        message = f"{name} is not a whole .tflite file: {error!r:.200}"
        raise InvalidArgument("NOT_A_TFLITE_FILE", message, file=name) from error


def _facts(model: Any) -> FileFacts:
    graph = model.subgraphs[0]
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    codes = [names.get(max(each.builtinCode, each.deprecatedBuiltinCode), "CUSTOM") for each in model.operatorCodes]
    written = {int(at) for each in graph.operators for at in each.outputs} | {int(at) for at in graph.inputs}
    return FileFacts(
        tuple((codes[each.opcodeIndex], _numbers(each.inputs), _numbers(each.outputs)) for each in graph.operators),
        tuple(_tensor_facts(each, number not in written) for number, each in enumerate(graph.tensors)),
        _numbers(graph.inputs),
        _numbers(graph.outputs),
    )


def _tensor_facts(tensor: Any, constant: bool) -> TensorFacts:
    shape = _numbers(tensor.shape)
    types = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    size = int(np.prod(shape, dtype=np.int64)) * _WIDTHS.get(tensor.type, 8)
    quantization = tensor.quantization
    quantized = quantization is not None and quantization.scale is not None and len(quantization.scale)
    scale = float(quantization.scale[0]) if quantized else 0.0
    zero_point = int(quantization.zeroPoint[0]) if quantized and quantization.zeroPoint is not None else 0
    name = tensor.name.decode() if isinstance(tensor.name, bytes) else str(tensor.name)
    return TensorFacts(name, shape, types[tensor.type].lower(), size, constant, scale, zero_point)


def _numbers(values: Any) -> tuple[int, ...]:
    return tuple(int(each) for each in values) if values is not None else ()


def arena_bytes(facts: FileFacts) -> int:
    """Memory for activations that a microcontroller's runtime needs at least: the most that is alive at once, in bytes.

    A tensor lives from the operator that writes it (inputs: from the start) to the last that reads it; sizes rounded up to 16.
    The runtime's own records (about 100 bytes an operator and 64 a tensor) are counted; scratch of single kernels is not.
    """
    first, last = dict.fromkeys(facts.inputs, 0), {at: len(facts.operators) for at in facts.outputs}
    for step, (_, reads, writes) in enumerate(facts.operators):
        for at in writes:
            first.setdefault(at, step)
        for at in (*reads, *writes):
            last[at] = max(last.get(at, 0), step)
    alive = [0] * (len(facts.operators) + 1)
    for at, begin in first.items():
        size = -(-facts.tensors[at].size_bytes // _ALIGNMENT) * _ALIGNMENT
        for step in range(begin, last.get(at, begin) + 1):
            alive[step] += size
    return max(alive) + 100 * len(facts.operators) + 64 * len(facts.tensors)


# Changing


def with_softmax(data: bytes) -> bytes:
    """The model with its only output [1, classes] turned into probabilities, float32."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    graph = model.subgraphs[0]
    output = int(graph.outputs[0])
    if graph.tensors[output].type != schema.TensorType.FLOAT32:
        output = _appended(model, "DEQUANTIZE", 2, output, "scores", None)
    output = _appended(model, "SOFTMAX", 1, output, "probabilities", schema.SoftmaxOptionsT(beta=1.0))
    graph.outputs = np.array([output], np.int32)
    for signature in model.signatureDefs or []:
        for each in signature.outputs:
            each.tensorIndex = output
    for place, buffer in enumerate(model.buffers):
        if buffer.data is not None and len(buffer.data):
            model.buffers[place] = _AlignedBuffer(data=np.asarray(buffer.data, np.uint8))
    builder = _Builder()
    builder.Finish(model.Pack(builder), MARK)
    return bytes(builder.Output())


def _appended(model: Any, code: str, version: int, source: int, name: str, options: Any) -> int:
    """Adds an operator of one input whose float output has the same shape; the output's number."""
    graph = model.subgraphs[0]
    number = len(graph.tensors)
    graph.tensors.append(
        schema.TensorT(shape=graph.tensors[source].shape, type=schema.TensorType.FLOAT32, name=f"modelyard/{name}")
    )
    value = getattr(schema.BuiltinOperator, code)
    model.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=min(value, 127), builtinCode=value, version=version))
    made = schema.OperatorT(
        opcodeIndex=len(model.operatorCodes) - 1, inputs=np.array([source], np.int32), outputs=np.array([number], np.int32)
    )
    if options is not None:
        made.builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
        made.builtinOptions = options
    graph.operators.append(made)
    return number
