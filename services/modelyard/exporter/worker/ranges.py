"""Which values an integer stands for: ranges of activations seen on a calibration set, and the scales that follow.

All int8 formats take their ranges from here, so that the same model answers alike in each. The ranges are measured on the float
graph by onnxruntime: first the smallest and largest value of each activation, then, on some of the examples, a histogram between
them, from which the other choices are read (the ends that leave out one value in 10,000, and those with the least squared error).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from modelyard.exporter.worker.tflite_file import Scales

Array = NDArray[Any]
Range = tuple[float, float]

PIXELS: Final = Scales((1.0,), (-128,))
"""The picture: a pixel's value less 128."""

PROBABILITIES: Final = Scales((1 / 256,), (-128,))

LEAST_WEIGHTS: Final = 1024
"""Layers with fewer weights stay in floating point when only weights are quantized: nothing is won there."""

METHODS: Final = ("min_max", "least_error", "percentile")
"""Ways to choose a range from what was seen."""

_BINS: Final = 2048
_TAIL: Final = 1e-4
_STEPS: Final = 255
_BATCH: Final = 16
_COUNTED: Final = 96
"""Examples that the histograms are made of."""
_MOST_COUNTED: Final = 20_000
"""Values of one activation that go into its histogram from one batch, drawn at random; its ends are taken over all."""


@dataclass(frozen=True)
class Seen:
    """What one activation held over the calibration set: its ends and a histogram between them."""

    low: float
    high: float
    counts: NDArray[np.int64]

    def range(self, method: str) -> Range:
        """The range by one of METHODS; zero is always inside (activation_scale sees to that)."""
        if method == "min_max" or self.high <= self.low:
            return self.low, self.high
        return self._percentile() if method == "percentile" else self._least_error()

    def _percentile(self) -> Range:
        edges = np.linspace(self.low, self.high, _BINS + 1)
        share = np.cumsum(self.counts) / max(int(self.counts.sum()), 1)
        first, last = int(np.searchsorted(share, _TAIL)), int(np.searchsorted(share, 1 - _TAIL))
        return float(edges[first]), float(edges[min(last + 1, _BINS)])

    def _least_error(self) -> Range:
        """Of ranges narrower by the same share on both ends, the one with the smallest squared error of rounding and cutting."""
        width = (self.high - self.low) / _BINS
        centres = self.low + (np.arange(_BINS) + 0.5) * width
        best, least = (self.low, self.high), np.inf
        for share in np.linspace(0.3, 1.0, 36):
            low, high = min(self.low, 0.0) * share, max(self.high, 0.0) * share
            step = (high - low) / _STEPS
            kept = np.clip(centres, low, high)
            error = float((((centres - kept) ** 2 + (step**2 / 12)) * self.counts).sum())
            if error < least:
                best, least = (max(low, self.low), min(high, self.high)), error
        return best


def activation_scale(found: Range) -> Scales:
    """The 8-bit scale of a range, widened to hold zero, which is then exact."""
    low, high = min(found[0], 0.0), max(found[1], 0.0)
    scale = float(np.float32((high - low) / _STEPS)) or 1.0
    return Scales((scale,), (int(np.clip(round(-128 - low / scale), -128, 127)),))


def weight_scales(weights: Array, axis: int, *, per_channel: bool) -> list[float]:
    """Symmetric 8-bit scales (numbers -127 to 127): one for each place along the axis, or one for all."""
    sizes = np.abs(np.asarray(weights, np.float64))
    largest = sizes.max(axis=tuple(each for each in range(weights.ndim) if each != axis)) if per_channel else sizes.max()[None]
    return [float(np.float32(value / 127)) or 1.0 for value in np.atleast_1d(largest)]


def is_float_layer(layer: str, float_layers: tuple[str, ...]) -> bool:
    """Whether a layer is one of those named, or inside one."""
    return any(layer == name or layer.startswith(f"{name}.") for name in float_layers)


def seen_ranges(model: onnx.ModelProto, examples: Array) -> dict[str, Seen]:
    """What every float activation of a graph (batch open, one input) held over examples (pictures uint8, series float32), by its
    name."""
    session, names = _listening(model)
    lows, highs = _ends(session, names, examples)
    counts = {name: np.zeros(_BINS, np.int64) for name in names}
    random = np.random.default_rng(0)
    for answers in _answers(session, names, examples[:_COUNTED]):
        for name, value in zip(names, answers, strict=True):
            some = value.ravel() if value.size <= _MOST_COUNTED else random.choice(value.ravel(), _MOST_COUNTED)
            counts[name] += _counts(some, lows[name], highs[name])
    return {name: Seen(lows[name], highs[name], counts[name]) for name in names}


def _counts(value: Array, low: float, high: float) -> NDArray[np.int64]:
    """A histogram with equal bins; faster than numpy's for what is asked here."""
    if high <= low:
        return np.zeros(_BINS, np.int64)
    places = ((value - low) * (_BINS / (high - low))).astype(np.int64)
    return np.bincount(np.clip(places, 0, _BINS - 1), minlength=_BINS).astype(np.int64)


def _listening(model: onnx.ModelProto) -> tuple[Any, list[str]]:
    """A session whose outputs are all float activations, and their names."""
    import onnxruntime

    listening = onnx.ModelProto()
    listening.CopyFrom(model)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    floats = {v.name for v in (*inferred.value_info, *inferred.output) if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    names = [name for node in model.graph.node for name in node.output if name in floats]
    del listening.graph.output[:]
    listening.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(listening.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, names


def _answers(session: Any, names: list[str], examples: Array) -> Any:
    entry = session.get_inputs()[0].name
    for start in range(0, len(examples), _BATCH):
        yield session.run(names, {entry: examples[start : start + _BATCH]})


def _ends(session: Any, names: list[str], examples: Array) -> tuple[dict[str, float], dict[str, float]]:
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    for answers in _answers(session, names, examples):
        for name, value in zip(names, answers, strict=True):
            lows[name] = min(lows.get(name, np.inf), float(value.min()))
            highs[name] = max(highs.get(name, -np.inf), float(value.max()))
    return lows, highs


def ranges_by(method: str, seen: Mapping[str, Seen]) -> dict[str, Range]:
    """The range of each activation by one of METHODS."""
    return {name: each.range(method) for name, each in seen.items()}
