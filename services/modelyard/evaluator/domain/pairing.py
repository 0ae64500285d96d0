"""Two artifacts on the same test examples: what the one loses against the other, and whether that is shown or chance.

Accuracies by modelyard.statistics.paired; a ratio of errors by the bootstrap of Efron 1979. docs/decisions/0006-gate.md gives
the rule and how often it errs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.statistics import intervals
from modelyard.statistics.intervals import Floats, Interval
from modelyard.statistics.paired import crossing, mid_p, score, tango

MIN_TEST_EXAMPLES: Final = 30
"""Fewer test examples prove nothing: Wilson's interval of 27 right out of 30 still spans 0.74 to 0.97."""
LEVEL: Final = 0.05
"""Of each one-sided test."""
Z_ONE_SIDED: Final = 1.6448536269514722
HIDDEN_TIMES: Final = 5.0
HIDDEN_ABOVE: Final = 0.04
_ROUNDING: Final = 1e-12


class Outcome(StrEnum):
    """How a test ended."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    UNSURE = "UNSURE"


@dataclass(frozen=True)
class Answers:
    """What an evaluation holds of the test usage, one entry an example: ids, labels and predictions (text, or float64); where an
    answer is neither a class nor a number also `scores` float64, higher is better."""

    evaluation: str
    example_ids: tuple[str, ...]
    labels: NDArray[Any]
    predictions: NDArray[Any]
    scores: Floats | None = None


@dataclass(frozen=True)
class Comparison:
    """An artifact against another on the same examples.

    `loss` is what it is worse by: for accuracy the difference of the two shares (so for means of figures), for rmse the growth as
    a share of the other's
    (0.02: two percent more); below 0 it is better. `lower` and `upper` are its 95 percent interval, `value` and `reference` the
    metric of the artifact and of the other. `lost` and `won` count the examples it answers worse and better. `needed` is about
    how many examples would settle an UNSURE one; 0 where more examples may not.
    """

    metric: str
    example_count: int
    value: float
    reference: float
    loss: float
    lower: float
    upper: float
    p_value: float
    lost: int
    won: int
    margin: float
    outcome: Outcome
    needed: int = 0


def hidden_loss(margin: float) -> float:
    """The loss that the data must be able to show before less counts as none: five margins, at most 4 points above one."""
    return min(HIDDEN_TIMES * margin, margin + HIDDEN_ABOVE)


def judge(count: int, loss: float, at_least: Interval, at_most: float, margin: float) -> Outcome:
    """The rule. `at_least`, `at_most`: one-sided 95 percent limits of the loss, from below by two methods (against the margin,
    against none), from above by one.

    PASSED: measured within the margin, and a loss of `hidden_loss` would have shown. FAILED: significantly above the margin, or
    measured as large as `hidden_loss` and significantly above none. UNSURE: all else, and whatever there is on fewer than 30
    examples.
    """
    hidden = hidden_loss(margin)
    if count < MIN_TEST_EXAMPLES:
        return Outcome.UNSURE
    if at_least[0] > margin or (loss >= hidden - _ROUNDING and at_least[1] > 0):
        return Outcome.FAILED
    return Outcome.PASSED if loss <= margin + _ROUNDING and at_most <= hidden else Outcome.UNSURE


def compare(mine: Answers, theirs: Answers, margin: float, field: str, metric: str = "accuracy") -> Comparison:
    """An artifact's answers against another's; metric: what their scores are, where they have some.

    Raises InvalidArgument DIFFERENT_TEST_SETS naming both when they are not of the same examples with the same labels; `field` is
    the request's that named the other.
    """
    order = _order(mine, theirs, field)
    predictions = theirs.predictions[order]
    if mine.scores is not None and theirs.scores is not None:
        return compare_scores(metric, mine.scores, theirs.scores[order], margin)
    if mine.labels.dtype.kind == "f":
        return compare_errors(mine.predictions - mine.labels, predictions - mine.labels, margin)
    right, other_right = mine.predictions == mine.labels, predictions == mine.labels
    lost, won = int((other_right & ~right).sum()), int((right & ~other_right).sum())
    return compare_accuracy(lost, won, len(right), float(other_right.mean()) if len(right) else 0.0, margin)


def same_bytes(metric: str, count: int, value: float, margin: float) -> Comparison:
    """The comparison of an artifact with itself: nothing is lost, however few the examples."""
    return Comparison(metric, count, value, value, 0.0, 0.0, 0.0, 1.0, 0, 0, margin, Outcome.PASSED)


# Accuracy


def compare_accuracy(lost: int, won: int, count: int, reference: float, margin: float) -> Comparison:
    """By counts: of `count` examples `lost` are right only in the other, `won` only in this one; `reference` is the other's."""
    if count == 0:
        return Comparison("accuracy", 0, 0.0, 0.0, 0.0, -1.0, 1.0, 1.0, 0, 0, margin, Outcome.UNSURE)
    loss = (lost - won) / count
    lower, upper = tango(lost, won, count)
    at_most = crossing(lambda at: score(lost, won, count, at) > -Z_ONE_SIDED)
    outcome = accuracy_outcome(lost, won, count, margin)
    return Comparison(
        metric="accuracy",
        example_count=count,
        value=reference - loss,
        reference=reference,
        loss=loss,
        lower=lower,
        upper=upper,
        p_value=mid_p(lost, won),
        lost=lost,
        won=won,
        margin=margin,
        outcome=outcome,
        needed=_needed(outcome, count, loss, at_most, margin),
    )


