"""Forms of an ONNX graph: simplified, in 16-bit floating point, in 8-bit integers, with 8-bit weights.

The integer form is QDQ (QuantizeLinear and DequantizeLinear around ordinary operators), which onnxruntime, OpenVINO and others
fuse into integer kernels. Its scales come from `ranges`, as those of LiteRT do, so that both answer alike.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from modelyard.exporter.worker.network import layer_of
from modelyard.exporter.worker.ranges import LEAST_WEIGHTS, Range, is_float_layer, weight_scales

Array = NDArray[Any]

IMAGE: Final = "image"
LARGEST_HALF: Final = 3e4
"""Layers whose values grow larger stay in 32 bits: 16-bit floats end at 65504."""

_PIXELS: Final = "image/pixels"


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without what computes nothing: onnxslim, then onnxruntime's offline optimizer at its basic level, whose result is
    plain ONNX. Names of layers stay. A step that fails or makes the graph no smaller is left out."""
    for step in (_slim, _basic):
        with contextlib.suppress(Exception), _quiet():  # an optimizer that stumbles costs nothing but the optimization
            after = step(model)
            onnx.checker.check_model(after)
            if len(after.graph.node) < len(model.graph.node):
                model = after
    return model


def for_one(model: onnx.ModelProto, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The graph for a batch of one, every shape known. shape: of the picture, [H, W, C]."""
    import onnxslim

    with _quiet():
        fixed: onnx.ModelProto = onnxslim.slim(copy.deepcopy(model), input_shapes=[f"{IMAGE}:1,{','.join(map(str, shape))}"])
    return fixed


def _slim(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxslim

    slimmed: onnx.ModelProto = onnxslim.slim(copy.deepcopy(model))
    return slimmed


def _basic(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        optimized: onnx.ModelProto = onnx.load(options.optimized_model_filepath)
    used = {node.domain for node in optimized.graph.node}
    kept = [each for each in optimized.opset_import if each.domain in used or not each.domain]
    del optimized.opset_import[:]
    optimized.opset_import.extend(kept)
    optimized.ir_version = model.ir_version
    return optimized


def half_precision(model: onnx.ModelProto, ranges: Mapping[str, Range]) -> onnx.ModelProto:
    """The graph in 16-bit floating point; inputs and outputs stay as they are.

    The pixels' normalization and layers whose values would overflow stay in 32 bits. ranges: of activations by name.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    named = _with_node_names(model)
    large = {name for name, (low, high) in ranges.items() if max(abs(low), abs(high)) > LARGEST_HALF}
    blocked = [node.name for node in named.graph.node if large & {*node.output, *node.input}]
    half: onnx.ModelProto = convert_float_to_float16(
        named, keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, "Cast", "Softmax"], node_block_list=blocked
    )
    return _ordered(half)


def _ordered(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with every node after those it reads from; converters put what they add at the end."""
    from onnxruntime.transformers.onnx_model import OnnxModel

    OnnxModel(model).topological_sort()
    onnx.checker.check_model(model)
    return model


def integer_weights(model: onnx.ModelProto, *, per_channel: bool = True) -> onnx.ModelProto:
    """The graph with 8-bit weights that become floats again as they are used (DequantizeLinear).

    onnxruntime's own dynamic quantization also rounds activations, by one scale for a whole batch: there an answer depends on the
    examples beside it (1 point of probability on tinynet), which serving does not allow.
    """
    made = copy.deepcopy(model)
    values = {each.name: each for each in made.graph.initializer}
    weights = {node.input[1]: _axis(node) for node in made.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")}
    for name, axis in weights.items():
        if name in values and np.prod(values[name].dims) >= LEAST_WEIGHTS:
            _dequantized(made, values[name], axis, per_channel=per_channel)
    onnx.checker.check_model(made)
    return made


def _axis(node: onnx.NodeProto) -> int:
    """Where the output channels of a node's weights are."""
    transposed = any(each.name == "transB" and each.i for each in node.attribute)
    return 0 if node.op_type == "Conv" or transposed else 1


def _dequantized(model: onnx.ModelProto, tensor: onnx.TensorProto, axis: int, *, per_channel: bool) -> None:
    """Replaces a constant by its rounded form and the node that turns it back."""
    name, value = tensor.name, numpy_helper.to_array(tensor)
    scales = np.asarray(weight_scales(value, axis, per_channel=per_channel), np.float32)
    shape = [1] * value.ndim
    shape[axis] = -1
    rounded = np.clip(np.round(value / scales.reshape(shape)), -127, 127).astype(np.int8)
    model.graph.initializer.remove(tensor)
    parts = {f"{name}/rounded": rounded, f"{name}/scale": scales if per_channel else scales[0]}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(part), each) for each, part in parts.items())
    given: dict[str, Any] = {"axis": axis} if per_channel else {}
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", list(parts), [name], name=f"{name}/dequantize", **given))


