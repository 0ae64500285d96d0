"""The gate says yes only to what the numbers show."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.core.latency import Latency
from modelyard.evaluator.domain import gate, metrics
from modelyard.evaluator.domain.gate import ClassFloor, Demands, Evidence, Floor, Outcome, Verdict
from modelyard.evaluator.domain.scores import UsageResult
from modelyard.formats.tasks import CLASSIFICATION_METRICS, REGRESSION_METRICS


def _result(count: int, accuracy: float, majority: float, *, sure: float = 0.6) -> UsageResult:
    """A classifier right on a share of the examples, its errors spread evenly over a share of a majority class."""
    labels = (np.arange(count) >= round(count * majority)).astype(np.int64)
    wrong = np.zeros(count, bool)
    wrong[np.random.default_rng(0).permutation(count)[: round(count * (1 - accuracy))]] = True
    probabilities = np.full((count, 2), 1 - sure)
    probabilities[np.arange(count), np.where(wrong, 1 - labels, labels)] = sure
    shares = np.array([majority, 1 - majority])
    return metrics.against_majority("test", labels, probabilities, ["good", "bad"], shares)


def _regression(count: int, noise: float) -> UsageResult:
    rng = np.random.default_rng(0)
    targets = rng.normal(10, 2, count)
    return metrics.against_mean("test", targets, targets + rng.normal(0, noise, count), 10.0)


def _decide(result: UsageResult | None, demands: Demands, p95_ms: float | None) -> gate.Decision:
    latency = Latency(1.0, p95_ms, p95_ms, 100, 1, "cpu", "a processor", 2_000_000) if p95_ms else None
    return gate.decide(Evidence(result, latency, size_bytes=1000), demands)


def _test(decision: gate.Decision, name: str) -> gate.GateTest:
    return next(test for test in decision.tests if test.name == name)


def test_a_good_model_with_enough_examples_is_deployed() -> None:
    decision = _decide(_result(300, 0.95, 0.5), Demands((Floor("accuracy", 0.9),), 20.0), 12.5)
    assert decision.verdict is Verdict.DEPLOY
    assert [test.name for test in decision.tests] == ["test_examples", "floor:accuracy", "baseline:accuracy", "latency:p95_ms"]
    assert all(test.passed for test in decision.tests)
    floor = _test(decision, "floor:accuracy")
    assert floor.lower < floor.value < floor.upper
    assert floor.bound == 0.9


def test_090_against_070_on_twenty_pictures_is_not_certain() -> None:
    decision = _decide(_result(20, 0.9, 0.7), Demands((Floor("accuracy", 0.7),)), None)
    assert decision.verdict is Verdict.NOT_ENOUGH_DATA
    assert not any(test.passed for test in decision.tests)
    assert "20 test examples" in decision.reasons[0]


def test_a_gain_that_may_be_chance_is_not_enough_data() -> None:
    decision = _decide(_result(40, 0.75, 0.7, sure=0.51), Demands(), None)
    assert decision.verdict is Verdict.NOT_ENOUGH_DATA
    assert _test(decision, "test_examples").passed
    assert decision.reasons[0] == next(test.message for test in decision.tests if not test.passed)


def test_a_missed_floor_goes_back_to_data_and_its_reason_comes_first() -> None:
    decision = _decide(_result(300, 0.8, 0.5), Demands((Floor("roc_auc", 0.1), Floor("accuracy", 0.9))), None)
    assert decision.verdict is Verdict.BACK_TO_DATA
    assert decision.reasons[0].startswith("accuracy is 0.8")
    assert [test.name for test in decision.tests if not test.passed] == ["floor:accuracy"]


def test_a_floor_reached_exactly_is_reached() -> None:
    assert _decide(_result(100, 0.9, 0.5), Demands((Floor("accuracy", 0.9),)), None).verdict is Verdict.DEPLOY


@pytest.mark.parametrize(("bound", "verdict"), [(1.0, Verdict.DEPLOY), (0.01, Verdict.BACK_TO_DATA)])
def test_a_floor_of_a_loss_is_the_most_it_may_be(bound: float, verdict: Verdict) -> None:
    assert _decide(_regression(200, 0.5), Demands((Floor("rmse", bound),)), None).verdict is verdict


def test_no_better_than_the_majority_goes_back_to_data() -> None:
    decision = _decide(_result(200, 0.6, 0.7), Demands(), None)
    assert decision.verdict is Verdict.BACK_TO_DATA
    assert "no better" in decision.reasons[0]


def test_many_examples_without_a_measurable_gain_go_back_to_data() -> None:
    decision = _decide(_result(3000, 0.71, 0.7, sure=0.501), Demands(), None)
    assert decision.verdict is Verdict.BACK_TO_DATA


def _imbalanced(found: int, false_alarms: int) -> UsageResult:
    """300 examples, 30 of them rare: a model that is surer of the rare ones, names some of them, and some others too."""
    labels = (np.arange(300) < 30).astype(np.int64)
    rare = np.where(labels == 1, 0.4, 0.05)
    rare[:found] = 0.6
    rare[300 - false_alarms :] = 0.55
    probabilities = np.stack([1 - rare, rare], axis=1)
    return metrics.against_majority("test", labels, probabilities, ["common", "rare"], np.array([0.9, 0.1]))


def test_a_model_that_finds_the_rare_class_beats_a_large_majority_by_its_probabilities() -> None:
    result = _imbalanced(found=15, false_alarms=15)
    assert result.paired[0].gain == 0
    decision = _decide(result, Demands(), None)
    assert decision.verdict is Verdict.DEPLOY
    assert _test(decision, "baseline:brier_score").passed


def test_a_model_that_always_answers_with_the_majority_is_refused_however_well_it_ranks() -> None:
    result = _imbalanced(found=0, false_alarms=0)
    assert result.paired[1].p_value < 1e-6
    decision = _decide(result, Demands((Floor("roc_auc", 0.9),)), None)
    assert decision.verdict is Verdict.BACK_TO_DATA
    assert "no better" in decision.reasons[0]


def test_a_slow_artifact_is_refused() -> None:
    decision = _decide(_result(300, 0.95, 0.5), Demands(max_latency_ms=10), 10.01)
    assert decision.verdict is Verdict.BACK_TO_DATA
    assert "10 ms are allowed" in decision.reasons[0]


def test_no_test_examples_is_not_enough_data() -> None:
    decision = _decide(None, Demands(), None)
    assert decision.verdict is Verdict.NOT_ENOUGH_DATA
    assert "0 test examples" in decision.reasons[0]


def test_a_floor_that_cannot_be_computed_is_unsure() -> None:
    labels = np.zeros(50, np.int64)
    probabilities = np.tile([0.9, 0.1], (50, 1))
    result = metrics.against_majority("test", labels, probabilities, ["a", "b"], np.array([0.5, 0.5]))
    decision = _decide(result, Demands((Floor("roc_auc", 0.8),)), None)
    assert _test(decision, "floor:roc_auc").outcome is Outcome.UNSURE


def test_unknown_floors_are_named_with_what_there_is() -> None:
    with pytest.raises(InvalidArgument) as caught:
        gate.check_demands(Demands((Floor("accuracy", 0.9), Floor("acuracy", 0.9))), CLASSIFICATION_METRICS)
    assert caught.value.reason == "UNKNOWN_METRIC"
    assert caught.value.violations[0].field == "floors[1].metric"
    assert "roc_auc" in caught.value.message


@pytest.mark.parametrize(
    ("demands", "field"),
    [
        (Demands((Floor("accuracy", math.nan),)), "floors[0].value"),
        (Demands((Floor("rmse", 1.0),)), "floors[0].metric"),
        (Demands(max_latency_ms=0.5), "max_latency_ms"),
        (Demands(max_latency_ms=20_001), "max_latency_ms"),
        (Demands(max_latency_ms=math.nan), "max_latency_ms"),
        (Demands(max_loss=-0.01), "max_loss"),
        (Demands(max_loss=1.01), "max_loss"),
        (Demands(max_loss=math.nan), "max_loss"),
        (Demands(max_size_bytes=-1), "max_size_bytes"),
        (Demands(max_memory_bytes=-1), "max_memory_bytes"),
        (Demands(class_floors=(ClassFloor("good", "accuracy", 0.5),)), "class_floors[0].metric"),
        (Demands(class_floors=(ClassFloor("good", "recall", 1.5),)), "class_floors[0].value"),
    ],
)
def test_impossible_demands_are_refused(demands: Demands, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        gate.check_demands(demands, CLASSIFICATION_METRICS, ["good", "bad"])
    assert [violation.field for violation in caught.value.violations] == [field]


def test_a_floor_of_an_unknown_class_is_refused_with_the_classes_there_are() -> None:
    demands = Demands(class_floors=(ClassFloor("bad", "recall", 0.9), ClassFloor("rose", "recall", 0.9)))
    with pytest.raises(InvalidArgument) as caught:
        gate.check_demands(demands, CLASSIFICATION_METRICS, ["good", "bad"])
    assert caught.value.reason == "UNKNOWN_CLASS"
    assert [violation.field for violation in caught.value.violations] == ["class_floors[1].label"]
    assert "'rose'" in caught.value.message
    assert "good, bad" in caught.value.message


def test_a_regression_has_no_classes_to_put_floors_under() -> None:
    with pytest.raises(InvalidArgument, match="a regression has no classes"):
        gate.check_demands(Demands(class_floors=(ClassFloor("x", "recall", 0.9),)), REGRESSION_METRICS)


@pytest.mark.parametrize(("bound", "outcome"), [(0.9, Outcome.PASSED), (0.97, Outcome.FAILED)])
def test_a_class_must_reach_its_own_floor(bound: float, outcome: Outcome) -> None:
    result = _result(300, 0.95, 0.5)
    test = _test(_decide(result, Demands(class_floors=(ClassFloor("bad", "recall", bound),)), None), "floor:recall:bad")
    assert test.outcome is outcome
    assert test.value == result.score.classes[1].recall.value
    assert test.lower < test.value < test.upper


def test_few_examples_of_a_class_are_no_proof_for_it() -> None:
    labels = (np.arange(100) < 5).astype(np.int64)
    probabilities = np.eye(2)[labels] * 0.8 + 0.1
    result = metrics.against_majority("test", labels, probabilities, ["common", "rare"], np.array([0.9, 0.1]))
    demands = Demands(class_floors=(ClassFloor("rare", "recall", 0.9),))
    assert _test(_decide(result, demands, None), "floor:recall:rare").outcome is Outcome.UNSURE


def test_a_limit_of_latency_without_a_measurement_is_unsure_and_says_how_to_measure() -> None:
    decision = _decide(_result(300, 0.95, 0.5), Demands(max_latency_ms=10), None)
    assert decision.verdict is Verdict.NOT_ENOUGH_DATA
    assert _test(decision, "latency:p95_ms").outcome is Outcome.UNSURE
    assert "measuring agent" in decision.reasons[0]


@pytest.mark.parametrize(
    ("demands", "name", "verdict"),
    [
        (Demands(max_size_bytes=1000), "size:bytes", Verdict.DEPLOY),
        (Demands(max_size_bytes=999), "size:bytes", Verdict.BACK_TO_DATA),
        (Demands(max_memory_bytes=2_000_000), "memory:bytes", Verdict.DEPLOY),
        (Demands(max_memory_bytes=1_999_999), "memory:bytes", Verdict.BACK_TO_DATA),
    ],
)
def test_size_and_memory_have_limits(demands: Demands, name: str, verdict: Verdict) -> None:
    decision = _decide(_result(300, 0.95, 0.5), demands, 5.0)
    assert decision.verdict is verdict
    assert _test(decision, name).passed is (verdict is Verdict.DEPLOY)


def test_memory_that_was_not_measured_is_unsure() -> None:
    assert _decide(_result(300, 0.95, 0.5), Demands(max_memory_bytes=10), None).verdict is Verdict.NOT_ENOUGH_DATA
