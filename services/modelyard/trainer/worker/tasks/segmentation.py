"""Semantic segmentation: pictures with masks, mean intersection over union of the classes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from modelyard.core.errors import FailedPrecondition, ResourceExhausted
from modelyard.formats.dataset import DatasetReader
from modelyard.formats.model import PictureInput
from modelyard.recipes import augment
from modelyard.recipes.augment import Held
from modelyard.recipes.augment_marked import drawn_view, see
from modelyard.recipes.augment_policy import Moves
from modelyard.recipes.build_segmenter import IGNORED, SegmentationLoss, build_segmenter, enlarged
from modelyard.recipes.recipe import Hyperparameters, Recipe
from modelyard.trainer.worker.data import Pictures, Targets
from modelyard.trainer.worker.examples import Batch, Examples
from modelyard.trainer.worker.precision import to_device
from modelyard.trainer.worker.run import Run, Setup
from modelyard.trainer.worker.scoring import VALIDATION_BATCH, scaled
from modelyard.trainer.worker.streamed import memory_for_data
from modelyard.trainer.worker.tasks.classification import changed_pictures, tinted_pictures

LEAST_WEIGHT, MOST_WEIGHT = 0.3, 4.0
"""Of a class in the loss: classes of few pixels count more, but not so much that noise rules."""


class SemanticSegmentation:
    """A task of pictures (tasks.pictures.PictureTask)."""

    task = "semantic_segmentation"
    fewest_classes = 2

    def targets(self, reader: Pictures, usage: str, picture: PictureInput) -> Targets:
        """Masks uint8 [N, H, W] at the model's size (nearest pixel). Raises ResourceExhausted MASKS_TOO_LARGE."""
        if not isinstance(reader, DatasetReader):
            raise AssertionError("masks come from a dataset version")
        count = len(reader.indices(usage))
        size, room = count * picture.height * picture.width, memory_for_data(0) // 2
        if size > room:
            sides = f"{picture.width} x {picture.height}"
            message = f"the {count} masks of {usage} take {size >> 20} MiB at {sides}; {room >> 20} MiB are free"
            raise ResourceExhausted("MASKS_TOO_LARGE", message, field="recipe.input_height", value=size)
        masks = np.empty((count, picture.height, picture.width), np.uint8)
        annotated = reader.annotations(usage)
        for place in range(count):
            masks[place] = resized_mask(annotated.mask(place), picture.height, picture.width)
        return Targets(torch.from_numpy(masks), torch.zeros(count, dtype=torch.int64))

    def build(self, recipe: Recipe, picture: PictureInput, classes: int, weights: str) -> nn.Module:
        """See recipes.build_segmenter."""
        return build_segmenter(recipe.architecture, classes=classes, channels=picture.channels, weights=weights)

    def flip(self, sample: Batch) -> bool:
        """What things are is the same in a mirror."""
        return True

    def learning(self, recipe: Recipe, picture: PictureInput, classes: int, training: Examples) -> Segmentation:
        """See Segmentation."""
        counts = torch.bincount(training.labels.flatten(), minlength=256)[:classes].double()
        if not bool(counts.any()):
            raise FailedPrecondition(
                "NO_MASKS", "every pixel of the training masks is ignored; a segmenter learns from the others"
            )
        shares = counts / counts.sum()
        weights = (shares[shares > 0].median() / shares.clamp(min=1e-9)).sqrt().clamp(LEAST_WEIGHT, MOST_WEIGHT)
        return Segmentation(classes, torch.where(counts > 0, weights, torch.zeros_like(weights)).float())


