"""Augmentation by a policy (recipes.policy): whole batches of pictures at once, a function of the seed and the step alone.

What moves things is put together into one map of places, so that a picture is resampled once, and boxes and masks move by the
same map; it comes first, in the order of its steps, whatever stands between them. The other steps follow in their order, on
pixels 0 to 255; pairs are mixed at the end. Random numbers are drawn for the whole batch, and each process takes its own
(augment.Held).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from modelyard.recipes.augment import Held, mix
from modelyard.recipes.augment_marked import LEAST_SEEN
from modelyard.recipes.augment_sounds import SOUND_STEPS
from modelyard.recipes.policy import MIXING, PLACES
from modelyard.recipes.steps import Step

_WIDEST_BLUR: Final = 15


class Draws:
    """Random numbers for each picture of a batch: drawn for all of it, and those of this process's part given."""

    def __init__(self, count: int, generator: torch.Generator, held: Held | None = None) -> None:
        self.generator = generator
        self._total = count if held is None else held.total
        self._places = None if held is None else held.places

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """float [n, *shape] from low to high."""
        return self._own(torch.empty(self._total, *shape).uniform_(low, high, generator=self.generator))

    def normal(self, *shape: int) -> Tensor:
        """float [n, *shape], mean 0, deviation 1."""
        return self._own(torch.empty(self._total, *shape).normal_(generator=self.generator))

    def exponential(self, *shape: int) -> Tensor:
        """float [n, *shape], mean 1."""
        return self._own(torch.empty(self._total, *shape).exponential_(generator=self.generator))

    def whole(self, below: int, *shape: int) -> Tensor:
        """int64 [n, *shape], 0 to below - 1."""
        return self._own(torch.randint(below, (self._total, *shape), generator=self.generator))

    def chance(self, probability: float) -> Tensor:
        """bool [n]."""
        return self.uniform(0, 1) < probability

    def _own(self, drawn: Tensor) -> Tensor:
        return drawn if self._places is None else drawn[self._places]


class Moves:
    """Where each picture's places come from: place (u, v, 1), -1 to 1 across and down, of the new picture shows the place
    theta @ (u, v, 1) of the old one. theta: float [n, 3, 3]."""

    def __init__(self, theta: Tensor) -> None:
        self.theta = theta

    def see(self, batch: Tensor, *, nearest: bool = False, padding: str = "border") -> Tensor:
        """Pictures float [n, C, H, W] moved, of the same size."""
        theta = self.theta[:, :2].to(batch.device, batch.dtype)
        grid = functional.affine_grid(theta, list(batch.shape), align_corners=False)
        mode = "nearest" if nearest else "bilinear"
        return functional.grid_sample(batch, grid, mode=mode, padding_mode=padding, align_corners=False)

    def points(self, points: Tensor) -> Tensor:
        """Points float [n, ..., 2] (0 to 1 across and down) as they are in the new pictures; beyond 0 to 1 outside of them."""
        inverse = torch.linalg.inv(self.theta.double()).to(points.device)
        places = points.double() * 2 - 1
        flat = torch.cat([places, torch.ones_like(places[..., :1])], -1).reshape(len(points), -1, 3)
        moved: Tensor = (flat @ inverse.transpose(1, 2))[..., :2].reshape(points.shape)
        return ((moved + 1) / 2).to(points.dtype)

    def objects(self, objects: Tensor) -> Tensor:
        """Objects float [n, M, 5] (class, or -1 for none, and box 0 to 1) in the new pictures: the smallest boxes around what is
        seen; those of which less than LEAST_SEEN is seen are gone."""
        labels, boxes = objects[..., :1], objects[..., 1:]
        corners = torch.stack([boxes[..., [0, 1]], boxes[..., [2, 1]], boxes[..., [2, 3]], boxes[..., [0, 3]]], -2)
        moved = self.points(corners)
        low, high = moved.amin(-2), moved.amax(-2)
        kept_low, kept_high = low.clamp(0, 1), high.clamp(0, 1)
        whole, kept = (high - low).prod(-1, keepdim=True), (kept_high - kept_low).prod(-1, keepdim=True)
        stays = (labels >= 0) & (kept > 0) & (kept >= LEAST_SEEN * whole)
        return torch.cat([torch.where(stays, labels, torch.full_like(labels, -1)), kept_low, kept_high], -1)


