"""A batch that several processes share: who has which examples, and that each changes its own as one process would."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.recipes import augment
from modelyard.trainer.worker.examples import part, places_of

WORLD = 3


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(1, 9))
def test_every_example_is_in_one_part_and_opposites_are_together(count: int, world: int) -> None:
    parts = [places_of(count, rank, world).tolist() for rank in range(world)]
    assert sorted(place for each in parts for place in each) == list(range(count))
    for each in parts:
        assert [count - 1 - place for place in reversed(each)] == each
    assert max(map(len, parts)) - min(map(len, parts)) <= 2
    assert count < 2 * world or min(map(len, parts)) >= 1


def pictures(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 12, 12, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("count", [31, 64])
@pytest.mark.parametrize("augmentation", ["shift", "crop", "mix"])
def test_parts_are_changed_as_the_whole_batch_is(augmentation: str, count: int) -> None:
    labels = torch.arange(count) % 5

    def changed(batch: torch.Tensor, held: augment.Held | None, names: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        generator = augment.augment_generator(7, 11)
        if augmentation == "shift":
            return augment.shift_and_flip(batch, generator, flip=True, held=held), names
        floats = batch.permute(0, 3, 1, 2).float()
        if augmentation == "crop":
            return augment.crop_and_resize(floats, generator, flip=True, held=held), names
        return augment.mix(floats, names, 5, 0.4, generator)

    whole, names = changed(pictures(count), None, labels)
    for rank in range(WORLD):
        held = augment.Held(count, places_of(count, rank, WORLD))
        own, own_names = changed(part(pictures(count), rank, WORLD), held, part(labels, rank, WORLD))
        assert torch.equal(own, whole[held.places])
        assert torch.equal(own_names, names[held.places])
