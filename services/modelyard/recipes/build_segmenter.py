"""Networks that say of every pixel what it is (torch): encoder and decoder of recipes.build_dense, enlarged to the picture."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from modelyard.recipes.build_dense import build_dense
from modelyard.recipes.build_image import ServedImageModel

STRIDE = 4
WIDTH = {"modelyard:pyramid_micro": 32}
USUAL_WIDTH = 64
IGNORED = 255
"""Class of pixels that are not judged."""


class ServedSegmenter(ServedImageModel):
    """As exported: uint8 [N, H, W, C] in, `mask` uint8 [N, H, W] of class indices out."""

    output_names = ("mask",)

    def __init__(self, module: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__(module, mean, std)
        self.decode = MaskDecoder()

    def forward(self, image: Tensor) -> Tensor:
        x = image.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale + self.shift
        return cast(Tensor, self.decode(self.module(x)))


class MaskDecoder(nn.Module):
    """Maps [N, K, h, w] to the class of each pixel, uint8 [N, H, W]."""

    def forward(self, maps: Tensor) -> Tensor:
        return enlarged(maps).argmax(1).to(torch.uint8)


def enlarged(maps: Tensor) -> Tensor:
    """Maps [N, K, h, w] as large as the picture, bilinear: [N, K, H, W]."""
    return nn.functional.interpolate(maps, scale_factor=float(STRIDE), mode="bilinear", align_corners=False)


def build_segmenter(architecture: str, *, classes: int, channels: int, weights: str = "") -> nn.Module:
    """A network of float [N, channels, H, W] to logits [N, classes, H / 4, W / 4]."""
    width = WIDTH.get(architecture, USUAL_WIDTH)
    return build_dense(architecture, outputs=classes, channels=channels, stride=STRIDE, width=width, weights=weights)


class SegmentationLoss(nn.Module):
    """Cross entropy of the enlarged maps against class indices uint8 [N, H, W]: mean over the judged pixels of a picture, then
    over the pictures. class_weights: float [classes], or None."""

    def __init__(self, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.of_class: Tensor | None
        self.register_buffer("of_class", class_weights)

    def forward(self, maps: Tensor, masks: Tensor) -> Tensor:
        logits = enlarged(maps.float())
        wanted = masks.long()
        each = nn.functional.cross_entropy(logits, wanted, weight=self.of_class, ignore_index=IGNORED, reduction="none")
        judged = (wanted != IGNORED).flatten(1).sum(1).clamp(min=1)
        return (each.flatten(1).sum(1) / judged).mean()
