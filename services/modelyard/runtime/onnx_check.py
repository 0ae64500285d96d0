"""What an ONNX file may hold: looked at before onnxruntime sees it, without the onnx package (a serving machine has none).

Refused are references to other files (external data, whatever their form), operators that are not computed from their inputs
alone, tensors that say they are larger than what is there, graphs in graphs without end. The protobuf message is read with the
few fields of `ModelProto` (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) that lead there; all others are skipped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from modelyard.core.errors import InvalidArgument

DOMAINS: Final = ("", "ai.onnx", "ai.onnx.ml")
"""Operator sets of the ONNX standard: everything in them computes, nothing in them reaches out of the graph."""
OF_ONNXRUNTIME: Final = frozenset(
    """
    Attention BiasAdd BiasDropout BiasGelu BiasSoftmax BiasSplitGelu ConvTransposeWithDynamicPads DecoderMaskedMultiHeadAttention
    DequantizeLinear DynamicQuantizeLSTM DynamicQuantizeMatMul EmbedLayerNormalization FastGelu FusedConv FusedGemm FusedMatMul
    FusedMatMulActivation GatherND Gelu GemmFastGelu GridSample GroupNorm GroupQueryAttention Inverse MatMulInteger16
    MatMulIntegerToFloat MatMulNBits MaxpoolWithMask MultiHeadAttention MurmurHash3 NGramRepeatBlock NhwcConv NhwcFusedConv
    NhwcMaxPool Pad QAttention QEmbedLayerNormalization QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearConv
    QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere
    QMoE QuantizeLinear QuickGelu Range RelativePositionBias RemovePadding RestorePadding RotaryEmbedding SampleOp
    SkipGroupNorm SkipLayerNormalization SkipSimplifiedLayerNormalization Tokenizer TransposeMatMul
    Trilu Unique
    """.split()  # noqa: SIM905  # a list of words reads better than one of quotes
)
"""Operators of `com.microsoft` that onnxruntime's own optimizers and quantizers write. EPContext, which reads files, is none."""
MICROSOFT: Final = "com.microsoft"
MOST_ELEMENTS: Final = 1 << 31
"""Of one stored tensor: an ONNX file ends at 2 GiB."""

_ELEMENT_BYTES: Final[Mapping[int, float]] = {
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20), 1),
    **dict.fromkeys((4, 5, 10, 16), 2),
    **dict.fromkeys((1, 6, 12), 4),
    **dict.fromkeys((7, 11, 13, 14), 8),
    15: 16,
    **dict.fromkeys((21, 22, 23), 0.5),
}
"""By TensorProto.DataType: bytes of an element in raw_data; text (8) is never raw."""
_EXTERNAL: Final = 1


def check_onnx(model: bytes, what: str, reason: str = "INVALID_BUNDLE") -> None:
    """Raises InvalidArgument, its message beginning with `what`: `reason` for bytes that are no ONNX model, or tensors that are
    not what they say; EXTERNAL_DATA; UNSUPPORTED_OPERATOR naming the operators."""
    try:
        graph = _parsed(model)
        _check_operators(graph, what)
        for tensor in _tensors(graph):
            _check_tensor(tensor, what)
    except _UntrueError as error:
        raise InvalidArgument(reason, f"{what} {error}") from error


class _UntrueError(ValueError):
    """The bytes are not what they should be; the text goes on after the file's name."""


def _check_operators(graph: Any, what: str) -> None:
    own = {(function.domain, function.name) for function in graph.functions}
    foreign: set[str] = set()
    for node in _nodes(graph):
        domain, name = node.domain.decode(errors="replace"), node.op_type.decode(errors="replace")
        if (node.domain, node.op_type) not in own and not _is_known(domain, name):
            foreign.add(f"{domain}.{name}"[:80])
    if foreign:
        listed = ", ".join(sorted(foreign)[:20])
        message = f"{what} uses operators that are not run here: {listed}; export it with operators of the ONNX standard alone"
        raise InvalidArgument("UNSUPPORTED_OPERATOR", message, operators=listed)


def _is_known(domain: str, name: str) -> bool:
    return domain in DOMAINS or (domain == MICROSOFT and name in OF_ONNXRUNTIME)


def _parsed(model: bytes) -> Any:
    try:
        message = _model_class().FromString(model)
    except DecodeError as error:
        raise _UntrueError(f"is not a whole ONNX file, or nested too deep: {error}") from error
    if not message.HasField("graph"):
        raise _UntrueError("is not an ONNX file: it holds no graph")
    return message