def accuracy_outcome(lost: int, won: int, count: int, margin: float) -> Outcome:
    """`judge` by counts, without the interval (a limit is beyond a value where the score test at that value says so)."""
    loss, hidden = (lost - won) / count, hidden_loss(margin)
    above_margin = math.inf if score(lost, won, count, margin) > Z_ONE_SIDED else -math.inf
    above_none = math.inf if loss >= hidden - _ROUNDING and mid_p(lost, won) < 2 * LEVEL else -math.inf
    at_most = hidden if hidden >= 1 or score(lost, won, count, hidden) <= -Z_ONE_SIDED else math.inf
    return judge(count, loss, (above_margin, above_none), at_most, margin)


# Figures of examples


def compare_scores(metric: str, mine: Floats, theirs: Floats, margin: float) -> Comparison:
    """By figures of the same examples [N], 0 to 1, higher is better: the difference of their means, its limits by resampling the
    examples in pairs."""
    count = len(mine)
    if count == 0:
        return Comparison(metric, 0, 0.0, 0.0, 0.0, -1.0, 1.0, 1.0, 0, 0, margin, Outcome.UNSURE)
    losses = (theirs - mine).astype(np.float64)
    loss = float(losses.mean())
    samples = np.sort(intervals.bootstrap_means(losses[:, None])[:, 0])
    at_least, at_most = (float(limit) for limit in np.quantile(samples, (LEVEL, 1 - LEVEL)))
    outcome = judge(count, loss, (at_least, at_least), at_most, margin)
    lower, upper = intervals.percentiles(samples, loss)
    return Comparison(
        metric=metric,
        example_count=count,
        value=float(mine.mean()),
        reference=float(theirs.mean()),
        loss=loss,
        lower=lower,
        upper=upper,
        p_value=_share_beyond(samples),
        lost=int((losses > 0).sum()),
        won=int((losses < 0).sum()),
        margin=margin,
        outcome=outcome,
        needed=_needed(outcome, count, loss, at_most, margin),
    )


# Errors of numbers


def compare_errors(mine: Floats, theirs: Floats, margin: float) -> Comparison:
    """By errors [N] of numbers: the ratio of the root mean squares, its limits by resampling the examples in pairs."""
    squares = np.stack([np.square(mine), np.square(theirs)], axis=1).astype(np.float64)
    count = len(squares)
    if count == 0:
        return Comparison("rmse", 0, 0.0, 0.0, 0.0, -1.0, 1.0, 1.0, 0, 0, margin, Outcome.UNSURE)
    value, reference = (float(mean) for mean in np.sqrt(squares.mean(axis=0)))
    loss = float(_growth(squares.mean(axis=0)[None])[0])
    samples = np.sort(_growth(intervals.bootstrap_means(squares)))
    at_least, at_most = (float(limit) for limit in np.quantile(samples, (LEVEL, 1 - LEVEL)))
    outcome = judge(count, loss, (at_least, at_least), at_most, margin)
    lower, upper = intervals.percentiles(samples, loss)
    return Comparison(
        metric="rmse",
        example_count=count,
        value=value,
        reference=reference,
        loss=loss,
        lower=lower,
        upper=upper,
        p_value=_share_beyond(samples),
        lost=int((squares[:, 0] > squares[:, 1]).sum()),
        won=int((squares[:, 0] < squares[:, 1]).sum()),
        margin=margin,
        outcome=outcome,
        needed=_needed(outcome, count, loss, at_most, margin),
    )


def _growth(means: Floats) -> Floats:
    """By how much the root of the first column exceeds that of the second, as a share; a perfect other counts as a tiny error."""
    largest = float(means.max())
    other = np.maximum(means[:, 1], max(largest, 1e-300) * 1e-18)
    return np.asarray(np.sqrt(means[:, 0] / other) - 1, dtype=np.float64)


def _share_beyond(samples: Floats) -> float:
    """Two-sided p of no difference, from bootstrap samples: twice the share on the rarer side of 0, ties on both."""
    worse, better = float((samples >= 0).mean()), float((samples <= 0).mean())
    return min(1.0, 2 * max(min(worse, better), 1 / (2 * len(samples))))


def _needed(outcome: Outcome, count: int, loss: float, at_most: float, margin: float) -> int:
    """Examples with which the same answers would pass: the width of an interval falls with their root."""
    room = hidden_loss(margin) - loss
    if outcome is not Outcome.UNSURE or loss > margin + _ROUNDING or room <= 0:
        return 0
    return max(MIN_TEST_EXAMPLES, math.ceil(count * ((at_most - loss) / room) ** 2))


# Same examples


def _order(mine: Answers, theirs: Answers, field: str) -> NDArray[np.intp]:
    """Where each of my examples is in theirs."""
    places = {example: place for place, example in enumerate(theirs.example_ids)}
    missing = [example for example in mine.example_ids if example not in places]
    if missing or len(places) != len(mine.example_ids):
        raise _different(mine, theirs, field, _difference(missing, len(mine.example_ids), len(places)))
    order = np.array([places[example] for example in mine.example_ids], dtype=np.intp)
    changed = int((mine.labels != theirs.labels[order]).sum())
    if changed:
        raise _different(mine, theirs, field, f"{changed} examples have other labels there")
    return order


def _difference(missing: Sequence[str], mine: int, theirs: int) -> str:
    if missing:
        return f"{len(missing)} of {mine} test examples are not there, {missing[0]!r:.80} first"
    return f"it has {theirs} test examples, this one {mine}"


def _different(mine: Answers, theirs: Answers, field: str, how: str) -> InvalidArgument:
    message = (
        f"{field} is {theirs.evaluation}, which was scored on other test examples than {mine.evaluation}: {how}. "
        "Only answers to the same examples can be compared: evaluate both on the same dataset version."
    )
    return InvalidArgument(
        "DIFFERENT_TEST_SETS", message, field=field, evaluation=mine.evaluation, other=theirs.evaluation, difference=how
    )