class Segmentation:
    """See run.Learning. val_mean_iou decides."""

    primary = "val_mean_iou"

    def __init__(self, classes: int, weights: Tensor) -> None:
        self._classes = classes
        self._weights = weights

    def criterion(self, setup: Setup, settings: Hyperparameters) -> nn.Module:
        """See run.Learning. Classes are weighed by the square root of their rareness."""
        return SegmentationLoss(self._weights)

    def ready(self, run: Run, batch: Batch, held: Held | None) -> tuple[Tensor, Tensor]:
        """Pictures float [n, C, H, W]; masks uint8 [n, H, W], ignored where the view goes beyond the picture."""
        device, level = run.scaling[0].device, run.settings.augmentation
        pictures, masks = to_device(batch.pictures, device), to_device(batch.labels, device)
        if level == "none" and not run.setup.policy:
            return scaled(pictures, run.scaling), masks
        generator = augment.augment_generator(run.settings.seed, run.step)
        if run.setup.policy:
            x, moves = changed_pictures(run, pictures, generator, held)
            return x, masks if moves is None else seen_masks(masks, moves)
        standard = level == "standard"
        x = tinted_pictures(run, pictures, generator, held) if standard else scaled(pictures, run.scaling)
        least, most = (0.6, 1.2) if standard else (0.9, 1.1)
        view = drawn_view(len(x), generator, flip=run.setup.flip, least=least, most=most, held=held)
        # Shifted by one less than "ignored", so that what lies outside (0) is told from the class 0.
        marked = (masks.to(torch.float32) - IGNORED)[:, None]
        seen = see(marked, view, nearest=True, padding="zeros")[:, 0] + IGNORED
        return see(x, view), seen.round().to(torch.uint8)

    def evaluate(self, run: Run) -> dict[str, float]:
        """val_mean_iou over the classes that occur or are predicted, val_pixel_accuracy (0 to 1) and val_loss."""
        setup = run.setup
        if not len(setup.validation):
            return {}
        run.module.eval()
        device, loss, pictures = run.scaling[0].device, 0.0, 0
        loss_of = SegmentationLoss(self._weights).to(device)
        table = torch.zeros(self._classes * self._classes, dtype=torch.int64, device=device)
        with torch.inference_mode(), run.precision.cast():
            size = max(1, VALIDATION_BATCH // 16)
            for batch in setup.validation.in_order(size, rank=setup.group.rank, world_size=setup.group.size):
                masks = to_device(batch.labels, device)
                maps = run.module(scaled(to_device(batch.pictures, device), run.scaling)).float()
                loss, pictures = loss + float(loss_of(maps, masks)) * len(maps), pictures + len(maps)
                judged = masks < self._classes
                said = enlarged(maps).argmax(1)
                table += torch.bincount(masks[judged].long() * self._classes + said[judged], minlength=len(table))
        total, seen, *counted = setup.group.sum([loss, float(pictures), *table.double().tolist()])
        return {**_overlaps(np.array(counted).reshape(self._classes, -1)), "val_loss": total / max(seen, 1.0)}


def seen_masks(masks: Tensor, moves: Moves) -> Tensor:
    """Masks uint8 [n, H, W] moved with their pictures; ignored where the new ones go beyond the old."""
    marked = (masks.to(torch.float32) - IGNORED)[:, None]
    return (moves.see(marked, nearest=True, padding="zeros")[:, 0] + IGNORED).round().to(torch.uint8)


def _overlaps(table: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> dict[str, float]:
    """Of pixels by true and predicted class [K, K]."""
    right, both = np.diag(table), table.sum(0) + table.sum(1)
    known = both > 0
    ious = right[known] / (both - right)[known]
    whole = table.sum()
    return {
        "val_mean_iou": float(ious.mean()) if known.any() else 0.0,
        "val_pixel_accuracy": float(right.sum() / whole) if whole else 0.0,
    }


def resized_mask(
    mask: np.ndarray[tuple[int, int], np.dtype[np.uint8]], height: int, width: int
) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """A mask uint8 [h, w] at another size: the pixel in whose middle the new one's middle lies."""
    rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(np.int64)
    out: np.ndarray[tuple[int, int], np.dtype[np.uint8]] = mask[rows[:, None], columns]
    return out
