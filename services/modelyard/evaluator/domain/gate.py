"""The gate: may this artifact be deployed? docs/decisions/0006-gate.md says why it decides as it does.

Every test ends PASSED, FAILED (the numbers say no) or UNSURE (too few examples to say yes). One FAILED test gives BACK_TO_DATA,
otherwise one UNSURE test gives NOT_ENOUGH_DATA, otherwise DEPLOY.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from modelyard.core.errors import FieldViolation, InvalidArgument
from modelyard.evaluator.domain.scores import Metric, Paired, UsageResult

MIN_TEST_EXAMPLES: Final = 30
"""Fewer test examples prove nothing: Wilson's interval of 27 right out of 30 still spans 0.74 to 0.97."""
ENOUGH_EXAMPLES: Final = 1000
"""With this many test examples a gain worth having would have shown; more data for testing is no longer the answer."""
SIGNIFICANCE: Final = 0.05
MAX_LATENCY_MS: Final = (1.0, 20_000.0)


class Verdict(StrEnum):
    """What the gate says."""

    DEPLOY = "DEPLOY"
    RETRY_WITH_QAT = "RETRY_WITH_QAT"
    BACK_TO_DATA = "BACK_TO_DATA"
    NOT_ENOUGH_DATA = "NOT_ENOUGH_DATA"


