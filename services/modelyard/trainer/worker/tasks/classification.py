"""Classification of pictures (and of whatever comes as pictures: sounds as spectrograms)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelyard.recipes import augment, augment_policy
from modelyard.recipes.augment import Held
from modelyard.recipes.augment_voices import vary_sounds
from modelyard.recipes.recipe import Hyperparameters
from modelyard.trainer.worker.examples import Batch
from modelyard.trainer.worker.precision import to_device
from modelyard.trainer.worker.run import Run, Setup
from modelyard.trainer.worker.scoring import evaluate, scaled


class Classification:
    """Cross entropy against class indices int64 [n]; val_accuracy decides. See run.Learning. sounds: whether pictures are
    spectrograms."""

    primary = "val_accuracy"

    def __init__(self, *, sounds: bool = False) -> None:
        self._sounds = sounds

    def criterion(self, setup: Setup, settings: Hyperparameters) -> nn.Module:
        """See run.Learning."""
        weight = None
        if settings.class_weights:
            counts = torch.bincount(setup.train.labels, minlength=setup.classes).clamp_(min=1).float()
            weight = len(setup.train) / (setup.classes * counts)
        return nn.CrossEntropyLoss(weight=weight, label_smoothing=settings.label_smoothing)

    def ready(self, run: Run, batch: Batch, held: Held | None) -> tuple[Tensor, Tensor]:
        """Augmented and normalized: float [n, C, H, W] in channels-last memory; labels int64 [n], or probabilities [n, classes]
        where pictures are mixed."""
        generator = augment.augment_generator(run.settings.seed, run.step)
        x, labels = self._augmented(run, batch, generator, held)
        if not run.settings.mixup:
            return augment_policy.mixed(x, labels, run.setup.classes, run.setup.policy, generator)
        return augment.mix(x, labels, run.setup.classes, run.settings.mixup, generator)

    def augmented(self, run: Run, batch: Batch, held: Held | None) -> tuple[Tensor, Tensor]:
        """Pictures as `ready` gives them before any are mixed, and the targets as they came."""
        return self._augmented(run, batch, augment.augment_generator(run.settings.seed, run.step), held)

    def evaluate(self, run: Run) -> dict[str, float]:
        """See run.Learning."""
        return evaluate(run.module, run.setup.validation, run.scaling, run.precision, run.setup.group)

    def _augmented(self, run: Run, batch: Batch, generator: torch.Generator, held: Held | None) -> tuple[Tensor, Tensor]:
        if not self._sounds or run.settings.augmentation != "standard":
            return _augmented(run, batch, generator, held)
        device = run.scaling[0].device
        varied = vary_sounds(to_device(batch.pictures, device), generator, held)
        return scaled(varied, run.scaling), to_device(batch.labels, device)


def _augmented(run: Run, batch: Batch, generator: torch.Generator, held: Held | None) -> tuple[Tensor, Tensor]:
    setup, level = run.setup, run.settings.augmentation
    device = run.scaling[0].device
    pictures, labels = to_device(batch.pictures, device), to_device(batch.labels, device)
    if setup.policy:
        return changed_pictures(run, pictures, generator, held)[0], labels
    if level == "none":
        return scaled(pictures, run.scaling), labels
    if level == "light":
        return scaled(augment.shift_and_flip(pictures, generator, flip=setup.flip, held=held), run.scaling), labels
    tinted = tinted_pictures(run, pictures, generator, held)
    return augment.crop_and_resize(tinted, generator, flip=setup.flip, held=held), labels


def changed_pictures(
    run: Run, pictures: Tensor, generator: torch.Generator, held: Held | None
) -> tuple[Tensor, augment_policy.Moves | None]:
    """Pictures uint8 [n, H, W, C] as the run's policy changes them, normalized: float [n, C, H, W]; and how things moved."""
    x, moves = augment_policy.changed(pictures, run.setup.policy, generator, held, safe=run.setup.flip)
    scale, shift = run.scaling
    return torch.addcmul(shift, x.to(scale.dtype), scale), moves


def tinted_pictures(run: Run, pictures: Tensor, generator: torch.Generator, held: Held | None) -> Tensor:
    """Pictures uint8 [n, H, W, C] with other brightness, contrast and tint, normalized: float [n, C, H, W]."""
    device = run.scaling[0].device
    gain, offset = augment.colour_gains(held.total if held else len(pictures), pictures.shape[3], generator)
    if held is not None:
        gain, offset = gain[held.places], offset[held.places]
    scale, shift = run.scaling
    return scaled(pictures, (scale * gain.to(device), shift + 255 * scale * offset.to(device)))
