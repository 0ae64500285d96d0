"""Spectrograms as other voices, rooms and microphones would have given them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from modelyard.formats.sounds import spectrogram
from modelyard.recipes import augment_voices
from modelyard.recipes.augment import Held, augment_generator
from modelyard.recipes.augment_voices import source_bands, vary_sounds
from modelyard.trainer.worker.examples import places_of

RATE = 16_000


def tone(hertz: float, seconds: float = 0.5) -> np.ndarray:
    """The spectrogram of a tone, uint8 [40, 48]."""
    time = np.arange(int(RATE * seconds)) / RATE
    return spectrogram(np.sin(2 * np.pi * hertz * time).astype(np.float32), RATE, 40, 48)


def batch(count: int = 6) -> torch.Tensor:
    return torch.from_numpy(np.stack([tone(300.0 * (1 + place)) for place in range(count)])[..., None])


def varied(pictures: torch.Tensor, step: int = 0, held: Held | None = None) -> torch.Tensor:
    return vary_sounds(pictures, augment_generator(7, step), held)


def test_it_is_a_function_of_seed_and_step() -> None:
    pictures = batch()
    found = varied(pictures)
    assert found.shape == pictures.shape
    assert found.dtype == torch.float32
    assert 0 <= float(found.min()) <= float(found.max()) <= 255
    assert torch.equal(found, varied(pictures))
    assert not torch.equal(found, varied(pictures, step=1))
    assert float((found - pictures.float()).abs().mean()) > 1
    assert pictures.dtype == torch.uint8, "the data stay as they are"


def test_a_part_of_a_batch_changes_as_it_does_in_the_whole() -> None:
    pictures = batch()
    whole = varied(pictures)
    for rank in (0, 1):
        places = places_of(6, rank, 2)
        assert torch.allclose(varied(pictures[places], held=Held(6, places)), whole[places], atol=1e-3)


@pytest.mark.parametrize("factor", [0.85, 1.0, 1.2])
def test_bands_move_as_the_frequencies_of_another_vocal_tract(factor: float) -> None:
    """What a band shows after stretching is what a sound with all frequencies so much lower has there."""
    heard = 900.0
    bands = source_bands(40, torch.tensor([factor]))[0]
    source = int(tone(heard).max(1).argmax())
    moved = int((bands - source).abs().argmin())
    assert abs(moved - int(tone(heard / factor).max(1).argmax())) <= 1
    if factor == 1:
        assert torch.allclose(bands, torch.arange(40).float(), atol=1e-3)


def test_silence_stays_silence_but_for_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = torch.zeros((4, 40, 48, 1), dtype=torch.uint8)
    monkeypatch.setattr(augment_voices, "NOISY", 0.0)
    assert float(varied(silent).max()) == 0
    monkeypatch.setattr(augment_voices, "NOISY", 1.0)
    assert float(varied(silent).max()) > 0


def test_the_loudest_value_stays_the_loudest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels are relative to it in every spectrogram that a model meets."""
    for name in ("NOISY", "HIDDEN_BANDS", "HIDDEN_TIME"):
        monkeypatch.setattr(augment_voices, name, 0.0)
    assert torch.allclose(varied(batch()).amax((1, 2, 3)), torch.tensor(255.0))


def test_something_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment_voices, "NOISY", 0.0)
    full = torch.full((40, 40, 48, 1), 200, dtype=torch.uint8)
    found = varied(full)[..., 0]
    assert int((found.amax(2) == 0).any(1).sum()) > 20, "bands"
    assert float((found == 0).float().mean()) < 0.6
