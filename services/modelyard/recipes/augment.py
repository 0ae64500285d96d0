"""Order and augmentation of pictures: whole batches at once, and a function of the seed and the step alone.

Since nothing here keeps a state, a run that goes on from a checkpoint sees the very batches it would have seen. Where several
processes share a batch, each draws for all of it and takes what is its own (`Held`): pictures change as they would in one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_ORDER, _AUGMENT = 1, 2
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Held:
    """Which examples of a batch of `total` are held here: their places in it, int64 [n]."""

    total: int
    places: Tensor


def epoch_order(seed: int, epoch: int, examples: int) -> Tensor:
    """The order of the examples in an epoch: int64 [examples]."""
    return torch.randperm(examples, generator=_generator(seed, _ORDER, epoch))


def augment_generator(seed: int, step: int) -> torch.Generator:
    """The random numbers of a step's augmentation."""
    return _generator(seed, _AUGMENT, step)


def shift_and_flip(batch: Tensor, generator: torch.Generator, *, flip: bool, held: Held | None = None) -> Tensor:
    """Moves each picture by up to a twentieth of its size, its edge pixels repeated, and mirrors half of them when `flip`.

    uint8 [N, H, W, C] in and out: one gather. held: where it is a part of a larger batch.
    """
    _, height, width, _ = batch.shape
    count = _drawn_for(batch, held)
    down = _offsets(count, max(1, round(height / 20)), generator)
    right = _offsets(count, max(1, round(width / 20)), generator)
    rows = (torch.arange(height) + down).clamp_(0, height - 1)
    columns = (torch.arange(width) + right).clamp_(0, width - 1)
    if flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    rows, columns = _own(rows, held), _own(columns, held)
    which = torch.arange(len(batch))[:, None, None].to(batch.device)
    return batch[which, rows[:, :, None].to(batch.device), columns[:, None, :].to(batch.device)]


def crop_and_resize(
    batch: Tensor, generator: torch.Generator, *, flip: bool, smallest: float = 0.5, held: Held | None = None
) -> Tensor:
    """Cuts a random part out of each picture (`smallest` to 1 of its area, aspect 3/4 to 4/3), bilinearly resized to its size.

    float [N, C, H, W] in and out, in the memory format of the input; half of them mirrored when `flip`; held: where it is a part
    of a larger batch. After the random resized crop of Szegedy et al. 2014 (https://arxiv.org/abs/1409.4842), all pictures of a
    batch in one grid_sample.
    """
    count = _drawn_for(batch, held)
    area = torch.empty(count).uniform_(smallest, 1.0, generator=generator)
    aspect = torch.empty(count).uniform_(math.log(3 / 4), math.log(4 / 3), generator=generator).exp_()
    wide, high = (area * aspect).sqrt_().clamp_(max=1.0), (area / aspect).sqrt_().clamp_(max=1.0)
    x, y = ((torch.rand(count, generator=generator) * 2 - 1) * (1 - size) for size in (wide, high))
    if flip:
        wide = torch.where(torch.rand(count, generator=generator) < 0.5, -wide, wide)
    zero = torch.zeros(count)
    theta = torch.stack([torch.stack([wide, zero, x], 1), torch.stack([zero, high, y], 1)], 1)
    theta = _own(theta, held).to(batch.device)
    grid = torch.nn.functional.affine_grid(theta, list(batch.shape), align_corners=False)
    return torch.nn.functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)


