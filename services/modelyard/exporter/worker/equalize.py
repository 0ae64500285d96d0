"""Cross-layer equalization: channels between layers are rescaled so that the weights on both sides have the same ranges.

After Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction" (https://arxiv.org/abs/1906.04721),
there for two layers in a row; here also for what several layers add up and several take, as around a residual block. What lies
between must let a positive factor through (ReLU, means, sums, nothing): then the network answers as before, but no channel is far
larger than the others, which one scale for a whole tensor would have to pay for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, cast

import torch
from torch import Tensor, fx, nn

from modelyard.exporter.worker.fold import WEIGHTED, called_once, folded, layer_of
from modelyard.recipes.build_image import ServedImageModel

PASSES: Final = 20
CALM: Final = 1.01
"""A pass in which no factor is above this is the last."""
LARGEST_FACTOR: Final = 1e6

_LAYERS: Final = (nn.ReLU, nn.Identity, nn.Dropout, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten)
_NAMES: Final = {"relu", "relu_", "mean", "adaptive_avg_pool2d", "avg_pool2d", "max_pool2d", "flatten"}
"""What passes a positive factor of a channel on unchanged."""
_SUMS: Final = {"add", "add_", "iadd"}


@dataclass(eq=False)
class Channels:
    """Channels that share their factors: the layers that make them and those that take them. open: others take them too."""

    makers: list[nn.Module] = field(default_factory=list)
    takers: list[nn.Module] = field(default_factory=list)
    open: bool = False


def equalized(model: ServedImageModel) -> ServedImageModel:
    """A folded copy of a served model with equalized channels; it answers as the model did, to rounding.

    Raises FailedPrecondition NOT_TRACEABLE.
    """
    copy = folded(model)
    groups = channel_groups(cast(fx.GraphModule, copy.module))
    with torch.no_grad():
        for _ in range(PASSES):
            if max((_equalize(group) for group in groups), default=1.0) < CALM:
                break
    return copy


def channel_groups(network: fx.GraphModule) -> list[Channels]:
    """The groups whose channels may be rescaled: closed, with layers on both sides that agree on the number of channels."""
    found: dict[fx.Node, Channels] = {}
    groups: list[Channels] = []
    for node in network.graph.nodes:
        inputs = [found[each] for each in node.all_input_nodes]
        layer = layer_of(network, node)
        if isinstance(layer, WEIGHTED) and _is_plain_or_depthwise(layer) and called_once(node):
            inputs[0].takers.append(layer)
            found[node] = Channels(makers=[layer])
        elif _passes(node, layer, inputs):
            found[node] = _merged(inputs, groups, found)
        else:
            for each in inputs:
                each.open = True
            found[node] = Channels(open=True)
        if found[node] not in groups:
            groups.append(found[node])
    return [each for each in groups if _is_closed(each)]


def _passes(node: fx.Node, layer: nn.Module | None, inputs: list[Channels]) -> bool:
    """Whether a factor on all inputs comes out as the same factor."""
    name = str(node.target) if node.op == "call_method" else str(getattr(node.target, "__name__", ""))
    if name in _SUMS and node.op != "call_module":
        return len(inputs) == 2 == len(node.args)
    return len(inputs) == 1 and (isinstance(layer, _LAYERS) or (node.op != "call_module" and name in _NAMES))


def _merged(inputs: list[Channels], groups: list[Channels], found: dict[fx.Node, Channels]) -> Channels:
    """What is added up shares its factors."""
    first = inputs[0]
    for other in inputs[1:]:
        if other is first:
            continue
        first.makers += other.makers
        first.takers += other.takers
        first.open = first.open or other.open
        groups.remove(other)
        for node, group in found.items():
            if group is other:
                found[node] = first
    return first


def _is_closed(group: Channels) -> bool:
    sizes = {len(_weight(each)) for each in group.makers} | {_inputs(each) for each in group.takers}
    return not group.open and bool(group.makers) and bool(group.takers) and len(sizes) == 1


def _is_plain_or_depthwise(layer: nn.Module) -> bool:
    return not isinstance(layer, nn.Conv2d) or layer.groups == 1 or _is_depthwise(layer)


def _is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels > 1


def _weight(layer: nn.Module) -> Tensor:
    return cast(Tensor, layer.weight)


def _inputs(layer: nn.Module) -> int:
    return layer.in_channels if isinstance(layer, nn.Conv2d) else cast(nn.Linear, layer).in_features


def _input_axis(layer: nn.Module) -> int:
    """The axis of the weight along which its input channels lie: a depthwise layer's input channels are its output channels."""
    return 0 if _is_depthwise(layer) else 1


def _equalize(group: Channels) -> float:
    """Gives both sides the same range in each channel; the largest factor that was needed."""
    made = _largest(_ranges(_weight(each), 0) for each in group.makers)
    taken = _largest(_ranges(_weight(each), _input_axis(each)) for each in group.takers)
    usable = (made > 0) & (taken > 0)
    ratio = torch.where(usable, made / taken.clamp(min=1e-30), torch.ones_like(made))
    factor = ratio.sqrt().clamp_(1 / LARGEST_FACTOR, LARGEST_FACTOR)
    for maker in group.makers:
        _weight(maker).div_(_along(factor, _weight(maker), 0))
        if maker.bias is not None:
            cast(Tensor, maker.bias).div_(factor)
    for taker in group.takers:
        _weight(taker).mul_(_along(factor, _weight(taker), _input_axis(taker)))
    return float(torch.maximum(factor, 1 / factor).max())


def _largest(ranges: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(ranges)).amax(0)


def _ranges(weight: Tensor, axis: int) -> Tensor:
    """The largest absolute weight of each channel along an axis."""
    return weight.abs().transpose(0, axis).flatten(1).amax(1)


def _along(values: Tensor, weight: Tensor, axis: int) -> Tensor:
    shape = [1] * weight.ndim
    shape[axis] = -1
    return values.reshape(shape)
