"""A picture classifier as operators on [1, height, width, channels] tensors: what LiteRT and TensorFlow are written from.

It is read from the network's ONNX graph, so every format comes from one graph, with one set of names and ranges. Batch norms are
gone by then (folded by the exporter); layout changes are gone too, for every tensor of four axes stands in NHWC here. Each
operator knows the layer of the network it comes from, so that a refusal can name it. See docs/decisions/0009-export-formats.md.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from modelyard.core.errors import InvalidArgument

Array = NDArray[Any]
Pads = tuple[int, int, int, int]

CONV: Final = "conv"
DEPTHWISE: Final = "depthwise"
DENSE: Final = "dense"
WEIGHTED: Final = (CONV, DEPTHWISE, DENSE)
DECODE: Final = "decode"
"""The layer of a served network that makes its answers of maps."""
NO_BOUNDS: Final = (-math.inf, math.inf)


@dataclass(frozen=True)
class Operator:
    """One step. `inputs` name activations or constants; `layer` is the module it comes from ("features.0.0"; "" at the ends).

    kind and its options:
    conv, depthwise   inputs x, weights [out, kh, kw, in] (depthwise [1, kh, kw, out]), bias; stride (h, w), dilation (h, w),
                      pads (top, bottom, left, right)
    dense             inputs x, weights [out, in], bias
    add, mul, sub     inputs a, b
    max_pool, average_pool  kernel (h, w), stride, pads; average_pool counts the padding as zeros
    mean              axes, keep
    enlarge           (by: height, width), each value repeated
    clip              (bounds only); hard_swish, hard_sigmoid (alpha, beta), logistic, tanh, leaky (slope), softmax
    reshape (to), transpose (order), concat (axis)
    bounds (low, high): the result is cut to them; kept with the operator that makes the values.
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    layer: str
    options: Mapping[str, Any] = field(default_factory=dict)
    bounds: tuple[float, float] = NO_BOUNDS


@dataclass
class Network:
    """The operators in order, shapes of activations (batch 1) and values of constants, by name."""

    input: str
    output: str
    operators: list[Operator]
    shapes: dict[str, tuple[int, ...]]
    constants: dict[str, Array]


def layer_of(node: onnx.NodeProto) -> str:
    """The module of the network that a node of an exported graph comes from, as torch's named_modules calls it.

    A layer with weights of its own is known by their name; of others torch writes the path into the node's name, or beside it.
    In a `torch.fx.GraphModule` that path is cut short, so there only layers with weights are told for sure.
    """
    weights = re.fullmatch(r"module\.(.+)\.weight", node.input[1]) if len(node.input) > 1 else None
    if weights is not None:
        return weights[1]
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            scopes = ast.literal_eval(entry.value)
            return str(scopes[-2] if len(scopes) > 1 else "").removeprefix("module").removeprefix(".")
    parts: list[str] = []
    for part in node.name.strip("/").split("/")[:-1]:
        if parts and part.startswith(parts[-1] + "."):
            parts[-1] = part  # a child of a Sequential is named with its parent: blocks, blocks.0
        else:
            parts.append(part)
    return ".".join(parts).removeprefix("module").removeprefix(".")


def read_network(model: onnx.ModelProto, format_name: str) -> Network:
    """The operators of an ONNX graph whose batch is 1 and whose input is a picture [1, H, W, C].

    format_name is what a refusal calls the format that is being made. Raises InvalidArgument UNSUPPORTED_OPERATOR naming the
    operator and the layer it comes from.
    """
    reading = _Reading(model, format_name)
    for node in model.graph.node:
        reading.take(node)
    return _with_bounds(_with_scales(reading.network()))


