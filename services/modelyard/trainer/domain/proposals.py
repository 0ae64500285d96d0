"""What to do next about a run, in the order in which a practitioner would try it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from modelyard.trainer.domain.advice import Diagnosis, RunCase
from modelyard.trainer.domain.training_job import BEST, LAST

SHORT_STEPS: Final = 3500
SHORT_SHARE: Final = 0.25
TRAIN, DATA, KEEP = "TRAIN", "DATA", "KEEP"
OPTIMIZERS_TO_TRY: Final = ("adam", "rmsprop", "nadam")
HIGH_MOMENTUM, LOW_MOMENTUM, MIDDLE_MOMENTUM = 0.9, 0.5, 0.7
FRESH_RATES: Final = {"sgd": 0.05, "adam": 1e-3, "adamw": 3e-3, "rmsprop": 1e-3, "nadam": 2e-3}
"""Rates that an optimizer is tried with, where another one had the recipe's."""
STRONGER: Final = {"none": "light", "light": "standard", "standard": "strong"}


@dataclass(frozen=True)
class Situation:
    """What proposals depend on beside the diagnosis.

    settings: the hyperparameters that the run really had. steps, epochs: what it made; best_step, best_epoch: those of its best
    checkpoint, None without one; last: whether there is a last one. planned_steps, planned_epochs: what it was to make;
    step_s: seconds a step took, 0 unknown. recipes: ids of other recipes that suit the data, the most accurate first, with the
    size of their networks in millions of parameters; own_size: of this one. related: model versions of the project, for the
    same task and architecture, trained on other data. table: whether it is about a table.
    """

    settings: Mapping[str, Any]
    steps: int
    epochs: float
    planned_steps: int
    planned_epochs: int
    best_epoch: int | None = None
    best_step: int | None = None
    last: bool = False
    step_s: float = 0.0
    recipes: tuple[tuple[str, float], ...] = ()
    own_recipe: str = ""
    own_size: float = 0.0
    related: tuple[str, ...] = ()
    table: bool = False
    baseline_runs: int = 3
    short_steps: int = SHORT_STEPS
    short_share: float = SHORT_SHARE

    @property
    def short_run_steps(self) -> int:
        """Steps of a short run: 3,500, or a share of a whole run where that is fewer."""
        return max(1, min(self.short_steps, math.ceil(self.short_share * max(1, self.planned_steps))))


@dataclass(frozen=True)
class Proposal:
    """A next step. changes: hyperparameters to change. start: "" (afresh), LAST or BEST (checkpoint of the run). recipe: another
    recipe's id. warm_start: a model version to start from. short: whether a short run says first whether it helps. steps: that a
    full run would make; seconds: expected, None unknown. direction: factor by which base_lr may go on being multiplied while
    that helps."""

    rung: str
    reason: str
    kind: str = TRAIN
    changes: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""
    recipe: str = ""
    warm_start: str = ""
    short: bool = False
    steps: int = 0
    seconds: float | None = None
    direction: float = 0.0


def propose(diagnosis: Diagnosis, situation: Situation) -> tuple[Proposal, ...]:
    """The next steps, the first to be tried first."""
    found = list(_CASES[diagnosis.case](diagnosis, situation))
    return tuple(_costed(each, situation) for each in found)


def _costed(proposal: Proposal, situation: Situation) -> Proposal:
    """With the steps and the time that it takes, its short run and that run's baseline included."""
    if proposal.kind != TRAIN:
        return proposal
    steps = proposal.steps or situation.planned_steps
    short = (1 + situation.baseline_runs) * situation.short_run_steps if proposal.short else 0
    seconds = (steps + short) * situation.step_s if situation.step_s and not proposal.recipe else None
    return Proposal(**{**vars(proposal), "steps": steps, "seconds": seconds})


def _still_improving(diagnosis: Diagnosis, situation: Situation) -> Iterator[Proposal]:
    if situation.last:
        yield _longer(
            situation, LAST, 1.0, "resume_last", "It was still improving: go on from the last checkpoint, for twice as long."
        )
    if diagnosis.slow and not situation.table:
        reason = "It rises evenly and slowly: a learning rate twice as high may bring it there sooner."
        yield _rate(situation, 2.0, "lr_doubled", reason)


def _stalled(_: Diagnosis, situation: Situation) -> Iterator[Proposal]:
    if situation.best_epoch is not None and "base_lr" in situation.settings:
        for factor, rung, words in ((0.5, "lr_halved", "half"), (0.1, "lr_tenth", "a tenth of")):
            reason = f"It stopped improving: go on from the best checkpoint with {words} the learning rate."
            changed = {"base_lr": _rounded(situation.settings["base_lr"] * factor)}
            yield _longer(situation, BEST, 0.5, f"resume_best_{rung}", reason, changed)
    yield from _architectures(situation, "What the network can hold may be the limit.", larger=True)
    yield from _related(situation)
    yield _data("More, or more telling, examples are what is left.")


