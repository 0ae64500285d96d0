"""Small pictures that a small network learns in seconds, and hooks that keep what they are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from modelyard.core.errors import Cancelled
from modelyard.formats.model import Normalization
from modelyard.recipes.build_image import build
from modelyard.recipes.recipe import Hyperparameters
from modelyard.trainer.worker.examples import HeldExamples
from modelyard.trainer.worker.run import Instruction, Setup
from modelyard.trainer.worker.tasks.classification import Classification

SMALL = Hyperparameters(max_epochs=4, batch_size=16, base_lr=5e-3, warmup_steps=4, augmentation="light")


@dataclass
class KeptHooks:
    """Hooks that keep events and copies of checkpoints; `instruct` says when to stop, from the number of times it was asked."""

    instruct: Callable[[int], Instruction] = lambda asked: "continue"
    events: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: dict[str, list[bytes]] = field(default_factory=lambda: {"last": [], "best": []})
    asked: int = 0

    def on_event(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def should_stop(self) -> Instruction:
        self.asked += 1
        return self.instruct(self.asked)

    def save_checkpoint(self, kind: str, path: Path) -> None:
        self.checkpoints[kind].append(path.read_bytes())

    @property
    def notes(self) -> list[str]:
        """Names of the notes, in their order."""
        return [event["note"] for event in self.events if "note" in event]


@dataclass
class Ticks:
    """A clock that moves on by `step_s` each time it is asked."""

    step_s: float
    now: float = 0.0

    def __call__(self) -> float:
        self.now += self.step_s
        return self.now


def stripes(count: int, *, classes: int = 3, side: int = 16, channels: int = 1, seed: int = 0) -> tuple[Any, Any]:
    """Noisy pictures with horizontal, vertical or diagonal stripes: uint8 [count, side, side, channels], int64 [count]."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    y, x = np.mgrid[:side, :side]
    waves = np.stack([np.sin(each * 1.2) for each in (y, x, x + y, x - y)])
    pictures = 128 + 60 * waves[labels] + generator.normal(0, 20, (count, side, side))
    return np.repeat(pictures.clip(0, 255).astype(np.uint8)[..., None], channels, 3), labels.astype(np.int64)


def examples(count: int, **options: Any) -> HeldExamples:
    """`stripes` as tensors."""
    pictures, labels = stripes(count, **options)
    return HeldExamples(torch.from_numpy(pictures), torch.from_numpy(labels))


def small_setup(workdir: Path, settings: Hyperparameters = SMALL, *, train: int = 96, **changes: Any) -> Setup:
    """A run of micronet on stripes: 96 examples (6 steps of 16 an epoch), 30 to validate."""
    torch.manual_seed(settings.seed)
    module = build("modelyard:micronet", classes=3, channels=1, height=16, width=16)
    made = Setup(
        module=module,
        train=examples(train),
        validation=examples(30, seed=1),
        settings=settings,
        normalization=Normalization((0.5,), (0.25,)),
        workdir=workdir,
        classes=3,
        learning=Classification(),
    )
    return replace(made, **changes)


@dataclass(frozen=True)
class SmallDescriptor:
    classes: tuple[str, ...] = ("across", "along", "aslant")
    digest: str = "0" * 64


class SmallDataset:
    """Stripes in the form of a dataset reader; `counts` are the examples by usage."""

    def __init__(self, descriptor: SmallDescriptor | None = None, channels: int = 1, **counts: int) -> None:
        self.descriptor = descriptor or SmallDescriptor()
        self._channels = channels
        self._counts = {"train": 96, "validation": 30, "test": 30} | counts

    def pictures(
        self, usage: str, height: int, width: int, channels: int, *, should_stop: Callable[[], bool] | None = None
    ) -> npt.NDArray[np.uint8]:
        if should_stop is not None and should_stop():
            raise Cancelled("CANCELLED", "cancelled")
        pictures: npt.NDArray[np.uint8] = self._made(usage, height)[0]
        assert pictures.shape[1:] == (height, width, channels)
        return pictures

    def labels(self, usage: str) -> npt.NDArray[Any]:
        labels: npt.NDArray[Any] = self._made(usage, 16)[1]
        return labels

    def _made(self, usage: str, side: int) -> tuple[Any, Any]:
        seed, classes = list(self._counts).index(usage), len(self.descriptor.classes)
        return stripes(self._counts[usage], classes=classes, side=side, channels=self._channels, seed=seed)
