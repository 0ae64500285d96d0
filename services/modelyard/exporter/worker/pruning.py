"""Leaves out the weights that matter least, and lets the network go on learning without them.

Channels: whole output channels of layers with everything that depends on them (torch-pruning's dependency graph, Fang et al.
2023, https://arxiv.org/abs/2301.12900), by the norm of their weights: the network becomes smaller and faster in every runtime.
Weights: the single weights of the smallest magnitude become zero over all layers together, more and more during the first half of
the training (Zhu and Gupta 2017, https://arxiv.org/abs/1710.01878): the file packs smaller, the speed stays.
"""

from __future__ import annotations

import zlib
from typing import Final, cast

import torch
from torch import Tensor, nn

from modelyard.core.errors import FailedPrecondition
from modelyard.exporter.worker.convert import check_weights
from modelyard.exporter.worker.finetune import Budget, Examples, Listener, check_examples, finetune
from modelyard.exporter.worker.fold import copied, scaled_pixels, weighted_layers
from modelyard.recipes.build_image import ServedImageModel

ROUND_TO: Final = 4
"""Channels are kept in multiples of this: runtimes compute several at once."""

LEARNING_RATE: Final = 1e-3


def prune_channels(
    model: ServedImageModel, train: Examples, share: float, budget: Budget, listener: Listener | None = None
) -> ServedImageModel:
    """A copy without the least important `share` (0 to 0.9) of each layer's channels, trained on towards the answers of `model`.

    Raises FailedPrecondition BAD_WEIGHTS, NOT_PRUNABLE where the dependencies between its layers cannot be followed, and what
    `finetune` raises.
    """
    check_examples(train)
    check_weights(model)
    student = copied(model)
    _cut(student, scaled_pixels(student, torch.from_numpy(train.pictures[:1])), share)
    student.train()
    finetune(student, model, train, budget, listener or Listener(), learning_rate=LEARNING_RATE)
    return student.eval()


def prune_weights(
    model: ServedImageModel, train: Examples, share: float, budget: Budget, listener: Listener | None = None
) -> ServedImageModel:
    """A copy in which a `share` (0 to 0.99) of the weights of convolutions and linear layers is zero, trained on likewise.

    Raises FailedPrecondition BAD_WEIGHTS, and what `finetune` raises.
    """
    check_weights(model)
    student = copied(model).train()
    weights = [cast(Tensor, layer.weight) for layer in weighted_layers(student.module).values()]

    def thin(step: int, planned: int) -> None:
        zero_smallest(weights, share * ramp(2 * step / max(planned, 1)))

    finetune(student, model, train, budget, listener or Listener(), learning_rate=LEARNING_RATE, after_step=thin)
    zero_smallest(weights, share)
    return student.eval()


def zero_smallest(weights: list[Tensor], share: float) -> None:
    """Sets the smallest `share` of all weights together to zero, in place."""
    magnitudes = torch.cat([weight.detach().abs().flatten() for weight in weights])
    count = int(share * len(magnitudes))
    if not count:
        return
    limit = torch.kthvalue(magnitudes, count).values
    with torch.no_grad():
        for weight in weights:
            weight.mul_(weight.abs() > limit)


def ramp(share: float) -> float:
    """How much of the pruning is done at a share of the time (1 and above: all of it): fast at first, then slower."""
    return 1.0 - max(0.0, 1.0 - share) ** 3


def zero_share(model: ServedImageModel) -> float:
    """Share of the weights of convolutions and linear layers that are zero."""
    weights = [cast(Tensor, layer.weight) for layer in weighted_layers(model.module).values()]
    return sum(int((weight == 0).sum()) for weight in weights) / max(1, sum(weight.numel() for weight in weights))


def packed_size(data: bytes) -> int:
    """Bytes of a model file as a zlib stream: what it takes to store or send it."""
    return len(zlib.compress(data, 6))


def _cut(model: ServedImageModel, example: Tensor, share: float) -> None:
    import torch_pruning

    try:
        pruner = torch_pruning.pruner.BasePruner(
            model.module,
            example,
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=share,
            ignored_layers=_heads(model.module),
            round_to=ROUND_TO,
        )
        pruner.step()
        with torch.no_grad():
            model.eval().module(example)
    except Exception as error:  # whatever the network makes of missing channels
        message = f"channels of {type(model.module).__name__} cannot be pruned: {str(error)[:300]}"
        raise FailedPrecondition("NOT_PRUNABLE", message, network=type(model.module).__name__) from error


def _heads(network: nn.Module) -> list[nn.Module]:
    """The layer that gives the logits keeps its outputs: they are the classes."""
    return list(weighted_layers(network).values())[-1:]