def _never_improved(diagnosis: Diagnosis, situation: Situation) -> Iterator[Proposal]:
    """Learning rate, momentum, weight decay, optimizer, architecture, related model, data. Where the training examples are
    learned by heart no setting can help: the data come first."""
    if diagnosis.by_heart:
        yield _data(
            "It learns the training examples, so the settings work; what the labels say does not hold for other examples."
        )
    if not situation.table:
        reason = "It never improved: a short run with twice the learning rate says whether that was too low."
        yield _rate(situation, 2.0, "lr_doubled", reason)
        yield _rate(
            situation,
            0.5,
            "lr_halved",
            "It never improved: a short run with half the learning rate says whether it was too high.",
        )
        yield from _momentum(situation)
        yield from _weight_decay(situation)
        yield from _optimizers(situation)
    yield from _architectures(situation, "No setting of this network helped.", larger=False)
    yield from _related(situation)
    if not diagnosis.by_heart:
        yield _data("When no setting helps the trouble is in the data: wrong labels, imbalance, too few or too alike.")


def _diverged(_: Diagnosis, situation: Situation) -> Iterator[Proposal]:
    if situation.table:
        yield _data("Trees do not diverge by their settings: look at the target column.")
        return
    for factor, rung, words in ((0.1, "lr_tenth", "a tenth"), (0.01, "lr_hundredth", "a hundredth")):
        reason = f"The loss broke down: a short run with {words} of the learning rate says whether that holds it."
        yield _rate(situation, factor, rung, reason, direction=0.0)
    if not situation.settings.get("clip_norm"):
        reason = "Gradients that are cut at a norm of 1 cannot throw the weights far."
        yield Proposal("clip_norm", reason, changes={"clip_norm": 1.0}, short=True)
    yield from _optimizers(situation)
    yield _data("Values far out of range in the data break a loss down, too.")


def _overfitting(_: Diagnosis, situation: Situation) -> Iterator[Proposal]:
    yield from _regularized(situation)
    yield from _architectures(situation, "A smaller network cannot learn as much by heart.", larger=False, smaller=True)
    yield from _related(situation)
    yield _data("More examples are what it cannot learn by heart.")


def _data_limited(_: Diagnosis, situation: Situation) -> Iterator[Proposal]:
    yield _data("Few examples a class: more of them help most. The quality report says which classes lack them.")
    yield from _related(situation)
    yield from _regularized(situation)
    yield from _architectures(situation, "A network that starts from trained weights needs fewer examples.", larger=True)


def _noisy(_: Diagnosis, situation: Situation) -> Iterator[Proposal]:
    if not situation.table:
        yield _rate(situation, 0.5, "lr_halved", "It jumps: half the learning rate makes smaller jumps.")
        if not situation.settings.get("ema_decay"):
            reason = "The running mean of the weights does not jump with them."
            yield Proposal("ema", reason, changes={"ema_decay": 0.99}, short=True)
        size = int(situation.settings.get("batch_size", 0))
        if 0 < size <= 2048:
            reason = "Twice the examples a step make the gradients steadier."
            yield Proposal("batch_doubled", reason, changes={"batch_size": 2 * size}, short=True)
    yield _data("With more validation examples the metric itself jumps less.")


def _converged(_: Diagnosis, situation: Situation) -> Iterator[Proposal]:
    yield Proposal("keep", "It is done: this is what the recipe gives on these data.", kind=KEEP)
    yield from _architectures(situation, "A larger network may hold more.", larger=True)
    yield from _related(situation)
    yield _data("Better than this only comes from better data.")


def _unknown(_: Diagnosis, situation: Situation) -> Iterator[Proposal]:
    yield _data("Without validation examples nothing can be said: publish a version that has some.")


_CASES: Final = {
    RunCase.STILL_IMPROVING: _still_improving,
    RunCase.STALLED: _stalled,
    RunCase.NEVER_IMPROVED: _never_improved,
    RunCase.OVERFITTING: _overfitting,
    RunCase.DIVERGED: _diverged,
    RunCase.NOISY: _noisy,
    RunCase.DATA_LIMITED: _data_limited,
    RunCase.CONVERGED: _converged,
    RunCase.UNKNOWN: _unknown,
}


# Rungs


