"""Writes a network as a .tflite file: in floating point, with 8-bit weights, or in 8-bit integers throughout.

The integer form follows LiteRT's quantization specification (https://ai.google.dev/edge/litert/models/quantization_spec):
activations are 8-bit with a scale and a zero point, weights symmetric (one scale for each output channel), biases 32-bit at the
product of the two scales. The picture enters as its pixel value less 128 (scale 1, zero point -128) and probabilities leave with
scale 1/256, zero point -128.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from modelyard.exporter.worker.network import CONV, DENSE, DEPTHWISE, NO_BOUNDS, Network, Operator, Pads
from modelyard.exporter.worker.ranges import (
    LEAST_WEIGHTS,
    PIXELS,
    PROBABILITIES,
    Range,
    activation_scale,
    is_float_layer,
    weight_scales,
)
from modelyard.exporter.worker.tflite_file import FileWriter, Scales
from modelyard.exporter.worker.to_litert_answers import written_answers

Array = NDArray[Any]

IMAGE: Final = "image"
ANSWER: Final = "probabilities"
_FUSED: Final[Mapping[tuple[float, float], int]] = {
    NO_BOUNDS: schema.ActivationFunctionType.NONE,
    (0.0, math.inf): schema.ActivationFunctionType.RELU,
    (0.0, 6.0): schema.ActivationFunctionType.RELU6,
    (-1.0, 1.0): schema.ActivationFunctionType.RELU_N1_TO_1,
}
_KEEPING: Final = ("reshape", "transpose", "max_pool", "average_pool", "pad", "enlarge")
_FIXED: Final[Mapping[str, Scales]] = {
    "softmax": Scales((1 / 256,), (-128,)),
    "logistic": Scales((1 / 256,), (-128,)),
    "tanh": Scales((1 / 128,), (0,)),
}


def float_file(network: Network, decoded: Sequence[str] = ()) -> bytes:
    """The network in 32-bit floating point: `image` [1, H, W, C] holds 0 to 255, `probabilities` [1, classes].

    decoded: names of the answers that are made of what the network gives (to_litert_answers), here as in the other forms."""
    return _Writing(network, None, per_channel=True, decoded=decoded).file()


def dynamic_file(network: Network, *, per_channel: bool = True, decoded: Sequence[str] = ()) -> bytes:
    """The network with 8-bit weights; activations are scaled as they come (LiteRT's dynamic range)."""
    return _Writing(network, None, per_channel=per_channel, small_weights=True, decoded=decoded).file()


def integer_file(
    network: Network,
    ranges: Mapping[str, Range],
    *,
    per_channel: bool = True,
    float_layers: tuple[str, ...] = (),
    decoded: Sequence[str] = (),
) -> bytes:
    """The network in 8-bit integers. ranges: of each activation by name. float_layers stay in floating point."""
    return _Writing(network, ranges, per_channel=per_channel, float_layers=float_layers, decoded=decoded).file()


@dataclass(frozen=True)
class _Value:
    """A tensor of the file that holds an activation: its number and, when it holds integers, its scale."""

    tensor: int
    scales: Scales | None


class _Writing:
    """Goes through the operators once and writes each."""

    def __init__(
        self,
        network: Network,
        ranges: Mapping[str, Range] | None,
        *,
        per_channel: bool,
        small_weights: bool = False,
        float_layers: tuple[str, ...] = (),
        decoded: Sequence[str] = (),
    ) -> None:
        self._decoded = decoded
        self._network, self._ranges, self._per_channel = network, ranges, per_channel
        self._small_weights, self._float_layers = small_weights, float_layers
        self._out = FileWriter()
        self._values: dict[tuple[str, bool], _Value] = {}

    def file(self) -> bytes:
        network, integer = self._network, self._ranges is not None
        entering = self._new(IMAGE, network.shapes[network.input], PIXELS if integer else None)
        self._values[network.input, integer] = entering
        for operator in network.operators:
            self._integer = integer and not is_float_layer(operator.layer, self._float_layers)
            _WRITERS[operator.kind](self, operator)
        if self._decoded:
            maps = self._value(network.output, False)
            made = written_answers(self._out, self._decoded, maps.tensor, network.shapes[network.output])
            return self._out.finish({IMAGE: entering.tensor}, made)
        leaving = self._value(network.output, integer, ANSWER)
        return self._out.finish({IMAGE: entering.tensor}, {ANSWER: leaving.tensor})

    def _new(self, name: str, shape: tuple[int, ...], scales: Scales | None) -> _Value:
        dtype = "int8" if scales is not None else "float32"
        return _Value(self._out.tensor(name, shape, dtype, scales), scales)

    def _value(self, name: str, integer: bool, as_name: str = "") -> _Value:
        """An activation in the numbers wanted: converted where it was made in the others."""
        if (name, integer) in self._values:
            return self._values[name, integer]
        have = self._values[name, not integer]
        shape = self._network.shapes[name]
        made = self._new(as_name or f"{name}/{'int8' if integer else 'float'}", shape, self._scales(name) if integer else None)
        self._out.operator(*(("QUANTIZE", 1) if integer else ("DEQUANTIZE", 2)), [have.tensor], made.tensor)
        self._values[name, integer] = made
        return made

    def _scales(self, name: str) -> Scales:
        if name == self._network.output and not self._decoded:
            return PROBABILITIES
        return activation_scale(self._range(name))

    def _range(self, name: str) -> Range:
        if self._ranges is None:
            raise AssertionError("only an integer file asks for ranges")
        return self._ranges[name]

    def reads(self, name: str) -> _Value:
        """An input of the operator that is being written."""
        value = self._network.constants.get(name)
        return self._value(name, self._integer) if value is None else self._constant(name, value)

    def _constant(self, name: str, value: Array) -> _Value:
        value = np.asarray(value, np.float32)
        if not self._integer:
            return _Value(self._out.constant(name, value), None)
        scale = float(np.abs(value).max()) / 127 or 1.0
        scales = Scales((scale,), (0,))
        return _Value(self._out.constant(name, np.round(value / scale).astype(np.int8), scales), scales)

    def makes(self, operator: Operator, scales: Scales | None = None) -> _Value:
        """The tensor for the operator's output; scales where they are not those of its range."""
        shape = self._network.shapes[operator.output]
        if not self._integer:
            scales = None
        elif scales is None:
            scales = _bounded(self._scales(operator.output), operator.bounds, lambda: self._range(operator.output))
        last = operator.output == self._network.output and not self._decoded
        made = self._new(ANSWER if last and self._integer == (self._ranges is not None) else operator.output, shape, scales)
        self._values[operator.output, self._integer] = made
        return made

    def between(self, name: str, shape: tuple[int, ...], scales: Scales | None) -> _Value:
        """A tensor inside one operator that is written as several."""
        return self._new(name, shape, scales if self._integer else None)

    def write(self, code: str, version: int, inputs: list[int], output: int, options: Any = None) -> None:
        """Adds an operator of the file; integer forms have a later version."""
        self._out.operator(code, version, inputs, output, options)

    def numbers(self, name: str, values: list[Any]) -> int:
        """A constant of whole numbers."""
        return self._out.constant(name, np.array(values, np.int32))

    def fused(self, operator: Operator) -> tuple[int, bool]:
        """The activation that the operator itself applies, and whether its bounds still need operators of their own."""
        known = _FUSED.get(operator.bounds)
        if known is not None:
            return known, False
        return schema.ActivationFunctionType.NONE, not self._integer

    def cut(self, operator: Operator, before: _Value) -> None:
        """MINIMUM and MAXIMUM after an operator in floating point whose bounds no activation has."""
        shape = self._network.shapes[operator.output]
        low, high = operator.bounds
        steps = [each for each in (("MINIMUM", high), ("MAXIMUM", low)) if math.isfinite(each[1])]
        for place, (code, edge) in enumerate(steps):
            last = place == len(steps) - 1
            name = f"{operator.output}/{code.lower()}"
            after = self.makes(operator) if last else self.between(name, shape, None)
            limit = self._out.constant(f"{name}/limit", np.array(edge, np.float32))
            self.write(code, 1, [before.tensor, limit], after.tensor, schema.MaximumMinimumOptionsT())
            before = after

    def weighted(self, operator: Operator, x: _Value) -> tuple[list[int], bool]:
        """Numbers of x, weights and bias; whether the weights are integers."""
        weights, bias = (self._network.constants[name] for name in operator.inputs[1:])
        if x.scales is None and not (self._small_weights and weights.size >= LEAST_WEIGHTS):
            constants = [self._out.constant(name, self._network.constants[name]) for name in operator.inputs[1:]]
            return [x.tensor, *constants], False
        axis = 3 if operator.kind == DEPTHWISE else 0
        scales = weight_scales(weights, axis, per_channel=self._per_channel)
        shape = [1] * weights.ndim
        shape[axis] = -1
        rounded = np.clip(np.round(weights / np.asarray(scales, np.float32).reshape(shape)), -127, 127).astype(np.int8)
        kept = Scales(tuple(scales), (0,) * len(scales), axis)
        numbers = [x.tensor, self._out.constant(operator.inputs[1], rounded, kept)]
        if x.scales is None:
            return [*numbers, self._out.constant(operator.inputs[2], bias)], True
        steps = np.asarray(scales, np.float64) * x.scales.scales[0]
        whole = np.clip(np.round(bias / steps), -(2**31), 2**31 - 1).astype(np.int32)
        kept = Scales(tuple(np.broadcast_to(steps, len(scales)).tolist()), (0,) * len(scales), 0)
        return [*numbers, self._out.constant(operator.inputs[2], whole, kept)], True

    def padded(self, name: str, x: _Value, shape: tuple[int, ...], pads: Pads, value: float | None = 0.0) -> tuple[_Value, Any]:
        """x with zeros (value None: with what no maximum takes) around it."""
        top, bottom, left, right = pads
        wider = (shape[0], shape[1] + top + bottom, shape[2] + left + right, shape[3])
        made = self._new(f"{name}/padded", wider, x.scales)
        sizes = self.numbers(f"{name}/pads", [[0, 0], [top, bottom], [left, right], [0, 0]])
        if value is not None:
            self.write("PAD", 2 if x.scales else 1, [x.tensor, sizes], made.tensor, schema.PadOptionsT())
            return made, wider
        least = np.array(-128, np.int8) if x.scales else np.array(np.finfo(np.float32).min, np.float32)
        filler = self._out.constant(f"{name}/least", least, x.scales)
        self.write("PADV2", 2 if x.scales else 1, [x.tensor, sizes, filler], made.tensor, schema.PadV2OptionsT())
        return made, wider


def _bounded(scales: Scales, bounds: tuple[float, float], seen: Callable[[], Range]) -> Scales:
    """Scales whose ends cut the values where the bounds do, for bounds that the file has no activation for."""
    if bounds in _FUSED:
        return scales
    low, high = seen()
    return activation_scale((max(low, bounds[0]), min(high, bounds[1])))


def _same_padding(shape: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> Pads:
    """What the file format's SAME pads: top, bottom, left, right."""
    out = []
    for size, width, step, spread in zip(shape[1:3], kernel, stride, dilation, strict=True):
        total = max((-(-size // step) - 1) * step + (width - 1) * spread + 1 - size, 0)
        out += [total // 2, total - total // 2]
    return out[0], out[1], out[2], out[3]


def _window(writing: _Writing, operator: Operator, kernel: tuple[int, int], filler: float | None) -> tuple[_Value, int]:
    """The operator's input, padded where SAME and VALID do not give its padding; and which of the two it is."""
    x, options = writing.reads(operator.inputs[0]), operator.options
    shape = writing._network.shapes[operator.inputs[0]]
    pads, dilation = options["pads"], options.get("dilation", (1, 1))
    if not any(pads):
        return x, schema.Padding.VALID
    counts_padding = operator.kind == "average_pool"
    if not counts_padding and pads == _same_padding(shape, kernel, options["stride"], dilation):
        return x, schema.Padding.SAME
    return writing.padded(operator.output, x, shape, pads, filler)[0], schema.Padding.VALID


def _convolution(writing: _Writing, operator: Operator) -> None:
    weights, options = writing._network.constants[operator.inputs[1]], operator.options
    x, padding = _window(writing, operator, (weights.shape[1], weights.shape[2]), 0.0)
    inputs, rounded = writing.weighted(operator, x)
    fused, cut = writing.fused(operator)
    common = {
        "padding": padding,
        "strideH": options["stride"][0],
        "strideW": options["stride"][1],
        "dilationHFactor": options["dilation"][0],
        "dilationWFactor": options["dilation"][1],
        "fusedActivationFunction": fused,
    }
    after = (
        writing.between(f"{operator.output}/uncut", writing._network.shapes[operator.output], None)
        if cut
        else writing.makes(operator)
    )
    if operator.kind == DEPTHWISE:
        depth = weights.shape[3] // writing._network.shapes[operator.inputs[0]][3]
        made = schema.DepthwiseConv2DOptionsT(depthMultiplier=depth, **common)
        writing.write("DEPTHWISE_CONV_2D", _version(x, rounded, (2, 3, 6)), inputs, after.tensor, made)
    else:
        writing.write("CONV_2D", _version(x, rounded, (1, 3, 5)), inputs, after.tensor, schema.Conv2DOptionsT(**common))
    if cut:
        writing.cut(operator, after)


def _version(x: _Value, rounded: bool, versions: tuple[int, int, int]) -> int:
    """The operator's version: in floating point, in integers, with integer weights alone."""
    return versions[1] if x.scales is not None else versions[2] if rounded else versions[0]


def _dense(writing: _Writing, operator: Operator) -> None:
    x = writing.reads(operator.inputs[0])
    inputs, rounded = writing.weighted(operator, x)
    fused, cut = writing.fused(operator)
    shape = writing._network.shapes[operator.output]
    after = writing.between(f"{operator.output}/uncut", shape, None) if cut else writing.makes(operator)
    options = schema.FullyConnectedOptionsT(fusedActivationFunction=fused, asymmetricQuantizeInputs=rounded and x.scales is None)
    writing.write("FULLY_CONNECTED", _version(x, rounded, (1, 4, 9)), inputs, after.tensor, options)
    if cut:
        writing.cut(operator, after)


def _two(code: str, options: type) -> Callable[[_Writing, Operator], None]:
    def write(writing: _Writing, operator: Operator) -> None:
        inputs = [writing.reads(name) for name in operator.inputs]
        fused, cut = writing.fused(operator)
        shape = writing._network.shapes[operator.output]
        after = writing.between(f"{operator.output}/uncut", shape, None) if cut else writing.makes(operator)
        made = options(fusedActivationFunction=fused)
        writing.write(code, 2 if after.scales else 1, [each.tensor for each in inputs], after.tensor, made)
        if cut:
            writing.cut(operator, after)

    return write


def _pool(writing: _Writing, operator: Operator) -> None:
    kernel, stride = operator.options["kernel"], operator.options["stride"]
    highest = operator.kind == "max_pool"
    x, padding = _window(writing, operator, kernel, None if highest else 0.0)
    made = writing.makes(operator, x.scales)
    options = schema.Pool2DOptionsT(padding, stride[1], stride[0], kernel[1], kernel[0])
    code = "MAX_POOL_2D" if highest else "AVERAGE_POOL_2D"
    writing.write(code, 2 if x.scales else 1, [x.tensor], made.tensor, options)


def _mean(writing: _Writing, operator: Operator) -> None:
    x = writing.reads(operator.inputs[0])
    axes = writing.numbers(f"{operator.output}/axes", list(operator.options["axes"]))
    made = writing.makes(operator)
    options = schema.ReducerOptionsT(keepDims=operator.options["keep"])
    writing.write("MEAN", 2 if x.scales else 1, [x.tensor, axes], made.tensor, options)


def _clip(writing: _Writing, operator: Operator) -> None:
    x = writing.reads(operator.inputs[0])
    code = {(0.0, math.inf): "RELU", (0.0, 6.0): "RELU6"}.get(operator.bounds)
    if code is None and x.scales is None:
        return writing.cut(operator, x)
    made = writing.makes(operator)
    if code is None:  # to the scale whose ends are the bounds
        return writing.write("QUANTIZE", 2, [x.tensor], made.tensor)
    return writing.write(code, 2 if x.scales else 1, [x.tensor], made.tensor)


def _enlarge(writing: _Writing, operator: Operator) -> None:
    x = writing.reads(operator.inputs[0])
    made = writing.makes(operator, x.scales)
    size = writing.numbers(f"{operator.output}/size", list(writing._network.shapes[operator.output][1:3]))
    options = schema.ResizeNearestNeighborOptionsT(alignCorners=False, halfPixelCenters=False)
    writing.write("RESIZE_NEAREST_NEIGHBOR", 2 if x.scales else 1, [x.tensor, size], made.tensor, options)


def _hard_sigmoid(writing: _Writing, operator: Operator) -> None:
    """alpha * cut(x + beta / alpha, 0, 1 / alpha)."""
    alpha, beta = operator.options["alpha"], operator.options["beta"]
    x, shape = writing.reads(operator.inputs[0]), writing._network.shapes[operator.output]
    top = round(1 / alpha, 5)
    shifted = Operator("add", operator.inputs, f"{operator.output}/shifted", operator.layer, bounds=(0.0, top))
    fused, cut = writing.fused(shifted)
    after = writing.between(shifted.output, shape, activation_scale((0.0, top)))
    term = writing._constant(f"{shifted.output}/term", np.array(beta / alpha))
    made = schema.AddOptionsT(fusedActivationFunction=fused)
    writing.write("ADD", 2 if x.scales else 1, [x.tensor, term.tensor], after.tensor, made)
    if cut:
        raise AssertionError("hard sigmoids of torch end at 6")
    factor = writing._constant(f"{operator.output}/factor", np.array(alpha))
    made = writing.makes(operator)
    writing.write("MUL", 2 if x.scales else 1, [after.tensor, factor.tensor], made.tensor, schema.MulOptionsT())


def _one(code: str, versions: tuple[int, int], options: Callable[[Operator], Any] = lambda operator: None) -> Callable[..., None]:
    def write(writing: _Writing, operator: Operator) -> None:
        x = writing.reads(operator.inputs[0])
        made = writing.makes(operator, _FIXED.get(operator.kind))
        writing.write(code, versions[1] if x.scales else versions[0], [x.tensor], made.tensor, options(operator))

    return write


def _reshape(writing: _Writing, operator: Operator) -> None:
    x = writing.reads(operator.inputs[0])
    shape = list(operator.options["to"])
    made = writing.makes(operator, x.scales)
    sizes = writing.numbers(f"{operator.output}/shape", shape)
    writing.write("RESHAPE", 1, [x.tensor, sizes], made.tensor, schema.ReshapeOptionsT(newShape=np.array(shape, np.int32)))


def _transpose(writing: _Writing, operator: Operator) -> None:
    x = writing.reads(operator.inputs[0])
    order = operator.options["order"]
    before = writing._network.shapes[operator.inputs[0]]
    made = writing._new(operator.output, tuple(before[axis] for axis in order), x.scales)
    writing._values[operator.output, writing._integer] = made
    numbers = writing.numbers(f"{operator.output}/order", list(order))
    writing.write("TRANSPOSE", 2 if x.scales else 1, [x.tensor, numbers], made.tensor, schema.TransposeOptionsT())


def _concat(writing: _Writing, operator: Operator) -> None:
    made = writing.makes(operator)
    inputs = []
    for name in operator.inputs:
        x = writing.reads(name)
        if made.scales is not None and x.scales != made.scales:  # this operator wants one scale for all
            again = writing.between(f"{operator.output}/{name}", writing._network.shapes[name], made.scales)
            writing.write("QUANTIZE", 2, [x.tensor], again.tensor)
            x = again
        inputs.append(x.tensor)
    options = schema.ConcatenationOptionsT(axis=operator.options["axis"])
    writing.write("CONCATENATION", 2 if made.scales else 1, inputs, made.tensor, options)


def _pad(writing: _Writing, operator: Operator) -> None:
    x = writing.reads(operator.inputs[0])
    shape = writing._network.shapes[operator.inputs[0]]
    made, _ = writing.padded(operator.output, x, shape, operator.options["pads"])
    writing._values[operator.output, writing._integer] = made


_WRITERS: Final[Mapping[str, Callable[[_Writing, Operator], None]]] = {
    CONV: _convolution,
    DEPTHWISE: _convolution,
    DENSE: _dense,
    "add": _two("ADD", schema.AddOptionsT),
    "mul": _two("MUL", schema.MulOptionsT),
    "sub": _two("SUB", schema.SubOptionsT),
    "max_pool": _pool,
    "average_pool": _pool,
    "mean": _mean,
    "clip": _clip,
    "enlarge": _enlarge,
    "hard_swish": _one("HARD_SWISH", (1, 1)),
    "hard_sigmoid": _hard_sigmoid,
    "logistic": _one("LOGISTIC", (1, 2)),
    "tanh": _one("TANH", (1, 2)),
    "leaky": _one("LEAKY_RELU", (1, 2), lambda operator: schema.LeakyReluOptionsT(alpha=operator.options["alpha"])),
    "softmax": _one("SOFTMAX", (1, 2), lambda operator: schema.SoftmaxOptionsT(beta=1.0)),
    "reshape": _reshape,
    "transpose": _transpose,
    "concat": _concat,
    "pad": _pad,
}
