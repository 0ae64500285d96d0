"""Rounding as an int8 runtime rounds, inside a float network, with gradients that pass through it (straight-through estimator,
Bengio et al. 2013, https://arxiv.org/abs/1308.3432; the scheme is that of Jacob et al. 2018, https://arxiv.org/abs/1712.05877).

Weights: symmetric, -127 to 127, one scale for each output channel. Activations: asymmetric, 256 steps between `low` and `high`,
one pair for the whole tensor. That is what ONNX QDQ per channel and LiteRT's int8 compute with.
"""

from __future__ import annotations

from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from modelyard.exporter.worker.fold import layer_of, weighted_layers

STEPS: Final = 255
"""Steps between the lowest and the highest number of 8 bits."""

KEPT_VALUES: Final = 25_000
"""Values of an activation on which its range is chosen, for each batch that is watched."""

RARE: Final = 1e-4
"""Share of the values at either end that a range may leave out whatever they are."""

SHARES: Final = tuple(np.geomspace(1.0, 1e-3, 40).tolist())
"""Parts of the observed range among which the best one is looked for."""

_SAME_VALUES: Final = {"flatten", "view", "reshape", "permute", "transpose", "contiguous", "squeeze", "unsqueeze", "size"}
"""Operations that move values without changing them."""

_SAME_LAYERS: Final = (nn.Flatten, nn.Dropout, nn.Identity, nn.MaxPool2d)
_CLIPS: Final = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
_CLIP_NAMES: Final = {"relu", "relu_", "relu6", "clamp", "clip", "hardtanh"}


class ActivationRange(nn.Module):
    """Passes an activation on; watches, rounds or bounds it, as `state` says.

    low, high: the range, which holds 0, since zero padding must stay exact. observed: the extremes that were seen.
    """

    WATCH, ROUND, PASS, BOUND = "watch", "round", "pass", "bound"

    def __init__(self) -> None:
        super().__init__()
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.observed = (0.0, 0.0)
        self.fixed = False
        self.state = self.PASS
        self._kept: list[NDArray[np.float32]] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.state == self.ROUND:
            return rounded(x, self.low, self.high)
        if self.state == self.BOUND:
            return torch.clamp(x, float(self.low), float(self.high))
        if self.state == self.WATCH:
            self._watch(x.detach())
        return x

    def set(self, low: float, high: float) -> None:
        """Sets the range, widened to hold 0."""
        self.low.fill_(min(low, 0.0))
        self.high.fill_(max(high, 0.0, min(low, 0.0) + 1e-6))

    def choose(self) -> None:
        """Takes the range that rounds the watched values with the least mean square error, and forgets the values."""
        if self._kept and not self.fixed:
            self.set(*least_error_range(np.concatenate(self._kept), *self.observed))
        self._kept = []

    def _watch(self, x: Tensor) -> None:
        low, high = float(x.min()), float(x.max())
        self.observed = (min(self.observed[0], low), max(self.observed[1], high))
        values = x.flatten()
        if len(values) > KEPT_VALUES:  # drawn, since a fixed stride would meet the same place of every picture
            values = values[torch.randint(len(values), (KEPT_VALUES,), generator=torch.Generator().manual_seed(0))]
        self._kept.append(values.cpu().numpy())


def rounded(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """x on the grid of 256 numbers from low to high; gradients are 1 inside the range and 0 outside it."""
    scale = (high - low) / STEPS
    zero = torch.clamp(torch.round(-low / scale), 0, STEPS).to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, STEPS)


def least_error_range(values: NDArray[np.float32], low: float, high: float) -> tuple[float, float]:
    """The part of [low, high] that 256 steps represent `values` in with the least mean square error (clipping included).

    One value in ten thousand at either end does not count: however far out it lies, training learns to do without it. The shares
    are tried for each end in turn. low <= 0 <= high is kept.
    """
    ends = np.quantile(values, (RARE, 1 - RARE))
    low, high = max(min(low, 0.0), min(float(ends[0]), 0.0)), min(max(high, 0.0), max(float(ends[1]), 0.0))
    values = np.clip(values, low, high)
    for _ in range(2):
        high = min((high * share for share in SHARES), key=lambda end: _error(values, low, end)) if high > 0 else high
        low = min((low * share for share in SHARES), key=lambda end: _error(values, end, high)) if low < 0 else low
    return low, high