def _rate(situation: Situation, factor: float, rung: str, reason: str, *, direction: float | None = None) -> Proposal:
    rate = min(100.0, _rounded(situation.settings["base_lr"] * factor))
    return Proposal(rung, reason, changes={"base_lr": rate}, short=True, direction=factor if direction is None else direction)


def _momentum(situation: Situation) -> Iterator[Proposal]:
    momentum = float(situation.settings.get("momentum", 0.0))
    if momentum >= MIDDLE_MOMENTUM:
        yield Proposal(
            "momentum", f"Momentum is {momentum:g}, which is high: lower it.", changes={"momentum": LOW_MOMENTUM}, short=True
        )
    else:
        yield Proposal(
            "momentum", f"Momentum is {momentum:g}, which is low: raise it.", changes={"momentum": HIGH_MOMENTUM}, short=True
        )


def _weight_decay(situation: Situation) -> Iterator[Proposal]:
    decay = float(situation.settings.get("weight_decay", 0.0))
    if decay > 0:
        yield Proposal("weight_decay", "Half the weight decay.", changes={"weight_decay": _rounded(decay / 2)}, short=True)
        yield Proposal("weight_decay", "No weight decay at all.", changes={"weight_decay": 0.0}, short=True)


def _optimizers(situation: Situation) -> Iterator[Proposal]:
    """Others, with rates that suit them. Where the rate is within ten times of those it may be what was wrong, or right."""
    for name in OPTIMIZERS_TO_TRY:
        if name != situation.settings.get("optimizer"):
            changes = {"optimizer": name, "base_lr": FRESH_RATES[name]}
            yield Proposal("optimizer", f"Another optimizer: {name}, at {FRESH_RATES[name]:g}.", changes=changes, short=True)


def _architectures(situation: Situation, reason: str, *, larger: bool, smaller: bool = False) -> Iterator[Proposal]:
    for recipe, size in situation.recipes:
        if recipe == situation.own_recipe:
            continue
        fits = size < situation.own_size if smaller else (size > situation.own_size or not larger or not size)
        if fits:
            yield Proposal("architecture", f"{reason} Another architecture: {recipe}.", recipe=recipe)


def _related(situation: Situation) -> Iterator[Proposal]:
    for version in situation.related[:2]:
        yield Proposal("pretrained", f"Start from {version}, trained on related data.", warm_start=version)


def _regularized(situation: Situation) -> Iterator[Proposal]:
    settings = situation.settings
    stronger = STRONGER.get(str(settings.get("augmentation", "")))
    if stronger:
        yield Proposal(
            "regularize", f"Pictures changed more from epoch to epoch: {stronger}.", changes={"augmentation": stronger}
        )
    if "weight_decay" in settings and not situation.table:
        decay = min(10.0, _rounded(max(2 * float(settings["weight_decay"]), 0.05)))
        yield Proposal("regularize", "Twice the weight decay.", changes={"weight_decay": decay})
    if "mixup" in settings and not settings["mixup"] and settings.get("augmentation") != "custom":
        yield Proposal("regularize", "Pairs of pictures mixed.", changes={"mixup": 0.2})


def _data(reason: str) -> Proposal:
    return Proposal("data", reason, kind=DATA)


def _longer(
    situation: Situation, start: str, share: float, rung: str, reason: str, changes: Mapping[str, Any] | None = None
) -> Proposal:
    """Goes on from a checkpoint for a share of the run's length."""
    done_steps = situation.best_step if start == BEST else situation.steps
    done_epochs = situation.best_epoch if start == BEST else math.ceil(situation.epochs)
    more_epochs = max(1, math.ceil(share * max(1, situation.planned_epochs or math.ceil(situation.epochs))))
    more_steps = max(1, math.ceil(share * situation.planned_steps))
    wanted: dict[str, Any] = dict(changes or {})
    if not situation.table:
        wanted["max_epochs"] = min(10_000, int(done_epochs or 0) + more_epochs)
    if situation.table or situation.settings.get("max_steps"):
        wanted["max_steps"] = min(100_000_000, int(done_steps or 0) + more_steps)
    return Proposal(rung, reason, changes=wanted, start=start, steps=more_steps)


def _rounded(value: float) -> float:
    """Three significant digits: what people would write."""
    return float(f"{value:.3g}")


def not_tried(proposals: Sequence[Proposal], keys: Sequence[str]) -> list[Proposal]:
    """Those whose key is not among the given ones."""
    return [each for each in proposals if key_of(each) not in keys]


def key_of(proposal: Proposal) -> str:
    """The same for the same step from the same run."""
    changed = ",".join(f"{name}={value}" for name, value in sorted(proposal.changes.items()))
    return "|".join((proposal.rung, proposal.start, proposal.recipe, proposal.warm_start, changed))
