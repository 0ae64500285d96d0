"""Augmentation of sounds, done to their spectrograms (formats.sounds): float [n, C, bands, frames], 0 (80 dB below the loudest or
less) to 255; the lowest band is the first row. What it would do to the sound itself is said with each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from modelyard.formats.sounds import HIGHEST_HZ, LOWEST_HZ, RANGE_DB


class Random(Protocol):
    """What augment_policy.Draws gives."""

    def uniform(self, low: float, high: float, *shape: int) -> Tensor: ...

    def exponential(self, *shape: int) -> Tensor: ...


def _each(values: Tensor, x: Tensor) -> Tensor:
    return values.to(x.device)[:, None, None, None]


def _gain(x: Tensor, settings: Any, draws: Random) -> Tensor:
    """Louder or softer against a fixed floor: what is quiet vanishes, or comes out. (A spectrogram is told below its loudest
    value, so a gain that floats with the sound would change nothing.)"""
    moved = _each(draws.uniform(-settings["decibels"], settings["decibels"]), x) * (255 / RANGE_DB)
    return torch.where(x > 0, (x + moved).clamp(0, 255), x)


def _background(x: Tensor, settings: Any, draws: Random) -> Tensor:
    """White noise so many dB below the sound's mean power (its signal to noise ratio)."""
    power = 10 ** ((x / 255 - 1) * RANGE_DB / 10)
    below = _each(draws.uniform(settings["least"], settings["most"]), x)
    width = _band_widths(x.shape[2]).to(x.device)[None, None, :, None]
    level = power.mean((1, 2, 3), keepdim=True) * 10 ** (-below / 10)
    noise = level * width * draws.exponential(1, x.shape[2], x.shape[3]).to(x.device)
    whole = power + noise
    decibels = 10 * torch.log10(whole / whole.amax((1, 2, 3), keepdim=True))
    return (255 * (1 + decibels / RANGE_DB)).clamp(0, 255)


def _time_shift(x: Tensor, settings: Any, draws: Random) -> Tensor:
    """Earlier or later by a share of its length, silence where nothing is."""
    frames = x.shape[3]
    moved = (draws.uniform(-settings["share"], settings["share"]) * frames).round().long().to(x.device)
    places = torch.arange(frames, device=x.device)[None] - moved[:, None]
    there = (places >= 0) & (places < frames)
    taken = x.gather(3, places.clamp(0, frames - 1)[:, None, None].expand(-1, x.shape[1], x.shape[2], -1))
    return torch.where(there[:, None, None], taken, torch.zeros_like(taken))


def _spec_augment(x: Tensor, settings: Any, draws: Random) -> Tensor:
    """Bands and stretches of time are silenced (Park et al. 2019, https://arxiv.org/abs/1904.08779)."""
    for name, axis in (("bands", 2), ("frames", 3)):
        size = x.shape[axis]
        for _ in range(settings["count"]):
            long = draws.uniform(0, settings[name]).to(x.device) * size
            first = draws.uniform(0, 1).to(x.device) * (size - long)
            places = torch.arange(size, device=x.device)[None]
            gone = (places >= first[:, None]) & (places < (first + long)[:, None])
            shape = (len(x), 1, size, 1) if axis == 2 else (len(x), 1, 1, size)
            x = torch.where(gone.reshape(shape), torch.zeros_like(x), x)
    return x


def _speed(x: Tensor, settings: Any, draws: Random) -> Tensor:
    """Played faster, and so shorter and higher, or slower: about its middle, silence around it."""
    factor = draws.uniform(1 - settings["share"], 1 + settings["share"]).to(x.device)
    bands, frames = x.shape[2:]
    time = ((torch.arange(frames, device=x.device) + 0.5) * 2 / frames - 1)[None] * factor[:, None]
    source = _band_of(_hertz(torch.arange(bands, device=x.device).float(), bands)[None] / factor[:, None], bands)
    across = time[:, None, :].expand(-1, bands, -1)
    down = ((source + 0.5) * 2 / bands - 1)[:, :, None].expand(-1, -1, frames)
    return functional.grid_sample(x, torch.stack([across, down], -1), padding_mode="zeros", align_corners=False)


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _hertz(band: Tensor, bands: int) -> Tensor:
    """The middle of a band."""
    low, high = _mel(LOWEST_HZ), _mel(HIGHEST_HZ)
    return 700 * (10 ** ((low + (band + 1) / (bands + 1) * (high - low)) / 2595) - 1)


def _band_of(hertz: Tensor, bands: int) -> Tensor:
    low, high = _mel(LOWEST_HZ), _mel(HIGHEST_HZ)
    return (2595 * torch.log10(1 + hertz.clamp(min=0) / 700) - low) / (high - low) * (bands + 1) - 1


def _band_widths(bands: int) -> Tensor:
    """How wide each band is, of a mean of 1: white noise has power by width."""
    middles = _hertz(torch.arange(-1, bands + 1).float(), bands)
    widths = (middles[2:] - middles[:-2]) / 2
    return widths / widths.mean()


SOUND_STEPS: Final[dict[str, Callable[[Tensor, Any, Any], Tensor]]] = {
    "gain": _gain,
    "background": _background,
    "time_shift": _time_shift,
    "spec_augment": _spec_augment,
    "speed": _speed,
}
