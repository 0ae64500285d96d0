"""Goes on training a network that was changed (rounded, pruned) until it answers as it did before.

One loop for quantization-aware training and pruning. What is learned are the answers of the unchanged float network on the same
augmented pictures (knowledge distillation, Hinton et al. 2015, https://arxiv.org/abs/1503.02531; with the same view for both, as
Beyer et al. 2021, https://arxiv.org/abs/2106.05237), so that no setting of the first training is needed again; the labels count
for a little as well. The learning rate stays constant for half of the steps and then falls to nothing along a cosine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from modelyard.core.errors import Cancelled, FailedPrecondition
from modelyard.exporter.worker.fold import scaled_pixels
from modelyard.recipes import augment
from modelyard.recipes.augment_voices import vary_sounds
from modelyard.recipes.build_image import ServedImageModel
from modelyard.runtime.latency import usable_cores

BATCH: Final = 64
LABEL_SHARE: Final = 0.2
"""What the labels count for beside the float network's answers."""

LARGE_SIDE: Final = 40
"""Pictures above this many pixels are cut and resized as well as moved, as the trainer does."""

REPORT_S: Final = 1.0

OnProgress = Callable[[float, float], None]
ShouldStop = Callable[[], bool]


@dataclass(frozen=True)
class Examples:
    """Pictures uint8 [N, H, W, C] and class indices int64 [N], in memory. sounds: whether the pictures are spectrograms."""

    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]
    sounds: bool = False

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Budget:
    """How long may be trained: at most `seconds` (above 0) and `steps` (1 or more). With the same seed and enough seconds for all
    steps the result is the same on a CPU with the same number of threads; fewer seconds shorten the schedule."""

    seconds: float
    steps: int = 5000
    seed: int = 0


@dataclass(frozen=True)
class Listener:
    """Who hears of it: on_progress(fraction 0 to 1, seconds left) about once a second; should_stop() before each step."""

    on_progress: OnProgress = lambda fraction, eta_s: None
    should_stop: ShouldStop = lambda: False


@dataclass(frozen=True)
class Finetuned:
    """What was done: steps made, seconds spent, the mean loss of the last steps."""

    steps: int
    seconds: float
    loss: float


@dataclass
class _Run:
    student: ServedImageModel
    teacher: ServedImageModel
    examples: Examples
    budget: Budget
    optimizer: torch.optim.Optimizer
    learning_rate: float
    flip: bool
    planned: int
    started: float
    clock: Callable[[], float]
    step: int = 0
    share: float = 0.0
    losses: list[float] = field(default_factory=list)
    reported: float = -math.inf


def finetune(
    student: ServedImageModel,
    teacher: ServedImageModel,
    examples: Examples,
    budget: Budget,
    listener: Listener,
    *,
    learning_rate: float = 1e-3,
    after_step: Callable[[int, int], None] = lambda step, planned: None,
    clock: Callable[[], float] = time.monotonic,
) -> Finetuned:
    """Trains `student` in place, in the mode (train or eval) it is in. after_step(step from 1, planned) is called after each.

    Raises FailedPrecondition NO_TRAINING_EXAMPLES or DIVERGED, Cancelled when should_stop says so.
    """
    check_examples(examples)
    run = _start(student, teacher, examples, budget, learning_rate, clock)
    for which in _batches(run):
        if listener.should_stop():
            raise Cancelled("CANCELLED", "training of the compressed model was cancelled")
        _step(run, which)
        after_step(run.step, run.planned)
        _look(run, listener)
    return Finetuned(run.step, run.clock() - run.started, float(np.mean(run.losses[-20:])) if run.losses else math.nan)


def check_examples(examples: Examples) -> None:
    """Raises FailedPrecondition NO_TRAINING_EXAMPLES where there are none."""
    if not len(examples):
        raise FailedPrecondition("NO_TRAINING_EXAMPLES", "the dataset version has no examples with usage train")


def logits(model: ServedImageModel, pictures: Tensor) -> Tensor:
    """What a served model's network says before the softmax; pictures uint8 or float [N, H, W, C] with values 0 to 255."""
    answers: Tensor = model.module(scaled_pixels(model, pictures))
    return answers


