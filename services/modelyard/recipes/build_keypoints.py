"""Networks that find named points of the one object in a picture (torch): by heat maps, or as numbers.

**Heat maps**: a map for each point, over an encoder and decoder of recipes.build_dense. Their softmax over the cells is where the
point may be (Sun et al. 2018, https://arxiv.org/abs/1711.08229); it learns a Gaussian around the true place (Kullback-Leibler
divergence, as Nibali et al. 2018, https://arxiv.org/abs/1801.07372, regularize theirs). The answer is the mean place of what lies
near the peak, which is finer than a cell and does not mind a second, lower hill elsewhere.

**Numbers**: a small residual network whose last map is read as it lies (a mean over it would forget places) by one linear layer.
The smaller and quicker one, and the one whose answers integers bear well.
"""

from __future__ import annotations

from typing import Final, cast

import torch
from torch import Tensor, nn

from modelyard.core.errors import InvalidArgument
from modelyard.recipes.build_dense import ENCODERS, build_dense
from modelyard.recipes.build_image import ServedImageModel
from modelyard.recipes.build_networks import WIDTHS, SmallResidualNetwork

STRIDE: Final = 4
"""Pixels of the input between two cells of a heat map."""
WIDTH: Final = {"modelyard:pyramid_micro": 32}
USUAL_WIDTH: Final = 64
SIGMA: Final = 1.0
"""Standard deviation of the Gaussian that a map learns, in cells."""
NEAR: Final = 2.5
"""Cells around the peak, each way, whose mean place is the answer."""
NUMBERS: Final = {"modelyard:points": "tinynet", "modelyard:points_micro": "micronet"}
"""Architectures that answer numbers, and whose first layers they share."""
READ_CHANNELS: Final = 16
"""Channels of the map that numbers are read from."""
CERTAINTY: Final = 8.0
"""Factor on the number that says how sure a point is: so it has about the range of the places, and one scale in integers suits
both."""


class ServedKeypoints(ServedImageModel):
    """As exported: uint8 [N, H, W, C] in; keypoints float32 [N, K, 3] out: x and y as shares of the picture (0 to 1, from the
    left and from the top) and how sure the point is (0 to 1)."""

    output_names = ("keypoints",)

    def __init__(
        self, module: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], architecture: str, points: int
    ) -> None:
        super().__init__(module, mean, std)
        self.decode = decoder_of(architecture, points)

    def forward(self, image: Tensor) -> Tensor:
        x = image.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale + self.shift
        return cast(Tensor, self.decode(self.module(x)))


def decoder_of(architecture: str, points: int) -> nn.Module:
    """What makes points of what the network of that architecture gives."""
    return NumberDecoder(points) if architecture in NUMBERS else MapDecoder()


class MapDecoder(nn.Module):
    """Heat maps [N, K, h, w] to points [N, K, 3]. Sure is a point whose map has its mass near the peak."""

    def forward(self, maps: Tensor) -> Tensor:
        high, wide = int(maps.shape[2]), int(maps.shape[3])
        heat = torch.softmax(maps.flatten(2), dim=2)
        across = (torch.arange(high * wide, device=maps.device) % wide).to(maps.dtype)
        down = torch.div(torch.arange(high * wide, device=maps.device), wide, rounding_mode="floor").to(maps.dtype)
        peak = (heat >= heat.amax(dim=2, keepdim=True)).to(maps.dtype)
        peaks = peak.sum(dim=2, keepdim=True)
        x = (peak * across).sum(dim=2, keepdim=True) / peaks
        y = (peak * down).sum(dim=2, keepdim=True) / peaks
        near = ((across - x).abs() <= NEAR).to(maps.dtype) * ((down - y).abs() <= NEAR).to(maps.dtype)
        part = heat * near
        mass = part.sum(dim=2).clamp(min=1e-9)
        return torch.stack(
            [((part * across).sum(dim=2) / mass + 0.5) / wide, ((part * down).sum(dim=2) / mass + 0.5) / high, mass], dim=2
        )


class NumberDecoder(nn.Module):
    """Numbers [N, 3K] (places less a half, certainty) to points [N, K, 3]."""

    def __init__(self, points: int) -> None:
        super().__init__()
        self.points = points

    def forward(self, numbers: Tensor) -> Tensor:
        each = numbers.reshape(-1, self.points, 3)
        return torch.cat([(each[..., :2] + 0.5).clamp(0.0, 1.0), torch.sigmoid(each[..., 2:] * CERTAINTY)], dim=2)


