"""Pictures (and sounds, as spectrograms) before and after a recipe's augmentation, with the boxes and masks that moved along.

The learning of the task itself changes them (run.Learning.ready and its like), with a run that has only what that needs.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelyard.core.errors import FailedPrecondition
from modelyard.formats.dataset import TRAIN, DatasetReader
from modelyard.recipes.recipe import Recipe
from modelyard.trainer.domain.recipe_preview import PreviewSpec
from modelyard.trainer.worker.examples import Batch
from modelyard.trainer.worker.preview_page import Drawing, Look, Previewed, picture_html, side_for
from modelyard.trainer.worker.run import Run
from modelyard.trainer.worker.tasks.classification import Classification
from modelyard.trainer.worker.tasks.detection import Detection, ObjectDetection
from modelyard.trainer.worker.tasks.keypoints import KeypointDetection, Keypoints
from modelyard.trainer.worker.tasks.multilabel import Multilabel
from modelyard.trainer.worker.tasks.pictures import picture_task
from modelyard.trainer.worker.tasks.segmentation import Segmentation, resized_mask

JUDGED: Final = 400
"""Training pictures by which it is judged whether they may be mirrored; a training looks at more."""
_MOSTLY: Final = 0.5
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """Pictures of the preview and what is learned of them: classes, objects [n, M, 5] or masks [n, H, W]."""

    pictures: Tensor
    targets: Tensor


def picture_preview(reader: DatasetReader, recipe: Recipe, spec: PreviewSpec, places: NDArray[np.int64], look: Look) -> Previewed:
    """See preview.previewed."""
    if recipe.input is None:
        raise FailedPrecondition("NO_INPUT", "the recipe has no input size; height, width and channels are needed")
    look("reading pictures", 0, spec.variant_count + 1)
    size = (recipe.input.height, recipe.input.width, recipe.input.channels)
    indices = reader.indices(TRAIN)
    pictures = torch.from_numpy(reader.decode(indices[places], *size))
    shown = Shown(pictures, _targets(reader, recipe, places))
    run = _run(reader, recipe, _safe(reader, recipe, size))
    side = side_for(len(places) * (1 + spec.variant_count))
    variants = []
    for number in range(spec.variant_count):
        look("changing them", number + 1, spec.variant_count + 1)
        variants.append(_changed(run, recipe.task, shown, number, len(reader.descriptor.answered)))
    ids = reader.example_ids(TRAIN)
    drawings = tuple(
        Drawing(
            ids[place],
            picture_html(_drawn(pictures[at].numpy(), shown.targets[at], recipe.task), side),
            tuple(picture_html(_drawn(x[at], targets[at], recipe.task), side) for x, targets in variants),
        )
        for at, place in enumerate(places.tolist())
    )
    title = f"What {recipe.name} makes of {'/'.join(spec.dataset_version.split('/')[3::2])}"
    return Previewed(title=title, recipe=recipe, drawings=drawings)


def _targets(reader: DatasetReader, recipe: Recipe, places: NDArray[np.int64]) -> Tensor:
    if recipe.input is None:
        raise AssertionError("checked before")
    if recipe.task == "semantic_segmentation":
        annotated, high, wide = reader.annotations(TRAIN), recipe.input.height, recipe.input.width
        masks = [resized_mask(annotated.mask(int(place)), high, wide) for place in places]
        return torch.from_numpy(np.stack(masks))
    return picture_task(recipe.task).targets(reader, TRAIN, recipe.input).values[torch.from_numpy(places)]


def _safe(reader: DatasetReader, recipe: Recipe, size: tuple[int, int, int]) -> bool:
    """Whether pictures may be mirrored, as the training judges it, by fewer pictures."""
    task, indices = picture_task(recipe.task), reader.indices(TRAIN)
    if recipe.task == "semantic_segmentation" or recipe.input is None:
        return True
    some = np.arange(0, len(indices), max(1, len(indices) // JUDGED))
    targets = task.targets(reader, TRAIN, recipe.input).values[torch.from_numpy(some)]
    return task.flip(Batch(torch.from_numpy(reader.decode(indices[some], *size)), targets))


def _run(reader: DatasetReader, recipe: Recipe, safe: bool) -> Run:
    """What the learnings ask of a run, with a scaling that leaves pixels 0 to 255."""
    channels = recipe.input.channels if recipe.input else 1
    scaling = (torch.ones(1, channels, 1, 1), torch.zeros(1, channels, 1, 1))
    answered = len(reader.descriptor.answered)
    learning = None
    if recipe.task == KeypointDetection.task and recipe.input is not None:
        learning = Keypoints(recipe.architecture, answered, recipe.input, 1.0)
    setup = SimpleNamespace(policy=recipe.policy, flip=safe, classes=answered, learning=learning)
    return cast(Run, SimpleNamespace(setup=setup, settings=recipe.hyperparameters, scaling=scaling, step=0))


def _changed(run: Run, task: str, shown: Shown, step: int, classes: int) -> tuple[Pixels, Tensor]:
    """The pictures uint8 [n, H, W, C] as they are in a step, and their targets."""
    run.step = step
    batch = Batch(shown.pictures, shown.targets)
    if task == ObjectDetection.task:
        x, targets = Detection(classes, 1.0).moved(run, batch, None)
    elif task == KeypointDetection.task:
        x, targets = cast(Keypoints, run.setup.learning).ready(run, batch, None)
    elif task == "semantic_segmentation":
        x, targets = Segmentation(classes, torch.ones(classes)).ready(run, batch, None)
    elif task == "image_multilabel":
        (x, _), targets = Multilabel().ready(run, batch, None), shown.targets
    else:
        (x, said), targets = Classification().ready(run, batch, None), shown.targets
        x = _beside_its_own(x, said, targets)
    return x.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy(), targets


def _beside_its_own(x: Tensor, said: Tensor, labels: Tensor) -> Tensor:
    """Pictures that were mixed with each other (the first with the last, and so on) where they are mostly themselves: a training
    does not mind which of two it calls by which place, but people look at a row for what became of its picture."""
    if said.dim() == 1:
        return x
    differs = labels != labels.flip(0)
    own = said[torch.arange(len(labels)), labels][differs]
    return x.flip(0) if len(own) and float(own.mean()) < _MOSTLY else x


def _drawn(pixels: Pixels, target: Tensor, task: str) -> Pixels:
    """The picture with what is marked in it; sounds with their lowest band at the bottom."""
    if task == "audio_classification":
        return pixels[::-1]
    if task == ObjectDetection.task:
        return _with_boxes(pixels, target.numpy())
    if task == KeypointDetection.task:
        return _with_points(pixels, target.numpy()[:-1])
    return _with_mask(pixels, target.numpy()) if task == "semantic_segmentation" else pixels


def _colour(label: int) -> NDArray[np.float64]:
    return 255 * np.array(colorsys.hsv_to_rgb((0.61 + label * 0.382) % 1, 0.8, 1))


def _rgb(pixels: Pixels) -> NDArray[Any]:
    return np.repeat(pixels, 3, axis=2).copy() if pixels.shape[2] == 1 else pixels.copy()


def _with_boxes(pixels: Pixels, objects: NDArray[Any]) -> Pixels:
    out = _rgb(pixels)
    high, wide = out.shape[:2]
    for label, left, top, right, bottom in objects[objects[:, 0] >= 0].tolist():
        rows = np.clip(np.array([top * high, bottom * high - 1]).round().astype(int), 0, high - 1)
        columns = np.clip(np.array([left * wide, right * wide - 1]).round().astype(int), 0, wide - 1)
        colour = _colour(int(label)).astype(np.uint8)
        out[rows, columns[0] : columns[1] + 1] = colour
        out[rows[0] : rows[1] + 1, columns] = colour
    return out


def _with_points(pixels: Pixels, points: NDArray[Any]) -> Pixels:
    """A cross at each marked point."""
    out = _rgb(pixels)
    high, wide = out.shape[:2]
    for label, (x, y, marked) in enumerate(points.tolist()):
        if marked > 0:
            row, column = min(high - 1, int(y * high)), min(wide - 1, int(x * wide))
            out[max(0, row - 2) : row + 3, column] = out[row, max(0, column - 2) : column + 3] = _colour(label).astype(np.uint8)
    return out


def _with_mask(pixels: Pixels, mask: NDArray[Any]) -> Pixels:
    out = _rgb(pixels).astype(np.float64)
    for label in np.unique(mask):
        colour = np.zeros(3) if label == 255 else _colour(int(label))
        out[mask == label] = 0.55 * out[mask == label] + 0.45 * colour
    return out.round().astype(np.uint8)
