"""Whether an endpoint still answers as well as at its gate: what is asked for, and what the newest labelled examples say.

The same bytes give the same answers to the same examples, so only examples that are new since the gate can tell anything. Those
are other examples than the gate's: the two figures are compared by the interval of their difference, not in pairs. Of examples
that both know, only labels can have changed; they are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

import numpy as np

from modelyard.core import names
from modelyard.core.errors import InvalidArgument
from modelyard.statistics.intervals import Floats, bootstrap_means, difference, percentiles, wilson

DAY_S: Final = 86_400.0
LEAST_INTERVAL_S: Final = 60.0
MOST_INTERVAL_S: Final = 90 * DAY_S
MIN_NEW_EXAMPLES: Final = 50
MAX_LOSS: Final = 0.02
USAGES: Final = ("test", "validation")
MAX_DISPLAY_NAME: Final = 200
Answer = tuple[str, str] | tuple[float, float]
"""Label and answer of an example: classes, or numbers."""


class Verdict(StrEnum):
    """What a run concludes."""

    OK = "OK"
    DRIFTED = "DRIFTED"
    NOT_ENOUGH_DATA = "NOT_ENOUGH_DATA"


@dataclass(frozen=True)
class ReevaluationSpec:
    """What is asked for, in full names; `dataset` (its newest version) or `dataset_version`. `max_loss`: 0 to 1."""

    endpoint: str
    dataset: str = ""
    dataset_version: str = ""
    usage: str = ""
    interval_s: float = 0.0
    min_new_examples: int = 0
    max_loss: float = 0.0
    display_name: str = ""


@dataclass(frozen=True)
class Answers:
    """What was answered: by example id, of the usage in question; and the ids of every example of any usage that was scored.

    `figures`: where an answer is neither a class nor a number (boxes, pixels), how good it is, 0 to 1, by example id.
    """

    of_usage: Mapping[str, Answer]
    scored: frozenset[str]
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A metric with its 95 percent interval."""

    name: str
    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Judgement:
    """What a run found. `metric` and `loss` are None without new examples. A positive `loss` is worse than at the gate."""

    verdict: Verdict
    advice: str
    new_examples: int = 0
    known_examples: int = 0
    relabelled_examples: int = 0
    metric: Figure | None = None
    gate_metric: Figure | None = None
    loss: Figure | None = None


@dataclass(frozen=True)
class ReevaluationResult:
    """A run that ended well: what was scored on what, against which evaluation."""

    dataset_version: str = ""
    export: str = ""
    evaluation: str = ""
    gate_evaluation: str = ""
    judgement: Judgement = field(default_factory=lambda: Judgement(Verdict.NOT_ENOUGH_DATA, ""))


def complete(spec: ReevaluationSpec) -> ReevaluationSpec:
    """The spec with its defaults. Raises InvalidArgument naming the field, its value and what is right."""
    names.ENDPOINT.parse(spec.endpoint, "reevaluation.endpoint")
    if bool(spec.dataset) == bool(spec.dataset_version):
        message = "reevaluation needs one of dataset (its newest version each time) and dataset_version"
        raise InvalidArgument("NO_DATA", message, field="reevaluation.dataset")
    if spec.dataset:
        names.DATASET.parse(spec.dataset, "reevaluation.dataset")
    else:
        names.DATASET_VERSION.parse(spec.dataset_version, "reevaluation.dataset_version")
    done = replace(
        spec,
        usage=spec.usage or USAGES[0],
        interval_s=spec.interval_s or DAY_S,
        min_new_examples=spec.min_new_examples or MIN_NEW_EXAMPLES,
        max_loss=spec.max_loss or MAX_LOSS,
    )
    _check_values(done)
    return done


def _check_values(spec: ReevaluationSpec) -> None:
    right = (
        ("usage", spec.usage, spec.usage in USAGES, f"one of {', '.join(USAGES)}: what it learned from proves nothing"),
        ("interval", f"{spec.interval_s:g} s", LEAST_INTERVAL_S <= spec.interval_s <= MOST_INTERVAL_S, "1 minute to 90 days"),
        ("min_new_examples", spec.min_new_examples, 1 <= spec.min_new_examples <= 10**9, "1 or more"),
        ("max_loss", spec.max_loss, 0 < spec.max_loss <= 1, "above 0 and at most 1"),
        ("display_name", len(spec.display_name), len(spec.display_name) <= MAX_DISPLAY_NAME, "at most 200 characters"),
    )
    for name, value, fine, text in right:
        if not fine:
            message = f"reevaluation.{name} is {value}; it must be {text}"
            raise InvalidArgument(f"BAD_{name.upper()}", message, field=f"reevaluation.{name}", value=value)


