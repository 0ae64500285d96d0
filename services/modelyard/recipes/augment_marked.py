"""Augmentation that moves what is marked along with the picture: boxes, points and masks. Whole batches, by the step's
numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from modelyard.recipes.augment import Held

LEAST_SEEN = 0.3
"""A box of which less than this share of its area is still in the picture is gone."""


@dataclass(frozen=True)
class View:
    """Which part of each picture is seen: a place u (-1 to 1) of the new picture shows the place share * u + centre of the old
    one. A negative share mirrors. float [N] each; x, y: across and down."""

    share_x: Tensor
    share_y: Tensor
    centre_x: Tensor
    centre_y: Tensor


def drawn_view(
    count: int,
    generator: torch.Generator,
    *,
    flip: bool,
    upside: bool = False,
    least: float = 0.6,
    most: float = 1.3,
    held: Held | None = None,
) -> View:
    """A random view of each of `count` pictures: `least` to `most` of its sides, the two at most a fifth apart; above 1 the
    picture
    shrinks, with its edge repeated around it. flip, upside: half of them mirrored across, and down. held: see augment.Held."""
    total = count if held is None else held.total
    share = torch.empty(total).uniform_(math.log(least), math.log(most), generator=generator).exp_()
    aspect = torch.empty(total).uniform_(-0.1, 0.1, generator=generator).exp_()
    wide, high = share * aspect, share / aspect
    x, y = ((torch.rand(total, generator=generator) * 2 - 1) * (1 - size).abs() for size in (wide, high))
    mirrored, turned = (torch.rand(total, generator=generator) < 0.5 for _ in range(2))
    wide = torch.where(mirrored & flip, -wide, wide)
    high = torch.where(turned & upside, -high, high)
    parts = [wide, high, x, y]
    return View(*(parts if held is None else [each[held.places] for each in parts]))


def see(batch: Tensor, view: View, *, nearest: bool = False, padding: str = "border") -> Tensor:
    """The views of pictures float [N, C, H, W], of the same size, bilinear (or nearest)."""
    zero = torch.zeros_like(view.share_x)
    rows = [torch.stack([view.share_x, zero, view.centre_x], 1), torch.stack([zero, view.share_y, view.centre_y], 1)]
    theta = torch.stack(rows, 1).to(batch.device, batch.dtype)
    grid = torch.nn.functional.affine_grid(theta, list(batch.shape), align_corners=False)
    mode = "nearest" if nearest else "bilinear"
    return torch.nn.functional.grid_sample(batch, grid, mode=mode, padding_mode=padding, align_corners=False)


def seen_objects(objects: Tensor, view: View) -> Tensor:
    """Objects float [N, M, 5] (class, or -1 for none, and box 0 to 1) as they are in the views; those hardly seen are gone."""
    labels, boxes = objects[..., :1], objects[..., 1:]
    shares = torch.stack([view.share_x, view.share_y], 1).to(objects.device)[:, None]
    centres = torch.stack([view.centre_x, view.centre_y], 1).to(objects.device)[:, None]
    first = ((boxes[..., :2] * 2 - 1) - centres) / shares
    second = ((boxes[..., 2:] * 2 - 1) - centres) / shares
    low, high = (torch.minimum(first, second) + 1) / 2, (torch.maximum(first, second) + 1) / 2
    kept_low, kept_high = low.clamp(0, 1), high.clamp(0, 1)
    whole, kept = (high - low).prod(-1, keepdim=True), (kept_high - kept_low).prod(-1, keepdim=True)
    stays = (labels >= 0) & (kept > 0) & (kept >= LEAST_SEEN * whole)
    return torch.cat([torch.where(stays, labels, torch.full_like(labels, -1)), kept_low, kept_high], -1)


def seen_points(points: Tensor, view: View) -> Tensor:
    """Points float [N, K, 3] (x, y 0 to 1, whether marked) as they are in the views; those outside are not marked."""
    shares = torch.stack([view.share_x, view.share_y], 1).to(points.device)[:, None]
    centres = torch.stack([view.centre_x, view.centre_y], 1).to(points.device)[:, None]
    places = (((points[..., :2] * 2 - 1) - centres) / shares + 1) / 2
    inside = ((places >= 0) & (places <= 1)).all(dim=2, keepdim=True)
    return torch.cat([places, points[..., 2:] * inside.to(points.dtype)], 2)
