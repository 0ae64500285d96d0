"""Successive halving over seconds: how many compete, how long each gets, who goes on."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.trainer.domain.selection import (
    LAST_SHARE,
    LEAST_SLICE_S,
    Candidate,
    Measured,
    check_selection,
    horizon_s,
    how_many,
    misses,
    promoted,
    rungs_of,
    slice_s,
    spared_s,
    spread_over,
    standard_error,
    tied,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(count=st.integers(1, 27), total=st.floats(10, 1e5), ends_early=st.integers(0, 3))
def test_the_slices_of_a_whole_competition_use_the_time_and_no_more(count: int, total: float, ends_early: int) -> None:
    spent, left, own = 0.0, count, 0.0
    for _ in range(rungs_of(count)):
        trained = max(1, left - ends_early)
        each = slice_s(total, spent, left, trained)
        planned = horizon_s(total, spent, left, trained, own)
        assert planned >= own + each - 1e-6
        if left == 1:
            assert each >= LAST_SHARE * total - 1e-6, "half of the time is kept for the last"
            assert planned == pytest.approx(own + each)
        own, spent, left = own + each, spent + each * trained, -(-left // 3)
    assert spent == pytest.approx(total)


def test_the_plan_of_one_who_is_never_cut_is_kept() -> None:
    first = horizon_s(120.0, 0.0, 4, 4, 0.0)
    # Two cuts before the last: 4, then 2, then 1: 60 s are shared among two rungs, and 60 s are left.
    assert slice_s(120.0, 0.0, 4, 4) == pytest.approx(7.5)
    assert first == pytest.approx(7.5 + 15.0 + 60.0)
    assert horizon_s(120.0, 30.0, 2, 2, 7.5) == pytest.approx(first)


def test_few_candidates_leave_the_time_to_the_winner() -> None:
    """Three in 20 minutes: 100 s each, so that the best has 1,000 of the 1,200 s; nine still share half of the time."""
    assert slice_s(1200.0, 0.0, 3, 3) == pytest.approx(100)
    assert horizon_s(1200.0, 0.0, 3, 3, 0.0) == pytest.approx(1000)
    assert slice_s(1200.0, 0.0, 9, 9) == pytest.approx(600 / 2 / 9)
    assert slice_s(120.0, 0.0, 2, 2) == pytest.approx(30), "nobody is judged by less than he gets of a short time"


def test_as_many_compete_as_there_is_time_for() -> None:
    assert [how_many(seconds) for seconds in (1, 30, 119, 120, 240, 1200)] == [1, 1, 1, 2, 3, 9]
    for seconds in (120.0, 240.0, 1200.0):
        count = how_many(seconds)
        assert slice_s(seconds, 0.0, count, count) >= LEAST_SLICE_S > slice_s(seconds, 0.0, count + 1, count + 1)
    assert spread_over(4, 9) == (0, 1, 2, 3)
    assert spread_over(4, 2) == (0, 3)
    assert spread_over(5, 3) == (0, 2, 4)
    assert spread_over(3, 1) == (0,)


def test_clear_figures_cut_to_a_third_and_close_ones_to_a_half() -> None:
    sure = [0.001] * 6
    assert promoted([0.5, 0.9, 0.6, 0.8, 0.7, 0.4], sure) == (1, 3)
    unsure = [0.05] * 6
    assert promoted([0.5, 0.9, 0.6, 0.8, 0.7, 0.4], unsure) == (1, 3, 4)
    assert promoted([0.9, 0.9], [1.0, 1.0]) == (0,), "of two one goes, whatever chance says"
    assert promoted([0.7, 0.71, 0.1], [0.02] * 3) == (1, 0)
    assert promoted([0.7], [0.1]) == (0,)
    assert promoted([0.5, 0.6, 0.1], sure[:3], early=[False, False, True]) == (1, 2), "the warm-up says nothing yet"
    assert promoted([0.5, 0.6], sure[:2], early=[True, False]) == (1,)
    assert promoted([0.2, 0.5, 0.6], sure[:3], [True] * 3, [True, False, False]) == (2, 0), "a slow start"
    assert promoted([0.50, 0.51], [0.05] * 2, learned=[True, False]) == (0,), "chance does not tell, the start does"
    assert promoted([0.50, 0.51], sure[:2], learned=[True, False]) == (1,)
    slow = {"early": [True, False], "learned": [True, False]}
    assert promoted([0.38, 0.50], [0.05] * 2, **slow) == (0,), "it is behind by more than chance explains, in its warm-up"
    assert promoted([0.38, 0.50], [0.05] * 2, learned=[True, False]) == (1,)
    assert promoted([0.38, 0.50], [0.05] * 2, early=[True, False]) == (1,)
    assert promoted([0.20, 0.50], [0.05] * 2, **slow) == (1,)
    assert tied([0.9, 0.895, 0.7], [0.01] * 3, 0) == (1,)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.2)), min_size=1, max_size=27))
def test_the_best_goes_on_and_no_rung_stands_still(found: list[tuple[float, float]]) -> None:
    merits, errors = [merit for merit, _ in found], [error for _, error in found]
    kept = promoted(merits, errors)
    assert merits[kept[0]] == max(merits)
    assert -(-len(found) // 3) <= len(kept) <= -(-len(found) // 2)
    assert min(merits[at] for at in kept) >= max((merits[at] for at in range(len(found)) if at not in kept), default=-1.0)


def test_the_error_of_a_share_is_known_by_its_examples() -> None:
    assert standard_error("val_accuracy", 0.5, 100) == pytest.approx(0.025)
    assert standard_error("val_accuracy", 1.0, 100) > 0
    assert standard_error("val_accuracy", 0.5, 10_000) == pytest.approx(0.0025)
    assert standard_error("rmse", 10.0, 100) == pytest.approx(0.2 / 2**0.5)


def test_who_misses_is_told_with_its_numbers() -> None:
    assert misses(Measured(12.34, 1000), 10.0, 0, "cpu") == "takes 12.3 ms (p95) on cpu; 10 ms are allowed"
    assert misses(Measured(2.0, 1000), 10.0, 999, "mcu") == "has 1000 bytes on mcu; 999 are allowed"
    assert misses(Measured(None, 0, "it has no room"), 0.0, 0, "mcu") == "it has no room"
    assert misses(Measured(None, 10), 1.0, 10, "mcu") == "", "what nothing can measure is not guessed"


def test_what_is_spared_is_what_was_not_trained() -> None:
    candidates = [
        Candidate("a", {}, state="WON", train_seconds=60, full_seconds=60),
        Candidate("b", {}, state="ELIMINATED", train_seconds=10, full_seconds=90),
        Candidate("c", {}, state="SET_ASIDE"),
        Candidate("d", {}, state="FAILED", train_seconds=5, full_seconds=5),
    ]
    assert spared_s(candidates) == 80


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("max_training_time", (None, 2, 0, 0.0, 0, "")),
        ("max_training_time", (1.0, 2, 0, 0.0, 0, "")),
        ("recipes", (60.0, 28, 0, 0.0, 0, "")),
        ("max_inference_duration_ms", (60.0, 2, 0, 20_001.0, 0, "cpu")),
        ("max_size_bytes", (60.0, 2, 0, 0.0, -1, "cpu")),
        ("max_candidates", (60.0, 2, 28, 0.0, 0, "")),
        ("target", (60.0, 2, 0, 5.0, 0, "")),
    ],
)
def test_wrong_wishes_name_the_field(field: str, values: tuple[float | None, int, int, float, int, str]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_selection(*values)
    assert [each.field for each in caught.value.violations] == [f"model_selection.{field}"]
