"""The single tests of the gate: each a sentence with its numbers, and one of three outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from modelyard.core.words import several
from modelyard.evaluator.domain.gate_demands import ClassFloor, Floor
from modelyard.evaluator.domain.pairing import MIN_TEST_EXAMPLES, Comparison, Outcome, hidden_loss
from modelyard.evaluator.domain.scores import Metric, Paired, UsageResult

ENOUGH_EXAMPLES: Final = 1000
"""With this many test examples a gain worth having would have shown; more data for testing is no longer the answer."""
MIN_CLASS_EXAMPLES: Final = 10
"""Of a class; all of 10 found still leaves 0.72 within Wilson's interval, all of 5 leaves 0.57."""
SIGNIFICANCE: Final = 0.05
PARENT: Final = "parent"
INCUMBENT: Final = "incumbent"
_RIVALS: Final = {PARENT: "the float model it comes from", INCUMBENT: "the version that serves now"}


@dataclass(frozen=True)
class GateTest:
    """One test with its numbers: the value and its 95 percent interval against a bound.

    Of the tests against parent and incumbent the value is the loss (pairing.Comparison), the bound what is allowed of it.
    """

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


def examples_test(count: int) -> GateTest:
    """Whether there are examples enough to tell anything."""
    enough = count >= MIN_TEST_EXAMPLES
    are = "is" if count == 1 else "are"
    text = f"There {are} {several(count, 'test example')}; at least {MIN_TEST_EXAMPLES} are needed to tell anything."
    return _exact("test_examples", Outcome.PASSED if enough else Outcome.UNSURE, count, MIN_TEST_EXAMPLES, text)


def _exact(name: str, outcome: Outcome, value: float, bound: float, text: str) -> GateTest:
    return GateTest(name, outcome, value, value, value, bound, text)


# Floors


def floor_test(floor: Floor, result: UsageResult) -> GateTest:
    """An overall metric against its floor."""
    name, metric = f"floor:{floor.metric}", result.score.metric(floor.metric)
    if metric is None:
        text = f"{floor.metric} cannot be computed on these test examples (a class or all variation is missing)."
        return GateTest(name, Outcome.UNSURE, 0.0, 0.0, 0.0, floor.value, text)
    count = result.score.example_count
    outcome, text = _compare(metric.name, metric, floor.value, f"{count} test examples", count >= MIN_TEST_EXAMPLES)
    return GateTest(name, outcome, metric.value, metric.lower, metric.upper, floor.value, text)


def class_floor_test(floor: ClassFloor, result: UsageResult) -> GateTest:
    """A metric of one class against its floor."""
    name = f"floor:{floor.metric}:{floor.label}"
    score = next((score for score in result.score.classes if score.label == floor.label), None)
    if score is None or score.support == 0:
        text = f"{floor.metric} of {floor.label!r} cannot be computed: no test example is of that class."
        return GateTest(name, Outcome.UNSURE, 0.0, 0.0, 1.0, floor.value, text)
    metric: Metric = getattr(score, floor.metric)
    enough = score.support >= MIN_CLASS_EXAMPLES and result.score.example_count >= MIN_TEST_EXAMPLES
    what, on = f"{floor.metric} of {floor.label!r}", f"{score.support} test examples of it"
    outcome, text = _compare(what, metric, floor.value, on, enough)
    return GateTest(name, outcome, metric.value, metric.lower, metric.upper, floor.value, text)


def _compare(what: str, metric: Metric, bound: float, on: str, enough: bool) -> tuple[Outcome, str]:
    sides = ("at least", metric.value >= bound) if metric.higher_is_better else ("at most", metric.value <= bound)
    demand, reached = sides
    text = f"{what} is {_interval_text(metric)} on {on}; it must be {demand} {bound:g}"
    if not reached:
        return Outcome.FAILED, f"{text}, and it is not."
    if not enough:
        return Outcome.UNSURE, f"{text}, but so few examples cannot show it."
    certain = metric.lower >= bound if metric.higher_is_better else metric.upper <= bound
    return Outcome.PASSED, f"{text}, and it is." if certain else f"{text}, and it is, though the interval reaches past it."


def _interval_text(metric: Metric) -> str:
    return f"{metric.value:.4g} (95 percent interval {metric.lower:.4g} to {metric.upper:.4g})"


# Baseline


def baseline_test(result: UsageResult) -> GateTest:
    """Better than the baseline by any of the paired comparisons (each at its share of the significance level)."""
    level = SIGNIFICANCE / len(result.paired)
    proven = [paired for paired in result.paired if paired.gain > 0 and paired.p_value < level]
    main = result.paired[0]
    harmed = (main.gain < 0 and main.p_value < level) or not _answers_better(result)
    if proven and not harmed:
        return _baseline(proven[0], result, Outcome.PASSED, "better", "")
    best = max(result.paired, key=lambda paired: (paired.gain > 0, -paired.p_value))
    if harmed or best.gain <= 0:
        return _baseline(main, result, Outcome.FAILED, "no better", "")
    if main.example_count >= ENOUGH_EXAMPLES:
        ending = "; a gain worth having would have shown on so many"
        return _baseline(best, result, Outcome.FAILED, "hardly better", ending)
    return _baseline(best, result, Outcome.UNSURE, "better", "; on so few examples that may be chance")


