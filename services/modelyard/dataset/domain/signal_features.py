"""Sounds and series as vectors, for a quick model of their labels: where their energy lies, and when. Numpy only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SOUND_BANDS, SOUND_PARTS = 32, 10
SOUND_LENGTH = SOUND_BANDS * (SOUND_PARTS + 1) + 1
"""Length of a sound's vector."""

SERIES_POINTS, SERIES_BANDS = 64, 24
_WINDOW_S, _STEP_S = 0.032, 0.016
_MOST_S = 30.0

Floats = npt.NDArray[np.float32]


def sound_features(samples: Floats, rate: int) -> Floats:
    """float32 [SOUND_LENGTH] of a sound, float32 [frames, channels] at `rate` Hz: the logarithm of the energy in bands of equal
    width in mel (Stevens, Volkmann and Newman 1937), in each of SOUND_PARTS parts of its length, how it varies, and how long it
    is. Of long sounds the first 30 seconds."""
    mono = samples[: int(_MOST_S * rate)].mean(axis=1)
    window = max(16, int(_WINDOW_S * rate))
    step = max(8, int(_STEP_S * rate))
    if len(mono) < window + step * (SOUND_PARTS - 1):
        mono = np.pad(mono, (0, window + step * (SOUND_PARTS - 1) - len(mono)))
    frames = np.lib.stride_tricks.sliding_window_view(mono, window)[::step] * np.hanning(window).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(frames, axis=1))).astype(np.float32)
    logs = np.log(power @ _mel_bands(power.shape[1], rate) + 1e-8)
    parts = [part.mean(axis=0) for part in np.array_split(logs, SOUND_PARTS)]
    length = np.log(len(samples) / rate + 1e-3)
    return np.concatenate([*parts, logs.std(axis=0), [length]]).astype(np.float32)


def series_features(values: npt.NDArray[np.float64]) -> Floats:
    """float32 [channels * (SERIES_POINTS + SERIES_BANDS + 5)] of a series, float64 [steps, channels], NaN where missing: its
    course at SERIES_POINTS times, its spectrum in bands, and the mean, spread, ends and roughness of each channel."""
    return np.concatenate([_channel(column) for column in values.T]).astype(np.float32)


def _channel(column: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    known = np.flatnonzero(np.isfinite(column))
    if not len(known):
        return np.zeros(SERIES_POINTS + SERIES_BANDS + 5)
    filled = np.interp(np.arange(len(column)), known, column[known])
    mean, spread = float(filled.mean()), float(filled.std())
    shape = (filled - mean) / (spread if spread > 1e-12 else 1.0)
    course = np.interp(np.linspace(0, len(shape) - 1, SERIES_POINTS), np.arange(len(shape)), shape)
    power = np.square(np.abs(np.fft.rfft(shape)))[1:] if len(shape) > 2 else np.zeros(1)
    bands = [np.log(part.sum() / len(shape) + 1e-6) if len(part) else 0.0 for part in np.array_split(power, SERIES_BANDS)]
    rough = float(np.abs(np.diff(shape)).mean()) if len(shape) > 1 else 0.0
    return np.concatenate([course, bands, [mean, np.log(spread + 1e-9), filled.min(), filled.max(), rough]])


def _mel_bands(bins: int, rate: int) -> Floats:
    """Triangles of equal width in mel from 0 to half the rate: float32 [bins, SOUND_BANDS]."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, SOUND_BANDS + 2) / 2595) - 1)
    hertz = np.linspace(0, rate / 2, bins)
    rising = (hertz[:, None] - edges[None, :-2]) / np.maximum(edges[1:-1] - edges[:-2], 1e-6)
    falling = (edges[None, 2:] - hertz[:, None]) / np.maximum(edges[2:] - edges[1:-1], 1e-6)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
