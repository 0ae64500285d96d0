"""An anchor-free detector (torch): heat maps of objects' centres and the distances to their edges, and the boxes read from them.

After CenterNet (Zhou et al. 2019, https://arxiv.org/abs/1904.07850) and TTFNet (Liu et al. 2019, https://arxiv.org/abs/1909.00700):
each class has a map that is 1 at the centres of its objects and falls off as a Gaussian of the object's size; wherever the
Gaussian
is high the network also learns how far it is to the box's edges. A peak of the map is an object. What two peaks on one object
find
twice is dropped by its overlap (Fast NMS of Bolya et al. 2019, https://arxiv.org/abs/1904.02689): all of it is matrix arithmetic,
so that it is exported with the network.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from modelyard.recipes.build_dense import DenseNetwork, build_dense
from modelyard.recipes.build_image import ServedImageModel

STRIDE = 4
"""Pixels of the input between two cells of the maps."""
WIDTH = {"modelyard:pyramid_micro": 32}
USUAL_WIDTH = 64
MOST = 100
"""Boxes that are given at most."""
LEAST_SCORE = 0.02
"""What is found with less is not given: score 0, class -1."""
OVERLAP = 0.6
"""Of two boxes of a class that overlap more (intersection over union) only the surer one is given."""
_SPREAD = 0.54 / 6
"""Standard deviation of the Gaussian as a share of the object's size (TTFNet)."""
_LEAST_SIGMA = 0.6
_NEAR = 0.05
"""Cells where the Gaussian is lower learn no box."""
MOST_LOG = 6.0
"""Largest logarithm of a distance in cells: e^6 is 400."""