def _check_tensor(tensor: Any, what: str) -> None:
    """Bytes that are there, as many as its sizes say."""
    name = tensor.name.decode(errors="replace")[:80]
    if tensor.external_data or tensor.data_location == _EXTERNAL:
        message = f"{what} refers to a file outside it (tensor {name!r}); its weights must be inside the one file"
        raise InvalidArgument("EXTERNAL_DATA", message, tensor=name)
    elements = math.prod(tensor.dims)
    if min(tensor.dims, default=0) < 0 or elements > MOST_ELEMENTS:
        raise _UntrueError(f"holds a tensor {name!r} of the sizes {list(tensor.dims)[:8]}")
    if tensor.HasField("raw_data") and len(tensor.raw_data) != math.ceil(elements * _ELEMENT_BYTES.get(tensor.data_type, 0)):
        raise _UntrueError(f"holds {len(tensor.raw_data)} bytes for a tensor {name!r} of the sizes {list(tensor.dims)[:8]}")


# The parts of a model


def _graphs(model: Any) -> Iterator[Any]:
    """The graph, and those inside its nodes; protobuf itself reads no more than 100 messages in one another."""
    waiting = [model.graph, *(graph for part in model.training_info for graph in (part.initialization, part.algorithm))]
    waiting += list(model.functions)
    while waiting:
        graph = waiting.pop()
        yield graph
        for attribute in _attributes(graph):
            waiting += [attribute.g] if attribute.HasField("g") else []
            waiting += attribute.graphs


def _nodes(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from graph.node


def _attributes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield from node.attribute
    yield from getattr(graph, "attribute_proto", ())


def _tensors(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from getattr(graph, "initializer", ())
        yield from _of_sparse(getattr(graph, "sparse_initializer", ()))
        for attribute in _attributes(graph):
            yield from [attribute.t] if attribute.HasField("t") else []
            yield from attribute.tensors
            yield from _of_sparse(attribute.sparse_tensors)
            yield from _of_sparse([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else ())


def _of_sparse(tensors: Any) -> Iterator[Any]:
    for tensor in tensors:
        yield tensor.values
        yield tensor.indices


# The message, with the fields that matter

_INT32, _INT64, _BYTES = "int32", "int64", "bytes"
_FIELDS: Final[Mapping[str, Mapping[str, tuple[int, str]]]] = {
    "Model": {"graph": (7, "Graph"), "training_info": (20, "[Training]"), "functions": (25, "[Function]")},
    "Training": {"initialization": (1, "Graph"), "algorithm": (2, "Graph")},
    "Function": {
        "name": (1, _BYTES),
        "node": (7, "[Node]"),
        "domain": (10, _BYTES),
        "attribute_proto": (11, "[Attribute]"),
    },
    "Graph": {"node": (1, "[Node]"), "initializer": (5, "[Tensor]"), "sparse_initializer": (15, "[Sparse]")},
    "Node": {"op_type": (4, _BYTES), "attribute": (5, "[Attribute]"), "domain": (7, _BYTES)},
    "Attribute": {
        "t": (5, "Tensor"),
        "g": (6, "Graph"),
        "tensors": (10, "[Tensor]"),
        "graphs": (11, "[Graph]"),
        "sparse_tensor": (22, "Sparse"),
        "sparse_tensors": (23, "[Sparse]"),
    },
    "Sparse": {"values": (1, "Tensor"), "indices": (2, "Tensor")},
    "Tensor": {
        "dims": (1, f"[{_INT64}]"),
        "data_type": (2, _INT32),
        "name": (8, _BYTES),
        "raw_data": (9, _BYTES),
        "external_data": (13, f"[{_BYTES}]"),
        "data_location": (14, _INT32),
    },
}
"""By message: name, number and type of a field; in brackets where it repeats. Names as bytes: nobody promised UTF-8."""
_SCALARS: Final = {
    _INT32: descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    _INT64: descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    _BYTES: descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
}
_PACKAGE: Final = "modelyard.onnx_check"


@cache
def _model_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="modelyard/onnx_check.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            message.field.add(name=field, number=number, **_typed(kind))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Model"))


def _typed(kind: str) -> dict[str, Any]:
    of = descriptor_pb2.FieldDescriptorProto
    label, kind = (of.LABEL_REPEATED, kind[1:-1]) if kind.startswith("[") else (of.LABEL_OPTIONAL, kind)
    if kind in _SCALARS:
        return {"label": label, "type": _SCALARS[kind]}
    return {"label": label, "type": of.TYPE_MESSAGE, "type_name": f".{_PACKAGE}.{kind}"}
