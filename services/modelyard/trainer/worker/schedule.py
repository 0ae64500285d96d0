"""How far a run is, and which learning rate that means. Plain arithmetic, no torch.

A run's progress goes from 0 to 1 over its planned steps. Under a time limit the plan is the steps that the time has room for, at
most those asked for, and follows the speed of the machine: with every look at the clock it is made anew. So a run that ends at
its limit has been annealed to the end, and one whose machine becomes faster takes all the time for more steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from modelyard.recipes.recipe import Hyperparameters


@dataclass
class Progress:
    """requested: steps asked for. planned: steps that will be made, at most requested. value: share of the schedule behind it.
    pending: steps that the rest of the schedule is spread over as fast as the machine is just now; 0: those that are planned."""

    requested: int
    planned: int
    value: float = 0.0
    pending: int = 0

    def advance(self, step: int) -> None:
        """Moves on by one step, of which `step` were made before: what is left is spread over the steps that are left.

        Where the plan has grown, so that the schedule is ahead of the steps, it waits for them: a rate that fell by the pace of a
        slow machine does not go on falling for the steps that a fast one makes.
        """
        left = max(1, self.planned - step)
        if left > 1 and self.value >= (step + 1) / self.planned:
            return
        self.pending = max(0, self.pending - 1)
        self.value += (1.0 - self.value) / (self.pending + 1 if self.pending and left > 1 else left)

    def plan(self, step: int, total: int, pending: int = 0) -> None:
        """Sets the planned total, between the steps made and those asked for; pending: see the class."""
        self.planned = max(step, min(self.requested, total))
        self.pending = pending if self.shortened else 0

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


MOST_VALIDATING = 0.1
"""Share of the time that validations between the first step and the last take at most, where a time limit takes steps away."""
PACE_SPAN = 0.25
"""Of the time that is left: how far back the pace is measured, at least PACE_SPAN_S."""
PACE_SPAN_S = 5.0


@dataclass
class Pace:
    """Measured speed: seconds a step takes, seconds a validation takes (0 before the first). Both are means that forget, since
    other work on the machine comes and goes; the further ahead they have to tell, the longer they remember. latest_s: seconds a
    step took in the last stretch."""

    step_s: float = 0.0
    validation_s: float = 0.0
    latest_s: float = 0.0
    seconds: float = 0.0
    steps: float = 0.0
    validations: int = 0

    def observe(self, seconds: float, steps: int, remaining_s: float = math.inf) -> None:
        """Takes a stretch of steps, with so much time of the limit left; without one the last minute counts."""
        span_s = max(PACE_SPAN_S, PACE_SPAN * remaining_s) if math.isfinite(remaining_s) else 60.0
        kept = math.exp(-seconds / span_s)
        self.seconds, self.steps = self.seconds * kept + seconds, self.steps * kept + steps
        self.step_s, self.latest_s = self.seconds / self.steps, seconds / steps

    def validated(self, seconds: float) -> None:
        """Takes a validation; a single one that met a busy moment counts half."""
        self.validation_s = (self.validation_s + seconds) / 2 if self.validations else seconds
        self.validations += 1

    def expect(self, validation_s: float) -> None:
        """What a validation may take, until the first is measured."""
        self.validation_s = self.validation_s if self.validations else validation_s


def requested_steps(settings: Hyperparameters, examples: int) -> int:
    """Steps that max_epochs and max_steps ask for, whichever is fewer; incomplete batches do not count."""
    total = settings.max_epochs * steps_per_epoch(examples, settings.batch_size)
    return min(total, settings.max_steps) if settings.max_steps else total


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Whole batches in a pass over the examples; at least 1."""
    return max(1, examples // batch_size)


def steps_that_fit(pace: Pace, step_s: float, *, remaining_s: float, steps_per_epoch: int, spares: bool = True) -> int:
    """Steps of step_s that the remaining time has room for, with a validation after every epoch and one at the end. spares: those
    after epochs take at most MOST_VALIDATING of the time."""
    step_s = max(step_s, 1e-9)
    validating_s = pace.validation_s / steps_per_epoch
    if spares:
        validating_s = min(validating_s, step_s * MOST_VALIDATING / (1 - MOST_VALIDATING))
    usable = remaining_s - pace.validation_s - min(1.0, 0.02 * remaining_s)
    return max(0, int(usable / (step_s + validating_s)))


def spares_validation(pace: Pace, trained_s: float) -> bool:
    """Whether to leave out the validation of an epoch, `trained_s` of training after the last one, to keep to MOST_VALIDATING."""
    return trained_s * MOST_VALIDATING < pace.validation_s * (1 - MOST_VALIDATING)


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