def drawn_moves(steps: Sequence[Step], size: tuple[int, int], draws: Draws, *, safe: bool) -> tuple[Moves | None, list[Tensor]]:
    """The moves of a policy for pictures of a size (height, width), None where it moves nothing; and for each rand_augment what
    each picture gets, int64 [n, steps]. safe: whether mirrored pictures still are what they were."""
    theta: Tensor | None = None
    chosen = []
    for step in steps:
        if step.do in PLACES:
            made = [_MOVES[step.do](step.settings, draws, size, safe)]
        elif step.do == "rand_augment":
            kinds, made = _random_moves(step.settings, draws, size)
            chosen.append(kinds)
        else:
            continue
        happens = draws.chance(step.settings["probability"])
        for each in made:
            each = torch.where(happens[:, None, None], each, torch.eye(3).expand_as(each))
            theta = each if theta is None else theta @ each
        if step.do == "rand_augment":
            chosen[-1] = torch.where(happens[:, None], chosen[-1], torch.full_like(chosen[-1], -1))
    return (None if theta is None else Moves(theta)), chosen


def changed(
    pictures: Tensor, steps: Sequence[Step], generator: torch.Generator, held: Held | None, *, safe: bool
) -> tuple[Tensor, Moves | None]:
    """Pictures uint8 [n, H, W, C] as a policy changes them: float [n, C, H, W], 0 to 255, in channels-last memory; and the moves,
    by which what is marked moves too."""
    draws = Draws(len(pictures), generator, held)
    moves, chosen = drawn_moves(steps, (pictures.shape[1], pictures.shape[2]), draws, safe=safe)
    x = pictures.permute(0, 3, 1, 2).float()
    x = x if moves is None else moves.see(x)
    waiting = iter(chosen)
    for step in steps:
        if step.do in PLACES or step.do in MIXING:
            continue
        if step.do == "rand_augment":
            x = _random_pixels(x, next(waiting), step.settings["strength"], draws)
            continue
        changes = _PIXELS.get(step.do) or SOUND_STEPS[step.do]
        made = changes(x, step.settings, draws)
        x = torch.where(draws.chance(step.settings["probability"]).to(x.device)[:, None, None, None], made, x)
    return x.clamp_(0, 255).contiguous(memory_format=torch.channels_last), moves


