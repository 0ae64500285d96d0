"""The optimizer of a run: which parameters it moves, how fast, and with how much decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from modelyard.recipes.build_image import classifier_of
from modelyard.recipes.recipe import Hyperparameters


def freeze(module: nn.Module, share: float) -> list[nn.Module]:
    """Fixes the first `share` (0 to 0.95) of the layers that have parameters; returns them, to be kept in eval mode.

    Their statistics must stay as loaded too, and nothing is computed backwards below them: that is where the time goes.
    """
    head = set(classifier_of(module).modules())
    layers = [each for each in module.modules() if any(True for _ in each.parameters(recurse=False)) and each not in head]
    frozen = layers[: int(len(layers) * share)]
    for layer in frozen:
        layer.requires_grad_(False)
    return frozen


def build_optimizer(module: nn.Module, settings: Hyperparameters) -> torch.optim.Optimizer:
    """The optimizer over all parameters that are not frozen. Each group's `lr_scale` is its factor on the learning rate.

    Weight decay applies to weights of two or more dimensions only (not to biases, nor to the scales of norms).
    """
    head = {id(parameter) for parameter in classifier_of(module).parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in head, parameter.ndim >= 2), []).append(parameter)
    described = [_group(settings, in_head, decays, parameters) for (in_head, decays), parameters in groups.items()]
    return _create(described, settings)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float, momentum: float | None = None) -> None:
    """Sets the learning rate of every group, scaled as the group wants, and where given the momentum (beta1)."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
        if momentum is None:
            continue
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[int, dict[str, Any]]) -> None:
    """Gives an optimizer the moments of an earlier one of the same kind; its settings stay the new ones."""
    document = optimizer.state_dict()
    document["state"] = state
    optimizer.load_state_dict(document)
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                # Fused optimizers walk parameter and moments in memory order, so these must lie as the parameter does.
                values[key] = torch.empty_like(parameter).copy_(value)


def _group(settings: Hyperparameters, in_head: bool, decays: bool, parameters: list[nn.Parameter]) -> dict[str, Any]:
    scale = 1.0 if in_head else settings.backbone_lr
    return {"params": parameters, "lr_scale": scale, "weight_decay": settings.weight_decay if decays else 0.0}


def _create(groups: list[dict[str, Any]], settings: Hyperparameters) -> torch.optim.Optimizer:
    rate, momentum, betas = settings.base_lr, settings.momentum, (settings.momentum, settings.beta2)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=True)
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate, betas=betas, fused=True)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate, momentum=momentum)
    return torch.optim.NAdam(groups, lr=rate, betas=betas, decoupled_weight_decay=True)
