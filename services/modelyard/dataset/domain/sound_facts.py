"""What there is to measure of a sound: levels, clipping, offset, how it ends, and a picture of its spectrum to compare it by.

The spectrum is kept as grey values uint8 [16, 16]: 16 bands, evenly spaced on the mel scale (Stevens, Volkmann and Newman 1937,
in O'Shaughnessy's formula), by 16 slices of the time from the first to the last audible moment, in decibels below the loudest. So
it does not depend on loudness, silence around, sample rate or channels, and domain.near compares sounds as it does thumbnails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain.near import THUMBNAIL

Floats = npt.NDArray[np.float64]
Samples = npt.NDArray[np.float32]

FLAT_RUN = 3
"""So many equal samples in a row at a sound's own peak are a flat top: the wave was cut."""

AUDIBLE = 0.01
"""Share of the loudest moment (-40 dB) from which a moment belongs to the sound and not to the silence around."""

_FLOOR_DB = 40.0
_LONGEST_S = 60.0
_MOMENT_S = 0.025
_END_S = 0.010
_WINDOW_S = 0.064
_MOST_FRAMES = 600


@dataclass(frozen=True)
class SoundFacts:
    """Of N sounds, float64 [N] each; amplitudes are 0 to 1, shares 0 to 1.

    level: root mean square of the loudest moment (25 ms). peak: largest amplitude. offset: mean of the
    samples. clipped: share of the samples in flat tops. side: level of the difference of two channels to their own level (NaN
    with one). beginning, end: level of the first and the last 10 ms to the level of the whole. active: seconds between the first
    and the last audible moment. broken: share of the samples that are no numbers (NaN, infinity), taken as 0.
    spectra uint8 [N, 16, 16].
    """

    level: Floats
    peak: Floats
    offset: Floats
    clipped: Floats
    side: Floats
    beginning: Floats
    end: Floats
    active: Floats
    broken: Floats
    spectra: npt.NDArray[np.uint8]


Measured = tuple[tuple[float, ...], npt.NDArray[np.uint8]]
"""The numbers of one sound in the order of SoundFacts, and its spectrum."""


def measure(samples: Samples, rate: int) -> Measured:
    """Measures float32 [frames, channels] (at least one frame) at `rate` Hz. Of a sound over a minute, the first minute."""
    kept = samples[: max(1, int(_LONGEST_S * rate))].astype(np.float64)
    finite = np.isfinite(kept)
    broken = 1 - float(finite.mean())
    if broken:
        kept = np.where(finite, kept, 0.0)
    mono = kept.mean(axis=1)
    side = _side(kept)
    offset = float(mono.mean())
    peak = float(np.abs(kept).max())
    moving = mono - offset
    moments, hop = _levels(moving, max(1, int(_MOMENT_S * rate)))
    whole = float(np.sqrt(np.mean(moving**2)))
    level = float(moments.max())
    ends = max(1, int(_END_S * rate))
    first, last = (float(np.sqrt(np.mean(part**2))) / max(whole, 1e-12) for part in (moving[:ends], moving[-ends:]))
    heard = np.flatnonzero(moments >= AUDIBLE * max(float(moments.max()), 1e-12))
    width = max(1, int(_MOMENT_S * rate))
    active = moving[heard[0] * hop : heard[-1] * hop + width] if len(heard) else moving
    clipped = max(_clipped(kept[:, channel]) for channel in range(kept.shape[1]))
    numbers = (level, peak, offset, clipped, side, first, last, len(active) / rate, broken)
    return numbers, spectrum(active, rate)


def gathered(measured: Sequence[Measured]) -> SoundFacts:
    """Many measurements as arrays."""
    numbers = np.asarray([each[0] for each in measured], dtype=np.float64).reshape(-1, 9)
    spectra = np.stack([each[1] for each in measured]) if measured else np.empty((0, THUMBNAIL, THUMBNAIL), np.uint8)
    level, peak, offset, clipped, side, beginning, end, active, broken = (numbers[:, place] for place in range(9))
    return SoundFacts(level, peak, offset, clipped, side, beginning, end, active, broken, spectra)


