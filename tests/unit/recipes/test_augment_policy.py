"""Policies at work: the same for the same step, whatever part of the batch; things, boxes and masks move together; numbers stay
in range."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.recipes.augment import Held, augment_generator
from modelyard.recipes.augment_policy import Draws, Moves, changed, drawn_moves, mixed
from modelyard.recipes.augment_series import changed_series, copies_of
from modelyard.recipes.policy import FORMS, PLACES, check_policy, named_policy
from modelyard.recipes.steps import Step
from modelyard.trainer.worker.examples import places_of
from modelyard.trainer.worker.tasks.segmentation import seen_masks


def pictures(count: int = 6, height: int = 24, width: int = 32, channels: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, height, width, channels), dtype=np.uint8))


def policy(task: str, *steps: Step) -> tuple[Step, ...]:
    return check_policy(steps, task)


EVERYTHING = policy(
    "image_classification",
    *(Step(name, {"probability": 0.7}) for name in FORMS["image_classification"] if name not in ("mixup", "cutmix")),
)
SOUNDS = policy(
    "audio_classification", *(Step(name, {"probability": 0.7}) for name in FORMS["audio_classification"] if name != "mixup")
)


@pytest.mark.parametrize(("steps", "channels"), [(EVERYTHING, 3), (EVERYTHING, 1), (SOUNDS, 1), (SOUNDS, 3)])
def test_the_same_step_gives_the_same_and_parts_are_changed_as_the_whole(steps: tuple[Step, ...], channels: int) -> None:
    batch = pictures(7, channels=channels)
    whole, _ = changed(batch, steps, augment_generator(3, 11), None, safe=True)
    again, _ = changed(batch, steps, augment_generator(3, 11), None, safe=True)
    other, _ = changed(batch, steps, augment_generator(3, 12), None, safe=True)
    assert torch.equal(whole, again)
    assert not torch.equal(whole, other)
    assert whole.shape == (7, channels, 24, 32)
    assert torch.isfinite(whole).all()
    assert float(whole.min()) >= 0
    assert float(whole.max()) <= 255
    for rank in range(2):
        places = places_of(7, rank, 2)
        part, _ = changed(batch[places], steps, augment_generator(3, 11), Held(7, places), safe=True)
        torch.testing.assert_close(part, whole[places], atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", [*FORMS["image_classification"], *FORMS["audio_classification"]])
def test_each_step_changes_what_its_chance_says(name: str) -> None:
    if name in ("mixup", "cutmix"):
        return
    task = "image_classification" if name in FORMS["image_classification"] else "audio_classification"
    batch = pictures(40)
    generator = augment_generator(0, 0)
    never, _ = changed(batch, policy(task, Step(name, {"probability": 0.0})), generator, None, safe=True)
    torch.testing.assert_close(never, batch.permute(0, 3, 1, 2).float(), atol=1e-2, rtol=0)
    half, _ = changed(batch, policy(task, Step(name, {"probability": 0.5})), generator, None, safe=True)
    differ = ((half - batch.permute(0, 3, 1, 2)).abs().amax((1, 2, 3)) > 0.5).sum()
    assert 5 <= int(differ) <= 35, "about half of forty"


def test_mirroring_is_left_out_where_it_is_not_safe() -> None:
    batch = pictures()
    steps = policy("image_classification", Step("flip", {"only_safe": True, "probability": 1.0}))
    unsafe, _ = changed(batch, steps, augment_generator(0, 0), None, safe=False)
    safe, _ = changed(batch, steps, augment_generator(0, 0), None, safe=True)
    plain = batch.permute(0, 3, 1, 2).float()
    torch.testing.assert_close(unsafe, plain, atol=1e-2, rtol=0)
    torch.testing.assert_close(safe, plain.flip(3), atol=1e-2, rtol=0)


def marked(count: int, size: tuple[int, int], random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """White rectangles on black, their boxes, and their masks."""
    height, width = size
    batch = torch.zeros(count, height, width, 1, dtype=torch.uint8)
    boxes = torch.full((count, 2, 5), -1.0)
    for place in range(count):
        top, left = (int(random.integers(side // 4, side // 2)) for side in size)
        high, wide = (int(random.integers(side // 6, side // 3)) for side in size)
        batch[place, top : top + high, left : left + wide] = 255
        boxes[place, 0] = torch.tensor([1.0, left / width, top / height, (left + wide) / width, (top + high) / height])
    return batch, boxes, (batch[..., 0] > 127).to(torch.uint8)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(48, 48), (40, 72)]), st.lists(st.sampled_from(PLACES), min_size=1, max_size=3))
def test_boxes_and_masks_move_with_the_picture(seed: int, size: tuple[int, int], names: list[str]) -> None:
    given_settings = {"shift": {"share": 0.1}, "crop": {"least": 0.6}, "rotate": {"degrees": 20.0}}
    steps = policy("object_detection", *(Step(name, {"probability": 1.0, **given_settings.get(name, {})}) for name in names))
    batch, objects, masks = marked(4, size, np.random.default_rng(seed))
    x, moves = changed(batch, steps, augment_generator(seed, 0), None, safe=True)
    assert moves is not None
    found = moves.objects(objects)
    moved_masks = seen_masks(masks, moves)
    assert (found[:, 1, 0] == -1).all(), "what was no object stays none"
    for place in range(4):
        white = x[place, 0] > 127
        mask = moved_masks[place] == 1
        rows, columns = torch.nonzero(white, as_tuple=True)
        agree = (white & mask).sum() / max(1, int((white | mask).sum()))
        assert agree > 0.7 or int(white.sum()) < 30, "the mask lies on the rectangle"
        if found[place, 0, 0] < 0 or len(rows) < 30:
            continue
        seen = torch.stack(
            [columns.min() / size[1], rows.min() / size[0], (columns.max() + 1) / size[1], (rows.max() + 1) / size[0]]
        )
        assert float((seen - found[place, 0, 1:]).abs().max()) < 0.09, "the box lies around the rectangle"


def test_places_without_a_picture_are_ignored_in_masks() -> None:
    moves = Moves(torch.eye(3).repeat(1, 1, 1))
    moves.theta[0, 0, 2] = 1.0
    masks = torch.zeros(1, 8, 8, dtype=torch.uint8)
    assert seen_masks(masks, moves)[0, 0].tolist() == [0] * 4 + [255] * 4


@given(st.integers(0, 100), st.floats(-1.5, 1.5), st.floats(-1.5, 1.5))
@settings(deadline=None, max_examples=15)
def test_points_go_where_the_picture_shows_them(seed: int, u: float, v: float) -> None:
    steps = policy("image_classification", Step("rotate"), Step("zoom"), Step("shift"), Step("flip"))
    moves, _ = drawn_moves(steps, (30, 50), Draws(1, augment_generator(seed, 0)), safe=True)
    assert moves is not None
    shown = torch.tensor([u, v, 1.0])
    source = (moves.theta[0] @ shown)[:2]
    back = moves.points(((source + 1) / 2)[None, None])[0, 0] * 2 - 1
    torch.testing.assert_close(back, shown[:2], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_pairs_are_mixed_with_their_labels(name: str) -> None:
    batch = torch.stack([torch.full((1, 8, 8), float(label)) for label in (0, 1, 1, 0)])
    labels = torch.tensor([0, 1, 1, 0])
    x, targets = mixed(
        batch, labels, 2, policy("image_classification", Step(name, {"probability": 1.0})), augment_generator(1, 1)
    )
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
    torch.testing.assert_close(x.mean((1, 2, 3)), targets[:, 1], atol=1e-5, rtol=0)
    plain, same = mixed(
        batch, labels, 2, policy("image_classification", Step(name, {"probability": 0.0})), augment_generator(1, 1)
    )
    assert torch.equal(plain, batch)
    torch.testing.assert_close(same, torch.nn.functional.one_hot(labels, 2).float())
    assert mixed(batch, labels, 2, (), augment_generator(1, 1))[1] is labels


def test_silence_stays_silence_and_masked_bands_are_silent() -> None:
    silence = torch.zeros(3, 16, 20, 1, dtype=torch.uint8)
    steps = policy(
        "audio_classification", Step("gain"), Step("time_shift"), Step("spec_augment"), Step("speed", {"probability": 1.0})
    )
    assert float(changed(silence, steps, augment_generator(0, 0), None, safe=False)[0].max()) == 0
    loud = torch.full((3, 16, 20, 1), 200, dtype=torch.uint8)
    masked, _ = changed(
        loud,
        policy("audio_classification", Step("spec_augment", {"bands": 0.9, "frames": 0.9})),
        augment_generator(0, 0),
        None,
        safe=False,
    )
    assert set(masked.unique().tolist()) == {0.0, 200.0}


@pytest.mark.parametrize("name", ["light", "standard", "strong"])
def test_series_are_changed_alike_for_the_same_seed(name: str) -> None:
    series = np.random.default_rng(1).normal(size=(6, 40, 2)).cumsum(axis=1).astype(np.float32)
    series[0, 5:9] = np.nan
    steps = named_policy("series_classification", name)
    one, same, other = (changed_series(series, steps, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other, equal_nan=True)
    assert one.shape == series.shape
    assert one.dtype == np.float32
    assert np.isfinite(one[1:]).all()
    assert copies_of(steps) == {"light": 2, "standard": 4, "strong": 8}[name]
    assert copies_of(()) == 0


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 30), st.integers(1, 3), st.integers(0, 50))
def test_any_series_can_be_changed(steps: int, channels: int, seed: int) -> None:
    series = np.random.default_rng(seed).normal(size=(3, steps, channels)).astype(np.float32)
    series[0] = np.nan
    out = changed_series(series, named_policy("series_classification", "strong"), seed)
    assert out.shape == series.shape
    assert np.isfinite(out[1:]).all()
    assert not np.isinf(out).any()
