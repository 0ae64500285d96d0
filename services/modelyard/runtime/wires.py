"""What lies between a served tensor and the graph's own: name, scale and offset, quantization, layout.

A served input value becomes the real number `value * scale + offset` (formats.bundle.TensorMap). A float graph takes that
number; a quantized one takes round(real / scale) + zero point, by the scale and zero point of its own tensor, clipped to its
datatype: the affine quantization of https://ai.google.dev/edge/litert/models/quantization_spec, halves rounded away from zero
as LiteRT's reference kernels and C's roundf do. What a quantized graph answers is turned back, (q - zero point) * scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.formats.bundle import DATATYPES, BundleCard, TensorMap, TensorSpec

Array = NDArray[Any]

_INWARD: Final = {"": (0, 1, 2, 3), "NCHW": (0, 3, 1, 2)}
_OUTWARD: Final = {"": (0, 1, 2, 3), "NCHW": (0, 2, 3, 1)}


@dataclass(frozen=True)
class GraphTensor:
    """An input or output of a graph: its names (the first is for messages), numpy datatype, and shape with -1 for any size.

    `scale` 0 means that it is not quantized. `index` is the runtime's own number for it.
    """

    names: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]
    scale: float = 0.0
    zero_point: int = 0
    index: int = 0


@dataclass(frozen=True)
class Wire:
    """A served tensor and the graph's tensor that it is tied to."""

    spec: TensorSpec
    tensor: GraphTensor
    map: TensorMap

    def entering(self, served: Array) -> Array:
        """Served values [N, ...] as the graph takes them, C order. Raises InvalidArgument NOT_FINITE for NaN to be quantized."""
        values = self._table[served] if self.spec.datatype == "UINT8" else self._converted(served)
        if self.map.layout:
            values = values.transpose(_INWARD[self.map.layout])
        return np.ascontiguousarray(values)

    def leaving(self, answer: Array) -> Array:
        """The graph's answer [N, ...] as it is served."""
        values = np.asarray(answer)
        if self.tensor.scale:
            values = (values.astype(np.float32) - np.float32(self.tensor.zero_point)) * np.float32(self.tensor.scale)
        values = _real(values, self.map)
        if self.map.layout:
            values = values.transpose(_OUTWARD[self.map.layout])
        return np.ascontiguousarray(values, dtype=DATATYPES[self.spec.datatype])

    @cached_property
    def _table(self) -> Array:
        """What each value 0 to 255 becomes: looking it up is quicker than computing it for every pixel."""
        return self._converted(np.arange(256, dtype=np.uint8))

    def _converted(self, served: Array) -> Array:
        real = _real(served, self.map)
        if not self.tensor.scale:
            return real.astype(self.tensor.dtype, copy=False)
        if np.isnan(real).any():
            message = f"input {self.spec.name!r} holds values that are no numbers (NaN), which this quantized model cannot take"
            raise InvalidArgument("NOT_FINITE", message, field=f"inputs.{self.spec.name}", input=self.spec.name)
        return quantized(real, self.tensor)


def quantized(real: Array, tensor: GraphTensor) -> Array:
    """Real numbers, none of them NaN, as a quantized tensor holds them."""
    steps = (real.astype(np.float32) / np.float32(tensor.scale)).astype(np.float64)
    whole = np.copysign(np.floor(np.abs(steps) + 0.5), steps) + tensor.zero_point
    limits = np.iinfo(tensor.dtype)
    clipped: Array = np.clip(whole, limits.min, limits.max).astype(tensor.dtype)
    return clipped


def connect(
    path: Path, card: BundleCard, inputs: Sequence[GraphTensor], outputs: Sequence[GraphTensor]
) -> tuple[list[Wire], list[Wire]]:
    """The wires of the card's inputs and outputs, in its order. Raises InvalidArgument INVALID_BUNDLE for what does not fit."""
    maps = {tensor.name: tensor for tensor in card.tensors}
    entering = [_wire(path, spec, maps, inputs, len(card.inputs), "input") for spec in card.inputs]
    leaving = [_wire(path, spec, maps, outputs, len(card.outputs), "output") for spec in card.outputs]
    used = {wire.tensor.names for wire in entering}
    if len(used) != len(inputs) or len(used) != len(entering):
        raise _refuse(
            path, f"its graph takes {_listed(inputs)}, its card names {', '.join(wire.tensor.names[0] for wire in entering)}"
        )
    for wire in entering:
        _check_datatype(path, wire)
    return entering, leaving


def _wire(
    path: Path, spec: TensorSpec, maps: Mapping[str, TensorMap], tensors: Sequence[GraphTensor], specs: int, side: str
) -> Wire:
    given = maps.get(spec.name)
    wanted = given.tensor if given and given.tensor else spec.name
    found = next((tensor for tensor in tensors if wanted in tensor.names), None)
    if found is None and not (given and given.tensor) and len(tensors) == specs == 1:
        found = tensors[0]
    if found is None:
        raise _refuse(path, f"its graph has no {side} {wanted!r}; it has {_listed(tensors)}")
    wire = Wire(spec, found, given or TensorMap(spec.name, found.names[0]))
    _check_shape(path, wire, side)
    return wire


def _check_shape(path: Path, wire: Wire, side: str) -> None:
    served, graph = wire.spec.shape, wire.tensor.shape
    if wire.map.layout:
        served = tuple(served[axis] for axis in _INWARD[wire.map.layout])
    if len(served) != len(graph) or any(a != b and b != -1 for a, b in zip(served[1:], graph[1:], strict=True)):
        raise _refuse(
            path, f"the {side} {wire.tensor.names[0]!r} of its graph has the shape {list(graph)}, the card says {list(served)}"
        )


def _check_datatype(path: Path, wire: Wire) -> None:
    """Numbers must not change by becoming the graph's datatype, but for the rounding of quantized and floating point ones."""
    served, graph = wire.spec.datatype, np.dtype(wire.tensor.dtype)
    if served == "BYTES" or graph.kind == "O":
        raise _refuse(path, f"input {wire.spec.name!r} is {served}, its graph takes {graph.name}: text is only for ONNX")
    exact = wire.map.scale == 1 and wire.map.offset == 0 and np.can_cast(np.dtype(DATATYPES[served]), graph, "safe")
    if not wire.tensor.scale and graph.kind != "f" and not exact:
        raise _refuse(
            path, f"input {wire.spec.name!r} is {served}, its graph takes {graph.name}, which does not hold what it becomes"
        )


def _real(values: Array, scaled: TensorMap) -> Array:
    if scaled.scale == 1 and scaled.offset == 0:
        return values
    result: Array = values.astype(np.float32) * np.float32(scaled.scale) + np.float32(scaled.offset)
    return result


def _listed(tensors: Sequence[GraphTensor]) -> str:
    return ", ".join(f"{tensor.names[0]} {tensor.dtype} {list(tensor.shape)}" for tensor in tensors[:20])


def _refuse(path: Path, what: str) -> InvalidArgument:
    return InvalidArgument("INVALID_BUNDLE", f"bundle {path.name}: {what}", bundle=path.name)
