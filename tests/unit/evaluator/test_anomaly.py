"""Anomaly scores agree with scikit-learn; events and delays with counting by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from modelyard.core.errors import InvalidArgument
from modelyard.evaluator.domain.anomaly import AnomalyScore, Series, anomaly, events


def _series(seed: int, count: int = 600, shift: float = 2.0) -> Series:
    rng = np.random.default_rng(seed)
    anomalous = np.zeros(count, np.bool_)
    for start in range(50, count - 30, 100):
        anomalous[start : start + 20] = True
    return Series(rng.normal(0, 1, count) + shift * anomalous, anomalous)


def _values(score: AnomalyScore) -> dict[str, float]:
    return {metric.name: metric.value for metric in score.metrics}


def test_anomaly_scores_agree_with_scikit_learn() -> None:
    one = _series(0)
    score = anomaly([one], threshold=1.0)
    values, called = _values(score), one.scores >= 1.0
    assert values["roc_auc"] == pytest.approx(sk.roc_auc_score(one.anomalous, one.scores))
    assert values["pr_auc"] == pytest.approx(sk.average_precision_score(one.anomalous, one.scores))
    assert values["f1"] == pytest.approx(sk.f1_score(one.anomalous, called))
    assert values["recall"] == pytest.approx(sk.recall_score(one.anomalous, called))
    assert values["false_alarm_rate"] == pytest.approx(called[~one.anomalous].mean())
    best = max(sk.f1_score(one.anomalous, one.scores >= threshold) for threshold in one.scores)
    assert values["best_f1"] == pytest.approx(best)
    assert sk.f1_score(one.anomalous, one.scores >= score.best_threshold) == pytest.approx(best)
    assert (score.point_count, score.event_count) == (600, 6)


def test_delays_are_counted_from_the_beginning_of_each_event() -> None:
    anomalous = np.array([0, 1, 1, 1, 0, 0, 1, 1, 0, 1], np.bool_)
    scores = np.array([0, 0, 0, 9, 0, 0, 9, 9, 0, 0], np.float64)
    score = anomaly([Series(scores, anomalous)], threshold=5.0)
    values = _values(score)
    assert score.event_count == 3
    assert values["detected_share"] == pytest.approx(2 / 3)
    assert values["detection_delay"] == pytest.approx((2 + 0) / 2)


def test_an_event_does_not_reach_from_one_series_into_the_next() -> None:
    part = Series(np.array([0.0, 9.0]), np.array([True, True]))
    score = anomaly([part, part], threshold=5.0)
    assert score.event_count == 2
    assert _values(score)["detection_delay"] == 1.0
    assert "roc_auc" not in _values(score)


def test_nothing_found_has_no_delay() -> None:
    values = _values(anomaly([_series(1)], threshold=100.0))
    assert values["detected_share"] == 0
    assert values["f1"] == 0
    assert "detection_delay" not in values


@given(st.lists(st.booleans(), max_size=60))
def test_events_are_the_runs(marks: list[bool]) -> None:
    found = events(np.array(marks, dtype=np.bool_))
    rebuilt = np.zeros(len(marks), np.bool_)
    for first, end in found:
        assert first < end
        rebuilt[first:end] = True
    assert rebuilt.tolist() == marks
    assert all(before[1] < after[0] for before, after in pairwise(found))


def test_blocks_widen_the_interval_of_points_that_go_together() -> None:
    rng = np.random.default_rng(4)
    drift = np.repeat(rng.normal(0, 1.5, 40), 25)
    one = _series(2, 1000)
    together = Series(one.scores + drift, one.anomalous)
    widths = [anomaly([together], block=block).metrics[0] for block in (1, 25)]
    assert widths[0].value == widths[1].value
    assert widths[1].upper - widths[1].lower > 1.5 * (widths[0].upper - widths[0].lower)


def test_intervals_cover_the_truth() -> None:
    truth = _values(anomaly([_series(99, 200_000)], threshold=1.0))
    names = ("roc_auc", "pr_auc", "f1")
    covered = dict.fromkeys(names, 0)
    for seed in range(60):
        for metric in anomaly([_series(seed)], threshold=1.0).metrics:
            if metric.name in names:
                covered[metric.name] += metric.lower <= truth[metric.name] <= metric.upper
    assert all(count >= 51 for count in covered.values()), covered


@pytest.mark.parametrize(
    ("parts", "block", "reason"),
    [
        ([], 1, "BAD_SERIES"),
        ([Series(np.zeros(3), np.zeros(2, np.bool_))], 1, "BAD_SERIES"),
        ([Series(np.array([np.nan]), np.zeros(1, np.bool_))], 1, "BAD_SERIES"),
        ([Series(np.zeros(1), np.zeros(1, np.bool_))], 0, "BAD_BLOCK"),
    ],
)
def test_series_that_cannot_be_are_refused(parts: list[Series], block: int, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        anomaly(parts, block=block)
    assert caught.value.reason == reason
