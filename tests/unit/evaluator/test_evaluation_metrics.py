"""Metrics agree with scikit-learn's, and their intervals hold what they should."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from modelyard.evaluator.domain import metrics
from modelyard.evaluator.domain.scores import RESIDUAL_SUMMARY, UsageScore
from modelyard.formats.tasks import CLASSIFICATION_METRICS, REGRESSION_METRICS
from modelyard.statistics import intervals
from modelyard.statistics.intervals import Floats, Ints

CLASSES = {2: ["no", "yes"], 5: ["a", "b", "c", "d", "e"]}


def _predictions(count: int, classes: int, seed: int = 0, sharpness: float = 0.4) -> tuple[Ints, Floats]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    probabilities = rng.dirichlet(np.ones(classes), count)
    probabilities[np.arange(count), labels] += sharpness
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def _values(score: UsageScore) -> dict[str, float]:
    return {metric.name: metric.value for metric in score.metrics}


def _calibration_error(sureness: Floats, right: Any) -> float:
    """As it is defined, bin by bin."""
    pieces = np.array_split(np.argsort(sureness), 15)
    return float(sum(abs(right[piece].mean() - sureness[piece].mean()) * len(piece) for piece in pieces) / len(right))


@pytest.mark.parametrize("classes", [2, 5])
def test_classification_agrees_with_scikit_learn(classes: int) -> None:
    labels, probabilities = _predictions(750, classes)
    predicted = probabilities.argmax(axis=1)
    score = metrics.classification("test", labels, probabilities, CLASSES[classes])
    expected = {"accuracy": sk.accuracy_score(labels, predicted), "log_loss": sk.log_loss(labels, probabilities)}
    for kind in ("macro", "weighted"):
        rates = sk.precision_recall_fscore_support(labels, predicted, average=kind, zero_division=0)[:3]
        expected |= {f"{name}_{kind}": rate for name, rate in zip(("precision", "recall", "f1"), rates, strict=True)}
    area = probabilities[:, 1] if classes == 2 else probabilities
    expected["roc_auc"] = sk.roc_auc_score(labels, area, multi_class="ovr", average="macro")
    wanted = labels if classes == 2 else np.eye(classes)[labels]
    expected["pr_auc"] = sk.average_precision_score(wanted, area, average="macro")
    expected["calibration_error"] = _calibration_error(probabilities.max(axis=1), predicted == labels)
    expected["brier_score"] = np.square(probabilities - np.eye(classes)[labels]).sum(axis=1).mean()
    assert _values(score) == pytest.approx(expected)
    assert tuple(_values(score)) == CLASSIFICATION_METRICS
    assert score.confusion == tuple(tuple(row) for row in sk.confusion_matrix(labels, predicted).tolist())


def test_classes_agree_with_scikit_learn() -> None:
    labels, probabilities = _predictions(700, 5)
    predicted = probabilities.argmax(axis=1)
    score = metrics.classification("test", labels, probabilities, CLASSES[5])
    precision, recall, f1, support = sk.precision_recall_fscore_support(labels, predicted)
    assert [entry.precision.value for entry in score.classes] == pytest.approx(precision)
    assert [entry.recall.value for entry in score.classes] == pytest.approx(recall)
    assert [entry.f1.value for entry in score.classes] == pytest.approx(f1)
    assert [entry.support for entry in score.classes] == support.tolist()
    wanted = [sk.accuracy_score(labels == index, predicted == index) for index in range(5)]
    assert [entry.accuracy.value for entry in score.classes] == pytest.approx(wanted)


def test_a_class_that_never_occurs_and_is_never_predicted_does_not_lower_the_macro_average() -> None:
    labels, probabilities = _predictions(200, 2)
    wider = np.concatenate([probabilities, np.zeros((200, 1))], axis=1)
    two, three = metrics.classification("test", labels, probabilities, "ab"), metrics.classification("test", labels, wider, "abc")
    assert _values(three)["f1_macro"] == pytest.approx(_values(two)["f1_macro"])
    assert three.classes[2].support == 0
    assert three.classes[2].recall.value == 0


def test_one_class_only_has_no_roc_auc() -> None:
    score = metrics.classification("test", np.zeros(40, np.int64), np.tile([0.8, 0.2], (40, 1)), "ab")
    assert score.metric("roc_auc") is None
    assert score.metric("accuracy") is not None


def test_regression_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    targets = rng.normal(50, 10, 500)
    predictions = targets + rng.normal(0, 3, 500)
    expected = {
        "mae": sk.mean_absolute_error(targets, predictions),
        "rmse": sk.root_mean_squared_error(targets, predictions),
        "r2": sk.r2_score(targets, predictions),
        "mape": sk.mean_absolute_percentage_error(targets, predictions),
        "residual_mean": (predictions - targets).mean(),
        "residual_std": (predictions - targets).std(),
        "residual_median": np.median(predictions - targets),
        "residual_p05": np.quantile(predictions - targets, 0.05),
        "residual_p95": np.quantile(predictions - targets, 0.95),
    }
    values = _values(metrics.regression("test", targets, predictions))
    assert values == pytest.approx(expected)
    assert tuple(values) == (*REGRESSION_METRICS, *RESIDUAL_SUMMARY)


def test_regression_of_one_example_has_no_r2() -> None:
    values = _values(metrics.regression("test", np.array([4.0]), np.array([6.0])))
    assert values == dict.fromkeys(("mae", "rmse", "residual_mean", "residual_p05", "residual_median", "residual_p95"), 2.0) | {
        "mape": 0.5,
        "residual_std": 0.0,
    }


def test_a_true_value_of_0_has_no_relative_error() -> None:
    score = metrics.regression("test", np.array([0.0, 2.0]), np.array([0.5, 2.0]))
    assert score.metric("mape") is None
    assert score.metric("mae") is not None


@pytest.mark.filterwarnings("error")
def test_a_true_value_near_0_neither() -> None:
    """1 / 1e-310 is infinite; its bootstrap would be 0 times that."""
    score = metrics.regression("test", np.array([1e-310, 2.0, 3.0]), np.array([1.0, 2.5, 3.0]))
    assert score.metric("mape") is None
    assert score.metric("mae") is not None


@cache
def _drawn() -> list[UsageScore]:
    """A large draw of examples, then 150 small ones."""
    sizes = [(60_000, 9), *((150, seed) for seed in range(150))]
    return [metrics.classification("test", *_predictions(count, 2, seed=seed), "ab") for count, seed in sizes]


@pytest.mark.parametrize("name", ["accuracy", "f1_macro", "roc_auc", "pr_auc", "log_loss", "brier_score"])
def test_intervals_cover_the_truth_about_95_times_in_100(name: str) -> None:
    whole, *drawn = _drawn()
    truth = whole.metric(name)
    assert truth
    covered = sum(metric.lower <= truth.value <= metric.upper for metric in (score.metric(name) for score in drawn) if metric)
    assert 133 <= covered <= 149


def test_regression_intervals_cover_the_truth() -> None:
    def drawn(seed: int) -> UsageScore:
        rng = np.random.default_rng(seed)
        targets = rng.normal(0, 2, 150)
        return metrics.regression("test", targets, targets + rng.normal(0, 1, 150))

    truths = {"mae": np.sqrt(2 / np.pi), "rmse": 1.0, "r2": 0.75, "residual_mean": 0.0, "residual_std": 1.0}
    truths |= {"residual_median": 0.0, "residual_p05": -1.6449, "residual_p95": 1.6449}
    scores = [drawn(seed) for seed in range(150)]
    for name, truth in truths.items():
        found = [score.metric(name) for score in scores]
        assert 129 <= sum(metric is not None and metric.lower <= truth <= metric.upper for metric in found) <= 149, name


def test_a_perfect_score_on_few_examples_is_not_certain() -> None:
    labels = np.array([0, 1] * 5)
    score = metrics.classification("test", labels, np.eye(2)[labels], "ab")
    for name in ("accuracy", "f1_macro", "roc_auc", "pr_auc"):
        metric = score.metric(name)
        assert metric is not None
        assert (metric.value, metric.upper) == (1.0, 1.0)
        assert metric.lower < 0.8
    assert score.classes[0].f1.lower < 0.8


def test_the_same_predictions_give_the_same_intervals() -> None:
    labels, probabilities = _predictions(300, 5)
    assert metrics.classification("t", labels, probabilities, "abcde") == metrics.classification(
        "t", labels, probabilities, "abcde"
    )


def test_ten_thousand_examples_take_at_most_two_seconds() -> None:
    labels, probabilities = _predictions(10_000, 100)
    start = time.process_time()
    metrics.against_majority("test", labels, probabilities, [str(i) for i in range(100)], np.full(100, 0.01))
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize(
    ("successes", "total", "lower", "upper"), [(18, 20, 0.6990, 0.9721), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)]
)
def test_wilson(successes: int, total: int, lower: float, upper: float) -> None:
    assert intervals.wilson(successes, total) == pytest.approx((lower, upper), abs=1e-4)


@pytest.mark.parametrize(("better", "worse", "p"), [(4, 0, 0.125), (0, 0, 1.0), (15, 5, 0.04139), (7347, 197, 0.0)])
def test_mcnemar_is_the_exact_binomial(better: int, worse: int, p: float) -> None:
    assert intervals.mcnemar(better, worse) == pytest.approx(p, abs=1e-5)


def test_the_baseline_answers_with_the_training_shares() -> None:
    labels, probabilities = _predictions(100, 2)
    result = metrics.against_majority("test", labels, probabilities, "ab", np.array([0.25, 0.75]))
    assert _values(result.baseline)["accuracy"] == pytest.approx((labels == 1).mean())
    gain = result.paired[0]
    assert gain.gain == pytest.approx(_values(result.score)["accuracy"] - _values(result.baseline)["accuracy"])
    assert gain.better + gain.worse <= 100


def test_the_mean_is_the_baseline_of_a_regression() -> None:
    rng = np.random.default_rng(2)
    targets = rng.normal(5, 1, 100)
    result = metrics.against_mean("test", targets, targets + rng.normal(0, 0.1, 100), 5.0)
    assert _values(result.baseline)["mae"] == pytest.approx(np.abs(targets - 5).mean())
    assert result.paired[0].p_value < 1e-6