class ServedDetector(ServedImageModel):
    """As exported: uint8 [N, H, W, C] in; boxes float32 [N, K, 4] (left, top, right, bottom as shares of the picture, 0 to 1),
    scores float32 [N, K] (falling, 0 to 1) and classes int64 [N, K] out. Beyond what was found: score 0, class -1, an empty
    box."""

    output_names = ("boxes", "scores", "classes")

    def __init__(self, module: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], classes: int) -> None:
        super().__init__(module, mean, std)
        self.decode = BoxDecoder(classes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        x = image.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale + self.shift
        return cast(tuple[Tensor, Tensor, Tensor], self.decode(self.module(x)))


class BoxDecoder(nn.Module):
    """The network's maps [N, classes + 4, h, w] to boxes; see ServedDetector."""

    def __init__(self, classes: int, most: int = MOST) -> None:
        super().__init__()
        self.classes = classes
        self.most = most

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        high, wide = int(maps.shape[2]), int(maps.shape[3])
        heat = torch.sigmoid(maps[:, : self.classes])
        peaks = heat * (heat >= nn.functional.max_pool2d(heat, 3, stride=1, padding=1)).to(heat.dtype)
        most = min(self.most, self.classes * high * wide)
        scores, places = peaks.flatten(1).topk(most, dim=1)
        cell = places % (high * wide)
        labels = torch.div(places, high * wide, rounding_mode="floor")
        reach = torch.exp(maps[:, self.classes :].flatten(2).clamp(max=MOST_LOG))
        left, top, right, bottom = (reach[:, side].gather(1, cell) for side in range(4))
        x = (cell % wide).to(maps.dtype) + 0.5
        y = torch.div(cell, wide, rounding_mode="floor").to(maps.dtype) + 0.5
        boxes = torch.stack([(x - left) / wide, (y - top) / high, (x + right) / wide, (y + bottom) / high], 2).clamp(0.0, 1.0)
        scores = scores * _unique(boxes, labels).to(scores.dtype)
        scores = scores * (scores >= LEAST_SCORE).to(scores.dtype)
        scores, order = scores.topk(most, dim=1)
        found = scores > 0
        labels = torch.where(found, labels.gather(1, order), torch.full_like(labels, -1))
        boxes = boxes.gather(1, order[:, :, None].expand(-1, -1, 4)) * found[:, :, None].to(boxes.dtype)
        return boxes, scores, labels


def _unique(boxes: Tensor, labels: Tensor) -> Tensor:
    """Which boxes [N, K] (the surest first) overlap none of the same class before them; bool [N, K]."""
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    size = (high - low).clamp(min=0.0)
    shared = size[..., 0] * size[..., 1]
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    overlap = shared / (area[:, :, None] + area[:, None, :] - shared).clamp(min=1e-9)
    count = boxes.shape[1]
    earlier = torch.ones(count, count, dtype=overlap.dtype, device=overlap.device).triu(1)  # row before column
    same = (labels[:, :, None] == labels[:, None, :]).to(overlap.dtype)
    return (overlap * same * earlier).amax(dim=1) <= OVERLAP


def build_detector(architecture: str, *, classes: int, channels: int, weights: str = "") -> nn.Module:
    """A detector whose maps start at one object in a hundred cells, and boxes of about 4 cells."""
    network = build_dense(
        architecture,
        outputs=classes + 4,
        channels=channels,
        stride=STRIDE,
        width=WIDTH.get(architecture, USUAL_WIDTH),
        weights=weights,
    )
    last = network.last
    nn.init.normal_(last.weight, std=0.01)
    with torch.no_grad():
        cast(Tensor, last.bias)[:classes] = -4.6
        cast(Tensor, last.bias)[classes:] = 1.0
    return network


# What is learned


def rendered(objects: Tensor, classes: int, high: int, wide: int) -> Tensor:
    """The maps that objects should give: float [N, classes + 5, high, wide].

    objects: float [N, M, 5], class (-1: none) and box (left, top, right, bottom, 0 to 1). Of the maps `classes` are the heat, 4
    the edges of the object that a cell belongs to, in cells from the picture's corner, and the last how much the cell counts (the
    cells of an object count 1 together; of several objects it belongs to the smallest).
    """
    labels, boxes = objects[..., 0].long(), objects[..., 1:]
    here = labels >= 0
    size = boxes.new_tensor([wide, high, wide, high])
    cells = boxes * size
    extent = (cells[..., 2:] - cells[..., :2]).clamp(min=1e-3)
    centre = ((cells[..., :2] + cells[..., 2:]) / 2).floor()
    limit = boxes.new_tensor([wide - 1, high - 1])
    centre = torch.minimum(centre.clamp(min=0), limit)
    sigma = (extent * _SPREAD).clamp(min=_LEAST_SIGMA)
    across = torch.arange(wide, device=boxes.device, dtype=boxes.dtype)
    down = torch.arange(high, device=boxes.device, dtype=boxes.dtype)
    along_x = torch.exp(-((across - centre[..., :1]) ** 2) / (2 * sigma[..., :1] ** 2))  # [N, M, wide]
    along_y = torch.exp(-((down - centre[..., 1:]) ** 2) / (2 * sigma[..., 1:] ** 2))
    hills = along_y[..., :, None] * along_x[..., None, :] * here[..., None, None]  # [N, M, high, wide]
    count, most = labels.shape
    heat = boxes.new_zeros(count, classes, high, wide)
    if most:
        where = labels.clamp(min=0)[..., None, None].expand(-1, -1, high, wide)
        heat.scatter_reduce_(1, where, hills, "amax")
    return torch.cat([heat, *_edges(hills, cells, extent)], 1)


def _edges(hills: Tensor, cells: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
    """The edges [N, 4, high, wide] and how much each cell counts [N, 1, high, wide]."""
    count, most, high, wide = hills.shape
    if not most:
        return hills.new_zeros(count, 4, high, wide), hills.new_zeros(count, 1, high, wide)
    area = (extent[..., 0] * extent[..., 1])[..., None, None]
    near = hills > _NEAR
    owner = torch.where(near, area, torch.full_like(hills, torch.inf)).argmin(1)  # [N, high, wide]
    flat = owner.flatten(1)
    owned = near.any(1).flatten(1)
    part = hills.flatten(2).gather(1, flat[:, None])[:, 0] * owned
    totals = hills.new_zeros(count, most).scatter_add_(1, flat, part)
    weight = part / totals.gather(1, flat).clamp(min=1e-6)
    edges = cells.gather(1, flat[..., None].expand(-1, -1, 4)).permute(0, 2, 1)
    return edges.reshape(count, 4, high, wide), weight.reshape(count, 1, high, wide)


class DetectionLoss(nn.Module):
    """Penalty-reduced focal loss of the heat (CenterNet) and generalized IoU of the boxes (Rezatofighi et al. 2019), both summed
    over the pictures and divided by their number and by `typical` objects a picture: no sum depends on which pictures share a
    batch."""

    def __init__(self, classes: int, typical: float) -> None:
        super().__init__()
        self.classes = classes
        self.typical = max(typical, 1.0)

    def forward(self, maps: Tensor, targets: Tensor) -> Tensor:
        maps = maps.float()
        heat, wanted = maps[:, : self.classes], targets[:, : self.classes]
        unit = self.typical * len(maps)
        return _heat_loss(heat, wanted) / unit + 2.0 * _box_loss(maps[:, self.classes :], targets[:, self.classes :]) / unit


def _heat_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    likely = torch.sigmoid(logits)
    there = (wanted >= 1.0).to(logits.dtype)
    found = (1 - likely) ** 2 * nn.functional.logsigmoid(logits) * there
    empty = (1 - wanted) ** 4 * likely**2 * nn.functional.logsigmoid(-logits) * (1 - there)
    return -(found + empty).sum()


def _box_loss(logs: Tensor, wanted: Tensor) -> Tensor:
    """logs [N, 4, h, w]: logarithms of distances in cells; wanted [N, 5, h, w]: edges in cells, and how much each cell counts."""
    high, wide = logs.shape[2:]
    reach = torch.exp(logs.clamp(max=MOST_LOG))
    x = torch.arange(wide, device=logs.device, dtype=logs.dtype) + 0.5
    y = (torch.arange(high, device=logs.device, dtype=logs.dtype) + 0.5)[:, None]
    left, top, right, bottom = x - reach[:, 0], y - reach[:, 1], x + reach[:, 2], y + reach[:, 3]
    true_left, true_top, true_right, true_bottom, weight = wanted.unbind(1)
    shared = (torch.minimum(right, true_right) - torch.maximum(left, true_left)).clamp(min=0) * (
        torch.minimum(bottom, true_bottom) - torch.maximum(top, true_top)
    ).clamp(min=0)
    union = (right - left) * (bottom - top) + (true_right - true_left) * (true_bottom - true_top) - shared
    around = (torch.maximum(right, true_right) - torch.minimum(left, true_left)) * (
        torch.maximum(bottom, true_bottom) - torch.minimum(top, true_top)
    )
    overlap = shared / union.clamp(min=1e-6) - (around - union) / around.clamp(min=1e-6)
    return ((1 - overlap) * weight).sum()


__all__ = ["BoxDecoder", "DenseNetwork", "DetectionLoss", "ServedDetector", "build_detector", "rendered"]
