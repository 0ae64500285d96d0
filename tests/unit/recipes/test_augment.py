"""Augmentation: what it changes, what it leaves, and that it is a function of seed and step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from modelyard.recipes import augment
from tests.support.small_training import stripes


def generator(step: int = 0) -> torch.Generator:
    return augment.augment_generator(7, step)


def test_shift_moves_by_a_twentieth_and_repeats_the_edge() -> None:
    picture = torch.arange(28 * 28 * 3, dtype=torch.int64).reshape(1, 28, 28, 3).remainder(251).to(torch.uint8)
    batch = picture.repeat(64, 1, 1, 1)
    moved = augment.shift_and_flip(batch, generator(), flip=False)
    assert (moved.shape, moved.dtype) == (batch.shape, torch.uint8)
    padded = torch.nn.functional.pad(picture.permute(0, 3, 1, 2).float(), (1, 1, 1, 1), mode="replicate")[0].permute(1, 2, 0)
    windows = [padded[y : y + 28, x : x + 28].to(torch.uint8) for y in range(3) for x in range(3)]
    found = {next(number for number, window in enumerate(windows) if torch.equal(each, window)) for each in moved}
    assert len(found) > 5


def test_flip_mirrors_about_half() -> None:
    picture = torch.zeros(200, 4, 20, 1, dtype=torch.uint8)
    picture[:, :, 15:] = 200
    mirrored = augment.shift_and_flip(picture, generator(), flip=True)[:, 0, 2, 0] == 200
    assert 70 < int(mirrored.sum()) < 130


def test_crops_stay_inside_the_picture_and_keep_its_size_and_layout() -> None:
    x = torch.rand(16, 3, 20, 24).to(memory_format=torch.channels_last) * 0.5 + 0.25
    cut = augment.crop_and_resize(x, generator(), flip=True)
    assert cut.shape == x.shape
    assert cut.min() >= x.min() - 1e-6
    assert cut.max() <= x.max() + 1e-6
    assert not torch.equal(cut, x)


def test_colour_gains_stay_in_their_ranges() -> None:
    gain, offset = augment.colour_gains(500, 3, generator())
    assert gain.shape == offset.shape == (500, 3, 1, 1)
    assert 0.75 * 0.92 <= gain.min() < gain.max() <= 1.25 * 1.08
    assert -0.275 <= offset.min() < offset.max() <= 0.275


def test_the_same_seed_and_step_give_the_same_batch_and_others_another() -> None:
    batch = torch.randint(0, 256, (8, 28, 28, 1), dtype=torch.uint8)
    one, two, later = (augment.shift_and_flip(batch, generator(step), flip=True) for step in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, later)


def test_orders_are_permutations_that_differ_by_epoch_and_seed() -> None:
    orders = [augment.epoch_order(seed, epoch, 100) for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert all(sorted(order.tolist()) == list(range(100)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 4


def test_digits_do_not_survive_mirroring_but_symmetric_pictures_do() -> None:
    digits = load_digits()
    assert not augment.mirror_is_safe((digits.images * 15).astype(np.uint8)[..., None], digits.target)
    pictures, labels = stripes(300, classes=3, channels=3)
    assert augment.mirror_is_safe(np.concatenate([pictures, pictures[:, :, ::-1]]), np.concatenate([labels, labels]))


@pytest.mark.parametrize("shape", [(3, 5, 7, 1), (40, 16, 16, 3)])
def test_mirror_is_safe_takes_any_size(shape: tuple[int, ...]) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert isinstance(augment.mirror_is_safe(pictures, np.arange(len(pictures)) % 2), bool)


def test_mixing_is_the_same_for_pictures_and_labels() -> None:
    x = torch.eye(6).reshape(6, 1, 1, 6).expand(6, 2, 3, 6)
    labels = torch.arange(6)
    mixed, targets = augment.mix(x, labels, 6, 0.4, generator(3))
    assert torch.allclose(targets.sum(1), torch.ones(6))
    assert torch.allclose(mixed[:, 0, 0], targets)  # picture i is the unit vector i, so both must be mixed alike
    again, _ = augment.mix(x, labels, 6, 0.4, generator(3))
    assert torch.equal(mixed, again)
    shares = {round(float(augment.mix(x, labels, 6, 0.4, generator(step))[1][0].max()), 4) for step in range(20)}
    assert len(shares) > 15
    assert all(0.5 <= share <= 1 for share in shares)
