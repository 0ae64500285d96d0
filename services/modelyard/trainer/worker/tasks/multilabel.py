"""Pictures of several classes at once, or of none: an answer of its own for each class."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from modelyard.formats.dataset import DatasetReader
from modelyard.formats.model import PictureInput
from modelyard.recipes.augment import Held
from modelyard.recipes.build_image import build
from modelyard.recipes.recipe import Hyperparameters, Recipe
from modelyard.trainer.worker.data import Pictures, Targets
from modelyard.trainer.worker.examples import Batch, Examples
from modelyard.trainer.worker.precision import to_device
from modelyard.trainer.worker.run import Run, Setup
from modelyard.trainer.worker.scoring import VALIDATION_BATCH, scaled
from modelyard.trainer.worker.tasks.classification import Classification


class MultilabelClassification:
    """A task of pictures (tasks.pictures.PictureTask)."""

    task = "image_multilabel"
    fewest_classes = 1

    def targets(self, reader: Pictures, usage: str, picture: PictureInput) -> Targets:
        """Whether each class is there: float32 [N, classes]. Held out by the rarest class that is."""
        if not isinstance(reader, DatasetReader):
            raise AssertionError("labels come from a dataset version")
        there = reader.annotations(usage).several_labels()
        rarest = np.where(there, there.sum(axis=0), len(there) + 1)
        strata = np.where(there.any(axis=1), rarest.argmin(axis=1), there.shape[1]) if there.size else np.zeros(len(there))
        return Targets(torch.from_numpy(there.astype(np.float32)), torch.from_numpy(strata.astype(np.int64)))

    def build(self, recipe: Recipe, picture: PictureInput, classes: int, weights: str) -> nn.Module:
        """A classifier; its logits are taken one by one."""
        height, width, channels = picture.height, picture.width, picture.channels
        return build(recipe.architecture, classes=classes, channels=channels, height=height, width=width, weights=weights)

    def flip(self, sample: Batch) -> bool:
        """What is in a picture is in its mirror image too."""
        return True

    def learning(self, recipe: Recipe, picture: PictureInput, classes: int, training: Examples) -> Multilabel:
        """See Multilabel."""
        return Multilabel()


class _EachClass(nn.Module):
    """Binary cross entropy, mean over classes and pictures."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(logits.float(), targets)


class Multilabel(Classification):
    """See run.Learning. val_map, the mean of the classes' average precision, decides."""

    primary = "val_map"

    def criterion(self, setup: Setup, settings: Hyperparameters) -> nn.Module:
        """See run.Learning."""
        return _EachClass()

    def ready(self, run: Run, batch: Batch, held: Held | None) -> tuple[Tensor, Tensor]:
        """As of a classifier; pictures are not mixed."""
        x, targets = self.augmented(run, batch, held)
        return x, targets

    def evaluate(self, run: Run) -> dict[str, float]:
        """val_map (0 to 1) and val_loss."""
        setup = run.setup
        if not len(setup.validation):
            return {}
        run.module.eval()
        device, loss_of = run.scaling[0].device, _EachClass()
        said, true, loss = [], [], 0.0
        with torch.inference_mode(), run.precision.cast():
            for batch in setup.validation.in_order(VALIDATION_BATCH, rank=setup.group.rank, world_size=setup.group.size):
                logits = run.module(scaled(to_device(batch.pictures, device), run.scaling)).float().cpu()
                loss += float(loss_of(logits, batch.labels)) * len(logits)
                said.append(logits)
                true.append(batch.labels)
        count = sum(len(each) for each in said)
        mean = _mean_average_precision(torch.cat(said).numpy(), torch.cat(true).numpy()) if said else 0.0
        total, weighted, seen = setup.group.sum([loss, mean * count, float(count)])
        return {"val_map": weighted / max(seen, 1.0), "val_loss": total / max(seen, 1.0)}


def _mean_average_precision(
    scores: np.ndarray[tuple[int, int], np.dtype[np.float32]], true: np.ndarray[tuple[int, int], np.dtype[np.float32]]
) -> float:
    """Over the classes that occur: the mean of the precisions at each picture of the class, by falling score."""
    areas = []
    for label in np.flatnonzero(true.any(axis=0)):
        right = true[np.argsort(-scores[:, label], kind="stable"), label]
        areas.append(float((np.cumsum(right) / np.arange(1, len(right) + 1) * right).sum() / right.sum()))
    return float(np.mean(areas)) if areas else 0.0
