"""The running mean of a network's weights: what is validated and kept, while the weights themselves go on being trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Average = dict[str, Tensor]


def start_average(module: nn.Module) -> Average:
    """The mean at its start: a copy of every parameter and buffer."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def update_average(average: Average, module: nn.Module, decay: float, step: int) -> None:
    """Takes in the weights after a step. The decay rises from 0.2 to the given one, so that the start is soon forgotten."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    state = module.state_dict()
    floats = [name for name, value in state.items() if value.dtype.is_floating_point]
    torch._foreach_lerp_([average[name] for name in floats], [state[name].detach() for name in floats], share)
    for name in state.keys() - set(floats):
        average[name].copy_(state[name])


@contextmanager
def averaged(module: nn.Module, average: Average | None) -> Iterator[None]:
    """The network with the mean for its weights; without one as it is."""
    if average is None:
        yield
        return
    own = start_average(module)
    module.load_state_dict(average)
    try:
        yield
    finally:
        module.load_state_dict(own)