def without_decoding(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph up to what the layer `decode` reads: the network's own answer, its only output then."""
    inside = [layer_of(node).partition(".")[0] == DECODE for node in model.graph.node]
    made = {name for node, decodes in zip(model.graph.node, inside, strict=True) if not decodes for name in node.output}
    read = {name for node, decodes in zip(model.graph.node, inside, strict=True) if decodes for name in node.input}
    constant = {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    borders = sorted((made & read) - constant)
    if len(borders) != 1:
        message = f"the graph passes {len(borders)} tensors to the layer {DECODE}; one is right"
        raise InvalidArgument("NOT_EXPORTABLE", message, field="architecture", tensors=", ".join(borders[:5]))
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    del kept.graph.node[:]
    kept.graph.node.extend(node for node, decodes in zip(model.graph.node, inside, strict=True) if not decodes)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    border = next(value for value in inferred.value_info if value.name == borders[0])
    del kept.graph.output[:]
    kept.graph.output.append(border)
    return kept


def consumers_of(network: Network) -> dict[str, int]:
    """How many operators (the network's end among them) read each activation."""
    counts = {network.output: 1}
    for each in network.operators:
        for name in each.inputs:
            counts[name] = counts.get(name, 0) + 1
    return counts


class _Reading:
    """Goes through the nodes once. A value of four axes is NCHW in ONNX and NHWC here, but for the picture itself."""

    def __init__(self, model: onnx.ModelProto, format_name: str) -> None:
        self._format = format_name
        self.constants: dict[str, Array] = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(model).graph
        values = (*inferred.value_info, *inferred.input, *inferred.output)
        self._shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
        self._input = model.graph.input[0].name
        self._output = model.graph.output[0].name
        self._alias: dict[str, str] = {}
        self._as_is = {self._input}
        self.operators: list[Operator] = []
        self.shapes: dict[str, tuple[int, ...]] = {self._input: self._shapes[self._input]}

    def network(self) -> Network:
        output = self.name(self._output)
        used = {name for each in self.operators for name in each.inputs}
        constants = {name: value for name, value in self.constants.items() if name in used}
        return Network(self._input, output, self.operators, self.shapes, constants)

    def take(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Constant":
            value = next(each for each in node.attribute if each.name == "value")
            self.constants[node.output[0]] = numpy_helper.to_array(value.t)
            return
        read = _READERS.get(node.op_type)
        if read is None or (node.domain not in ("", "ai.onnx")):
            raise self.refuse(node)
        read(self, node)

    def refuse(self, node: onnx.NodeProto, detail: str = "") -> InvalidArgument:
        layer = layer_of(node)
        where = f"in layer {layer}" if layer else f"at {node.name or node.output[0]}"
        message = f"{self._format} has no counterpart of the operator {node.op_type} {where}{': ' if detail else ''}{detail}"
        return InvalidArgument(
            "UNSUPPORTED_OPERATOR", message, field="format", operator=node.op_type, layer=layer, format=self._format
        )

    def name(self, value: str) -> str:
        """What the value is called here: layout changes and casts make no new one."""
        while value in self._alias:
            value = self._alias[value]
        return value

    def shape(self, value: str) -> tuple[int, ...]:
        """Its shape in ONNX's order."""
        return self._shapes.get(value, ())

    def put(self, node: onnx.NodeProto, kind: str, inputs: tuple[str, ...], **options: Any) -> None:
        """Adds the operator that makes the node's output."""
        output = node.output[0]
        self.put_named(node, kind, inputs, output, nhwc(self.shape(output)), **options)

    def put_named(
        self, node: onnx.NodeProto, kind: str, inputs: tuple[str, ...], output: str, shape: tuple[int, ...], **options: Any
    ) -> None:
        """Adds an operator whose output is no value of the ONNX graph."""
        if not shape or any(size < 1 for size in shape):
            raise self.refuse(node, f"its output has the shape {list(shape)}, which is not fixed")
        self.shapes[output] = shape
        self.operators.append(Operator(kind, inputs, output, layer_of(node), options))

    def same(self, node: onnx.NodeProto) -> None:
        """The node changes nothing that matters here."""
        self._alias[node.output[0]] = node.input[0]
        if node.input[0] in self._as_is:
            self._as_is.add(node.output[0])

    def as_is(self, value: str) -> bool:
        """Whether a value of four axes stands in ONNX's own order: the picture before it is transposed."""
        return value in self._as_is

    def enter(self, node: onnx.NodeProto) -> None:
        """The picture's transposition to NCHW: from here on its four axes count as ours."""
        self._alias[node.output[0]] = node.input[0]

    def constant(self, node: onnx.NodeProto, position: int) -> Array | None:
        """The constant at an input, or None."""
        if position >= len(node.input) or not node.input[position]:
            return None
        return self.constants.get(node.input[position])

    def fresh(self, name: str, value: Array) -> str:
        """Keeps a constant of our own."""
        self.constants[name] = np.ascontiguousarray(value.astype(np.float32) if value.dtype.kind == "f" else value)
        return name


def nhwc(shape: tuple[int, ...]) -> tuple[int, ...]:
    """NCHW to NHWC; other shapes as they are."""
    return (shape[0], shape[2], shape[3], shape[1]) if len(shape) == 4 else shape


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def _pads(node: onnx.NodeProto, given: Mapping[str, Any], reading: _Reading) -> Pads:
    if given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise reading.refuse(node, "padding that depends on the size")
    top, left, bottom, right = given.get("pads") or (0, 0, 0, 0)
    return top, bottom, left, right


def _conv(reading: _Reading, node: onnx.NodeProto) -> None:
    given = _attributes(node)
    weights = reading.constant(node, 1)
    if weights is None or weights.ndim != 4:
        raise reading.refuse(node, "only two-dimensional ones with fixed weights")
    groups, channels = given.get("group", 1), reading.shape(node.input[0])[1]
    bias = reading.constant(node, 2)
    if groups not in (1, channels):
        raise reading.refuse(node, f"in {groups} groups")
    depthwise = groups == channels and weights.shape[1] == 1 and (groups > 1 or weights.shape[0] == 1)
    ordered = weights.transpose(1, 2, 3, 0) if depthwise else weights.transpose(0, 2, 3, 1)
    output = node.output[0]
    bias = np.zeros(len(weights), np.float32) if bias is None else bias
    reading.put(
        node,
        DEPTHWISE if depthwise else CONV,
        (
            reading.name(node.input[0]),
            reading.fresh(f"{output}/weights", ordered),
            reading.fresh(f"{output}/bias", bias),
        ),
        stride=tuple(given.get("strides") or (1, 1)),
        dilation=tuple(given.get("dilations") or (1, 1)),
        pads=_pads(node, given, reading),
    )


def _dense(reading: _Reading, node: onnx.NodeProto) -> None:
    given, weights, bias = _attributes(node), reading.constant(node, 1), reading.constant(node, 2)
    if weights is None or weights.ndim != 2 or given.get("transA") or len(reading.shape(node.input[0])) != 2:
        raise reading.refuse(node, "only products of rows with fixed weights")
    weights = weights if given.get("transB") else weights.T
    weights = weights * given.get("alpha", 1.0)
    bias = np.zeros(len(weights), np.float32) if bias is None else np.broadcast_to(bias * given.get("beta", 1.0), (len(weights),))
    output = node.output[0]
    names = reading.fresh(f"{output}/weights", weights), reading.fresh(f"{output}/bias", bias)
    reading.put(node, DENSE, (reading.name(node.input[0]), *names))


def _norm(reading: _Reading, node: onnx.NodeProto) -> None:
    """A batch norm that could not be folded: a factor and a term for each channel."""
    scale, bias, mean, variance = (reading.constant(node, position) for position in range(1, 5))
    if scale is None or bias is None or mean is None or variance is None or len(reading.shape(node.input[0])) != 4:
        raise reading.refuse(node)
    factor = scale / np.sqrt(variance + _attributes(node).get("epsilon", 1e-5))
    output = node.output[0]
    names = (
        reading.fresh(f"{output}/weights", factor.reshape(1, 1, 1, -1)),
        reading.fresh(f"{output}/bias", bias - mean * factor),
    )
    reading.put(node, DEPTHWISE, (reading.name(node.input[0]), *names), stride=(1, 1), dilation=(1, 1), pads=(0, 0, 0, 0))


def _two(kind: str) -> Callable[[_Reading, onnx.NodeProto], None]:
    def read(reading: _Reading, node: onnx.NodeProto) -> None:
        axes = len(reading.shape(node.output[0]))
        inputs = []
        for position, each in enumerate(node.input):
            value = reading.constant(node, position)
            inputs.append(reading.name(each) if value is None else _constant_side(reading, node, position, value, axes))
        reading.put(node, kind, tuple(inputs))

    return read


def _constant_side(reading: _Reading, node: onnx.NodeProto, position: int, value: Array, axes: int) -> str:
    value = value.reshape((1,) * (axes - value.ndim) + value.shape) if axes == 4 else value
    value = value.transpose(0, 2, 3, 1) if axes == 4 else value
    while value.ndim and value.shape[0] == 1:
        value = value[0]
    return reading.fresh(f"{node.output[0]}/constant{position}", value)


def _division(reading: _Reading, node: onnx.NodeProto) -> None:
    divisor = reading.constant(node, 1)
    if divisor is None:
        raise reading.refuse(node, "only by a constant")
    axes = len(reading.shape(node.output[0]))
    reading.put(node, "mul", (reading.name(node.input[0]), _constant_side(reading, node, 1, 1 / divisor, axes)))


def _clip(reading: _Reading, node: onnx.NodeProto) -> None:
    bounds = []
    for position, none in ((1, -math.inf), (2, math.inf)):
        value = reading.constant(node, position)
        bounds.append(none if value is None else float(value))
    reading.put(node, "clip", (reading.name(node.input[0]),))
    reading.operators[-1] = replace(reading.operators[-1], bounds=(bounds[0], bounds[1]))


def _relu(reading: _Reading, node: onnx.NodeProto) -> None:
    reading.put(node, "clip", (reading.name(node.input[0]),))
    reading.operators[-1] = replace(reading.operators[-1], bounds=(0.0, math.inf))


def _one(kind: str, *names: tuple[str, float]) -> Callable[[_Reading, onnx.NodeProto], None]:
    """An operator of one input, with attributes that have these names and values where they are left out."""

    def read(reading: _Reading, node: onnx.NodeProto) -> None:
        given = _attributes(node)
        options = {name: float(given.get(name, usual)) for name, usual in names}
        reading.put(node, kind, (reading.name(node.input[0]),), **options)

    return read


def _softmax(reading: _Reading, node: onnx.NodeProto) -> None:
    axes = len(reading.shape(node.input[0]))
    if axes != 2 or _attributes(node).get("axis", -1) not in (-1, 1):
        raise reading.refuse(node, "only over the classes")
    reading.put(node, "softmax", (reading.name(node.input[0]),))


def _pool(kind: str) -> Callable[[_Reading, onnx.NodeProto], None]:
    def read(reading: _Reading, node: onnx.NodeProto) -> None:
        given = _attributes(node)
        pads = _pads(node, given, reading)
        if given.get("ceil_mode") or any(each != 1 for each in given.get("dilations", ())):
            raise reading.refuse(node, "rounded up or dilated")
        if kind == "average_pool" and any(pads) and not given.get("count_include_pad"):
            raise reading.refuse(node, "that leaves its padding out of the mean")
        stride = tuple(given.get("strides") or (1, 1))
        reading.put(node, kind, (reading.name(node.input[0]),), kernel=tuple(given["kernel_shape"]), stride=stride, pads=pads)

    return read


def _global_mean(reading: _Reading, node: onnx.NodeProto) -> None:
    reading.put(node, "mean", (reading.name(node.input[0]),), axes=(1, 2), keep=True)


def _mean(reading: _Reading, node: onnx.NodeProto) -> None:
    given, axes = _attributes(node), reading.constant(node, 1)
    found = sorted(int(axis) % 4 for axis in (axes.tolist() if axes is not None else given.get("axes") or ()))
    if len(reading.shape(node.input[0])) != 4 or found != [2, 3]:
        raise reading.refuse(node, f"over the axes {found}; only over height and width")
    reading.put(node, "mean", (reading.name(node.input[0]),), axes=(1, 2), keep=bool(given.get("keepdims", 1)))


def _reshape(reading: _Reading, node: onnx.NodeProto) -> None:
    before, after = reading.shape(node.input[0]), reading.shape(node.output[0])
    value = reading.name(node.input[0])
    if len(after) == 4:
        if after[2:] != (1, 1) and after != before:
            raise reading.refuse(node, f"to {list(after)}")
    elif len(before) == 4 and before[2:] != (1, 1):
        flat = f"{node.output[0]}/ordered"
        reading.put_named(node, "transpose", (value,), flat, before, order=(0, 3, 1, 2))
        value = flat
    reading.put(node, "reshape", (value,), to=nhwc(after))


def _transpose(reading: _Reading, node: onnx.NodeProto) -> None:
    order = tuple(_attributes(node).get("perm", ()))
    if reading.as_is(node.input[0]) and order == (0, 3, 1, 2):
        return reading.enter(node)
    raise reading.refuse(node, f"in the order {list(order)}")


def _concat(reading: _Reading, node: onnx.NodeProto) -> None:
    axes = len(reading.shape(node.output[0]))
    axis = _attributes(node)["axis"] % axes
    if any(each in reading.constants for each in node.input):
        raise reading.refuse(node, "with a constant")
    ours = {0: 0, 1: 3, 2: 1, 3: 2}[axis] if axes == 4 else axis
    reading.put(node, "concat", tuple(reading.name(each) for each in node.input), axis=ours)


def _pad(reading: _Reading, node: onnx.NodeProto) -> None:
    given, pads, value = _attributes(node), reading.constant(node, 1), reading.constant(node, 2)
    sizes = pads.tolist() if pads is not None else []
    constant = given.get("mode", b"constant") == b"constant" and (value is None or float(value) == 0)
    if len(sizes) != 8 or any(sizes[at] for at in (0, 1, 4, 5)) or not constant or min(sizes) < 0:
        raise reading.refuse(node, "other than zeros around height and width")
    reading.put(node, "pad", (reading.name(node.input[0]),), pads=(sizes[2], sizes[6], sizes[3], sizes[7]))


def _resize(reading: _Reading, node: onnx.NodeProto) -> None:
    """To a multiple of its size, each value repeated: what decoders of maps do."""
    given, before, after = _attributes(node), reading.shape(node.input[0]), reading.shape(node.output[0])
    nearest = given.get("mode") == b"nearest" and given.get("nearest_mode", b"round_prefer_floor") == b"floor"
    plain = nearest and given.get("coordinate_transformation_mode") == b"asymmetric" and len(before) == len(after) == 4
    by = tuple(wide // max(size, 1) for size, wide in zip(before[2:], after[2:], strict=True)) if plain else ()
    if not plain or tuple(size * times for size, times in zip(before, (1, 1, *by), strict=True)) != after:
        raise reading.refuse(node, "other than repeating each value a whole number of times")
    reading.put(node, "enlarge", (reading.name(node.input[0]),), by=by)


def _same(reading: _Reading, node: onnx.NodeProto) -> None:
    reading.same(node)


def _cast(reading: _Reading, node: onnx.NodeProto) -> None:
    if _attributes(node)["to"] != onnx.TensorProto.FLOAT:
        raise reading.refuse(node, "to whole numbers")
    reading.same(node)


_READERS: Final[Mapping[str, Callable[[_Reading, onnx.NodeProto], None]]] = {
    "Add": _two("add"),
    "AveragePool": _pool("average_pool"),
    "BatchNormalization": _norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _division,
    "Dropout": _same,
    "Flatten": _reshape,
    "Gemm": _dense,
    "GlobalAveragePool": _global_mean,
    "HardSigmoid": _one("hard_sigmoid", ("alpha", 0.2), ("beta", 0.5)),
    "HardSwish": _one("hard_swish"),
    "Identity": _same,
    "LeakyRelu": _one("leaky", ("alpha", 0.01)),
    "MatMul": _dense,
    "MaxPool": _pool("max_pool"),
    "Mul": _two("mul"),
    "Pad": _pad,
    "ReduceMean": _mean,
    "Relu": _relu,
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": _one("logistic"),
    "Softmax": _softmax,
    "Squeeze": _reshape,
    "Sub": _two("sub"),
    "Tanh": _one("tanh"),
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}


def _with_scales(network: Network) -> Network:
    """A factor and then a term for each channel become one depthwise 1x1 convolution: one rounding instead of two.

    So the pixels' normalization is one operator whose weights and bias an integer runtime holds without error.
    """
    counts = consumers_of(network)
    makers = {each.output: each for each in network.operators}
    dropped: set[str] = set()
    out: list[Operator] = []
    for each in network.operators:
        before = makers.get(each.inputs[0])
        if each.kind == "add" and before is not None and before.kind == "mul" and counts[before.output] == 1:
            pair = _per_channel(network, before), _per_channel(network, each)
            if pair[0] is not None and pair[1] is not None:
                each = _scale_shift(network, before, each, pair[0], pair[1])
                dropped.add(before.output)
        out.append(each)
    network.operators = [each for each in out if each.output not in dropped]
    return network


def _per_channel(network: Network, operator: Operator) -> Array | None:
    """The constant of an operator [channels], when it is one number or one a channel of a picture."""
    value = network.constants.get(operator.inputs[1])
    shape = network.shapes[operator.output]
    if value is None or len(shape) != 4 or value.ndim > 1 or value.size not in (1, shape[3]):
        return None
    return np.broadcast_to(value, (shape[3],))


def _scale_shift(network: Network, mul: Operator, add: Operator, factor: Array, term: Array) -> Operator:
    names = f"{add.output}/weights", f"{add.output}/bias"
    network.constants[names[0]] = np.ascontiguousarray(factor.reshape(1, 1, 1, -1), np.float32)
    network.constants[names[1]] = np.ascontiguousarray(term, np.float32)
    options = {"stride": (1, 1), "dilation": (1, 1), "pads": (0, 0, 0, 0)}
    return Operator(DEPTHWISE, (mul.inputs[0], *names), add.output, add.layer, options)


def _with_bounds(network: Network) -> Network:
    """Cuts go to the operator that makes the values, when nobody else reads them."""
    counts = consumers_of(network)
    out: list[Operator] = []
    places: dict[str, int] = {}
    for each in network.operators:
        place = places.get(each.inputs[0], -1)
        if each.kind == "clip" and place >= 0 and counts[each.inputs[0]] == 1 and out[place].kind in _BOUNDABLE:
            out[place] = replace(out[place], output=each.output, bounds=_narrower(out[place].bounds, each.bounds))
            places[each.output] = place
            continue
        places[each.output] = len(out)
        out.append(each)
    network.operators = out
    return network


_BOUNDABLE: Final = (*WEIGHTED, "add", "mul", "sub")


def _narrower(first: tuple[float, float], then: tuple[float, float]) -> tuple[float, float]:
    low, high = (min(max(edge, then[0]), then[1]) for edge in first)
    return low, high
