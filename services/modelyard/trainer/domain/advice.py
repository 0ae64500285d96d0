"""What became of a run: one of eight cases, with the figures that it is seen by. What to do next is in `proposals`.

The order of the questions is that of a practitioner. Did the loss break down? Did it ever get better than chance? Is it still
getting better? Only then: has it learned by heart, is it short of examples, does it jump, has it stopped early, or is it done?
Each threshold stands on a probability or on what chance does, not on a data set: see docs/decisions/0034-advisor.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import numpy as np

from modelyard.trainer.domain.curves import Curve, Line, binomial_tail, bounded, curve_of, jumps_of, last_part, line_of
from modelyard.trainer.domain.ledger import Spread

GREW: Final = 1.5
"""Times its start (or the loss of an even guess) that a training loss ends at when a run has diverged."""
SIGNIFICANT: Final = 0.05
FEW_OF_A_CLASS: Final = 100
"""Training examples a class below which more of them are what helps most."""
FEW_EXAMPLES: Final = 500
"""The same where there are no classes."""
LARGE_GAP: Final = 0.05
ROSE: Final = 0.05
"""Share of its lowest value by which a validation loss must have risen again."""
JUMPS: Final = 0.04
ANNEALED: Final = 0.1
"""Share of its highest value that the learning rate ends at when a schedule has done its work."""
BY_HEART: Final = 0.5
"""Share of its start that a training loss ends below when a network has learned its training examples."""
LEAST_GAIN: Final = 0.002
EXHAUSTED: Final = 0.99
"""Share of the training examples that are answered right when they have nothing more to teach."""
PERFECT: Final = 0.999


class RunCase(StrEnum):
    """What became of a run."""

    STILL_IMPROVING = "STILL_IMPROVING"
    STALLED = "STALLED"
    NEVER_IMPROVED = "NEVER_IMPROVED"
    OVERFITTING = "OVERFITTING"
    DIVERGED = "DIVERGED"
    NOISY = "NOISY"
    DATA_LIMITED = "DATA_LIMITED"
    CONVERGED = "CONVERGED"
    UNKNOWN = "UNSPECIFIED"


@dataclass(frozen=True)
class Facts:
    """What is known of a run beside its curve. task: as in a dataset version. classes: 0 for none. chance: the metric that an
    answer without a look at the example gets, None where unknown. train_count, validation_count: examples, 0 unknown.
    reason: how it ended (COMPLETED, DIVERGED...), its error's reason when it failed. notes: reasons of its notes. spread: of
    its experiment. planned_steps: that it was to make. settings: its hyperparameters."""

    task: str
    reason: str = ""
    notes: tuple[str, ...] = ()
    classes: int = 0
    chance: float | None = None
    train_count: int = 0
    validation_count: int = 0
    planned_steps: int = 0
    train_seconds: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    spread: Spread | None = None

    @property
    def few(self) -> bool:
        """Whether there are few training examples."""
        if not self.train_count:
            return False
        return self.train_count < (FEW_OF_A_CLASS * self.classes if self.classes else FEW_EXAMPLES)


@dataclass(frozen=True)
class Evidence:
    """A figure, where it has one with its 95 % interval, and the same in a sentence."""

    name: str
    value: float
    text: str
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Diagnosis:
    """What became of a run. by_heart: it learns its training examples though nothing that holds for others: the labels are in
    question, not the settings. least: what a change of the metric must exceed to be more than chance, in its units."""

    case: RunCase
    summary: str
    evidence: tuple[Evidence, ...]
    curve: Curve
    least: float
    by_heart: bool = False
    slow: bool = False


def diagnose(points: Sequence[Mapping[str, Any]], facts: Facts) -> Diagnosis:
    """The case of a run, from the points of its curve (step, loss, learning_rate, metrics) and what else is known of it."""
    return _Look(curve_of(points), facts).diagnosis()


class _Look:
    """One look at a run: the figures, worked out once."""

    def __init__(self, curve: Curve, facts: Facts) -> None:
        self.curve = curve
        self.facts = facts
        self.evidence: list[Evidence] = []
        self.least = self._least()
        self.last = last_part(len(curve.scores))
        self.line = line_of(curve.at[self.last], curve.scores[self.last])
        self.start_loss = self._start_loss()

    # The order of the questions

    def diagnosis(self) -> Diagnosis:
        """The first case that fits."""
        if self.diverged():
            return self.found(RunCase.DIVERGED, "The training loss broke down: the learning rate is too high for this run.")
        if not len(self.curve.scores):
            text = "There is no validation metric to go by: give the dataset version validation examples."
            return self.found(RunCase.UNKNOWN, text)
        self._tell_best()
        if self.never_improved():
            return self._never()
        improving = self.improving()
        gap, rose = self.gap(), self.rose()
        if gap and self.facts.few and self.exhausted():
            improving = False  # what it still gains it does not learn from its examples
        if improving:
            slow = self.slow()
            return self.found(RunCase.STILL_IMPROVING, f"{self.curve.metric} was still improving when the run ended.", slow=slow)
        if (gap or rose) and self.facts.few:
            text = "It has learned what its few examples tell; more examples help more than more training."
            return self.found(RunCase.DATA_LIMITED, text)
        if rose:
            text = "It got worse on the validation examples while it went on learning the training examples."
            return self.found(RunCase.OVERFITTING, text)
        if self.noisy():
            text = f"{self.curve.metric} jumps more from one validation to the next than it moves."
            return self.found(RunCase.NOISY, text)
        return self._still()

    def _never(self) -> Diagnosis:
        by_heart = self.learned_by_heart()
        if by_heart:
            text = "It learns its training examples, but what it learns does not hold for others: look at the labels."
        else:
            text = f"{self.curve.metric} never got better than chance."
        return self.found(RunCase.NEVER_IMPROVED, text, by_heart=by_heart)

    def _still(self) -> Diagnosis:
        """It has stopped improving: with its learning rate still high, or done."""
        rates = self.curve.rates[np.isfinite(self.curve.rates)]
        if bounded(self.curve.metric) and self.curve.best_value >= PERFECT:
            return self.found(RunCase.CONVERGED, f"{self.curve.metric} is as good as it can be.")
        if len(rates) and rates.max() > 0 and not self.facts.task.startswith("tabular"):
            share = float(rates[-1] / rates.max())
            text = f"The learning rate ended at {rates[-1]:.3g}, {share:.0%} of its highest."
            self.tell("learning_rate", float(rates[-1]), text)
            if share > ANNEALED:
                text = f"{self.curve.metric} improved, then stopped, with the learning rate still high."
                return self.found(RunCase.STALLED, text)
        return self.found(RunCase.CONVERGED, "It has come to what this recipe gives on these data.")

    def found(self, case: RunCase, summary: str, *, by_heart: bool = False, slow: bool = False) -> Diagnosis:
        """The diagnosis with the evidence so far."""
        return Diagnosis(case, summary, tuple(self.evidence), self.curve, self.least, by_heart, slow)

    def tell(self, name: str, value: float, text: str, lower: float | None = None, upper: float | None = None) -> None:
        """Keeps a piece of evidence, if it is a number."""
        if math.isfinite(value):
            self.evidence.append(Evidence(name, value, text, lower, upper))

    # Questions

    def diverged(self) -> bool:
        """Whether the loss broke down."""
        losses = self.curve.losses[np.isfinite(self.curve.losses)]
        if "DIVERGED" in (self.facts.reason, *self.facts.notes):
            last = float(losses[-1]) if len(losses) else 0.0
            text = "The loss became no number" + (f"; the last that was one is {last:.4g}." if len(losses) else " at once.")
            self.tell("loss", last, text)
            return True
        if len(losses) < 2 or not math.isfinite(self.start_loss) or self.start_loss <= 0:
            return False
        end = float(np.median(losses[-max(1, len(losses) // 4) :]))
        ratio = end / self.start_loss
        self.tell(
            "loss_ratio", ratio, f"The training loss ended at {end:.4g}, {ratio:.2f} times its start ({self.start_loss:.4g})."
        )
        return ratio > GREW or self._broke_down()

    def _broke_down(self) -> bool:
        """Whether the validation loss was far above that of an even guess, and the metric at chance for half of the run or more:
        answers without sense. (A schedule that lowers the rate may mend that towards the end.)"""
        curve, held = self.curve, self.curve.held_losses[np.isfinite(self.curve.held_losses)]
        if not len(held) or not self.facts.classes or self.facts.chance is None:
            return False
        even, highest = math.log(self.facts.classes), float(held.max())
        lost = sum(not self._above_chance(float(score)) for score in curve.scores)
        if highest <= 3 * even or 2 * lost < len(curve.scores) or self.learned_by_heart(quiet=True):
            return False
        text = (
            f"The validation loss went up to {highest:.4g} (an even guess has {even:.3g}), and {curve.metric} was no better than "
            f"chance at {lost} of {len(curve.scores)} validations."
        )
        self.tell("validation_loss", highest, text)
        return True

    def never_improved(self) -> bool:
        """Whether the best metric is within what chance gives."""
        curve, best = self.curve, float(self.curve.scores.max())
        if self.facts.chance is not None:
            chance = self.facts.chance
            self.tell("chance", chance, f"Without a look at the example {curve.metric} would be {chance:.3g}.")
            return not self._above_chance(best, looks=len(curve.scores))
        moved = self._share_of_start_loss()
        return best - float(curve.scores[0]) <= self.least and (math.isnan(moved) or moved > 0.99)

    def _above_chance(self, score: float, looks: int = 1) -> bool:
        """Whether a metric is more than chance gives the best of so many looks."""
        chance, count = self.facts.chance, self.facts.validation_count
        if chance is None:
            return True
        if not count or not bounded(self.curve.metric):
            return score > chance + LEAST_GAIN
        return binomial_tail(round(score * count), count, chance) * min(looks, 10) < SIGNIFICANT / 5

    def learned_by_heart(self, *, quiet: bool = False) -> bool:
        """Whether the training examples are learned: by their own metric where it is known, else by the training loss."""
        curve = self.curve
        seen = curve.seen_scores[np.isfinite(curve.seen_scores)]
        if len(seen) and bounded(curve.metric):
            end = float(np.mean(seen[-3:]))
            learned = end > float(curve.scores.max()) + 2 * LARGE_GAP
            text = f"On training examples {curve.metric.removeprefix('val_')} is {end:.3g} at the end."
            name = "train_metric"
        else:
            end = self._share_of_start_loss()
            learned = end < BY_HEART
            text, name = f"The training loss ended at {end:.0%} of its start." if math.isfinite(end) else "", "train_loss"
        if not quiet:
            self.tell(name, end, text)
        return learned

    def improving(self) -> bool:
        """Whether the metric was rising over the last part, by more than chance."""
        curve, line = self.curve, self.line
        if line is None or len(curve.scores) < 4:
            return self._loss_still_falls()
        self._tell_line(line)
        return line.lower > 0 and line.rise > self.least

    def _loss_still_falls(self) -> bool:
        """With too few validations: whether the best is the last, and the training loss was falling."""
        curve = self.curve
        some = last_part(len(curve.losses))
        line = line_of(curve.steps[some], curve.losses[some])
        if line is not None:
            text = f"Over the last third the training loss changed by {line.rise:.3g} ({line.lower:.3g} to {line.upper:.3g})."
            self.tell("loss_slope", line.rise, text, line.lower, line.upper)
        return curve.best == len(curve.scores) - 1 and line is not None and line.upper < 0

    def slow(self) -> bool:
        """Whether it rose as much in its last third as before: far from its end."""
        curve, line = self.curve, self.line
        whole = float(curve.scores.max() - curve.scores[0])
        return line is not None and whole > 0 and line.rise > 0.25 * whole

    def gap(self) -> bool:
        """Whether it is much better on training examples than on others at the end."""
        curve = self.curve
        seen = curve.seen_scores[self.last]
        if np.isfinite(seen).any() and bounded(curve.metric):
            gap = float(np.nanmean(seen) - curve.scores[self.last].mean())
            self.tell("gap", gap, f"{curve.metric.removeprefix('val_')} is {gap:.3g} higher on training examples at the end.")
            return gap > max(LARGE_GAP, 3 * self._sampling_error())
        losses, held = curve.seen_losses[self.last], curve.held_losses[self.last]
        if not (np.isfinite(losses).any() and np.isfinite(held).any()) or float(np.nanmean(held)) <= 0:
            return False
        share = float(np.nanmean(losses) / np.nanmean(held))
        self.tell("gap", 1 - share, f"The loss on training examples is {share:.0%} of that on validation examples at the end.")
        return share < 0.5

    def exhausted(self) -> bool:
        """Whether the training examples have nothing more to teach: all are answered right over the last part."""
        seen = self.curve.seen_scores[self.last]
        return bool(np.isfinite(seen).any()) and bounded(self.curve.metric) and float(np.nanmean(seen)) >= EXHAUSTED

    def rose(self) -> bool:
        """Whether the validation loss rose again from its lowest while the training examples were learned on."""
        curve = self.curve
        held = curve.held_losses
        if np.isfinite(held).sum() < FEWEST_FOR_RISE:
            return False
        low = int(np.nanargmin(held))
        end = float(np.nanmedian(held[-3:]))
        rise = end - float(held[low])
        seen = curve.seen_losses
        learned_on = not np.isfinite(seen[[low, -1]]).all() or seen[-1] < seen[low]
        least = max(ROSE * abs(float(held[low])), 2 * jumps_of(held))
        if rise > least and learned_on and low < 0.8 * (len(held) - 1):
            text = f"The validation loss was lowest ({held[low]:.4g}) at step {curve.at[low]:.0f} and rose to {end:.4g}."
            self.tell("validation_loss_rise", rise, text)
            return True
        return False

    def noisy(self) -> bool:
        """Whether the metric jumps more than it moved over the last half."""
        curve = self.curve
        jumps = jumps_of(curve.scores[len(curve.scores) // 4 :])
        scale = 1.0 if bounded(curve.metric) else abs(float(np.median(curve.scores))) or 1.0
        if jumps > JUMPS * scale:
            self.tell(
                "jumps", jumps, f"From one validation to the next {curve.metric} jumps by {jumps:.3g} (standard deviation)."
            )
            return True
        return False

    # Figures

    def _least(self) -> float:
        """What a change of the metric must exceed to be more than chance."""
        curve, spread = self.curve, self.facts.spread
        if not len(curve.scores):
            return LEAST_GAIN
        floor = LEAST_GAIN * (1.0 if bounded(curve.metric) else abs(float(np.median(curve.scores))) or 1.0)
        chance = spread.deviation if spread is not None and spread.metric == curve.metric else 0.5 * self._sampling_error()
        return max(floor, chance)

    def _sampling_error(self) -> float:
        """Standard error of the best metric by the number of validation examples; 0 where it cannot be said."""
        count = self.facts.validation_count
        if not count or not bounded(self.curve.metric) or not len(self.curve.scores):
            return 0.0
        best = min(max(float(self.curve.scores.max()), 1 / (count + 2)), 1 - 1 / (count + 2))
        return math.sqrt(best * (1 - best) / count)

    def _start_loss(self) -> float:
        """The loss at the start, and at most that of an even guess where there are classes: a run may have broken down before
        its first point."""
        losses = self.curve.losses[np.isfinite(self.curve.losses)]
        if not len(losses):
            return math.nan
        start = float(losses[0])
        return min(start, math.log(self.facts.classes)) if self.facts.classes > 1 else start

    def _share_of_start_loss(self) -> float:
        """What is left of the training loss at the end, as a share of its start; NaN where there is none."""
        losses = self.curve.losses[np.isfinite(self.curve.losses)]
        if len(losses) < 2 or losses[0] == 0:
            return math.nan
        return float(np.mean(losses[-3:]) / losses[0])

    def _tell_best(self) -> None:
        curve = self.curve
        text = f"{curve.metric} was best at step {curve.at[curve.best]:.0f} of {curve.steps[-1]:.0f}: {curve.best_value:.4g}."
        self.tell("best_step", float(curve.at[curve.best]), text)
        if (spread := self.facts.spread) is not None:
            text = f"Runs of this experiment with {spread.runs} seeds differ by {spread.deviation:.3g} (standard deviation)."
            self.tell("spread", spread.deviation, text)

    def _tell_line(self, line: Line) -> None:
        curve = self.curve
        sign = curve.sign
        lower, upper = sorted((sign * line.lower, sign * line.upper))
        text = (
            f"Over the last third {curve.metric} changed by {sign * line.rise:+.3g} ({lower:+.3g} to {upper:+.3g}, 95 %); "
            f"more than {self.least:.2g} is more than chance."
        )
        self.tell("slope", sign * line.rise, text, lower, upper)


FEWEST_FOR_RISE: Final = 5
"""Validations that a rise of the loss is looked for in, at least."""
