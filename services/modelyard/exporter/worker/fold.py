"""The network of a served model as a graph (torch.fx) with its batch norms folded into the convolutions before them.

What comes out answers as the network did in evaluation, to rounding. It is what equalization and quantization-aware training work
on: a chain of convolutions, additions and activations whose values are the ones that an integer runtime rounds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final, cast

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from modelyard.core.errors import FailedPrecondition
from modelyard.recipes.build_image import ServedImageModel

WEIGHTED: Final = (nn.Conv2d, nn.Linear)
"""Layers whose weights an integer runtime holds as integers."""


def folded(model: ServedImageModel) -> ServedImageModel:
    """A copy of a served model whose network is a `torch.fx.GraphModule` without foldable batch norms, in evaluation mode.

    Layers keep their names. Raises FailedPrecondition NOT_TRACEABLE where the network's forward depends on the values it sees.
    """
    network = _traced(copy.deepcopy(model.module).eval())
    for node in list(network.graph.nodes):
        _fold_norm(network, node)
    network.graph.lint()
    network.recompile()
    network.delete_all_unused_submodules()
    return with_network(model, network)


def with_network(model: ServedImageModel, network: nn.Module) -> ServedImageModel:
    """The same scaling of pixels and softmax around another network."""
    served = copy.copy(model)
    served._modules = {"module": network}
    served._buffers = {name: value.clone() for name, value in model.named_buffers(recurse=False)}
    return served.eval()


def copied(model: ServedImageModel) -> ServedImageModel:
    """A copy that shares nothing with the model."""
    return with_network(model, copy.deepcopy(model.module))


def scaled_pixels(model: ServedImageModel, pictures: Tensor) -> Tensor:
    """uint8 [N, H, W, C] as the network takes them: float [N, C, H, W]."""
    return pictures.permute(0, 3, 1, 2).to(model.scale.dtype) * model.scale + model.shift


def layer_of(network: nn.Module, node: fx.Node) -> nn.Module | None:
    """The module that a node calls; None for functions and methods."""
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def called_once(node: fx.Node) -> bool:
    """Whether the module of a node is called at no other place: only then may its weights be changed to suit that place."""
    calls = [each for each in node.graph.nodes if each.op == "call_module" and each.target == node.target]
    return len(calls) == 1


def weighted_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Convolutions and linear layers by name, in the order of the network."""
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, WEIGHTED)}


class _Tracer(fx.Tracer):
    """Sees through everything but the layers whose weights or statistics matter as a whole (timm has its own kinds of them)."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*WEIGHTED, _BatchNorm)) or super().is_leaf_module(m, module_qualified_name)


def _traced(network: nn.Module) -> fx.GraphModule:
    if isinstance(network, fx.GraphModule):
        return network
    try:
        graph = _Tracer().trace(network)
    except Exception as error:  # whatever the network's own code does with a stand-in for a tensor
        message = (
            f"the graph of {type(network).__name__} cannot be followed, which quantization-aware training and equalization need: "
            f"{str(error)[:300]}"
        )
        raise FailedPrecondition("NOT_TRACEABLE", message, network=type(network).__name__) from error
    return fx.GraphModule(network, graph)


def _fold_norm(network: fx.GraphModule, node: fx.Node) -> None:
    """Folds a batch norm into the layer before it, where nothing else uses that layer's answer."""
    norm = layer_of(network, node)
    before = node.args[0] if node.args else None
    if not isinstance(norm, _BatchNorm) or not isinstance(before, fx.Node) or len(before.users) != 1:
        return
    layer = layer_of(network, before)
    if not isinstance(layer, WEIGHTED) or norm.running_mean is None or norm.running_var is None or not called_once(before):
        return
    _absorb(layer, norm, norm.running_mean, norm.running_var)
    _replace_norm(network, node, norm, before)


def _absorb(layer: nn.Module, norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """weight and bias of `layer` such that it answers as the two together."""
    fuse = fuse_conv_bn_weights if isinstance(layer, nn.Conv2d) else fuse_linear_bn_weights
    found = cast(nn.Conv2d, layer)
    scale = torch.ones_like(mean) if norm.weight is None else norm.weight
    shift = torch.zeros_like(mean) if norm.bias is None else norm.bias
    weight, bias = cast("Callable[..., tuple[Tensor, Tensor]]", fuse)(
        found.weight, found.bias, mean, variance, norm.eps, scale, shift
    )
    found.weight, found.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())


def _replace_norm(network: fx.GraphModule, node: fx.Node, norm: _BatchNorm, before: fx.Node) -> None:
    """What is left of the norm: nothing, or the activation that timm's norms carry."""
    activation: Any = getattr(norm, "act", None)
    if activation is None or isinstance(activation, nn.Identity):
        node.replace_all_uses_with(before)
        network.graph.erase_node(node)
        return
    _set_submodule(network, str(node.target), activation)


def _set_submodule(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)
