"""Two processes train a detector, a segmenter and a finder of points as one would: each task's losses add up over the parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from modelyard.formats.dataset import KEYPOINT_DETECTION, OBJECT_DETECTION, SEMANTIC_SEGMENTATION
from modelyard.formats.model import PictureInput
from modelyard.recipes.recipe import Hyperparameters, Recipe
from modelyard.trainer.worker.group import Group
from modelyard.trainer.worker.image import ImageTrainingSpec, run_image_training
from tests.support.datasets import file_store, open_reader
from tests.support.meters import publish_meters
from tests.support.shapes import SIDE, publish_shapes
from tests.support.small_training import KeptHooks
from tests.support.training_groups import in_folder, together

ARCHITECTURES = {
    OBJECT_DETECTION: "modelyard:pyramid_micro",
    SEMANTIC_SEGMENTATION: "modelyard:pyramid_micro",
    KEYPOINT_DETECTION: "modelyard:points_micro",
}
COUNTS = {"train": 16, "validation": 4}
SETTINGS = Hyperparameters(max_epochs=2, batch_size=8, optimizer="sgd", base_lr=0.01, warmup_steps=0, augmentation="light")
TOLERANCE = 1e-3
"""Distance of all weights, as a share of their length: sums are cut otherwise, no more."""


def trained(task: str, store_folder: Path, folder: Path, group: Group | None = None) -> dict[str, np.ndarray]:
    """The weights, and metrics under names of their own. In a group every process has the same store."""
    torch.set_num_threads(1)
    store = file_store(store_folder)
    if task == KEYPOINT_DETECTION:
        descriptor = publish_meters(store, COUNTS, width=SIDE, height=SIDE)
    else:
        descriptor = publish_shapes(store, task, COUNTS)
    recipe = Recipe("r", task, ARCHITECTURES[task], PictureInput(SIDE, SIDE, 3), SETTINGS)
    with open_reader(store, descriptor) as reader:
        spec = ImageTrainingSpec(reader, recipe)
        result = run_image_training(replace(spec, group=group) if group else spec, KeptHooks(), folder)
    if result.model_path is None:
        return {}
    from modelyard.formats.model import read_model

    return {**read_model(result.model_path).tensors(), **{f"metric/{name}": np.array(v) for name, v in result.metrics.items()}}


def in_two(group: Group, folder: Path) -> None:
    own = in_folder(folder, group)
    for task in ARCHITECTURES:
        work = own / task
        work.mkdir()
        found = trained(task, own / "artifacts", work, group)
        if group.lead:
            np.savez(folder / f"{task}.npz", **found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    together(2, in_two, folder)
    return folder


@pytest.mark.parametrize("task", list(ARCHITECTURES))
def test_two_processes_learn_what_one_does(task: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelyard.trainer.worker.image.training_threads", lambda: 1)
    alone = trained(task, tmp_path / "artifacts", tmp_path)
    with np.load(folder / f"{task}.npz") as together_:
        assert set(together_) == set(alone)
        names = [name for name in alone if not name.startswith("metric/") and alone[name].dtype.kind == "f"]
        apart = sum(float(((together_[name] - alone[name]) ** 2).sum()) for name in names)
        length = sum(float((alone[name] ** 2).sum()) for name in names)
        losses = float(together_["metric/val_loss"]), float(alone["metric/val_loss"])
    assert (apart / length) ** 0.5 < TOLERANCE
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
