"""Which layers cost most when they are computed in 8 bits: found by rounding all of them but one, in torch, on a few pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import torch
from torch import Tensor, fx, nn

from modelyard.exporter.worker.fake_quantize import ActivationRange, RoundedWeight, prepare, set_state
from modelyard.exporter.worker.finetune import Examples, logits
from modelyard.exporter.worker.fold import copied, folded, layer_of, scaled_pixels, weighted_layers
from modelyard.exporter.worker.qat import find_ranges
from modelyard.recipes.build_image import ServedImageModel

ASKED: Final = 64
"""Pictures on which the error is measured."""

ENOUGH: Final = 0.25
"""Layers are left in float until this part of the squared error is left."""

MOST_LAYERS: Final = 0.3
"""Largest share of the layers that is left in float: with more of them the model is hardly smaller any more."""


def layers_that_hurt(model: ServedImageModel, train: Examples, *, seed: int = 0) -> tuple[str, ...]:
    """Names of the layers (as in the network's named_modules) that are best left in float, the worst first.

    The error is the mean square difference of the logits from the float ones. Raises FailedPrecondition NOT_TRACEABLE.
    """
    rounded = folded(copied(model))
    network = cast(fx.GraphModule, rounded.module)
    pictures = torch.from_numpy(train.pictures[:ASKED])
    with torch.no_grad():
        truth = logits(rounded, pictures)
    ranges = prepare(network, scaled_pixels(rounded, pictures[:2]))
    find_ranges(rounded, ranges, train, seed)
    set_state(ranges, ActivationRange.ROUND)
    names = list(weighted_layers(network))
    behind = _ranges_behind(network)

    def error() -> float:
        with torch.no_grad():
            return float(((logits(rounded, pictures) - truth) ** 2).mean())

    whole = error()
    alone = {name: _with_float(network, behind, (name,), error) for name in names}
    ranked = sorted(names, key=lambda name: alone[name])
    for count in range(1, max(1, int(MOST_LAYERS * len(names))) + 1):
        if _with_float(network, behind, tuple(ranked[:count]), error) <= ENOUGH * whole:
            return tuple(ranked[:count])
    return tuple(ranked[: max(1, int(MOST_LAYERS * len(names)))])


def _ranges_behind(network: fx.GraphModule) -> dict[str, ActivationRange]:
    """The range that rounds what a layer answers, behind the clip that belongs to it."""
    found: dict[str, ActivationRange] = {}
    for node in network.graph.nodes:
        after = node
        while node.op == "call_module" and len(after.users) == 1 and not isinstance(layer_of(network, after), ActivationRange):
            after = next(iter(after.users))
        last = layer_of(network, after)
        if isinstance(last, ActivationRange):
            found[str(node.target)] = last
    return found


def _with_float(
    network: nn.Module, behind: dict[str, ActivationRange], names: tuple[str, ...], error: Callable[[], float]
) -> float:
    """The error with some layers left in float."""
    weights = [_rounding_of(network.get_submodule(name)) for name in names]
    ranges = [behind[name] for name in names if name in behind]
    for weight in weights:
        weight.active = False
    for each in ranges:
        each.state = ActivationRange.PASS
    value = error()
    for weight in weights:
        weight.active = True
    for each in ranges:
        each.state = ActivationRange.ROUND
    return value


def _rounding_of(layer: nn.Module) -> RoundedWeight:
    return cast(RoundedWeight, cast("dict[str, list[Tensor]]", layer.parametrizations)["weight"][0])
