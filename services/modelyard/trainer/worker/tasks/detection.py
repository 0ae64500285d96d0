"""Detection of objects: pictures with boxes, a detector of recipes.build_detector, mAP at an overlap of 0.5."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from modelyard.core.errors import FailedPrecondition
from modelyard.formats.dataset import DatasetReader
from modelyard.formats.model import PictureInput
from modelyard.recipes import augment
from modelyard.recipes.augment import Held, mirror_is_safe
from modelyard.recipes.augment_marked import drawn_view, see, seen_objects
from modelyard.recipes.build_detector import BoxDecoder, DetectionLoss, build_detector, rendered
from modelyard.recipes.recipe import Hyperparameters, Recipe
from modelyard.trainer.worker.data import Pictures, Targets
from modelyard.trainer.worker.examples import Batch, Examples
from modelyard.trainer.worker.precision import to_device
from modelyard.trainer.worker.run import Run, Setup
from modelyard.trainer.worker.scoring import VALIDATION_BATCH, scaled
from modelyard.trainer.worker.tasks.average_precision import Found, mean_average_precision
from modelyard.trainer.worker.tasks.classification import changed_pictures, tinted_pictures

MOST_OBJECTS = 200
"""Boxes of a picture that are learned; of more the largest."""
CROPPED = 24
"""Pixels that objects are shrunk to when it is judged whether they may be mirrored."""


class ObjectDetection:
    """A task of pictures (tasks.catalogue.PictureTask)."""

    task = "object_detection"
    fewest_classes = 1

    def targets(self, reader: Pictures, usage: str, picture: PictureInput) -> Targets:
        """Objects float32 [N, M, 5]: class (-1 where there is no more object), box (0 to 1). Held out by the rarest class."""
        marks, sizes = _marks_of(reader, usage)
        return Targets(*object_targets(marks, sizes, len(reader.descriptor.classes)))

    def build(self, recipe: Recipe, picture: PictureInput, classes: int, weights: str) -> nn.Module:
        """See recipes.build_detector."""
        return build_detector(recipe.architecture, classes=classes, channels=picture.channels, weights=weights)

    def flip(self, sample: Batch) -> bool:
        """Judged on the objects cut out: signs and letters are not to be mirrored."""
        crops, labels = _cut_out(sample)
        return len(crops) < 2 or mirror_is_safe(crops, labels)

    def learning(self, recipe: Recipe, picture: PictureInput, classes: int, training: Examples) -> Detection:
        """See Detection."""
        objects = training.labels
        if not bool((objects[..., 0] >= 0).any()):
            raise FailedPrecondition("NO_OBJECTS", "no training picture has a box with an area; a detector learns from boxes")
        return Detection(classes, float((objects[..., 0] >= 0).sum()) / len(objects))


class Detection:
    """See run.Learning. val_map_50 decides."""

    primary = "val_map_50"

    def __init__(self, classes: int, typical: float) -> None:
        self._classes = classes
        self._typical = typical

    def criterion(self, setup: Setup, settings: Hyperparameters) -> nn.Module:
        """See run.Learning."""
        return DetectionLoss(self._classes, self._typical)

    def ready(self, run: Run, batch: Batch, held: Held | None) -> tuple[Tensor, Tensor]:
        """Pictures float [n, C, H, W], and the maps that they should give."""
        x, objects = self.moved(run, batch, held)
        return x, self._maps(objects, batch.pictures.shape[1:3])

    def moved(self, run: Run, batch: Batch, held: Held | None) -> tuple[Tensor, Tensor]:
        """Pictures float [n, C, H, W], augmented, and their objects [n, M, 5] as they are in them now."""
        device, level = run.scaling[0].device, run.settings.augmentation
        pictures, objects = to_device(batch.pictures, device), to_device(batch.labels, device)
        if level == "none" and not run.setup.policy:
            return scaled(pictures, run.scaling), objects
        generator = augment.augment_generator(run.settings.seed, run.step)
        if run.setup.policy:
            x, moves = changed_pictures(run, pictures, generator, held)
            return x, objects if moves is None else moves.objects(objects)
        if level == "standard":
            x = tinted_pictures(run, pictures, generator, held)
            view = drawn_view(len(x), generator, flip=run.setup.flip, held=held)
        else:
            x = scaled(pictures, run.scaling)
            view = drawn_view(len(x), generator, flip=run.setup.flip, least=0.9, most=1.1, held=held)
        return see(x, view), seen_objects(objects, view)

    def evaluate(self, run: Run) -> dict[str, float]:
        """val_map_50 (0 to 1) and val_loss."""
        return evaluate_detection(run, self._classes, self._typical)

    def _maps(self, objects: Tensor, size: Any) -> Tensor:
        return rendered(objects, self._classes, size[0] // 4, size[1] // 4)


def evaluate_detection(run: Run, classes: int, typical: float) -> dict[str, float]:
    """See Detection.evaluate."""
    setup = run.setup
    if not len(setup.validation):
        return {}
    run.module.eval()
    decoder, loss_of = BoxDecoder(classes), DetectionLoss(classes, typical)
    device, loss = run.scaling[0].device, 0.0
    found: list[Found] = []
    with torch.inference_mode(), run.precision.cast():
        batch_size = max(1, VALIDATION_BATCH // 8)
        for batch in setup.validation.in_order(batch_size, rank=setup.group.rank, world_size=setup.group.size):
            maps = run.module(scaled(to_device(batch.pictures, device), run.scaling)).float()
            high, wide = maps.shape[2:]
            loss += float(loss_of(maps, rendered(to_device(batch.labels, device), classes, high, wide))) * len(maps)
            boxes, scores, labels = (each.cpu().numpy() for each in decoder(maps))
            found += [
                Found(objects[objects[:, 0] >= 0], *rest)
                for objects, *rest in zip(batch.labels.numpy(), boxes, scores, labels, strict=True)
            ]
    total, pictures = setup.group.sum([loss, float(len(found))])
    mean, weight = mean_average_precision(found, classes), float(len(found))
    if setup.group.size > 1:  # of parts of the pictures each: a mean that is near that of the whole, and the same for all
        mean, weight = setup.group.sum([mean * weight, weight])
        mean /= max(weight, 1.0)
    return {"val_map_50": mean, "val_loss": total / max(pictures, 1.0)}


def object_targets(marks: Any, sizes: npt.NDArray[np.float32], classes: int) -> tuple[Tensor, Tensor]:
    """Objects float32 [N, M, 5] and the rarest class of each picture int64 [N] (`classes` where it has none).

    marks: formats.dataset_annotated.Marks; sizes: width and height of the pictures as they came [N, 2].
    """
    usable, starts = marks.usable, marks.starts
    counts = np.bincount(marks.labels[usable], minlength=classes)
    rows: list[npt.NDArray[np.float32]] = []
    rarest = np.full(len(starts) - 1, classes, np.int64)
    for place in range(len(starts) - 1):
        each = slice(starts[place], starts[place + 1])
        kept = np.flatnonzero(usable[each]) + starts[place]
        boxes = np.clip(marks.boxes[kept] / np.tile(sizes[place], 2), 0, 1)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        best = np.argsort(-area, kind="stable")[:MOST_OBJECTS]
        best = best[area[best] > 0]
        labels = marks.labels[kept][best]
        rows.append(np.concatenate([labels[:, None].astype(np.float32), boxes[best]], axis=1))
        if len(labels):
            rarest[place] = min(labels.tolist(), key=lambda label: counts[label])
    most = max([1, *(len(each) for each in rows)])
    out = np.full((len(rows), most, 5), 0, np.float32)
    out[..., 0] = -1
    for place, row in enumerate(rows):
        out[place, : len(row)] = row
    return torch.from_numpy(out), torch.from_numpy(rarest)


def _marks_of(reader: Pictures, usage: str) -> tuple[Any, npt.NDArray[np.float32]]:
    if not isinstance(reader, DatasetReader):
        raise AssertionError("boxes come from a dataset version")
    facts = reader.picture_facts(usage)
    sizes = np.stack([facts["width"], facts["height"]], axis=1).astype(np.float32).reshape(-1, 2)
    return reader.annotations(usage).marks(), sizes


def _cut_out(sample: Batch) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """At most 2,000 objects, each as a picture uint8 [CROPPED, CROPPED, C], and their classes."""
    crops, labels = [], []
    for picture, objects in zip(sample.pictures.numpy(), sample.labels.numpy(), strict=True):
        high, wide = picture.shape[:2]
        for label, left, top, right, bottom in objects[objects[:, 0] >= 0][:20].tolist():
            rows = np.clip((np.linspace(top, bottom, CROPPED) * high).astype(np.int64), 0, high - 1)
            columns = np.clip((np.linspace(left, right, CROPPED) * wide).astype(np.int64), 0, wide - 1)
            crops.append(picture[rows[:, None], columns])
            labels.append(int(label))
        if len(crops) >= 2000:
            break
    return np.stack(crops) if crops else np.empty((0, CROPPED, CROPPED, 1), np.uint8), np.array(labels, np.int64)