def _error(values: NDArray[np.float32], low: float, high: float) -> float:
    scale = max((high - low) / STEPS, 1e-12)
    zero = round(-low / scale)
    on_grid = (np.clip(np.round(values / scale) + zero, 0, STEPS) - zero) * scale
    return float(np.mean((values - on_grid) ** 2, dtype=np.float64))


class RoundedWeight(nn.Module):
    """A parametrization: the weight as int8 holds it, one scale for each output channel (axis 0)."""

    def __init__(self) -> None:
        super().__init__()
        self.active = True

    def forward(self, weight: Tensor) -> Tensor:
        return rounded_weight(weight) if self.active else weight


def rounded_weight(weight: Tensor) -> Tensor:
    """Symmetric int8 per output channel, with gradients as if it were not rounded."""
    scale = (weight.detach().abs().flatten(1).amax(1) / 127).clamp_(min=1e-12)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -127, 127)


def prepare(network: fx.GraphModule, example: Tensor) -> dict[str, ActivationRange]:
    """Puts a range behind the input and every activation that an int8 runtime rounds, and a rounding on every weight, in place.

    example: a small input of the network, which tells which values are tensors. Returns the ranges by their module names,
    that of the input first.
    """
    floats = _float_tensors(network, example)
    wanted = [node for node in network.graph.nodes if node.name in floats and _is_rounded(network, node)]
    ranges: dict[str, ActivationRange] = {}
    for node in wanted:
        name = f"range_{node.name}"
        ranges[name] = ActivationRange()
        network.add_submodule(name, ranges[name])
        with network.graph.inserting_after(node):
            made = network.graph.call_module(name)
        node.replace_all_uses_with(made)
        made.args = (node,)
    network.graph.lint()
    network.recompile()
    for layer in weighted_layers(network).values():
        parametrize.register_parametrization(layer, "weight", RoundedWeight())
    return ranges


def finish(network: fx.GraphModule, *, slack: float) -> None:
    """Makes a plain float network of a prepared one, in place: the weights as rounded, and bounds only where they matter.

    A range stays in the graph, as a clamp, where values beyond `slack` times its width were seen since; else it is taken out, and
    a conversion that measures ranges on examples finds nearly the same one.
    """
    for layer in weighted_layers(network).values():
        if parametrize.is_parametrized(layer):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    for node in list(network.graph.nodes):
        found = layer_of(network, node)
        if isinstance(found, ActivationRange):
            _bound_or_remove(network, node, found, slack)
    network.graph.lint()
    network.recompile()
    network.delete_all_unused_submodules()


class Bound(nn.Module):
    """Keeps values between two numbers."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp(x, self.low, self.high)


def set_state(ranges: dict[str, ActivationRange], state: str) -> None:
    """Sets what all ranges do."""
    for each in ranges.values():
        each.state = state


def _bound_or_remove(network: fx.GraphModule, node: fx.Node, found: ActivationRange, slack: float) -> None:
    low, high = float(found.low), float(found.high)
    width = high - low
    within = found.observed[0] >= low - (slack - 1) * width and found.observed[1] <= high + (slack - 1) * width
    if within or found.fixed:
        node.replace_all_uses_with(cast(fx.Node, node.args[0]))
        network.graph.erase_node(node)
        return
    setattr(network, str(node.target), Bound(low, high))


class _Recorder(fx.Interpreter):
    """Notes which nodes give a float tensor."""

    def __init__(self, network: fx.GraphModule) -> None:
        super().__init__(network)
        self.floats: set[str] = set()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 2 and n.op not in ("get_attr", "output"):
            self.floats.add(n.name)
        return value


def _float_tensors(network: fx.GraphModule, example: Tensor) -> set[str]:
    recorder = _Recorder(network)
    with torch.no_grad():
        recorder.run(example)
    return recorder.floats


def _is_rounded(network: fx.GraphModule, node: fx.Node) -> bool:
    """Not where values only move, nor where a runtime computes a layer and its clip in one step."""
    if node.op == "placeholder":
        return True
    if _operation(node) in _SAME_VALUES or isinstance(layer_of(network, node), _SAME_LAYERS):
        return False
    users = list(node.users)
    return not (len(users) == 1 and is_clip(network, users[0]))


def is_clip(network: nn.Module, node: fx.Node) -> bool:
    """Whether a node only cuts values off, which a runtime does as part of the layer before it."""
    return isinstance(layer_of(network, node), _CLIPS) or _operation(node) in _CLIP_NAMES


def _operation(node: fx.Node) -> str:
    if node.op == "call_method":
        return str(node.target)
    return str(getattr(node.target, "__name__", "")) if node.op == "call_function" else ""
