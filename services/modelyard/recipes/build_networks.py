"""Our own small networks (torch), for pictures too small for the networks of timm and for CPUs.

`tinynet`, `smallnet` and `micronet` are plain residual networks (He et al. 2015, https://arxiv.org/abs/1512.03385) of 3x3
convolutions: on a CPU these reach a far larger part of the processor's speed than depthwise ones. The work happens on maps of
about 14x14 pixels whatever the input: larger pictures are halved more often at the start.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

WIDTHS = {"tinynet": (24, 64, 128), "smallnet": (24, 48, 80), "micronet": (16, 32, 64)}
"""Channels of the three stages by name."""

KEYWORD_WIDTHS = {"dscnn": (64, 4), "dscnn_micro": (32, 4)}
"""Networks for keyword spotting by name: channels, depthwise separable convolutions."""

NAMES = (*WIDTHS, *KEYWORD_WIDTHS)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions whose result is added to their input; [N, C, H, W] in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        nn.init.zeros_(cast(nn.BatchNorm2d, self.second[1]).weight)  # starts as the identity: stable at high learning rates

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + cast(Tensor, self.second(self.first(x))))


class SmallResidualNetwork(nn.Module):
    """Stem, three stages (the first two with a residual block), global mean, linear head. [N, C, H, W] to logits [N, classes]."""

    def __init__(self, widths: tuple[int, int, int], *, classes: int, channels: int, side: int) -> None:
        super().__init__()
        first, second, third = widths
        self.features = nn.Sequential(
            *_stem(channels, first, side),
            ResidualBlock(first),
            _convolution(first, second, stride=2),
            ResidualBlock(second),
            _convolution(second, third, stride=2),
        )
        self.head = nn.Linear(third, classes)

    def get_classifier(self) -> nn.Module:
        """The last layer, by timm's name for it."""
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.features(x).mean((2, 3))))


class KeywordNetwork(nn.Module):
    """DS-CNN of Zhang et al. 2017 (https://arxiv.org/abs/1711.07128), small: a convolution over the spectrogram, four depthwise
    separable ones, global mean, linear head. [N, C, H, W] to logits [N, classes]."""

    def __init__(self, *, classes: int, channels: int, width: int = 64, blocks: int = 4) -> None:
        super().__init__()
        first = nn.Conv2d(channels, width, (10, 4), stride=2, padding=(4, 1), bias=False)
        layers: list[nn.Module] = [first, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        for _ in range(blocks):
            layers += [
                nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(width, classes)

    def get_classifier(self) -> nn.Module:
        """The last layer, by timm's name for it."""
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.features(x).mean((2, 3))))


def build_small_network(name: str, *, classes: int, channels: int, height: int, width: int) -> nn.Module:
    """The network of that name, one of NAMES, with random weights."""
    if name in KEYWORD_WIDTHS:
        channels_inside, blocks = KEYWORD_WIDTHS[name]
        return KeywordNetwork(classes=classes, channels=channels, width=channels_inside, blocks=blocks)
    return SmallResidualNetwork(WIDTHS[name], classes=classes, channels=channels, side=max(height, width))


def _stem(channels: int, width: int, side: int) -> list[nn.Module]:
    """Convolutions that halve the picture until at most about 20 pixels are left; the first one takes the picture's channels."""
    layers = [_convolution(channels, width, stride=2 if side > 20 else 1)]
    side = (side + 1) // 2 if side > 20 else side
    while side > 20:
        layers.append(_convolution(width, width, stride=2))
        side = (side + 1) // 2
    return list(layers)


def _convolution(inputs: int, outputs: int, *, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
