"""Figures of anomalies as stretches of time, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.evaluator.domain.anomaly import Series
from modelyard.evaluator.domain.anomaly_ranges import EVERYTHING, NOTHING, range_metrics, stretches


def series(called: str, truth: str) -> Series:
    return Series(np.array([float(each) for each in called]), np.array([each == "1" for each in truth]))


def test_ranges_by_hand() -> None:
    """Two events: half of one is called, none of the other; two calls: two thirds of one are right, none of the other."""
    part = series("0011100010", "0001111000"[:10])
    other = series("0000000000", "0000000110")
    found = {each.name: each.value for each in range_metrics([part, other], 1.0)}
    assert found["range_recall"] == pytest.approx((2 / 4 + 0) / 2)
    assert found["range_precision"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["range_f1"] == pytest.approx(2 * 0.25 * (1 / 3) / (0.25 + 1 / 3))
    assert range_metrics([series("01", "00")], 1.0) == []


def test_stretches_end_where_the_truth_changes() -> None:
    found = stretches([series("0000011100", "0000111100"), series("111", "000")], 1.0, 4)
    assert found.places.tolist() == [[0, 0, 4], [0, 4, 8], [0, 8, 10], [1, 0, 3]]
    assert found.anomalous.tolist() == [False, True, False, False]
    assert found.called.tolist() == [0, 0.75, 0, 1]
    assert found.figures().mean() == pytest.approx((0.75 + 6 / 9) / 2)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60), st.integers(1, 9))
def test_the_mean_of_figures_is_the_balanced_accuracy(points: list[tuple[bool, bool]], length: int) -> None:
    truth = np.array([each[0] for each in points])
    called = np.array([each[1] for each in points])
    found = stretches([Series(called.astype(np.float64), truth)], 1.0, length)
    shares = [float((called[kind] == truth[kind]).mean()) for kind in (truth, ~truth) if kind.any()]
    assert found.figures().mean() == pytest.approx(np.mean(shares))
    plain, does = found.baseline
    assert does == (NOTHING if truth.any() else EVERYTHING)
    assert plain.mean() == pytest.approx(0.0 if not truth.any() else 0.5 if not truth.all() else 0.0)
