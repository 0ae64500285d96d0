"""Calibration, average precision, the choice of a threshold, gaps: against definitions and scikit-learn, on whatever numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from modelyard.evaluator.domain.calibration_error import calibration_error, equal_mass_bins
from modelyard.formats.thresholds import best_threshold, f1_at_every_score
from modelyard.statistics import intervals

SCORES = st.lists(st.tuples(st.integers(0, 12).map(lambda n: n / 12), st.booleans()), min_size=2, max_size=60).filter(
    lambda pairs: 0 < sum(hit for _, hit in pairs) < len(pairs)
)


@settings(deadline=None)
@given(SCORES)
def test_average_precision_is_scikit_learns_with_equals_too(pairs: list[tuple[float, bool]]) -> None:
    scores, positive = np.array([score for score, _ in pairs]), np.array([hit for _, hit in pairs])
    area, influence = intervals.Ranking(scores, positive).average_precision()
    assert area == pytest.approx(sk.average_precision_score(positive, scores))
    assert influence.mean() == pytest.approx(0, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(SCORES, st.integers(0, 1), st.booleans())
def test_the_influence_is_the_slope_by_the_weight(pairs: list[tuple[float, bool]], which: int, precision: bool) -> None:
    scores, positive = np.array([score for score, _ in pairs]), np.array([hit for _, hit in pairs])
    ranking = intervals.Ranking(scores, positive)
    area, influence = ranking.average_precision() if precision else ranking.roc_auc()
    measure = sk.average_precision_score if precision else sk.roc_auc_score
    assert area == pytest.approx(measure(positive, scores))
    weights = np.ones(len(scores))
    weights[which] += 1e-6
    slope = (measure(positive, scores, sample_weight=weights) - area) / 1e-6
    assert influence[which] / len(scores) == pytest.approx(slope, abs=1e-4)


@settings(deadline=None, max_examples=30)
@given(SCORES)
def test_the_threshold_has_the_best_f1_there_is(pairs: list[tuple[float, bool]]) -> None:
    scores, positive = np.array([score for score, _ in pairs]), np.array([hit for _, hit in pairs])
    thresholds, f1 = f1_at_every_score(scores, positive)
    assert f1 == pytest.approx([sk.f1_score(positive, scores >= threshold) for threshold in thresholds])
    assert sk.f1_score(positive, scores >= best_threshold(scores, positive)) == pytest.approx(f1.max())


def test_a_threshold_lies_between_the_scores_it_parts() -> None:
    assert best_threshold(np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, False, True, True])) == pytest.approx(0.25)
    assert best_threshold(np.array([0.1, 0.9]), np.array([True, True])) == 0.0


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=400))
def test_bins_keep_equals_together_and_rise(values: list[int]) -> None:
    sureness = np.array(values) / 20
    bins = equal_mass_bins(sureness)
    assert 0 <= bins.min() <= bins.max() < 15
    order = np.argsort(sureness, kind="stable")
    assert (np.diff(bins[order]) >= 0).all()
    assert all(len(set(bins[sureness == value].tolist())) == 1 for value in sureness)


def test_bins_hold_as_many_examples_each() -> None:
    counts = np.bincount(equal_mass_bins(np.random.default_rng(0).random(1500)))
    assert counts.tolist() == [100] * 15


@pytest.mark.parametrize("excess", [0.0, 0.1, 0.3])
def test_a_model_that_is_too_sure_by_a_tenth_has_that_error(excess: float) -> None:
    rng = np.random.default_rng(3)
    sureness = rng.uniform(0.5, 1.0, 20_000)
    found = calibration_error(sureness, rng.random(20_000) < sureness - excess)
    assert found.value == pytest.approx(excess, abs=0.02)
    assert found.lower <= found.value <= found.upper


def test_the_interval_of_the_calibration_error_covers_the_truth() -> None:
    def covers(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        sureness = rng.uniform(0.5, 1.0, 400)
        found = calibration_error(sureness, rng.random(400) < sureness - 0.15)
        return found.lower <= 0.15 <= found.upper

    assert sum(covers(seed) for seed in range(100)) >= 85


def test_the_difference_of_proportions_is_newcombes() -> None:
    first, second = ((hits / total, *intervals.wilson(hits, total)) for hits, total in ((56, 70), (48, 80)))
    assert intervals.difference(first, second) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_the_interval_of_a_quantile_covers_it() -> None:
    covered = 0
    for seed in range(200):
        _, lower, upper = intervals.quantile(np.random.default_rng(seed).random(200), 0.9)
        covered += lower <= 0.9 <= upper
    assert covered >= 184