class Outcome(StrEnum):
    """How a test ended."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    UNSURE = "UNSURE"


@dataclass(frozen=True)
class Floor:
    """The least a metric must reach; for a metric where less is better, the most."""

    metric: str
    value: float


@dataclass(frozen=True)
class GateTest:
    """One test with its numbers: the value and its 95 percent interval against a bound."""

    name: str
    outcome: Outcome
    value: float
    lower: float
    upper: float
    bound: float
    message: str

    @property
    def passed(self) -> bool:
        """Whether it passed."""
        return self.outcome is Outcome.PASSED


@dataclass(frozen=True)
class Demands:
    """What the user asks for. `max_latency_ms` of 0 is no limit."""

    floors: tuple[Floor, ...] = ()
    max_latency_ms: float = 0.0


@dataclass(frozen=True)
class Decision:
    """The verdict with its reasons (failed tests first) and every test."""

    verdict: Verdict
    reasons: tuple[str, ...]
    tests: tuple[GateTest, ...]


def check_demands(demands: Demands, known: Sequence[str]) -> None:
    """Raises InvalidArgument naming every demand that cannot be: an unknown metric, a bound that is no number, a bad latency."""
    wrong = [_wrong_floor(index, floor, known) for index, floor in enumerate(demands.floors)]
    violations = [violation for violation in wrong if violation]
    low, high = MAX_LATENCY_MS
    if demands.max_latency_ms and not low <= demands.max_latency_ms <= high:
        text = f"max_latency_ms is {demands.max_latency_ms:g}; it must be {low:g} to {high:g}, or 0 for no limit"
        violations.append(FieldViolation("max_latency_ms", text))
    if violations:
        raise _invalid(violations, demands, known)


def _wrong_floor(index: int, floor: Floor, known: Sequence[str]) -> FieldViolation | None:
    if floor.metric not in known:
        text = f"floors[{index}].metric is {floor.metric!r:.80}; it must be one of {', '.join(known)}"
        return FieldViolation(f"floors[{index}].metric", text)
    if not math.isfinite(floor.value):
        return FieldViolation(f"floors[{index}].value", f"floors[{index}].value is {floor.value}; it must be a finite number")
    return None


def _invalid(violations: list[FieldViolation], demands: Demands, known: Sequence[str]) -> InvalidArgument:
    first = violations[0]
    reason = {"metric": "UNKNOWN_METRIC", "value": "BAD_FLOOR"}.get(first.field.rpartition(".")[2], "BAD_MAX_LATENCY")
    named = ", ".join(floor.metric for floor in demands.floors)[:200]
    message = "; ".join(violation.description for violation in violations)
    return InvalidArgument(reason, message, violations=tuple(violations), floors=named, known=", ".join(known))


def decide(result: UsageResult | None, demands: Demands, p95_ms: float | None) -> Decision:
    """Tests the score of the test usage (None: it holds no examples), and the measured latency, against what is demanded."""
    tests = [_test_examples(result.score.example_count if result else 0)]
    if result:
        tests += [_floor(floor, result) for floor in demands.floors]
        tests += _baseline(result)
    if demands.max_latency_ms and p95_ms is not None:
        tests.append(_latency(p95_ms, demands.max_latency_ms))
    order = [Outcome.FAILED, Outcome.UNSURE, Outcome.PASSED]
    reasons = sorted(tests, key=lambda test: order.index(test.outcome))
    return Decision(_verdict(test.outcome for test in tests), tuple(test.message for test in reasons), tuple(tests))


def _verdict(outcomes: Iterable[Outcome]) -> Verdict:
    found = set(outcomes)
    if Outcome.FAILED in found:
        return Verdict.BACK_TO_DATA
    return Verdict.NOT_ENOUGH_DATA if Outcome.UNSURE in found else Verdict.DEPLOY


def _test_examples(count: int) -> GateTest:
    enough = count >= MIN_TEST_EXAMPLES
    text = f"There are {count} test examples; at least {MIN_TEST_EXAMPLES} are needed to tell anything."
    outcome = Outcome.PASSED if enough else Outcome.UNSURE
    return GateTest("test_examples", outcome, count, count, count, MIN_TEST_EXAMPLES, text)


def _floor(floor: Floor, result: UsageResult) -> GateTest:
    name, metric = f"floor:{floor.metric}", result.score.metric(floor.metric)
    if metric is None:
        text = f"{floor.metric} cannot be computed on these test examples (a class or all variation is missing)."
        return GateTest(name, Outcome.UNSURE, 0.0, 0.0, 0.0, floor.value, text)
    outcome, sentence = _compare(metric, floor.value, result.score.example_count)
    return GateTest(name, outcome, metric.value, metric.lower, metric.upper, floor.value, sentence)


def _compare(metric: Metric, bound: float, count: int) -> tuple[Outcome, str]:
    sides = ("at least", metric.value >= bound) if metric.higher_is_better else ("at most", metric.value <= bound)
    demand, reached = sides
    text = f"{metric.name} is {_interval_text(metric)} on {count} test examples; it must be {demand} {bound:g}"
    if not reached:
        return Outcome.FAILED, f"{text}, and it is not."
    if count < MIN_TEST_EXAMPLES:
        return Outcome.UNSURE, f"{text}, but so few examples cannot show it."
    certain = metric.lower >= bound if metric.higher_is_better else metric.upper <= bound
    return Outcome.PASSED, f"{text}, and it is." if certain else f"{text}, and it is, though the interval reaches past it."


def _interval_text(metric: Metric) -> str:
    return f"{metric.value:.4g} (95 percent interval {metric.lower:.4g} to {metric.upper:.4g})"


def _baseline(result: UsageResult) -> list[GateTest]:
    """One test: better than the baseline by any of the paired comparisons (each at its share of the significance level)."""
    level = SIGNIFICANCE / len(result.paired)
    proven = [paired for paired in result.paired if paired.gain > 0 and paired.p_value < level]
    main = result.paired[0]
    harmed = (main.gain < 0 and main.p_value < level) or not _answers_better(result)
    if proven and not harmed:
        return [_baseline_test(proven[0], result, Outcome.PASSED, "better", "")]
    best = max(result.paired, key=lambda paired: (paired.gain > 0, -paired.p_value))
    if harmed or best.gain <= 0:
        return [_baseline_test(main, result, Outcome.FAILED, "no better", "")]
    if main.example_count >= ENOUGH_EXAMPLES:
        ending = "; a gain worth having would have shown on so many"
        return [_baseline_test(best, result, Outcome.FAILED, "hardly better", ending)]
    return [_baseline_test(best, result, Outcome.UNSURE, "better", "; on so few examples that may be chance")]


def _answers_better(result: UsageResult) -> bool:
    """Whether the answers, not only their probabilities, are better: more are right, or the rarer classes are found too."""
    if not result.score.classes or result.paired[0].gain > 0:
        return True
    found, bound = result.score.metric("recall_macro"), result.baseline.metric("recall_macro")
    return found is not None and bound is not None and found.lower > bound.value


def _baseline_test(paired: Paired, result: UsageResult, outcome: Outcome, what: str, ending: str) -> GateTest:
    kind = "majority class" if result.score.classes else "mean"
    shown = "rmse" if paired.metric == "mse" else paired.metric
    model, bound = result.score.metric(shown), result.baseline.metric(shown)
    if model is None or bound is None:
        raise AssertionError(f"{shown} is computed for every usage")
    text = (
        f"By {shown} the model ({model.value:.4g}) is {what} than always answering with the {kind} of the training examples "
        f"({bound.value:.4g}): better on {paired.better} and worse on {paired.worse} of {paired.example_count} test examples, "
        f"p {_p_text(paired.p_value)}{ending}."
    )
    return GateTest(f"baseline:{shown}", outcome, model.value, model.lower, model.upper, bound.value, text)


def _p_text(value: float) -> str:
    return "below 0.0001" if value < 0.0001 else f"= {value:.2g}"


def _latency(p95_ms: float, limit: float) -> GateTest:
    passed = p95_ms <= limit
    text = f"95 of 100 answers take at most {p95_ms:.3g} ms on the target; {limit:g} ms are allowed"
    text += "." if passed else ": take a faster recipe, or allow more time."
    return GateTest("latency:p95_ms", Outcome.PASSED if passed else Outcome.FAILED, p95_ms, p95_ms, p95_ms, limit, text)
