"""How far a run is, and which learning rate that means. Plain arithmetic, no torch.

A run's progress goes from 0 to 1 over its planned steps. The plan may change while it runs: when the time limit leaves room for
fewer steps than were asked for, the rest of the schedule is fitted into the time that is left, so that a run that ends at its
limit has still been annealed to the end instead of being cut off at a high learning rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from modelyard.recipes.recipe import Hyperparameters


@dataclass
class Progress:
    """requested: steps asked for. planned: steps that will be made, at most requested. value: share of the schedule behind it."""

    requested: int
    planned: int
    value: float = 0.0

    def advance(self, step: int) -> None:
        """Moves on by one step, of which `step` were made before: what is left is spread over the steps that are left."""
        self.value += (1.0 - self.value) / max(1, self.planned - step)

    def plan(self, step: int, total: int) -> None:
        """Sets the planned total, between the steps made and those asked for."""
        self.planned = max(step, min(self.requested, total))

    @property
    def shortened(self) -> bool:
        """Whether the time limit took steps away."""
        return self.planned < self.requested


@dataclass
class Plateau:
    """State of `reduce_on_plateau`: the factor now, the best metric seen, and epochs since."""

    factor: float = 1.0
    best: float = -math.inf
    waited: int = 0

    def observe(self, metric: float, settings: Hyperparameters) -> None:
        """Takes an epoch's metric (higher is better); cuts the factor once `plateau_patience` of them brought nothing better."""
        if metric > self.best:
            self.best, self.waited = metric, 0
            return
        self.waited += 1
        if self.waited >= settings.plateau_patience:
            self.factor, self.waited = self.factor * settings.gamma, 0


@dataclass
class Pace:
    """Measured speed: seconds a step takes (a moving mean), seconds a validation takes (the last one; 0 before the first)."""

    step_s: float = 0.0
    validation_s: float = 0.0

    def observe(self, seconds: float, steps: int) -> None:
        """Takes a stretch of steps; recent stretches count most, since other work on the machine comes and goes."""
        mean = seconds / steps
        self.step_s = mean if self.step_s == 0 else 0.7 * self.step_s + 0.3 * mean


def requested_steps(settings: Hyperparameters, examples: int) -> int:
    """Steps that max_epochs and max_steps ask for, whichever is fewer; incomplete batches do not count."""
    total = settings.max_epochs * steps_per_epoch(examples, settings.batch_size)
    return min(total, settings.max_steps) if settings.max_steps else total


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Whole batches in a pass over the examples; at least 1."""
    return max(1, examples // batch_size)


def steps_that_fit(pace: Pace, *, remaining_s: float, steps_per_epoch: int) -> int:
    """Steps that the remaining time has room for, with a validation after every epoch and one at the end."""
    each = pace.step_s + pace.validation_s / steps_per_epoch
    usable = remaining_s - pace.validation_s - min(1.0, 0.02 * remaining_s)
    return max(0, int(usable / max(each, 1e-9)))


def rate_factor(settings: Hyperparameters, progress: Progress, plateau: Plateau, step: int) -> float:
    """Factor on base_lr for the step that follows `step` steps: warm-up times schedule."""
    return _warmup(settings, progress, step) * _decay(settings, progress, plateau, step)


def _warmup(settings: Hyperparameters, progress: Progress, step: int) -> float:
    steps = min(settings.warmup_steps, progress.planned // 10)
    return (step + 1) / (steps + 1) if step < steps else 1.0


def _decay(settings: Hyperparameters, progress: Progress, plateau: Plateau, step: int) -> float:
    if settings.schedule == "cosine":
        return max(1e-4, 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress.value))))
    if settings.schedule == "step":
        return float(settings.gamma ** (step // settings.step_size))
    return plateau.factor if settings.schedule == "reduce_on_plateau" else 1.0
