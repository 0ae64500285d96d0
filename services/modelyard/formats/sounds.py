"""The one function that turns a sound file into what a model takes: a spectrogram as a grey picture, the same everywhere.

Whatever reads a sound for a model (training, evaluation, export, serving) calls `decode`, so that all a picture's model can be
made into can be made of a sound's too, down to a microcontroller. What it does, for whoever must do it on a device:

1. The channels' mean; a sound shorter than one second stands in the middle of a second of silence.
2. `width` windows of 32 ms whose middles are spread evenly over the sound, each times a Hann window; the squared magnitudes of
its Fourier transform.
3. Sums over `height` triangles that are evenly spread over 60 to 8000 Hz on the mel scale (2595 log10(1 + f / 700)), the lowest
   first; above half the sound's rate there is nothing.
4. Decibels below the loudest value of the sound, from -80 (0) to 0 (255), rounded. Silence is 0.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import InvalidArgument
from modelyard.formats import dataset_audio

WINDOW_S: Final = 0.032
LEAST_S: Final = 1.0
LOWEST_HZ, HIGHEST_HZ = 60.0, 8000.0
RANGE_DB: Final = 80.0
LONGEST_S: Final = 600.0
"""Longer sounds are refused: of ten minutes a picture tells nothing."""
_SILENCE: Final = 1e-10


def is_sound(data: bytes) -> bool:
    """Whether bytes begin as a WAV or FLAC file does."""
    return (data[:4] in (b"RIFF", b"RIFX") and data[8:12] == b"WAVE") or data[:4] == b"fLaC"


def decode(data: bytes, *, height: int, width: int, channels: int = 1, name: str = "sound") -> npt.NDArray[np.uint8]:
    """The spectrogram of a sound file, uint8 [height, width, channels]: bands upwards, time to the right.

    Raises InvalidArgument as dataset_audio.samples does, and SOUND_TOO_LONG.
    """
    info = dataset_audio.probe(data, name=name)
    if info.frames > LONGEST_S * info.rate:
        message = f"{name} lasts {info.frames / info.rate:.0f} s; at most {LONGEST_S:.0f} s are read"
        raise InvalidArgument("SOUND_TOO_LONG", message, file=name)
    samples, rate = dataset_audio.samples(data, name=name)
    picture = spectrogram(samples.mean(axis=1), rate, height, width)
    return np.repeat(picture[:, :, None], channels, axis=2)


def spectrogram(sound: npt.NDArray[np.float32], rate: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Of samples [frames] at `rate` Hz: uint8 [height, width]."""
    size = max(16, round(rate * WINDOW_S))
    length = max(len(sound), round(rate * LEAST_S))
    before = (length - len(sound)) // 2
    padded = np.zeros(length + size, np.float32)
    padded[before + size // 2 : before + size // 2 + len(sound)] = sound
    starts = ((np.arange(width) + 0.5) * length / width).astype(np.int64)
    windows = padded[starts[:, None] + np.arange(size)] * np.hanning(size + 1)[:-1].astype(np.float32)
    power = np.abs(np.fft.rfft(windows.astype(np.float64), axis=1)) ** 2
    bands = power @ triangles(rate, size, height)
    loudest = float(bands.max())
    if loudest <= _SILENCE:
        return np.zeros((height, width), np.uint8)
    decibels = 10 * np.log10(np.maximum(bands / loudest, 10 ** (-RANGE_DB / 10)))
    return np.asarray(np.round(255 * (1 + decibels / RANGE_DB)), dtype=np.uint8).T.copy()


@lru_cache(maxsize=64)
def triangles(rate: int, size: int, bands: int) -> npt.NDArray[Any]:
    """Weights of the bins of a transform of `size` samples at `rate` Hz in each band: [size / 2 + 1, bands], 0 to 1."""
    lowest, highest = (2595 * np.log10(1 + each / 700) for each in (LOWEST_HZ, HIGHEST_HZ))
    edges = 700 * (10 ** (np.linspace(lowest, highest, bands + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(size, 1 / rate)[:, None]
    # A band narrower than a bin still takes the bins beside its middle.
    left = np.minimum(edges[:-2], edges[1:-1] - rate / size)
    right = np.maximum(edges[2:], edges[1:-1] + rate / size)
    rising, falling = (bins - left) / (edges[1:-1] - left), (right - bins) / (right - edges[1:-1])
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)))
