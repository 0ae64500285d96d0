"""Augmentation of spectrograms as formats.sounds makes them: other voices, rooms and microphones. Whole batches, by the step's
numbers.

What tells speakers apart and words not is varied: the length of the vocal tract (frequencies stretched; Jaitly and Hinton 2013,
"Vocal Tract Length Perturbation"), the pace, the place in time, the microphone's colour (a smooth curve over the bands), and the
noise of the room. Parts are hidden after SpecAugment (Park et al. 2019, https://arxiv.org/abs/1904.08779). All is done on the
finished picture, whose values are decibels, so no sound is computed again.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from modelyard.formats.sounds import HIGHEST_HZ, LOWEST_HZ, RANGE_DB
from modelyard.recipes.augment import Held

TRACT = 0.18
"""Largest change of the vocal tract's length, as a logarithm: children to large men span about 0.3."""
PACE = 0.35
"""Largest change of the pace, as a logarithm."""
SHIFT = 0.3
"""Largest move in time, as a share of half the picture."""
COLOUR_DB, POINTS = 10.0, 5
"""Spread of the microphone's colour, at so many points over the bands."""
NOISE_DB = (-70.0, -20.0)
"""Level of noise below the loudest value."""
NOISY = 0.7
"""Share of the sounds that get noise."""
HIDDEN_BANDS, HIDDEN_TIME = 0.15, 0.12
"""Largest share of bands, and of time, that is hidden."""
_UNITS = 255 / RANGE_DB
"""Values of a picture in a decibel."""


def vary_sounds(batch: Tensor, generator: torch.Generator, held: Held | None = None) -> Tensor:
    """Spectrograms uint8 [N, H, W, C] as other speakers, rooms and microphones would have given them: float [N, H, W, C], 0 to
    255. held: where they are a part of a larger batch."""
    count = len(batch) if held is None else held.total
    draw = _Draw(count, generator, held, batch.device)
    x = batch.permute(0, 3, 1, 2).float()
    x = _warped(x, draw)
    present = x.amax((1, 2), keepdim=True) > 0  # [N, 1, 1, W]: where the recording is
    x = _coloured(x, draw, present)
    x = _noisy(x, draw, present)
    x = _hidden(x, draw)
    return x.permute(0, 2, 3, 1)


class _Draw:
    """Random numbers for all of a batch, of which each process takes those of its examples."""

    def __init__(self, count: int, generator: torch.Generator, held: Held | None, device: torch.device) -> None:
        self._count, self._generator, self._held, self._device = count, generator, held, device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """[n, *shape]"""
        drawn = torch.empty(self._count, *shape).uniform_(low, high, generator=self._generator)
        return (drawn if self._held is None else drawn[self._held.places]).to(self._device)

    def normal(self, *shape: int) -> Tensor:
        """[n, *shape]"""
        drawn = torch.empty(self._count, *shape).normal_(generator=self._generator)
        return (drawn if self._held is None else drawn[self._held.places]).to(self._device)


def _warped(x: Tensor, draw: _Draw) -> Tensor:
    """Frequencies and time stretched, and moved in time; beyond the sound is silence."""
    count, _, height, width = x.shape
    places = (source_bands(height, draw.uniform(-TRACT, TRACT).exp()) * 2 + 1) / height - 1
    pace, move = draw.uniform(-PACE, PACE).exp(), draw.uniform(-SHIFT, SHIFT)
    times = ((torch.arange(width, device=x.device) * 2 + 1) / width - 1) * pace[:, None] + move[:, None]
    grid = torch.stack([times[:, None, :].expand(count, height, width), places[:, :, None].expand(count, height, width)], dim=-1)
    return torch.nn.functional.grid_sample(x, grid.to(x.dtype), padding_mode="zeros", align_corners=False)


def source_bands(bands: int, factors: Tensor) -> Tensor:
    """Which band (0 to bands - 1, broken numbers between) is heard at each band when all frequencies are `factors` [N] times as
    high: [N, bands]."""
    lowest, highest = (2595 * math.log10(1 + each / 700) for each in (LOWEST_HZ, HIGHEST_HZ))
    step = (highest - lowest) / (bands + 1)
    middles = lowest + step * torch.arange(1, bands + 1, device=factors.device)
    hertz = 700 * (10 ** (middles / 2595) - 1)
    mel = 2595 * torch.log10(1 + hertz * factors[:, None] / 700)
    return ((mel - lowest) / step - 1).clamp(0, bands - 1)


def _coloured(x: Tensor, draw: _Draw, present: Tensor) -> Tensor:
    """Bands louder or softer along a smooth curve; then the loudest value is 255 again."""
    curve = _curve(draw, x.shape[2]) * (COLOUR_DB / 2 * _UNITS)
    heard = torch.where((x > 0) & present, x + curve[:, None, :, None], x.new_zeros(()))
    loudest = heard.amax((1, 2, 3), keepdim=True)
    return torch.where(heard > 0, heard - loudest + 255, heard).clamp_(0, 255)


def _curve(draw: _Draw, height: int) -> Tensor:
    """A smooth curve over the bands, of spread 1: [N, H]."""
    points = draw.normal(1, POINTS)
    return torch.nn.functional.interpolate(points, height, mode="linear", align_corners=True)[:, 0]


def _noisy(x: Tensor, draw: _Draw, present: Tensor) -> Tensor:
    """Noise of a smooth colour added to the power, over the whole picture or where the recording is."""
    level = 255 + draw.uniform(*NOISE_DB)[:, None, None, None] * _UNITS
    colour = _curve(draw, x.shape[2])[:, None, :, None] * (5 * _UNITS)
    noise = level + colour + draw.normal(1, *x.shape[2:]) * (2 * _UNITS)
    wanted = draw.uniform(0, 1)[:, None, None, None] < NOISY
    everywhere = draw.uniform(0, 1)[:, None, None, None] < 0.5
    bels = math.log(10) / 10 / _UNITS
    louder = torch.logaddexp(x * bels, noise * bels) / bels
    return torch.where(wanted & (everywhere | present), louder, x).clamp_(0, 255)


def _hidden(x: Tensor, draw: _Draw) -> Tensor:
    """Some neighbouring bands and some time taken away."""
    for axis, share in ((2, HIDDEN_BANDS), (3, HIDDEN_TIME)):
        size = x.shape[axis]
        length, start = draw.uniform(0, share * size), draw.uniform(0, 1)
        first = start * (size - length)
        places = torch.arange(size, device=x.device)
        hidden = (places >= first[:, None].round()) & (places < (first + length)[:, None].round())
        shape = [len(x), 1, 1, 1]
        shape[axis] = size
        x = torch.where(hidden.reshape(shape), x.new_zeros(()), x)
    return x
