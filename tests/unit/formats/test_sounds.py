"""Sounds as spectrograms."""

from __future__ import annotations

import numpy as np
import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.formats.dataset_audio import write_wav
from modelyard.formats.decoding_any import decode_example
from modelyard.formats.pictures import encode_png
from modelyard.formats.sounds import decode, is_sound, spectrogram


def tone(hertz: float, rate: int = 16_000, seconds: float = 1.0, loud: float = 0.5) -> np.ndarray:
    return (loud * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def wav(samples: np.ndarray, rate: int = 16_000) -> bytes:
    return write_wav((samples * 32767).astype(np.int16), rate)


def band_of(hertz: float, rate: int = 16_000) -> int:
    return int(spectrogram(tone(hertz, rate), rate, 40, 20).mean(axis=1).argmax())


def test_higher_tones_stand_higher() -> None:
    bands = [band_of(hertz) for hertz in (200, 500, 1000, 2000, 4000, 7000)]
    assert bands == sorted(set(bands))


def test_the_rate_moves_no_band() -> None:
    for hertz in (300, 1000, 3000):
        assert abs(band_of(hertz, 8000) - band_of(hertz, 44_100)) <= 1


def test_loudness_changes_nothing_and_silence_is_black() -> None:
    quiet, loud = (spectrogram(tone(440, loud=each), 16_000, 40, 48) for each in (0.01, 0.9))
    assert np.abs(quiet.astype(int) - loud).max() <= 1
    assert not spectrogram(np.zeros(16_000, np.float32), 16_000, 40, 48).any()


def test_a_short_sound_stands_in_the_middle_of_a_second() -> None:
    picture = spectrogram(tone(1000, seconds=0.2), 16_000, 40, 50).max(axis=0)
    assert picture[:15].max() < 130 < picture[22:28].min()
    assert picture[-15:].max() < 130


@pytest.mark.parametrize("rate", [4000, 8000, 16_000, 48_000])
@pytest.mark.parametrize("frames", [1, 50, 100_000])
def test_any_length_and_rate_gives_the_wanted_size(rate: int, frames: int) -> None:
    data = wav(tone(440, rate, frames / rate)[:frames], rate)
    picture = decode(data, height=40, width=48)
    assert picture.shape == (40, 48, 1)
    assert picture.dtype == np.uint8


def test_the_bytes_say_what_an_example_is() -> None:
    assert is_sound(wav(tone(440)))
    png = encode_png(np.full((4, 4), 200, np.uint8))
    assert not is_sound(png)
    assert decode_example(png, height=4, width=4, channels=1).min() == 200
    assert decode_example(wav(tone(440)), height=40, width=8, channels=1).shape == (40, 8, 1)


@pytest.mark.parametrize(("data", "reason"), [(b"", "EMPTY_FILE"), (wav(tone(440))[:200], "TRUNCATED_SOUND")])
def test_what_is_no_sound_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode(data, height=40, width=48)
    assert caught.value.reason == reason


def test_a_sound_of_hours_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="600 s") as caught:
        decode(wav(np.zeros(700 * 100, np.float32), 100), height=40, width=48)
    assert caught.value.reason == "SOUND_TOO_LONG"
