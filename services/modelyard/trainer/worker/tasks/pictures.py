"""What a task whose examples come as pictures tells image.run_image_training; which tasks there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import nn

from modelyard.core.errors import InvalidArgument
from modelyard.formats.model import PictureInput
from modelyard.recipes.augment import mirror_is_safe
from modelyard.recipes.build_image import build
from modelyard.recipes.recipe import Recipe
from modelyard.trainer.worker.data import Pictures, Targets, class_targets
from modelyard.trainer.worker.examples import Batch, Examples
from modelyard.trainer.worker.run import Learning
from modelyard.trainer.worker.tasks.classification import Classification
from modelyard.trainer.worker.tasks.detection import ObjectDetection
from modelyard.trainer.worker.tasks.keypoints import KeypointDetection
from modelyard.trainer.worker.tasks.multilabel import MultilabelClassification
from modelyard.trainer.worker.tasks.segmentation import SemanticSegmentation


class PictureTask(Protocol):
    """A task. `task` is its name; `fewest_classes` how many classes it needs."""

    @property
    def task(self) -> str: ...

    @property
    def fewest_classes(self) -> int: ...

    def targets(self, reader: Pictures, usage: str, picture: PictureInput) -> Targets:
        """What is learned of each example of a usage."""

    def build(self, recipe: Recipe, picture: PictureInput, classes: int, weights: str) -> nn.Module:
        """The network that is trained; weights: those to start from (`imagenet`), or ""."""

    def flip(self, sample: Batch) -> bool:
        """Whether pictures may be mirrored, judged by some of the training examples."""

    def learning(self, recipe: Recipe, picture: PictureInput, classes: int, training: Examples) -> Learning:
        """What the loop needs. Raises FailedPrecondition for data that nothing can be learned from."""


class ClassifiedPictures:
    """One class a picture; sounds too, which come as spectrograms (those are never mirrored: time runs one way)."""

    fewest_classes = 2

    def __init__(self, task: str) -> None:
        self.task = task

    def targets(self, reader: Pictures, usage: str, picture: PictureInput) -> Targets:
        """Class indices."""
        return class_targets(reader, usage)

    def build(self, recipe: Recipe, picture: PictureInput, classes: int, weights: str) -> nn.Module:
        """See recipes.build_image."""
        height, width, channels = picture.height, picture.width, picture.channels
        return build(recipe.architecture, classes=classes, channels=channels, height=height, width=width, weights=weights)

    def flip(self, sample: Batch) -> bool:
        """See augment.mirror_is_safe."""
        return self.task == "image_classification" and mirror_is_safe(sample.pictures.numpy(), sample.labels.numpy())

    def learning(self, recipe: Recipe, picture: PictureInput, classes: int, training: Examples) -> Learning:
        """See Classification."""
        return Classification(sounds=self.task == "audio_classification")


PICTURE_TASKS: Mapping[str, PictureTask] = {
    each.task: each
    for each in (
        ClassifiedPictures("image_classification"),
        ClassifiedPictures("audio_classification"),
        ObjectDetection(),
        SemanticSegmentation(),
        KeypointDetection(),
        MultilabelClassification(),
    )
}


def picture_task(name: str) -> PictureTask:
    """Raises InvalidArgument TASK_NOT_TRAINED."""
    if name not in PICTURE_TASKS:
        message = f"recipe.task is {name!r}; {', '.join(PICTURE_TASKS)} can be trained on pictures"
        raise InvalidArgument("TASK_NOT_TRAINED", message, field="recipe.task", value=name)
    return PICTURE_TASKS[name]