def _answers_better(result: UsageResult) -> bool:
    """Whether the answers, not only their probabilities, are better: more are right, or the rarer classes are found too."""
    if not result.score.classes or result.paired[0].gain > 0:
        return True
    found, bound = result.score.metric("recall_macro"), result.baseline.metric("recall_macro")
    return found is not None and bound is not None and found.lower > bound.value


def _baseline(paired: Paired, result: UsageResult, outcome: Outcome, what: str, ending: str) -> GateTest:
    kind = "majority class" if result.score.classes else "mean"
    does = result.baseline_does or f"always answering with the {kind} of the training examples"
    shown = "rmse" if paired.metric == "mse" else paired.metric
    model, bound = result.score.metric(shown), result.baseline.metric(shown)
    if model is None or bound is None:
        raise AssertionError(f"{shown} is computed for every usage")
    text = (
        f"By {shown} the model ({model.value:.4g}) is {what} than {does} "
        f"({bound.value:.4g}): better on {paired.better} and worse on {paired.worse} of {paired.example_count} test examples, "
        f"p {_p_text(paired.p_value)}{ending}."
    )
    return GateTest(f"baseline:{shown}", outcome, model.value, model.lower, model.upper, bound.value, text)


def _p_text(value: float) -> str:
    return "below 0.0001" if value < 0.0001 else f"= {value:.2g}"


# Against another artifact


def rival_test(kind: str, comparison: Comparison) -> GateTest:
    """Against the float parent (kind PARENT) or what serves now (INCUMBENT), on the same examples."""
    name = f"{kind}:{comparison.metric}"
    text = f"{_measured(kind, comparison)}; {_conclusion(comparison)}."
    return GateTest(name, comparison.outcome, comparison.loss, comparison.lower, comparison.upper, comparison.margin, text)


def _measured(kind: str, found: Comparison) -> str:
    """What was seen."""
    both = f"{found.metric} is {found.value:.4g} where {_RIVALS[kind]} has {found.reference:.4g} on the same"
    if found.lost == found.won == 0:
        return f"{both} {found.example_count} test examples: no answer is better or worse"
    what = "gain" if found.loss < 0 else "loss"
    edges = sorted((-found.lower, -found.upper) if found.loss < 0 else (found.lower, found.upper))
    interval = f"95 percent interval {100 * edges[0]:.2g} to {100 * edges[1]:.2g}"
    change = f"a {what} of {_amount(found, abs(found.loss))} ({interval})"
    counted = f"{found.lost} answered worse and {found.won} better, p {_p_text(found.p_value)}"
    return f"{both} {found.example_count} test examples: {change}; {counted}"


def _amount(found: Comparison, value: float) -> str:
    """0.0125 as 1.25 points of accuracy, or percent of an error."""
    if found.metric == "rmse":
        return f"{100 * value:.3g} percent"
    return f"{100 * value:.3g} point{'' if f'{100 * value:.3g}' == '1' else 's'}"


def _conclusion(found: Comparison) -> str:
    """What it means for the margin."""
    allowed = f"at most {_amount(found, found.margin)} may be lost"
    if found.outcome is Outcome.PASSED:
        return allowed
    if found.outcome is Outcome.FAILED:
        return f"{allowed}, and chance does not explain so much"
    if found.loss > found.margin:
        return f"{allowed}, but on so few examples it may be chance"
    about = f"; about {found.needed} test examples would tell" if found.needed else ""
    return f"{allowed}, but so few examples could hide a loss of {_amount(found, hidden_loss(found.margin))}{about}"


# Limits


def latency_test(p95_ms: float | None, limit: float) -> GateTest:
    """The measured p95 in milliseconds (None: not measured) against its limit."""
    name = "latency:p95_ms"
    if p95_ms is None:
        text = (
            f"{limit:g} ms are allowed, but no latency was measured on the target, and none is guessed: run a measuring agent "
            "there (python -m modelyard.runtime.agent) and put its address into the target, or give the gate a measured latency."
        )
        return _exact(name, Outcome.UNSURE, 0.0, limit, text)
    passed = p95_ms <= limit
    text = f"95 of 100 answers take at most {p95_ms:.3g} ms on the target; {limit:g} ms are allowed"
    text += "." if passed else ": take a faster recipe, or allow more time."
    return _exact(name, Outcome.PASSED if passed else Outcome.FAILED, p95_ms, limit, text)


def size_test(size_bytes: int, limit: int) -> GateTest:
    """The model file's size (0: not known) against its limit."""
    if size_bytes <= 0:
        text = f"The size of the model file is not known; {limit} bytes are allowed."
        return _exact("size:bytes", Outcome.UNSURE, 0, limit, text)
    return _limit("size:bytes", "The model file has", size_bytes, limit, "take a smaller recipe, int8 or pruning")


def memory_test(memory_bytes: int, limit: int) -> GateTest:
    """The peak memory of answering (0: not measured) against its limit."""
    if memory_bytes <= 0:
        text = f"{limit} bytes of memory are allowed, but none was measured: it is with the latency, on the target."
        return _exact("memory:bytes", Outcome.UNSURE, 0, limit, text)
    return _limit("memory:bytes", "Answering takes", memory_bytes, limit, "take a smaller recipe or a smaller input")


def _limit(name: str, what: str, value: int, limit: int, cure: str) -> GateTest:
    passed = value <= limit
    text = f"{what} {value} bytes{' of memory' if name.startswith('memory') else ''}; {limit} are allowed"
    return _exact(name, Outcome.PASSED if passed else Outcome.FAILED, value, limit, f"{text}." if passed else f"{text}: {cure}.")
