"""Quantization-aware training: a float network that stays right when its weights and activations become 8-bit integers.

The result is a plain float network whose weights already lie on the integer grid and whose ranges are bounded inside the graph,
so that an ordinary conversion after training, to whatever format, finds the ranges that were trained with.
docs/decisions/0010-qat.md says why this and not a converter's own quantization-aware training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import numpy as np
import torch
from torch import fx, nn

from modelyard.exporter.worker.convert import check_weights
from modelyard.exporter.worker.equalize import equalized
from modelyard.exporter.worker.fake_quantize import ActivationRange, finish, prepare, set_state
from modelyard.exporter.worker.finetune import Budget, Examples, Listener, check_examples, finetune
from modelyard.exporter.worker.fold import scaled_pixels, weighted_layers
from modelyard.recipes.build_image import ServedImageModel

WATCHED: Final = 512
"""Training pictures on which ranges are found."""

SLACK: Final = 1.5
"""A range that examples exceed by less than half needs no bound in the graph: it costs at most 0.6 of the 8 bits."""

LEARNING_RATE: Final = 3e-4


def quantization_aware(
    model: ServedImageModel,
    train: Examples,
    *,
    seconds: float,
    seed: int = 0,
    steps: int = 1500,
    on_progress: Callable[[float, float], None] = lambda fraction, eta_s: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> ServedImageModel:
    """A float model for int8 conversion, trained for at most `seconds` and `steps` from the weights of `model`.

    `model` stays as it is. The result's network is a `torch.fx.GraphModule`: batch norms folded, channels equalized, weights
    rounded per output channel. Raises FailedPrecondition BAD_WEIGHTS, NOT_TRACEABLE,
    NO_TRAINING_EXAMPLES or DIVERGED, and Cancelled.
    """
    check_examples(train)
    check_weights(model)
    student = equalized(model)
    network = cast(fx.GraphModule, student.module)
    keep_zeros = _zero_keeper(network)
    ranges = prepare(network, _input(student, train, 2))
    _fix_input(student, ranges)
    find_ranges(student, ranges, train, seed)
    set_state(ranges, ActivationRange.ROUND)
    budget = Budget(seconds, steps, seed)

    def renew(step: int, planned: int) -> None:
        keep_zeros()
        if step in (planned // 4, planned // 2):  # the weights have moved; in the second half the ranges stay as they are
            find_ranges(student, ranges, train, seed + step)
            set_state(ranges, ActivationRange.ROUND)

    finetune(student, model, train, budget, Listener(on_progress, should_stop), learning_rate=LEARNING_RATE, after_step=renew)
    _watch(student, ranges, train, seed)
    finish(network, slack=SLACK)
    return student


def _zero_keeper(network: fx.GraphModule) -> Callable[[], None]:
    """What sets the weights that are zero now to zero again: those that pruning left out stay out."""
    weights = [cast(nn.Parameter, layer.weight) for layer in weighted_layers(network).values()]
    kept = [(weight, weight != 0) for weight in weights if not bool((weight != 0).all())]

    def keep() -> None:
        with torch.no_grad():
            for weight, mask in kept:
                weight.mul_(mask)

    return keep


def find_ranges(model: ServedImageModel, ranges: dict[str, ActivationRange], train: Examples, seed: int) -> None:
    """Sets every range by the least mean square error on training pictures."""
    _watch(model, ranges, train, seed)
    for each in ranges.values():
        each.choose()


def _watch(model: ServedImageModel, ranges: dict[str, ActivationRange], train: Examples, seed: int) -> None:
    for each in ranges.values():
        each.observed = (0.0, 0.0)
    set_state(ranges, ActivationRange.WATCH)
    chosen = np.random.default_rng(seed).permutation(len(train))[:WATCHED]
    with torch.no_grad():
        for start in range(0, len(chosen), 64):
            model(torch.from_numpy(train.pictures[np.sort(chosen)[start : start + 64]]))
    set_state(ranges, ActivationRange.PASS)


def _input(model: ServedImageModel, train: Examples, count: int) -> torch.Tensor:
    return scaled_pixels(model, torch.from_numpy(train.pictures[:count]))


def _fix_input(model: ServedImageModel, ranges: dict[str, ActivationRange]) -> None:
    """The range of the input follows from the pixels: 0 to 255."""
    ends = torch.stack([model.shift, model.scale * 255 + model.shift])
    first = next(iter(ranges.values()))
    first.set(float(ends.min()), float(ends.max()))
    first.fixed = True