def nothing_new(version: str) -> Judgement:
    """Of a dataset version that the gate's evaluation was about."""
    advice = f"{version} is what the gate looked at; label new examples, import them and publish a version"
    return Judgement(Verdict.NOT_ENOUGH_DATA, advice)


def judge(now: Answers, gate: Answers, spec: ReevaluationSpec, *, classification: bool) -> Judgement:
    """What the answers to the newest examples say against those at the gate, whose `of_usage` is the test usage."""
    new = [answer for name, answer in now.of_usage.items() if name not in gate.scored]
    known = now.of_usage.keys() & gate.of_usage.keys()
    relabelled = sum(now.of_usage[name][0] != gate.of_usage[name][0] for name in known)
    found = Judgement(Verdict.NOT_ENOUGH_DATA, "", len(new), len(known), relabelled)
    if not gate.of_usage:
        return replace(found, advice="the gate's evaluation holds no test examples to compare with")
    by_figures = bool(gate.figures and now.figures)
    before = _mean(gate, gate.of_usage) if by_figures else _figure(list(gate.of_usage.values()), classification)
    found = replace(found, gate_metric=before)
    if not new:
        return replace(found, advice=f"no new examples; {spec.min_new_examples} are needed: label more")
    if by_figures:
        after = _mean(now, [name for name in now.of_usage if name not in gate.scored])
        return _concluded(replace(found, metric=after, loss=_loss(before, after, True)), spec)
    after = _figure(new, classification)
    return _concluded(replace(found, metric=after, loss=_loss(before, after, classification)), spec)


def _mean(answers: Answers, examples: Iterable[str]) -> Figure:
    """The mean of the examples' figures, by the bootstrap."""
    values: Floats = np.array([answers.figures[name] for name in examples])
    mean = float(values.mean())
    return Figure("score", mean, *percentiles(bootstrap_means(values[:, None])[:, 0], mean))


def _figure(answers: list[Answer], classification: bool) -> Figure:
    if classification:
        right = sum(label == answer for label, answer in answers)
        return Figure("accuracy", right / len(answers), *wilson(right, len(answers)))
    squared: Floats = np.array([(float(answer) - float(label)) ** 2 for label, answer in answers])
    rmse = float(np.sqrt(squared.mean()))
    return Figure("rmse", rmse, *percentiles(np.sqrt(bootstrap_means(squared[:, None])[:, 0]), rmse))


def _loss(before: Figure, after: Figure, classification: bool) -> Figure:
    worse, better = (before, after) if classification else (after, before)
    figures = difference((worse.value, worse.lower, worse.upper), (better.value, better.lower, better.upper))
    unit = 1.0 if classification else max(before.value, 1e-12)
    return Figure("loss", *(value / unit for value in figures))


def _concluded(found: Judgement, spec: ReevaluationSpec) -> Judgement:
    metric, before, loss = found.metric, found.gate_metric, found.loss
    if metric is None or before is None or loss is None:
        raise AssertionError("concluded from figures only")
    told = f"{metric.name} is {metric.value:.3g} ({metric.lower:.3g} to {metric.upper:.3g}) on {found.new_examples} new examples"
    told += f", {before.value:.3g} at the gate"
    if found.new_examples < spec.min_new_examples:
        need = f"{spec.min_new_examples} are needed: label more"
        return replace(found, advice=f"{told}; {need}")
    if loss.value <= spec.max_loss:
        return replace(found, verdict=Verdict.OK, advice=f"{told}: nothing to do")
    if loss.lower <= 0:
        enough = int(np.ceil(found.new_examples * ((loss.value - loss.lower) / loss.value) ** 2))
        return replace(found, advice=f"{told}, which may be chance; about {max(enough, found.new_examples + 1)} would tell")
    remedy = "publish a version with the new examples in training and run the pipeline on it"
    return replace(found, verdict=Verdict.DRIFTED, advice=f"{told}: {remedy}; the endpoint's drift scores say what changed")
