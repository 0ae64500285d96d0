"""From a dataset version to a model file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.formats.checkpoint import unpack_torch
from modelyard.formats.model import PictureInput, read_model
from modelyard.recipes.build_image import ServedImageModel, build
from modelyard.recipes.recipe import Recipe
from modelyard.trainer.worker.data import hold_out
from modelyard.trainer.worker.image import ImageTrainingSpec, run_image_training
from modelyard.trainer.worker.processors import cgroup_quota, training_threads
from tests.support.small_training import SMALL, KeptHooks, SmallDataset, SmallDescriptor, examples, stripes

RECIPE = Recipe(
    name="micronet",
    task="image_classification",
    architecture="modelyard:micronet",
    input=PictureInput(16, 16, 1),
    hyperparameters=replace(SMALL, max_epochs=6),
)


def spec(**changes: Any) -> ImageTrainingSpec:
    return replace(
        ImageTrainingSpec(SmallDataset(), RECIPE, device="cpu", dataset_version="projects/p/datasets/d/versions/V001"), **changes
    )


def test_the_model_file_answers_as_well_as_the_run_said(tmp_path: Path) -> None:
    result = run_image_training(spec(), KeptHooks(), tmp_path)
    assert result.reason == "COMPLETED"
    assert result.metrics["val_accuracy"] > 0.8
    assert result.model_path is not None
    model = read_model(result.model_path)
    assert model.card == result.card
    assert model.card.classes == ("across", "along", "aslant")
    assert model.card.dataset == {"version": "projects/p/datasets/d/versions/V001", "digest": "0" * 64}
    assert model.card.recipe["hyperparameters"]["max_epochs"] == 6
    module = build(model.card.architecture, classes=3, channels=1, height=16, width=16)
    module.load_state_dict(unpack_torch(model.tensors()))
    assert model.card.normalization is not None
    served = ServedImageModel(module, model.card.normalization.mean, model.card.normalization.std).eval()
    pictures, labels = stripes(30, seed=1)
    with torch.inference_mode():
        answers = served(torch.from_numpy(pictures)).argmax(1).numpy()
    assert float(np.mean(answers == labels)) == pytest.approx(model.card.metrics["val_accuracy"])
    assert sum(each.numel() for each in module.parameters()) == result.parameter_count == model.card.parameter_count


def test_the_same_run_gives_the_same_file(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        result = run_image_training(spec(recipe=RECIPE.with_changes(max_epochs=1)), KeptHooks(), tmp_path / name)
        assert result.model_path is not None
        files.append(result.model_path.read_bytes())
    assert files[0] == files[1]


def test_a_cancelled_run_leaves_a_checkpoint_that_goes_on(tmp_path: Path) -> None:
    hooks = KeptHooks(lambda asked: "cancel" if asked > 10 else "continue")
    cancelled = run_image_training(spec(), hooks, tmp_path)
    assert (cancelled.reason, cancelled.model_path) == ("CANCELLED", None)
    resume = tmp_path / "kept"
    resume.write_bytes(hooks.checkpoints["last"][-1])
    (tmp_path / "again").mkdir()
    again = run_image_training(spec(resume=resume, elapsed_s=100.0), KeptHooks(), tmp_path / "again")
    assert (again.reason, again.steps) == ("COMPLETED", 36)
    assert again.train_seconds > 100


def test_a_wish_to_cancel_is_heard_before_the_first_step(tmp_path: Path) -> None:
    result = run_image_training(spec(), KeptHooks(lambda asked: "cancel"), tmp_path)
    assert (result.reason, result.steps, list(tmp_path.iterdir())) == ("CANCELLED", 0, [])


def test_a_warm_start_takes_the_weights(tmp_path: Path) -> None:
    first = run_image_training(spec(), KeptHooks(), tmp_path)
    (tmp_path / "warm").mkdir()
    barely = RECIPE.with_changes(max_steps=1, base_lr=1e-9)
    hooks = KeptHooks()
    warm = run_image_training(spec(recipe=barely, warm_start=first.model_path), hooks, tmp_path / "warm")
    assert warm.metrics["val_accuracy"] > 0.8
    assert warm.card is not None
    assert first.card is not None
    assert warm.card.normalization == first.card.normalization
    assert hooks.notes == []


def test_a_warm_start_on_other_classes_replaces_the_head(tmp_path: Path) -> None:
    first = run_image_training(spec(recipe=RECIPE.with_changes(max_epochs=1)), KeptHooks(), tmp_path)
    (tmp_path / "warm").mkdir()
    hooks = KeptHooks()
    other = SmallDataset(SmallDescriptor(classes=("a", "b")))
    warm = run_image_training(
        spec(recipe=RECIPE.with_changes(max_epochs=1, backbone_lr=0.1), reader=other, warm_start=first.model_path),
        hooks,
        tmp_path / "warm",
    )
    assert hooks.notes == ["HEAD_REPLACED"]
    assert warm.card is not None
    assert warm.card.classes == ("a", "b")


def test_a_warm_start_from_another_network_is_refused(tmp_path: Path) -> None:
    first = run_image_training(spec(recipe=RECIPE.with_changes(max_epochs=1)), KeptHooks(), tmp_path)
    other = replace(RECIPE, architecture="modelyard:tinynet")
    with pytest.raises(InvalidArgument) as caught:
        run_image_training(spec(recipe=other, warm_start=first.model_path), KeptHooks(), tmp_path)
    assert (caught.value.reason, caught.value.violations[0].field) == ("WARM_START_MISMATCH", "warm_start_model_version")


def test_absent_weights_are_said(tmp_path: Path) -> None:
    hooks = KeptHooks()
    run_image_training(spec(recipe=replace(RECIPE.with_changes(max_epochs=1), weights="imagenet")), hooks, tmp_path)
    assert hooks.notes == ["WEIGHTS_ABSENT"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"reader": SmallDataset(SmallDescriptor(classes=("only",)))}, "NO_CLASSES"),
        ({"reader": SmallDataset(train=0)}, "NO_TRAINING_EXAMPLES"),
        ({"recipe": replace(RECIPE, input=None)}, "NO_INPUT"),
        ({"recipe": RECIPE.with_changes(base_lr=0.0)}, "INVALID_HYPERPARAMETER"),
        ({"recipe": replace(RECIPE, architecture="timm:no_such_net")}, "UNKNOWN_ARCHITECTURE"),
    ],
)
def test_what_cannot_be_trained_is_named(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    with pytest.raises((InvalidArgument, FailedPrecondition)) as caught:
        run_image_training(spec(**change), KeptHooks(), tmp_path)
    assert caught.value.reason == reason
    assert list(tmp_path.iterdir()) == []


def test_without_validation_examples_a_tenth_is_held_out(tmp_path: Path) -> None:
    labels = examples(300).labels
    stay, away = hold_out(labels, seed=0)
    assert (len(stay), len(away)) == (270, 30)
    assert torch.bincount(labels[away]).tolist() == [10, 10, 10]
    assert torch.equal(away, hold_out(labels, seed=0)[1])
    assert [len(each) for each in hold_out(examples(20).labels, seed=0)] == [20, 0]
    result = run_image_training(spec(reader=SmallDataset(validation=0)), KeptHooks(), tmp_path)
    assert 0 < result.metrics["val_accuracy"] <= 1


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_threads_follow_the_quota(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup_quota(tmp_path) == quota
    assert training_threads(tmp_path) >= 1
    if quota == 0.5:
        assert training_threads(tmp_path) == 1