def colour_gains(count: int, channels: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Gain and offset per picture and channel, [N, C, 1, 1] each: brightness, contrast and tint, to be folded into the scaling.

    pixel * gain + offset * 255 is the changed pixel.
    """
    contrast = torch.empty(count, 1).uniform_(0.75, 1.25, generator=generator)
    tint = torch.empty(count, channels).uniform_(0.92, 1.08, generator=generator)
    brightness = torch.empty(count, 1).uniform_(-0.15, 0.15, generator=generator)
    offset = (brightness + 0.5 * (1 - contrast)).expand(count, channels)
    return (contrast * tint)[:, :, None, None], offset[:, :, None, None]


def mix(batch: Tensor, labels: Tensor, classes: int, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mixes each picture with its opposite in the batch: share * one + (1 - share) * other, the share from Beta(alpha, alpha).

    float [N, C, H, W] and int64 [N] in; the same and float [N, classes] (probabilities) out. After mixup of Zhang et al. 2018
    (https://arxiv.org/abs/1710.09412), one share a batch.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    share = float(np.random.default_rng(seed).beta(alpha, alpha))
    targets = torch.nn.functional.one_hot(labels, classes).to(batch.dtype)
    return share * batch + (1 - share) * batch.flip(0), share * targets + (1 - share) * targets.flip(0)


def mirror_is_safe(pictures: npt.NDArray[np.uint8], labels: npt.NDArray[Any]) -> bool:
    """Whether a mirrored picture still belongs to its class, judged by the data: letters and digits do not survive it.

    A nearest-centroid classifier on 8 x 8 thumbnails learns from every other example (of at most 4,000) and answers the rest, as
    they are and mirrored. Mirroring is safe when that costs at most a tenth of its accuracy above chance, plus two points.
    Pictures uint8 [N, H, W, C], labels int [N].
    """
    stride = max(1, len(pictures) // 4000)
    thumbnails, classes = _thumbnails(pictures[::stride]), np.asarray(labels)[::stride]
    known, asked = slice(0, None, 2), slice(1, None, 2)
    names = np.unique(classes[known])
    centroids = np.stack([thumbnails[known][classes[known] == name].mean(0) for name in names])
    plain = _centroid_accuracy(centroids, names, thumbnails[asked], classes[asked])
    mirrored = _centroid_accuracy(centroids, names, thumbnails[asked][:, :, ::-1], classes[asked])
    chance = max(np.mean(classes == name) for name in names)
    return bool(plain - mirrored <= 0.1 * max(0.0, plain - chance) + 0.02)


def _thumbnails(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Grey means over an 8 x 8 grid, [N, 8, 8]; pictures smaller than 8 pixels keep their size."""
    step = max(1, min(pictures.shape[1:3]) // 32)
    grey = pictures[:, ::step, ::step].mean(3)
    rows, columns = (np.array_split(np.arange(size), min(8, size)) for size in grey.shape[1:])
    bands = np.stack([grey[:, each].mean(1) for each in rows], 1)
    return np.stack([bands[:, :, each].mean(2) for each in columns], 2)


def _centroid_accuracy(
    centroids: npt.NDArray[np.float64], names: npt.NDArray[Any], asked: npt.NDArray[np.float64], classes: npt.NDArray[Any]
) -> float:
    flat, points = asked.reshape(len(asked), -1), centroids.reshape(len(centroids), -1)
    distances = (points**2).sum(1) - 2 * flat @ points.T
    return float(np.mean(names[distances.argmin(1)] == classes)) if len(classes) else 0.0


def _drawn_for(batch: Tensor, held: Held | None) -> int:
    """How many pictures random numbers are drawn for."""
    return batch.shape[0] if held is None else held.total


def _own(drawn: Tensor, held: Held | None) -> Tensor:
    return drawn if held is None else drawn[held.places]


def _offsets(count: int, most: int, generator: torch.Generator) -> Tensor:
    return torch.randint(-most, most + 1, (count, 1), generator=generator)


def _generator(seed: int, purpose: int, index: int) -> torch.Generator:
    """A generator whose stream depends on all three; mixed as in splitmix64 (Steele et al. 2014), so neighbours have nothing in
    common."""
    mixed = (seed * 0x9E3779B97F4A7C15 + purpose * 0xBF58476D1CE4E5B9 + index * 0x94D049BB133111EB) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return torch.Generator().manual_seed((mixed ^ (mixed >> 31)) >> 1)
