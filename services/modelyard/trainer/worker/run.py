"""The state of one training run, what it is made from, and what comes out of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from modelyard.formats.checkpoint import Arrays, Checkpoint
from modelyard.formats.model import Normalization
from modelyard.recipes.augment import Held
from modelyard.recipes.recipe import Hyperparameters
from modelyard.recipes.steps import Step
from modelyard.trainer.worker.examples import Batch, Examples
from modelyard.trainer.worker.group import ALONE, Group
from modelyard.trainer.worker.precision import Precision
from modelyard.trainer.worker.schedule import Pace, Plateau, Progress, rate_factor

COMPLETED, TIME_LIMIT, EARLY_STOPPED = "COMPLETED", "TIME_LIMIT", "EARLY_STOPPED"
STOPPED, CANCELLED, DIVERGED = "STOPPED", "CANCELLED", "DIVERGED"

LEAST_TRAINED = 1 / 3
"""Share of a slice of time that a run trains before it pauses."""

STRETCH, STRETCH_S = 20, 2.0
"""Steps, or seconds, between two looks at the speed, the loss and the plan; and at most twice the steps of the stretch before,
so that a machine that becomes faster is seen at once."""

Instruction = Literal["continue", "stop", "cancel"]
WISHES: tuple[Instruction, ...] = ("continue", "stop", "cancel")
"""From the weakest to the strongest."""


class BatchTooLarge(Exception):
    """Memory ran out in a process of a group: the group must begin again with the batch size that is the argument."""


class Hooks(Protocol):
    """What the loop tells, and asks, whoever runs it. All are called from the training thread, between two steps."""

    def on_event(self, event: dict[str, Any]) -> None:
        """A point of the curve {step, epoch, loss, learning_rate, examples_per_second, metrics, eta_s, elapsed_s}, at most one a
        second or so and one per validation; or a note {step, epoch, note, message} on something people should know."""

    def should_stop(self) -> Instruction:
        """Asked before every step; must be quick."""

    def save_checkpoint(self, kind: str, path: Path) -> None:
        """A checkpoint, `last` or `best`, was written; the file is rewritten later, so store or copy it before returning."""


class Learning(Protocol):
    """All that the loop does not know of a task: what becomes of a batch, how wrong an answer is, how good the network is."""

    @property
    def primary(self) -> str:
        """Name of the validation metric that decides which weights are kept; higher is better."""

    def criterion(self, setup: Setup, settings: Hyperparameters) -> nn.Module:
        """Called with the network's answer and the targets: the mean of the examples' losses. Where it weighs examples by their
        class it has `weight` [classes]; no other sum may depend on the batch, for a group adds up the means of its parts."""

    def ready(self, run: Run, batch: Batch, held: Held | None) -> tuple[Tensor, Tensor]:
        """This process's part of a batch as the network takes it, augmented by the step's random numbers, and its targets [n,
        ...]. held: where it is a part of a larger batch."""

    def evaluate(self, run: Run) -> dict[str, float]:
        """Validation metrics by name, `val_loss` and `primary` among them; empty without examples. In a group each process
        takes its part of the examples, and all get the figures of the whole. Leaves the module in eval mode."""


class Engine(Protocol):
    """The framework that computes a run: all that the loop and its checkpoints do not know of networks, gradients, optimizers.

    Batches, augmentation and the validation metrics are the same whatever the engine: `run.module` takes torch tensors and gives
    some. Weights go in and out under the names and in the layout of torch's state dict of the network, so a model file is the
    same whoever trained it.
    """

    @property
    def name(self) -> str:
        """One of recipe.FRAMEWORKS."""

    def start(self, setup: Setup, hooks: Hooks) -> Run:
        """A run before its first step. Raises ModelyardErrors for what this engine cannot train."""

    def choose(self, run: Run) -> None:
        """Finds what the settings leave to the run (batch size, learning rate)."""

    def begin_epoch(self, run: Run) -> None:
        """Before training goes on after a validation."""

    def step(self, run: Run, batch: Batch) -> Tensor:
        """Changes the weights once, at the rate that `learning_rate` says, and gives the mean loss of the batch, detached. Raises
        what says that memory ran out, and ValueError for a batch that the network cannot learn from."""

    def take_in(self, run: Run) -> None:
        """Moves the running mean of the weights, where the run keeps one, after a step that was counted."""

    def averaged(self, run: Run) -> AbstractContextManager[None]:
        """The network with the running mean for its weights, where the run keeps one."""

    def out_of_memory(self, error: Exception) -> bool:
        """Whether that is what an error says."""

    def forget(self, run: Run) -> None:
        """Gives back what a step that failed holds."""

    def pack(self, run: Run) -> tuple[Arrays, dict[str, Any]]:
        """Copies of weights/, average/, optimizer/ and random/ (see formats.checkpoint), and what of them is JSON."""

    def load_weights(self, run: Run, weights: Arrays, average: Arrays) -> None:
        """Takes both from a checkpoint. Raises FailedPrecondition CHECKPOINT_MISMATCH for those of another network."""

    def load_moments(self, run: Run, checkpoint: Checkpoint) -> None:
        """What the optimizer had gathered; it is of the same kind."""

    def load_scale(self, run: Run, checkpoint: Checkpoint) -> None:
        """How small gradients are kept from becoming 0, where they are."""

    def load_random(self, run: Run, checkpoint: Checkpoint) -> None:
        """The random generators, and the number of threads where that decides bits."""

    def facts(self, run: Run, weights: Arrays) -> dict[str, Any]:
        """What the card of a model with these weights says of how it was computed. Raises FailedPrecondition where the network
        that is handed on would answer otherwise than the one that was trained."""


@dataclass(frozen=True)
class Setup:
    """What is trained. module: what `learning` makes of a batch to an answer; for classifiers float [N, C, H, W] to logits.
    limit_s: most time to train, with the `elapsed_s` that earlier
    attempts used; None: no limit. workdir: for checkpoint files. pretrained: the module starts from trained weights, so that
    `frozen` and `backbone_lr` apply. flip: whether pictures may be mirrored. precision: see worker.precision. group: who trains
    it together; all of them call `train`. batch_limit: most examples a step, where memory ran out before; 0: none.
    pause_s: seconds of training after which the run stops, to be gone on with, its last validation included; None: it does not.
    stretch: the run is part of a longer one: a checkpoint is gone on from where its schedule stood, whatever the limit was.
    policy: steps by which training examples are changed (recipes.policy); empty: as settings.augmentation says."""

    module: nn.Module
    train: Examples
    validation: Examples
    settings: Hyperparameters
    normalization: Normalization
    workdir: Path
    classes: int
    learning: Learning
    pretrained: bool = False
    flip: bool = False
    limit_s: float | None = None
    elapsed_s: float = 0.0
    device: str = "cpu"
    report_every_s: float = 1.0
    checkpoint_every_s: float = 30.0
    clock: Callable[[], float] = time.monotonic
    precision: str = "auto"
    group: Group = ALONE
    batch_limit: int = 0
    pause_s: float | None = None
    stretch: bool = False
    policy: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How it ended. reason: COMPLETED, TIME_LIMIT, EARLY_STOPPED, STOPPED, DIVERGED (all with the best weights) or CANCELLED.
    weights: arrays by name; metrics: validation metrics of these weights, and of which step; train_seconds: all attempts.
    batch_size and base_lr: what it ran with. facts: see Engine.facts."""

    reason: str
    weights: Arrays
    metrics: dict[str, float]
    best_step: int
    step: int
    epochs: float
    train_seconds: float
    examples_per_second: float
    batch_size: int
    checkpoints: dict[str, Path]
    peak_memory_bytes: int = 0
    base_lr: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Best:
    """The best validation so far: its metrics, and the checkpoint of that moment."""

    metrics: dict[str, float]
    checkpoint: Checkpoint
    saved: bool = False


