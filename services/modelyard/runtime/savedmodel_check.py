"""What a SavedModel may hold: looked at before TensorFlow loads it.

Loading runs no Python that is stored in the model, but its graph may call operators that read and write files, call Python of
the process, or reach other machines, and a few run while it is loaded. So only operators of COMPUTING are taken, in the graph and
in all its functions. Every SavedModel also holds functions that write and read its variables (OF_CHECKPOINTS): nothing that is
called from outside may lead to them. The older form of TensorFlow 1, which runs nodes of its graph to become ready, is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from modelyard.core.errors import InvalidArgument

COMPUTING: Final = frozenset(
    """
    Abs Acos Acosh Add AddN AddV2 All Any ArgMax ArgMin Asin Asinh Assert AssignVariableOp Atan Atan2 Atanh AvgPool AvgPool3D
    BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchToSpace BatchToSpaceND BiasAdd BiasAddV1 Bitcast BroadcastArgs BroadcastTo
    Bucketize Cast Ceil CheckNumerics ClipByValue Concat ConcatV2 Const Conv2D Conv2DBackpropInput Conv3D
    Conv3DBackpropInputV2 Cos Cosh CropAndResize Cumprod Cumsum CumulativeLogsumexp DepthToSpace DepthwiseConv2dNative Dequantize
    Diag DiagPart DisableCopyOnRead Div DivNoNan Einsum Elu EnsureShape Equal Erf Erfc Exp ExpandDims Expm1
    ExtractImagePatches FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel Fill Floor FloorDiv
    FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather GatherNd GatherV2 Greater GreaterEqual Identity IdentityN
    If InTopK InTopKV2 Inv InvertPermutation IsFinite IsInf IsNan L2Loss LeakyRelu LeftShift Less LessEqual Lgamma LinSpace
    ListDiff Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr LRN LogMatrixDeterminant MatMul MatrixBandPart MatrixDiag
    MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixInverse MatrixSetDiag Max MaxPool
    MaxPool3D Maximum Mean Merge Min Minimum MirrorPad Mod Mul MulNoNan Ndtri Neg NextAfter NoOp
    NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 NotEqual OneHot OnesLike Pack Pad PadV2
    ParallelConcat PartitionedCall Placeholder PlaceholderWithDefault Pow PreventGradient Prod QuantizeAndDequantizeV2
    QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 QuantizeV2 Range Rank ReadVariableOp Real RealDiv Reciprocal Relu Relu6
    Reshape ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor ResourceGather ResourceGatherNd Reverse ReverseSequence
    ReverseV2 RightShift Rint Roll Round Rsqrt ScatterNd SegmentMax SegmentMean SegmentMin SegmentProd SegmentSum Select SelectV2
    Selu Shape ShapeN Sigmoid Sign Sin Sinh Size Slice Snapshot Softmax Softplus Softsign SpaceToBatch SpaceToBatchND
    SpaceToDepth Split SplitV Sqrt Square SquaredDifference Squeeze StatefulPartitionedCall StatelessIf StatelessWhile
    StopGradient StridedSlice Sub Sum Switch Tan Tanh TensorListConcatV2 TensorListFromTensor TensorListGather
    TensorListGetItem TensorListLength TensorListReserve TensorListSetItem TensorListStack TensorScatterAdd TensorScatterUpdate
    TensorStridedSliceUpdate Tile TopK TopKV2 Transpose TruncateDiv TruncateMod Unpack UnsortedSegmentMax
    UnsortedSegmentMin UnsortedSegmentSum Unique UniqueV2 UpperBound VarHandleOp VarIsInitializedOp VariableShape Where While
    Xdivy Xlog1py Xlogy ZerosLike
    """.split()  # noqa: SIM905  # a list of words reads better than one of quotes
)
"""Operators that compute tensors from tensors, call functions of the same graph, or read variables of the model."""
OF_CHECKPOINTS: Final = frozenset(
    ["SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "ShardedFilespec", "StringJoin", "StaticRegexFullMatch"]
)
"""Of the functions that write and read a SavedModel's variables."""
KINDS: Final = frozenset(("user_object", "variable", "constant", "bare_concrete_function", "function", "captured_tensor"))
"""Of the objects that TensorFlow makes when it loads; an asset would be a file, a resource is made by running a function."""


def check_saved_model(model: Any, what: str) -> None:
    """model: the SavedModel message. Raises InvalidArgument, its message beginning with `what`: INVALID_BUNDLE, or
    UNSUPPORTED_OPERATOR naming the operators."""
    if len(model.meta_graphs) != 1 or not model.meta_graphs[0].HasField("object_graph_def"):
        message = f"{what} must hold one graph in TensorFlow 2's form (tf.saved_model.save writes it)"
        raise InvalidArgument("INVALID_BUNDLE", message)
    graph = model.meta_graphs[0]
    kinds = {node.WhichOneof("kind") for node in graph.object_graph_def.nodes}
    if kinds - KINDS:
        shown = ", ".join(sorted(str(kind) for kind in kinds - KINDS))
        raise InvalidArgument("INVALID_BUNDLE", f"{what} holds objects that are made outside its graph: {shown}")
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    called = _reachable(functions, [*graph.object_graph_def.concrete_functions, *_also_called(graph)])
    _check("anywhere", what, _operators(graph, functions) - COMPUTING - OF_CHECKPOINTS - functions.keys())
    inside = {node.op for name in called if name in functions for node in functions[name].node_def}
    _check("where it is called", what, inside & OF_CHECKPOINTS)


def _also_called(graph: Any) -> Iterator[str]:
    """Functions that the object graph names in another way."""
    for node in graph.object_graph_def.nodes:
        yield from node.function.concrete_functions
        yield node.bare_concrete_function.concrete_function_name


def _operators(graph: Any, functions: Mapping[str, Any]) -> set[str]:
    names = {node.op for node in graph.graph_def.node}
    return names.union(*({node.op for node in function.node_def} for function in functions.values()))


def _reachable(functions: Mapping[str, Any], roots: Iterable[str]) -> set[str]:
    """Names of the functions that are called, by whatever leads to them."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found or name not in functions:
            continue
        found.add(name)
        waiting += [called for node in functions[name].node_def for called in _calls(node)]
    return found


def _calls(node: Any) -> Iterator[str]:
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        yield from (function.name for function in value.list.func)


def _check(where: str, what: str, operators: set[str]) -> None:
    if operators:
        listed = ", ".join(sorted(operators)[:20])
        message = (
            f"{what} uses operators {where} that may reach outside the model: {listed}; save it with computing operators alone"
        )
        raise InvalidArgument("UNSUPPORTED_OPERATOR", message, operators=listed)
