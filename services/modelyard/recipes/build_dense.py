"""Networks whose answer is a map (torch): an encoder, a decoder that brings its detail back, and a head. For boxes, masks,
points.

The encoder is any of timm's that gives features of several strides, or one of ours; the decoder adds what a deeper level knows to
the level above it, from the deepest up to the wanted stride (Lin et al. 2017, https://arxiv.org/abs/1612.03144).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from modelyard.core.errors import InvalidArgument
from modelyard.recipes.build_image import build, has_imagenet, imagenet_state, load_matching
from modelyard.recipes.build_networks import ResidualBlock

ENCODERS = {"pyramid": (24, 48, 96, 128, 160), "pyramid_micro": (12, 24, 40, 56, 64)}
"""Our own encoders: channels at strides 2, 4, 8, 16, 32."""

MULTIPLE = 32
"""Inputs are multiples of this many pixels, so that every level has half the size of the one above it."""


class PlainEncoder(nn.Module):
    """Five levels, each half the size of the one before, a residual block in all but the first. [N, C, H, W] to five maps."""

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        levels = []
        before = channels
        for number, width in enumerate(widths):
            steps: list[nn.Module] = [convolution(before, width, stride=2)]
            if number:
                steps.append(ResidualBlock(width))
            levels.append(nn.Sequential(*steps))
            before = width
        self.levels = nn.ModuleList(levels)

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for level in self.levels:
            x = level(x)
            found.append(x)
        return found


class DenseNetwork(nn.Module):
    """float [N, C, H, W] to [N, outputs, H / stride, W / stride]; H and W multiples of 32."""

    def __init__(
        self, encoder: nn.Module, widths: Sequence[int], strides: Sequence[int], *, outputs: int, stride: int, width: int
    ) -> None:
        super().__init__()
        used = [place for place, each in enumerate(strides) if each >= stride]
        self.encoder = encoder
        self.used = used
        self.laterals = nn.ModuleList([nn.Conv2d(widths[place], width, 1, bias=False) for place in used])
        self.norms = nn.ModuleList([nn.BatchNorm2d(width) for _ in used])
        self.smooth = nn.ModuleList([separable(width, width) for _ in used[:-1]])
        self.head = nn.Sequential(separable(width, width), nn.Conv2d(width, outputs, 1))

    def get_classifier(self) -> nn.Module:
        """All but the encoder, by timm's name for what does not come with pretrained weights."""
        return nn.ModuleList([self.laterals, self.norms, self.smooth, self.head])

    @property
    def last(self) -> nn.Conv2d:
        """The layer that gives the answers."""
        return cast(nn.Conv2d, self.head[1])

    def forward(self, x: Tensor) -> Tensor:
        levels = self.encoder(x)
        y = cast(Tensor, self.norms[-1](self.laterals[-1](levels[self.used[-1]])))
        for place in range(len(self.used) - 2, -1, -1):
            larger = nn.functional.interpolate(y, scale_factor=2.0, mode="nearest")
            y = self.norms[place](self.laterals[place](levels[self.used[place]])) + larger
            y = self.smooth[place](torch.relu(y))
        return cast(Tensor, self.head(y))


def build_dense(architecture: str, *, outputs: int, channels: int, stride: int, width: int, weights: str = "") -> DenseNetwork:
    """A network on the encoder `timm:NAME` or `modelyard:NAME` (ENCODERS), with random weights, or ImageNet's where there are
    some.

    Raises InvalidArgument UNKNOWN_ARCHITECTURE.
    """
    encoder, widths, strides = _encoder(architecture, channels)
    if weights == "imagenet" and has_imagenet(architecture):
        whole = build(architecture, classes=2, channels=channels, height=MULTIPLE, width=MULTIPLE)
        load_matching(encoder, imagenet_state(whole, channels))
    return DenseNetwork(encoder, widths, strides, outputs=outputs, stride=stride, width=width)


def convolution(inputs: int, outputs: int, *, stride: int = 1) -> nn.Module:
    """3x3, batch norm, ReLU."""
    layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def separable(inputs: int, outputs: int) -> nn.Module:
    """5x5 for each channel alone, then 1x1 over all: a wide view for little work."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 5, padding=2, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _encoder(architecture: str, channels: int) -> tuple[nn.Module, list[int], list[int]]:
    origin, _, name = architecture.partition(":")
    if origin == "modelyard" and name in ENCODERS:
        widths = ENCODERS[name]
        return PlainEncoder(widths, channels), list(widths), [2 ** (each + 1) for each in range(len(widths))]
    if origin == "timm":
        import timm

        if name in timm.list_models():
            try:
                network: Any = timm.create_model(name, pretrained=False, features_only=True, in_chans=channels)
                return network, list(network.feature_info.channels()), list(network.feature_info.reduction())
            except (RuntimeError, AssertionError, AttributeError, TypeError):
                pass  # a network without levels, such as a transformer of one size
    ours = ", ".join(f"modelyard:{each}" for each in ENCODERS)
    message = f"architecture is {architecture!r}; {ours}, or timm: with the name of a network of timm with features is right"
    raise InvalidArgument("UNKNOWN_ARCHITECTURE", message, field="recipe.architecture", value=architecture)