def spectrum(mono: Floats, rate: int) -> npt.NDArray[np.uint8]:
    """The spectrum of float64 [frames] as uint8 [16, 16]: band by slice of time, 255 the loudest, 0 forty decibels below."""
    size = max(64, 2 ** round(np.log2(_WINDOW_S * rate)))
    padded = np.pad(mono, (0, max(0, size - len(mono))))
    step = max(1, (len(padded) - size) // (_MOST_FRAMES - 1), min(size // 16, (len(padded) - size) // (8 * THUMBNAIL)))
    frames = np.lib.stride_tricks.sliding_window_view(padded.astype(np.float32), size)[::step]
    power = np.abs(np.fft.rfft(frames * np.hanning(size).astype(np.float32), axis=1)) ** 2
    bands = power @ _mel_bands(size, rate)
    starts = np.linspace(0, len(bands), THUMBNAIL, endpoint=False).astype(np.int64)
    grid = np.add.reduceat(bands, starts) / np.maximum(np.diff(np.append(starts, len(bands))), 1)[:, None]
    decibels = 10 * np.log10(np.maximum(grid, 1e-12) / max(float(grid.max()), 1e-12))
    return np.asarray(np.round(255 * np.clip(1 + decibels / _FLOOR_DB, 0, 1)).T, dtype=np.uint8)


@lru_cache(maxsize=16)
def _mel_bands(size: int, rate: int) -> Floats:
    """Triangles, evenly spaced in mel from 60 Hz to 4000 Hz or half the rate: float64 [size / 2 + 1, 16]."""
    top = min(4000.0, rate / 2)
    edges = _hertz(np.linspace(_mel(60.0), _mel(top), THUMBNAIL + 2))
    frequencies = np.fft.rfftfreq(size, 1 / rate)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies - low) / np.maximum(middle - low, 1e-9)
    falling = (high - frequencies) / np.maximum(high - middle, 1e-9)
    bands = np.clip(np.minimum(rising, falling), 0, None)
    nearest = np.abs(frequencies - middle).argmin(axis=0)
    bands[nearest, np.arange(THUMBNAIL)] = np.maximum(bands[nearest, np.arange(THUMBNAIL)], 1e-3)  # narrow bands have no line
    return np.asarray(bands, dtype=np.float64)


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _hertz(mel: Floats) -> Floats:
    return np.asarray(700 * (10 ** (mel / 2595) - 1), dtype=np.float64)


def _levels(values: Floats, width: int) -> tuple[Floats, int]:
    """Root mean square of moments of `width` samples that begin every tenth of it, and that step."""
    hop = max(1, width // 10)
    sums = np.concatenate([[0.0], np.cumsum(np.square(values))])
    starts = np.arange(0, max(1, len(values) - width + 1), hop)
    ends = np.minimum(starts + width, len(values))
    return np.sqrt(np.maximum(sums[ends] - sums[starts], 0) / (ends - starts)), hop


def _side(samples: Floats) -> float:
    if samples.shape[1] < 2:
        return float("nan")
    level = float(np.sqrt(np.mean(samples[:, :2] ** 2)))
    return float(np.sqrt(np.mean((samples[:, 0] - samples[:, 1]) ** 2))) / max(level, 1e-12)


def _clipped(values: Floats) -> float:
    """Share of the samples in flat tops: three or more equal samples in a row within a hundredth of the peak of their sign."""
    high, low = float(values.max()), float(values.min())
    top = ((values >= 0.99 * high) & (high > 0)) | ((values <= 0.99 * low) & (low < 0))
    same = np.concatenate([[False], (np.diff(values) == 0) & top[1:] & top[:-1], [False]])
    edges = np.flatnonzero(np.diff(same.astype(np.int8)))
    lengths = (edges[1::2] - edges[::2]) + 1
    return float(lengths[lengths >= FLAT_RUN].sum()) / len(values)