def integers(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    *,
    per_channel: bool = True,
    float_layers: tuple[str, ...] = (),
    float_operators: tuple[str, ...] = (),
    unsigned: bool = True,
    ends: bool = True,
) -> onnx.ModelProto:
    """The graph in 8-bit integers (QDQ). ranges: of each activation by name; float_layers, and operators of the types
    float_operators, stay in floating point. ends: whether the graph ends in probabilities, which are integers too.

    Activations are unsigned, so the picture enters as it is: its scale is 1 and its zero point 0. Weights are unsigned too,
    around 128: with signed ones onnxruntime's kernels for processors without VNNI (AVX2) saturate in 16 bits, which cost
    tinynet on fashion_mnist 2.7 points of accuracy. OpenVINO does better with signed ones (`unsigned` False).
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    prepared = _with_pixels(_with_node_names(model))
    known = {**ranges, _PIXELS: (0.0, 255.0), **({model.graph.output[0].name: (0.0, 255 / 256)} if ends else {})}
    data = {
        name: TensorData(lowest=np.float32(min(low, 0.0)), highest=np.float32(max(high, 0.0)))
        for name, (low, high) in known.items()
    }
    floats = {node.name for node in prepared.graph.node if is_float_layer(layer_of(node), float_layers)}
    with _quiet():
        quantizer = QDQQuantizer(
            prepared,
            per_channel,
            False,
            QuantType.QInt8,
            QuantType.QUInt8,
            TensorsData(CalibrationMethod.MinMax, data),
            [],
            [*floats, *_untouched(prepared)],
            sorted({node.op_type for node in prepared.graph.node} - set(float_operators)),
            {"WeightSymmetric": True},
        )
        quantizer.quantize_model()
    made = quantizer.model.model
    return _entering_as_pixels(_with_unsigned_weights(made) if unsigned else made)


def _with_unsigned_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same weights as unsigned numbers around 128."""
    signed = {
        each.name: each for each in model.graph.initializer if each.data_type == onnx.TensorProto.INT8 and len(each.dims) > 1
    }
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in signed:
            tensor = signed.pop(node.input[0])
            value = (numpy_helper.to_array(tensor).astype(np.int16) + 128).astype(np.uint8)
            zero = next(numpy_helper.to_array(each) for each in model.graph.initializer if each.name == node.input[2])
            centre = f"{tensor.name}/centre"
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
            model.graph.initializer.append(numpy_helper.from_array(np.full(zero.shape, 128, np.uint8), centre))
            node.input[2] = centre
    return model


def learned_bounds(model: onnx.ModelProto) -> dict[str, Range]:
    """Ranges that the network itself keeps its activations in (clips that are no ReLU6): learned with rounding, so taken so."""
    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        limits = [constants.get(name) for name in node.input[1:3]] if node.op_type == "Clip" else []
        if len(limits) == 2 and limits[0] is not None and limits[1] is not None:
            found[node.output[0]] = (float(limits[0]), float(limits[1]))
    return {name: bounds for name, bounds in found.items() if bounds != (0.0, 6.0)}


def _untouched(model: onnx.ModelProto) -> list[str]:
    """What happens to the picture before it is a float: no scale stands there."""
    return [node.name for node in model.graph.node if node.op_type == "Cast" or IMAGE in node.input[:1]]