def _start(
    student: ServedImageModel,
    teacher: ServedImageModel,
    examples: Examples,
    budget: Budget,
    learning_rate: float,
    clock: Callable[[], float],
) -> _Run:
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
    torch.set_flush_denormal(True)  # numbers too small to matter cost a CPU a hundred times the time
    torch.manual_seed(budget.seed)
    teacher.eval()
    wanted = [each for each in student.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(wanted, lr=learning_rate, weight_decay=0.0)
    flip = not examples.sounds and augment.mirror_is_safe(examples.pictures, examples.labels)
    return _Run(student, teacher, examples, budget, optimizer, learning_rate, flip, budget.steps, clock(), clock)


def _batches(run: _Run) -> Iterator[Tensor]:
    """Positions of each step's examples, until the plan is done; the last ones of an epoch that fill no batch are left out."""
    count = len(run.examples)
    size = min(BATCH, count)
    epoch = 0
    while True:
        order = augment.epoch_order(run.budget.seed, epoch, count)
        for start in range(0, count - size + 1, size):
            if run.step >= run.planned:
                return
            yield order[start : start + size]
        epoch += 1


def _step(run: _Run, which: Tensor) -> None:
    for group in run.optimizer.param_groups:
        group["lr"] = run.learning_rate * rate_factor(run.share)
    loss = _loss(run, _pictures(run, which), torch.from_numpy(run.examples.labels[which.numpy()]))
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_([p for group in run.optimizer.param_groups for p in group["params"]], 5.0)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    run.losses.append(float(loss.detach()))
    if not math.isfinite(run.losses[-1]):
        message = f"training of the compressed model diverged at step {run.step + 1}: its loss is {run.losses[-1]}"
        raise FailedPrecondition("DIVERGED", message, step=run.step + 1)
    run.share += (1.0 - run.share) / max(1, run.planned - run.step)
    run.step += 1


def _loss(run: _Run, pictures: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy against the float network's probabilities, and a little against the labels."""
    with torch.no_grad():
        soft = torch.softmax(logits(run.teacher, pictures), 1)
    answers = logits(run.student, pictures)
    return (1 - LABEL_SHARE) * functional.cross_entropy(answers, soft) + LABEL_SHARE * functional.cross_entropy(answers, labels)


def _pictures(run: _Run, which: Tensor) -> Tensor:
    """The pictures at some positions, augmented: [N, H, W, C], values 0 to 255."""
    batch = torch.from_numpy(run.examples.pictures[which.numpy()])
    generator = augment.augment_generator(run.budget.seed, run.step)
    if run.examples.sounds:
        return vary_sounds(batch, generator)
    if min(batch.shape[1:3]) <= LARGE_SIDE:
        return augment.shift_and_flip(batch, generator, flip=run.flip)
    cut = augment.crop_and_resize(batch.permute(0, 3, 1, 2).float(), generator, flip=run.flip)
    return cut.permute(0, 2, 3, 1)


def _look(run: _Run, listener: Listener) -> None:
    """Fits the plan into the time that is left, and tells how far it is."""
    elapsed = run.clock() - run.started
    each = elapsed / run.step
    run.planned = max(run.step, min(run.budget.steps, run.step + int((run.budget.seconds - elapsed) / max(each, 1e-9))))
    if elapsed - run.reported >= REPORT_S or run.step >= run.planned:
        run.reported = elapsed
        listener.on_progress(run.step / max(run.planned, 1), (run.planned - run.step) * each)


def rate_factor(share: float) -> float:
    """Factor of the learning rate at a share (0 to 1) of the schedule: 1 for the first half, then a cosine to 0."""
    return 1.0 if share <= 0.5 else max(0.0, 0.5 * (1.0 + math.cos(math.pi * (share - 0.5) * 2)))


def accuracy(model: nn.Module, examples: Examples, batch: int = 256) -> float:
    """Share of the examples that a served model names rightly."""
    with torch.inference_mode():
        parts = [
            model(torch.from_numpy(examples.pictures[start : start + batch])).argmax(1).numpy()
            for start in range(0, len(examples), batch)
        ]
    return float(np.mean(np.concatenate(parts) == examples.labels)) if parts else math.nan