def mixed(
    batch: Tensor, labels: Tensor, classes: int, steps: Sequence[Step], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Pairs mixed as the first step says whose chance comes; float [n, C, H, W] and int64 [n] in. Where the policy mixes at all,
    the targets are probabilities float [n, classes]."""
    mixing = [step for step in steps if step.do in MIXING]
    for step in mixing:
        if float(torch.rand((), generator=generator)) >= step.settings["probability"]:
            continue
        if step.do == "mixup":
            return mix(batch, labels, classes, step.settings["alpha"], generator)
        return _cut_and_mixed(batch, labels, classes, step.settings["alpha"], generator)
    return (batch, functional.one_hot(labels, classes).to(batch.dtype)) if mixing else (batch, labels)


def _cut_and_mixed(
    batch: Tensor, labels: Tensor, classes: int, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A rectangle of each picture comes from its opposite in the batch, labels by the share of the area (Yun et al. 2019,
    https://arxiv.org/abs/1905.04899); one rectangle a batch."""
    seed = int(torch.randint(2**62, (), generator=generator))
    random = np.random.default_rng(seed)
    side = math.sqrt(1 - float(random.beta(alpha, alpha)))
    height, width = batch.shape[2:]
    high, wide = round(side * height), round(side * width)
    top, left = int(random.integers(0, height - high + 1)), int(random.integers(0, width - wide + 1))
    out = batch.clone()
    out[:, :, top : top + high, left : left + wide] = batch.flip(0)[:, :, top : top + high, left : left + wide]
    share = 1 - high * wide / (height * width)
    targets = functional.one_hot(labels, classes).to(batch.dtype)
    return out, share * targets + (1 - share) * targets.flip(0)


# Moves, float [n, 3, 3]


def _matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[[a, b, x], [c, d, y], [0, 0, 1]]."""
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    return torch.stack([torch.stack([a, b, x], 1), torch.stack([c, d, y], 1), torch.stack([zero, zero, one], 1)], 1)


def _flip(settings: Any, draws: Draws, size: tuple[int, int], safe: bool) -> Tensor:
    one = torch.ones_like(draws.uniform(0, 1))
    zero, direction = torch.zeros_like(one), settings["direction"]
    across = -one if direction == "horizontal" else one
    down = -one if direction == "vertical" else one
    if direction == "both":  # each way by itself, and both ways, alike often
        which = draws.whole(3)
        across, down = torch.where(which != 1, -one, one), torch.where(which != 0, -one, one)
    if settings["only_safe"] and not safe:
        across = down = one
    return _matrix(across, zero, zero, down, zero, zero)


def _shift(settings: Any, draws: Draws, size: tuple[int, int], safe: bool) -> Tensor:
    x, y = (draws.uniform(-2 * settings["share"], 2 * settings["share"]) for _ in range(2))
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return _matrix(one, zero, zero, one, x, y)


def _crop(settings: Any, draws: Draws, size: tuple[int, int], safe: bool) -> Tensor:
    area = draws.uniform(settings["least"], 1)
    aspect = draws.uniform(-math.log(settings["aspect"]), math.log(settings["aspect"])).exp()
    wide, high = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    return _window(wide, high, draws)


def _zoom(settings: Any, draws: Draws, size: tuple[int, int], safe: bool) -> Tensor:
    share = draws.uniform(-math.log(settings["most"]), -math.log(settings["least"])).exp()
    return _window(share, share, draws)


def _window(wide: Tensor, high: Tensor, draws: Draws) -> Tensor:
    """A part of the picture, or (above 1) more than it, somewhere."""
    x, y = (draws.uniform(-1, 1) * (1 - each).abs() for each in (wide, high))
    zero = torch.zeros_like(wide)
    return _matrix(wide, zero, zero, high, x, y)


def _rotate(settings: Any, draws: Draws, size: tuple[int, int], safe: bool) -> Tensor:
    return _turned(draws.uniform(-settings["degrees"], settings["degrees"]), size)


def _turned(degrees: Tensor, size: tuple[int, int]) -> Tensor:
    """Turned about the middle; places are shares of the sides, which are height and width in pixels."""
    height, width = size
    angle = torch.deg2rad(degrees)
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return _matrix(cosine, -sine * height / width, sine * width / height, cosine, zero, zero)


_MOVES: Final = {"flip": _flip, "shift": _shift, "crop": _crop, "zoom": _zoom, "rotate": _rotate}


# Pixels, float [n, C, H, W], 0 to 255


def _per_picture(values: Tensor, x: Tensor) -> Tensor:
    return values.to(x.device)[:, None, None, None]


def _grey(x: Tensor) -> Tensor:
    return x.mean(1, keepdim=True)


def _colour(x: Tensor, settings: Any, draws: Draws) -> Tensor:
    gain = _per_picture(draws.uniform(1 - settings["contrast"], 1 + settings["contrast"]), x)
    offset = _per_picture(draws.uniform(-settings["brightness"], settings["brightness"]), x)
    fuller = _per_picture(draws.uniform(1 - settings["saturation"], 1 + settings["saturation"]), x)
    turn = draws.uniform(-settings["hue"], settings["hue"]).to(x.device)
    x = (x - 127.5) * gain + 127.5 + 255 * offset
    if x.shape[1] != 3:
        return x
    grey = _grey(x)
    return _hue(grey + (x - grey) * fuller, turn)


_TO_YIQ: Final = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def _hue(x: Tensor, turn: Tensor) -> Tensor:
    """Colours turned by a share of the circle, in YIQ."""
    angle = 2 * math.pi * turn
    cosine, sine, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rows = [torch.stack(row, 1) for row in ((one, zero, zero), (zero, cosine, -sine), (zero, sine, cosine))]
    to = _TO_YIQ.to(x.device)
    whole = torch.linalg.inv(to) @ torch.stack(rows, 1) @ to
    return torch.einsum("nij,njhw->nihw", whole, x)


def _blur(x: Tensor, settings: Any, draws: Draws) -> Tensor:
    most = max(0.1, settings["sigma"])
    return _blurred(x, draws.uniform(0.1, most), most)


def _blurred(x: Tensor, sigma: Tensor, most: float) -> Tensor:
    """By a Gaussian of so many pixels (0.1 to most), another for each picture."""
    count, channels, height, width = x.shape
    radius = max(1, min(_WIDEST_BLUR, math.ceil(3 * most), (min(height, width) - 1) // 2))
    places = torch.arange(-radius, radius + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (places / sigma[:, None]) ** 2)
    weights = (weights / weights.sum(1, keepdim=True)).to(x.device).repeat_interleave(channels, 0)
    flat = x.reshape(1, count * channels, height, width)
    flat = functional.pad(flat, (radius, radius, 0, 0), mode="replicate")
    flat = functional.conv2d(flat, weights[:, None, None, :], groups=count * channels)
    flat = functional.pad(flat, (0, 0, radius, radius), mode="replicate")
    return functional.conv2d(flat, weights[:, None, :, None], groups=count * channels).reshape(x.shape)


def _noise(x: Tensor, settings: Any, draws: Draws) -> Tensor:
    size = _per_picture(draws.uniform(0, 255 * settings["deviation"]), x)
    return x + size * draws.normal(*x.shape[1:]).to(x.device)


def _cutout(x: Tensor, settings: Any, draws: Draws) -> Tensor:
    """Rectangles become the picture's mean (DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552)."""
    height, width = x.shape[2:]
    rows, columns = (torch.arange(each, device=x.device)[None] for each in (height, width))
    mean = x.mean((2, 3), keepdim=True)
    for _ in range(settings["count"]):
        aspect = draws.uniform(-math.log(2), math.log(2)).exp().to(x.device)
        side = math.sqrt(settings["share"])
        high, wide = (side * aspect.sqrt() * height).clamp(max=height), (side / aspect.sqrt() * width).clamp(max=width)
        top = draws.uniform(0, 1).to(x.device) * (height - high)
        left = draws.uniform(0, 1).to(x.device) * (width - wide)
        down = (rows >= top[:, None]) & (rows < (top + high)[:, None])
        across = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
        x = torch.where((down[:, :, None] & across[:, None, :])[:, None], mean, x)
    return x


_PIXELS: Final[dict[str, Callable[[Tensor, Any, Draws], Tensor]]] = {
    "colour": _colour,
    "blur": _blur,
    "noise": _noise,
    "cutout": _cutout,
}

# After RandAugment (Cubuk et al. 2019, https://arxiv.org/abs/1909.13719): each picture gets some of these, at one strength

PIXELS: Final = ("brightness", "contrast", "saturation", "blur", "posterize", "solarize")
RANDOM: Final = (
    "rotate", "shear_x", "shear_y", "shift_x", "shift_y", "brightness", "contrast", "saturation", "blur", "posterize", "solarize",
)  # fmt: skip


def _random_moves(settings: Any, draws: Draws, size: tuple[int, int]) -> tuple[Tensor, list[Tensor]]:
    kinds = draws.whole(len(RANDOM), settings["steps"])
    made = []
    for at in range(settings["steps"]):
        amount = settings["strength"] * draws.uniform(-1, 1)
        one, zero = torch.ones_like(amount), torch.zeros_like(amount)
        ways = torch.stack(
            [
                _turned(60 * amount, size),
                _matrix(one, 0.6 * amount, zero, one, zero, zero),
                _matrix(one, zero, 0.6 * amount, one, zero, zero),
                _matrix(one, zero, zero, one, 0.6 * amount, zero),
                _matrix(one, zero, zero, one, zero, 0.6 * amount),
                _matrix(one, zero, zero, one, zero, zero),
            ],
            1,
        )
        made.append(ways[torch.arange(len(amount)), kinds[:, at].clamp(max=5)])
    return kinds, made


_PIXEL_CHANGES: Final = ("brightness", "contrast", "saturation", "blur", "posterize", "solarize")


def _random_pixels(x: Tensor, kinds: Tensor, strength: float, draws: Draws) -> Tensor:
    for at in range(kinds.shape[1]):
        amount = strength * draws.uniform(-1, 1)
        before = x
        for name in _PIXEL_CHANGES:
            mine = kinds[:, at] == RANDOM.index(name)
            if bool(mine.any()):
                x = torch.where(mine.to(x.device)[:, None, None, None], _random_change(name, before, amount, strength), x)
    return x


def _random_change(name: str, x: Tensor, amount: Tensor, strength: float) -> Tensor:
    """All pictures changed in one way, each by its own amount (-strength to strength)."""
    signed, size = _per_picture(amount, x), _per_picture(amount.abs(), x)
    if name == "brightness":
        return x + 153 * signed
    if name == "contrast":
        return (x - 127.5) * (1 + 0.9 * signed) + 127.5
    if name == "saturation":
        return _grey(x) + (x - _grey(x)) * (1 + 0.9 * signed)
    if name == "blur":
        return _blurred(x, 0.1 + 2 * amount.abs(), 0.1 + 2 * strength)
    return _posterized(x, size) if name == "posterize" else torch.where(x >= 255 * (1 - size), 255 - x, x)


def _posterized(x: Tensor, size: Tensor) -> Tensor:
    """Fewer levels: 256 down to 4 at full strength."""
    step = 2 ** (6 * size).round()
    return torch.floor(x / step) * step