def _with_node_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose nodes all have names, for the tools that tell nodes apart by them."""
    named = copy.deepcopy(model)
    for number, node in enumerate(named.graph.node):
        node.name = node.name or f"node_{number}"
    return named


def _with_pixels(model: onnx.ModelProto) -> onnx.ModelProto:
    """The pixels' normalization (a factor, then a term) as one depthwise 1x1 convolution, which integers hold without error."""
    nodes = {name: node for node in model.graph.node for name in node.output}
    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    add = next((n for n in model.graph.node if n.op_type == "Add" and _is_normalization(n, nodes, constants)), None)
    if add is None:
        return model
    mul = nodes[add.input[0]]
    factor, term = constants[mul.input[1]], constants[add.input[1]]
    channels = max(factor.size, term.size)
    weights = np.broadcast_to(factor.reshape(-1), (channels,)).reshape(channels, 1, 1, 1).astype(np.float32)
    bias = np.broadcast_to(term.reshape(-1), (channels,)).astype(np.float32)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.ascontiguousarray(weights), "pixels/weights"),
            numpy_helper.from_array(bias.copy(), "pixels/bias"),
        ]
    )
    conv = helper.make_node(
        "Conv",
        [mul.input[0], "pixels/weights", "pixels/bias"],
        list(add.output),
        name="/pixels/Conv",
        group=channels,
        kernel_shape=[1, 1],
    )
    cast = nodes[mul.input[0]]
    cast.output[0] = conv.input[0] = _PIXELS
    place = [node.name for node in model.graph.node].index(mul.name)
    kept = [node for node in model.graph.node if node.name not in (mul.name, add.name)]
    kept.insert(place, conv)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    del model.graph.value_info[:]
    return model


def with_whole_pixels(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its pixels' normalization moved by at most half a step, so that integers hold it exactly.

    (pixel / 255 - 0.5) / 0.5 is pixel * s - 127.5 * s: in steps of s every pixel lies between two integers, and kernels that
    round halves differently (to even, or away from zero) disagree on every second one. With 128 for 127.5 nothing is rounded; the
    convolution that follows takes the difference into its bias, so only the padding at the border is another (by half a step).
    Efficientnet-lite0's ONNX and LiteRT int8 then agree on 1.000 of flowers128 instead of 0.979. Graphs of other forms (channels
    with factors of their own, no bias to take it) stay as they are.
    """
    nodes = {name: node for node in model.graph.node for name in node.output}
    constants = {each.name: each for each in model.graph.initializer}
    arrays = {name: numpy_helper.to_array(each) for name, each in constants.items()}
    add = next((n for n in model.graph.node if n.op_type == "Add" and _is_normalization(n, nodes, arrays)), None)
    readers = [node for node in model.graph.node if add is not None and add.output[0] in node.input]
    if add is None or len(readers) != 1 or readers[0].op_type != "Conv" or len(readers[0].input) != 3:
        return model
    factor, term = arrays[nodes[add.input[0]].input[1]], arrays[add.input[1]]
    weights, bias = (arrays.get(name) for name in readers[0].input[1:])
    if weights is None or bias is None or np.ptp(factor) != 0 or term.size not in (1, weights.shape[1]):
        return model
    whole = (factor.ravel()[0] * np.round(term / factor.ravel()[0] - 1e-3)).astype(np.float32)
    moved = np.broadcast_to((whole - term).ravel(), (weights.shape[1],)).reshape(1, -1, 1, 1)
    made = copy.deepcopy(model)
    changed = {add.input[1]: whole, readers[0].input[2]: (bias - (weights * moved).sum(axis=(1, 2, 3))).astype(np.float32)}
    for tensor in made.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))
    return made


def _is_normalization(add: onnx.NodeProto, nodes: Mapping[str, onnx.NodeProto], constants: Mapping[str, Array]) -> bool:
    mul = nodes.get(add.input[0])
    cast = nodes.get(mul.input[0]) if mul is not None and mul.op_type == "Mul" else None
    sides = (add.input[1], mul.input[1]) if mul is not None and len(mul.input) > 1 else ("", "")
    return cast is not None and cast.op_type == "Cast" and all(side in constants for side in sides)


def _entering_as_pixels(model: onnx.ModelProto) -> onnx.ModelProto:
    """uint8 -> float -> uint8 at scale 1 is the picture itself: both steps go."""
    by_input = {node.input[0]: node for node in model.graph.node}
    quantize = by_input.get(_PIXELS)
    cast = next((node for node in model.graph.node if _PIXELS in node.output), None)
    if quantize is None or cast is None or quantize.op_type != "QuantizeLinear":
        return _ordered(model)
    dequantize = by_input[quantize.output[0]]
    dequantize.input[0] = cast.input[0]
    others = [node for node in model.graph.node if _PIXELS in node.input and node is not quantize]
    gone = [quantize] if others else [quantize, cast]
    for node in gone:
        model.graph.node.remove(node)
    return _ordered(model)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The tools log every step; none of it is for whoever reads the worker's log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
