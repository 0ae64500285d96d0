"""Augmentation of series by a policy (recipes.policy): float32 [N, steps, channels], NaN where a value is missing.

A function of the seed alone. Methods as surveyed by Iwana and Uchida 2021 (https://doi.org/10.1371/journal.pone.0254841).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from modelyard.recipes.steps import Step

Series = npt.NDArray[np.float32]
Random = np.random.Generator
DEFAULT_COPIES: Final = 4
KNOTS: Final = 4


def copies_of(steps: Sequence[Step]) -> int:
    """How many changed copies of each training series there are to be; 0 without steps that change any."""
    if not [step for step in steps if step.do != "copies"]:
        return 0
    return next((int(step.settings["count"]) for step in steps if step.do == "copies"), DEFAULT_COPIES)


def changed_series(series: Series, steps: Sequence[Step], seed: int) -> Series:
    """One changed copy of each series, of the same shape; step by step in their order."""
    random = np.random.default_rng([seed, 0x5E21E5])
    out = series.copy()
    for step in steps:
        if step.do == "copies":
            continue
        happens = random.random(len(series)) < step.settings["probability"]
        out = np.where(happens[:, None, None], SERIES_STEPS[step.do](out, step.settings, random), out)
    return out.astype(np.float32)


def _spread(series: Series) -> Series:
    """Standard deviation of each channel of each series, [N, 1, channels]; 0 where nothing is known."""
    known = np.where(np.isfinite(series), series, np.nan)
    count = np.isfinite(series).sum(axis=1, keepdims=True)
    mean = np.nansum(known, axis=1, keepdims=True) / np.maximum(count, 1)
    return np.asarray(np.sqrt(np.nansum((known - mean) ** 2, axis=1, keepdims=True) / np.maximum(count, 1)), np.float32)


def _jitter(series: Series, settings: Any, random: Random) -> Series:
    """Noise of a share of the channel's own standard deviation."""
    noise: Series = settings["deviation"] * _spread(series) * random.standard_normal(series.shape, np.float32)
    return series + noise


def _scaling(series: Series, settings: Any, random: Random) -> Series:
    """Each channel times a number about 1."""
    factor: Series = 1 + settings["deviation"] * random.standard_normal((len(series), 1, series.shape[2]), np.float32)
    return series * factor


def _time_warp(series: Series, settings: Any, random: Random) -> Series:
    """Faster here and slower there: the pace between knots is up to `strength` off, the ends stay."""
    steps = series.shape[1]
    pace = 1 + settings["strength"] * random.uniform(-1, 1, (len(series), KNOTS))
    knots = np.concatenate([np.zeros((len(series), 1)), np.cumsum(pace, axis=1)], axis=1)
    knots *= (steps - 1) / knots[:, -1:]
    even = np.linspace(0, steps - 1, KNOTS + 1)
    places = np.stack([np.interp(np.arange(steps), even, each) for each in knots]) if len(series) else np.empty((0, steps))
    return _at(series, places)


def _window(series: Series, settings: Any, random: Random) -> Series:
    """A part of it, stretched to the whole length."""
    steps = series.shape[1]
    share = random.uniform(settings["least"], 1, (len(series), 1))
    first = random.uniform(0, 1, (len(series), 1)) * (1 - share)
    return _at(series, (first + share * np.linspace(0, 1, steps)[None]) * (steps - 1))


def _masking(series: Series, settings: Any, random: Random) -> Series:
    """Stretches of all channels become the channel's mean."""
    steps = series.shape[1]
    mean = np.nan_to_num(np.nansum(series, axis=1, keepdims=True) / np.maximum(np.isfinite(series).sum(axis=1, keepdims=True), 1))
    out = series
    for _ in range(settings["count"]):
        long = random.uniform(0, settings["share"], len(series)) * steps
        first = random.uniform(0, 1, len(series)) * (steps - long)
        places = np.arange(steps)[None]
        gone = (places >= first[:, None]) & (places < (first + long)[:, None])
        out = np.where(gone[:, :, None], mean, out)
    return np.asarray(out, np.float32)


def _at(series: Series, places: npt.NDArray[np.float64]) -> Series:
    """The series at places [N, steps] between its steps, linearly."""
    low = np.clip(np.floor(places).astype(np.int64), 0, max(0, series.shape[1] - 2))
    share = (places - low)[:, :, None].astype(np.float32)
    high = np.minimum(low + 1, series.shape[1] - 1)
    rows = np.arange(len(series))[:, None]
    before, after = series[rows, low], series[rows, high]
    # A place on a step is that step, whatever is missing beside it.
    return np.asarray(np.where(share <= 0, before, np.where(share >= 1, after, before + share * (after - before))), np.float32)


SERIES_STEPS: Final[dict[str, Callable[[Series, Any, Random], Series]]] = {
    "jitter": _jitter,
    "scaling": _scaling,
    "time_warp": _time_warp,
    "window": _window,
    "masking": _masking,
}