class PointNetwork(nn.Module):
    """float [N, C, H, W] to numbers [N, 3K]."""

    def __init__(self, name: str, *, points: int, channels: int, height: int, width: int) -> None:
        super().__init__()
        plain = SmallResidualNetwork(WIDTHS[name], classes=1, channels=channels, side=max(height, width))
        self.features = plain.features
        self.narrow = nn.Sequential(
            nn.Conv2d(WIDTHS[name][2], READ_CHANNELS, 1, bias=False), nn.BatchNorm2d(READ_CHANNELS), nn.ReLU(inplace=True)
        )
        with torch.no_grad():
            cells = self.features.eval()(torch.zeros(1, channels, height, width))[0, 0].numel()
        self.features.train()
        self.head = nn.Linear(READ_CHANNELS * cells, 3 * points)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def get_classifier(self) -> nn.Module:
        """The last layer, by timm's name for it."""
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.narrow(self.features(x)).flatten(1)))


def build_keypoints(architecture: str, *, points: int, channels: int, height: int, width: int, weights: str = "") -> nn.Module:
    """A network for that many points. Raises InvalidArgument UNKNOWN_ARCHITECTURE."""
    if architecture in NUMBERS:
        return PointNetwork(NUMBERS[architecture], points=points, channels=channels, height=height, width=width)
    if architecture.startswith("modelyard:") and architecture.partition(":")[2] not in ENCODERS:
        known = ", ".join([*(f"modelyard:{each}" for each in ENCODERS), *NUMBERS])
        message = f"architecture is {architecture!r}; {known}, or timm: with the name of a network with features is right"
        raise InvalidArgument("UNKNOWN_ARCHITECTURE", message, field="recipe.architecture", value=architecture)
    network = build_dense(
        architecture,
        outputs=points,
        channels=channels,
        stride=STRIDE,
        width=WIDTH.get(architecture, USUAL_WIDTH),
        weights=weights,
    )
    nn.init.normal_(network.last.weight, std=0.01)
    nn.init.zeros_(cast(Tensor, network.last.bias))
    return network


# What is learned


class KeypointLoss(nn.Module):
    """Of heat maps [N, K, h, w] or numbers [N, 3K] against points float [N, K + 1, 3] (x, y as shares, whether it is there; the
    last row is the object's size): summed over the points that are there and divided by the pictures and by `typical` points a
    picture, so that no sum depends on which pictures share a batch."""

    def __init__(self, architecture: str, typical: float) -> None:
        super().__init__()
        self.numbers = architecture in NUMBERS
        self.typical = max(typical, 1.0)

    def forward(self, said: Tensor, targets: Tensor) -> Tensor:
        points = targets[:, :-1]
        loss = _number_loss(said.float(), points) if self.numbers else _map_loss(said.float(), points)
        return loss / (self.typical * len(said))


def _map_loss(maps: Tensor, points: Tensor) -> Tensor:
    high, wide = maps.shape[2:]
    along_x, along_y = (
        torch.exp(
            -((torch.arange(size, device=maps.device, dtype=maps.dtype) - (points[..., axis, None] * size - 0.5)) ** 2)
            / (2 * SIGMA**2)
        )
        for axis, size in ((0, wide), (1, high))
    )
    hill = along_y[..., :, None] * along_x[..., None, :]
    wanted = (hill / hill.sum((2, 3), keepdim=True).clamp(min=1e-9)).flatten(2)
    found = torch.log_softmax(maps.flatten(2), dim=2)
    each = (wanted * (wanted.clamp(min=1e-9).log() - found)).sum(2)
    return (each * points[..., 2]).sum()


def _number_loss(numbers: Tensor, points: Tensor) -> Tensor:
    said = numbers.reshape(points.shape)
    away = nn.functional.smooth_l1_loss(said[..., :2] + 0.5, points[..., :2], beta=0.02, reduction="none").sum(2)
    sure = nn.functional.binary_cross_entropy_with_logits(said[..., 2] * CERTAINTY, points[..., 2], reduction="none")
    return 10.0 * (away * points[..., 2]).sum() + 0.1 * sure.sum()
