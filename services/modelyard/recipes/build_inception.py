"""InceptionTime (Ismail Fawaz et al. 2020, https://arxiv.org/abs/1909.04939): a convolutional classifier of series (torch).

Modules of three convolutions of different lengths and a pooled one beside each other, a shortcut around every three, the mean
over time, a linear layer. One network, not the five whose answers the paper averages.
"""

from __future__ import annotations

import copy
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from modelyard.core.errors import InvalidArgument

SIZES: Final = {"modelyard:inception": (6, 32), "modelyard:inception_small": (3, 16)}
"""Modules and filters of each convolution, by architecture."""
LENGTHS: Final = (39, 19, 9)
"""Of the convolutions, in steps; of a series shorter than the longest at most its half."""
AROUND: Final = 3
"""Modules that a shortcut goes around."""


class InceptionModel(nn.Module):
    """float32 [N, steps, channels], NaN where a value is missing, to logits [N, classes]. Values are taken less the training
    data's mean and over their spread, by channel (`measure`)."""

    def __init__(self, steps: int, channels: int, classes: int, *, modules: int, filters: int) -> None:
        super().__init__()
        self.steps = steps
        self.centre: Tensor
        self.scale: Tensor
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))
        width = 4 * filters
        widths = [channels] + [width] * modules
        self.blocks = nn.ModuleList([_Module(each, filters, steps) for each in widths[:-1]])
        self.shortcuts = nn.ModuleList(
            [
                nn.Sequential(nn.Conv1d(widths[place * AROUND], width, 1, bias=False), nn.BatchNorm1d(width))
                for place in range(modules // AROUND)
            ]
        )
        self.head = nn.Linear(width, classes)

    def get_classifier(self) -> nn.Module:
        """The last layer, by timm's name for it."""
        return self.head

    def measure(self, series: npt.NDArray[np.float32]) -> None:
        """Sets mean and spread by training series [N, steps, channels]."""
        known = series.reshape(-1, series.shape[2]).astype(np.float64)
        seen = np.isfinite(known)
        counts = np.maximum(seen.sum(axis=0), 1)
        centre = np.where(seen, known, 0.0).sum(axis=0) / counts
        spread = np.sqrt(np.where(seen, (known - centre) ** 2, 0.0).sum(axis=0) / counts)
        self.centre.copy_(torch.from_numpy(centre.astype(np.float32)))
        self.scale.copy_(torch.from_numpy(np.where(spread > 1e-9, spread, 1.0).astype(np.float32)))

    def forward(self, series: Tensor) -> Tensor:
        x = ((torch.where(torch.isnan(series), self.centre, series) - self.centre) / self.scale).permute(0, 2, 1)
        around = x
        for place, block in enumerate(self.blocks):
            x = block(x)
            if place % AROUND == AROUND - 1:
                x = torch.relu(x + self.shortcuts[place // AROUND](around))
                around = x
        return cast(Tensor, self.head(x.mean(2)))


class _Module(nn.Module):
    """[N, inputs, steps] to [N, 4 * filters, steps]."""

    def __init__(self, inputs: int, filters: int, steps: int) -> None:
        super().__init__()
        self.narrow: nn.Module = nn.Conv1d(inputs, filters, 1, bias=False) if inputs > 1 else nn.Identity()
        lengths = [min(length, max(3, steps // 2) | 1) for length in LENGTHS]
        before = filters if inputs > 1 else inputs
        self.convolutions = nn.ModuleList(
            [nn.Conv1d(before, filters, length, padding=length // 2, bias=False) for length in lengths]
        )
        self.pooled = nn.Sequential(nn.MaxPool1d(3, stride=1, padding=1), nn.Conv1d(inputs, filters, 1, bias=False))
        self.norm: nn.Module = nn.BatchNorm1d(4 * filters)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.narrow(x)
        parts: list[Any] = [each(narrow) for each in self.convolutions]
        return torch.relu(cast(Tensor, self.norm(torch.cat([*parts, self.pooled(x)], 1))))


class ServedInception(nn.Module):
    """As exported: probabilities [N, classes]."""

    def __init__(self, module: InceptionModel) -> None:
        super().__init__()
        self.module = module
        self.steps = module.steps

    def forward(self, series: Tensor) -> Tensor:
        return torch.softmax(cast(Tensor, self.module(series)), dim=1)


def without_norms(model: InceptionModel) -> InceptionModel:
    """A copy for answering alone, whose batch norms are in the convolutions before them: fewer steps, and what integers can
    hold."""
    made = copy.deepcopy(model).eval()
    for block in cast("list[_Module]", list(made.blocks)):
        _fold([*block.convolutions, block.pooled[1]], block.norm)
        block.norm = nn.Identity()
    for place, shortcut in enumerate(cast("list[nn.Sequential]", list(made.shortcuts))):
        _fold([shortcut[0]], shortcut[1])
        made.shortcuts[place] = shortcut[0]
    return made


def _fold(convolutions: list[nn.Module], norm: nn.Module) -> None:
    """Takes a norm of convolutions' results side by side into them: each gets a bias."""
    if not isinstance(norm, nn.BatchNorm1d) or norm.running_mean is None or norm.running_var is None:
        raise AssertionError("a norm with statistics follows")
    at = 0
    for each in cast("list[nn.Conv1d]", convolutions):
        own = slice(at, at + each.out_channels)
        parts = norm.running_mean[own], norm.running_var[own], norm.eps, norm.weight[own], norm.bias[own]
        each.weight, each.bias = fuse_conv_bn_weights(each.weight, each.bias, *parts)
        at = own.stop


def build_inception(architecture: str, *, steps: int, channels: int, classes: int) -> InceptionModel:
    """A network with random weights. Raises InvalidArgument UNKNOWN_ARCHITECTURE."""
    if architecture not in SIZES:
        message = f"architecture is {architecture!r}; {', '.join(SIZES)} is right for a network of series"
        raise InvalidArgument("UNKNOWN_ARCHITECTURE", message, field="recipe.architecture", value=architecture)
    modules, filters = SIZES[architecture]
    return InceptionModel(steps, channels, classes, modules=modules, filters=filters)
