"""Classification and regression agree with scikit-learn on whatever answers: few classes, missing ones, equal scores."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from modelyard.evaluator.domain import metrics
from modelyard.statistics.intervals import Floats, Ints


@st.composite
def _answers(draw: st.DrawFn) -> tuple[Ints, Floats]:
    """Labels [N] of up to 4 classes, probabilities [N, K] in twelfths."""
    classes = draw(st.integers(2, 4))
    count = draw(st.integers(1, 40))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count))
    weights = draw(st.lists(st.lists(st.integers(0, 12), min_size=classes, max_size=classes), min_size=count, max_size=count))
    table = np.array(weights, dtype=np.float64) + 1e-9
    return np.array(labels, dtype=np.int64), table / table.sum(axis=1, keepdims=True)


@settings(deadline=None, max_examples=80)
@given(_answers())
def test_classification_agrees_on_whatever_answers(given_: tuple[Ints, Floats]) -> None:
    labels, probabilities = given_
    classes = probabilities.shape[1]
    score = metrics.classification("test", labels, probabilities, "abcd"[:classes])
    values = {metric.name: metric.value for metric in score.metrics}
    predicted = probabilities.argmax(axis=1)
    expected = {"accuracy": sk.accuracy_score(labels, predicted)}
    for kind in ("macro", "weighted"):
        rates = sk.precision_recall_fscore_support(labels, predicted, average=kind, zero_division=0)[:3]
        expected |= {f"{name}_{kind}": rate for name, rate in zip(("precision", "recall", "f1"), rates, strict=True)}
    with warnings.catch_warnings(action="ignore"):
        expected["log_loss"] = sk.log_loss(labels, probabilities.astype(np.float32), labels=range(classes))
    present = np.unique(labels)
    if len(present) > 1:
        sides = [1] if classes == 2 else present
        expected["roc_auc"] = np.mean([sk.roc_auc_score(labels == i, probabilities[:, i]) for i in sides])
        expected["pr_auc"] = np.mean([sk.average_precision_score(labels == i, probabilities[:, i]) for i in sides])
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert values.keys() - expected.keys() == {"brier_score", "calibration_error"}
    assert all(metric.lower <= metric.value <= metric.upper for metric in score.metrics)
    assert all(np.isfinite([metric.lower, metric.value, metric.upper]).all() for metric in score.metrics)


@example([(2.2250738585e-313, 1.0)])
@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=1, max_size=60))
def test_regression_agrees_on_whatever_numbers(pairs: list[tuple[float, float]]) -> None:
    targets, predictions = (np.array(side) for side in zip(*pairs, strict=True))
    score = metrics.regression("test", targets, predictions)
    values = {metric.name: metric.value for metric in score.metrics}
    assert values["mae"] == pytest.approx(sk.mean_absolute_error(targets, predictions))
    assert values["rmse"] == pytest.approx(sk.root_mean_squared_error(targets, predictions))
    if "mape" in values and np.abs(targets).min() > 1e-6:
        assert values["mape"] == pytest.approx(sk.mean_absolute_percentage_error(targets, predictions))
    with np.errstate(all="ignore"):
        shares = (predictions - targets) / targets
    assert ("mape" in values) == bool(np.all(targets != 0) and np.isfinite(np.abs(shares).mean()))
    if "r2" in values and targets.std() > 1e-3:
        assert values["r2"] == pytest.approx(sk.r2_score(targets, predictions), rel=1e-6, abs=1e-6)
    assert all(metric.lower <= metric.value <= metric.upper for metric in score.metrics)
    assert all(np.isfinite([metric.lower, metric.value, metric.upper]).all() for metric in score.metrics)