@dataclass(frozen=True)
class Chosen:
    """What the run found out by itself before it began (worker.probing); 0 where nothing was looked for."""

    batch_size: int = 0
    base_lr: float = 0.0


@dataclass
class Window:
    """What was done since the last look: steps, the sum of their losses (a tensor: reading it waits for a GPU), examples."""

    started: float
    steps: int = 0
    examples: int = 0
    loss: Tensor | None = None


@dataclass
class Run:
    """The state of one training; `train` is the only one who changes it. network: the module, as its group trains it. optimizer,
    average: the engine's own. seen: a sample of the training examples, scored at each validation. paced_at: up to when the pace
    was measured, validations left out and checkpoints not. unsaved: the last checkpoint could not be written."""

    setup: Setup
    hooks: Hooks
    engine: Engine
    settings: Hyperparameters
    module: nn.Module
    network: Any
    precision: Precision
    scaler: torch.amp.GradScaler
    frozen: list[nn.Module]
    optimizer: Any
    loss_of: nn.Module
    scaling: tuple[Tensor, Tensor]
    progress: Progress
    started: float
    window: Window
    plateau: Plateau = field(default_factory=Plateau)
    pace: Pace = field(default_factory=Pace)
    step: int = 0
    epoch: int = 0
    position: int = 0
    batch_size: int = 0
    waited_epochs: int = 0
    validated_step: int = -1
    validated_at: float = 0.0
    looked_steps: int = STRETCH
    paced_at: float = math.nan
    best: Best | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    points: list[tuple[float, int]] = field(default_factory=list)
    trained_s: float = 0.0
    trained_examples: int = 0
    reported_at: float = -math.inf
    checkpoint_at: float = 0.0
    last_loss: float = math.nan
    average: Any = None
    agreed_to_look: bool = False
    chosen: Chosen = field(default_factory=Chosen)
    first_loss: float = math.nan
    seen: Examples | None = None
    unsaved: bool = False

    @property
    def elapsed_s(self) -> float:
        """Seconds of training, earlier attempts included."""
        return self.setup.elapsed_s + self.setup.clock() - self.started

    @property
    def remaining_s(self) -> float:
        """Seconds left of the limit; infinite without one."""
        return math.inf if self.setup.limit_s is None else self.setup.limit_s - self.elapsed_s

    @property
    def pause_due(self) -> bool:
        """Whether it has to stop now so as to have validated by the time that it is to pause at. A third of a slice at least is
        training, also where opening the data took the rest: a candidate is not judged by its first step."""
        if self.setup.pause_s is None:
            return False
        trained_s = self.setup.clock() - self.started
        over = self.elapsed_s + self.pace.validation_s >= self.setup.pause_s
        return over and trained_s >= LEAST_TRAINED * self.setup.pause_s

    @property
    def epochs_done(self) -> float:
        """Epochs, with the fraction of the one that runs."""
        return self.epoch + min(1.0, self.position / len(self.setup.train))


def learning_rate(run: Run) -> float:
    """The learning rate of the next step, before any group's own scale."""
    return run.settings.base_lr * rate_factor(run.settings, run.progress, run.plateau, run.step)


def note(run: Run, name: str, message: str, **values: object) -> None:
    run.hooks.on_event({"step": run.step, "epoch": round(run.epochs_done, 4), "note": name, "message": message, **values})
