"""From a batch of the data to what the network is trained on: augmented, normalized, mixed."""

from __future__ import annotations

import torch
from torch import Tensor

from modelyard.recipes import augment
from modelyard.trainer.worker.examples import Batch, places_of
from modelyard.trainer.worker.precision import to_device
from modelyard.trainer.worker.run import Run
from modelyard.trainer.worker.scoring import scaled


def global_count(run: Run) -> int:
    """Examples in the global batch of the next step: a whole batch, or all there are when these are fewer."""
    return min(run.batch_size, len(run.setup.train))


def ready(run: Run, batch: Batch) -> tuple[Tensor, Tensor]:
    """This process's part of a batch, augmented and normalized: float [n, C, H, W] in channels-last memory; its labels int64 [n],
    or probabilities [n, classes] where pictures are mixed."""
    group = run.setup.group
    held = None
    if group.shared:
        count = global_count(run)
        held = augment.Held(count, places_of(count, group.rank, group.size))
    generator = augment.augment_generator(run.settings.seed, run.step)
    x, labels = _augmented(run, batch, generator, held)
    if not run.settings.mixup:
        return x, labels
    return augment.mix(x, labels, run.setup.classes, run.settings.mixup, generator)


def _augmented(run: Run, batch: Batch, generator: torch.Generator, held: augment.Held | None) -> tuple[Tensor, Tensor]:
    setup, level = run.setup, run.settings.augmentation
    device = run.scaling[0].device
    pictures, labels = to_device(batch.pictures, device), to_device(batch.labels, device)
    if level == "none":
        return scaled(pictures, run.scaling), labels
    if level == "light":
        return scaled(augment.shift_and_flip(pictures, generator, flip=setup.flip, held=held), run.scaling), labels
    gain, offset = augment.colour_gains(held.total if held else len(labels), pictures.shape[3], generator)
    if held is not None:
        gain, offset = gain[held.places], offset[held.places]
    scale, shift = run.scaling
    tinted = scaled(pictures, (scale * gain.to(device), shift + 255 * scale * offset.to(device)))
    return augment.crop_and_resize(tinted, generator, flip=setup.flip, held=held), labels


def weight_of_part(run: Run, labels: Tensor) -> float | Tensor:
    """This part's share of the loss of the whole batch, whose mean weighs examples by their class where classes are weighed.

    labels: as `ready` gave them. The shares of all processes add up to 1.
    """
    group = run.setup.group
    if not group.shared:
        return 1.0
    weight = run.loss_of.weight
    if weight is None or labels.is_floating_point():
        return len(labels) / global_count(run)
    own = float(weight[labels].sum())
    return own / group.sum([own])[0]
