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
    """State of `reduce_on_plateau`: the factor now, the best metric seen, epochs since, and the step of the best or last cut."""

    factor: float = 1.0
    best: float = -math.inf
    waited: int = 0
    since: int = 0

    def observe(self, metric: float, settings: Hyperparameters, step: int = 0) -> None:
        """Takes an epoch's metric (higher is better) after `step` steps; cuts the factor once `plateau_patience` epochs, or
        `plateau_steps` steps where these are set, brought nothing better."""
        if metric > self.best:
            self.best, self.waited, self.since = metric, 0, step
            return
        self.waited += 1
        long_enough = step - self.since >= settings.plateau_steps if settings.plateau_steps else self._patient(settings)
        if long_enough:
            self.factor, self.waited, self.since = self.factor * settings.gamma, 0, step

    def _patient(self, settings: Hyperparameters) -> bool:
        return self.waited >= settings.plateau_patience


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


ONE_CYCLE_RISE, ONE_CYCLE_START, ONE_CYCLE_END = 0.3, 0.04, 1e-4
"""Share of the run in which the rate rises, and the factors at its ends (Smith and Topin 2018, https://arxiv.org/abs/1708.07120)."""
ONE_CYCLE_MOMENTA = (0.95, 0.85)
"""Momentum at the ends of the run, and where the rate is highest."""


def momentum_now(settings: Hyperparameters, progress: Progress) -> float:
    """Momentum (beta1) of the next step: with one_cycle it falls while the rate rises; else the setting's."""
    if settings.schedule != "one_cycle" or settings.momentum == 0:
        return settings.momentum
    high, low = ONE_CYCLE_MOMENTA
    return high - (high - low) * _cycle(min(1.0, progress.value), 0.0, 1.0, 0.0)


def _cycle(done: float, start: float, top: float, end: float) -> float:
    """A half cosine from start to top over the rise, and one from there to the end."""
    if done < ONE_CYCLE_RISE:
        return start + (top - start) * 0.5 * (1 - math.cos(math.pi * done / ONE_CYCLE_RISE))
    return end + (top - end) * 0.5 * (1 + math.cos(math.pi * (done - ONE_CYCLE_RISE) / (1 - ONE_CYCLE_RISE)))


def _warmup(settings: Hyperparameters, progress: Progress, step: int) -> float:
    if settings.schedule == "one_cycle":
        return 1.0  # the rise is its warm-up
    steps = min(settings.warmup_steps, progress.planned // 10)
    return (step + 1) / (steps + 1) if step < steps else 1.0


def _decay(settings: Hyperparameters, progress: Progress, plateau: Plateau, step: int) -> float:
    if settings.schedule == "cosine":
        return max(1e-4, 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress.value))))
    if settings.schedule == "one_cycle":
        return _cycle(min(1.0, progress.value), ONE_CYCLE_START, 1.0, ONE_CYCLE_END)
    if settings.schedule == "polynomial":
        return max(1e-4, float((1.0 - min(1.0, progress.value)) ** settings.power))
    if settings.schedule == "step":
        return float(settings.gamma ** (step // settings.step_size))
    return plateau.factor if settings.schedule == "reduce_on_plateau" else 1.0
