"""The paired comparison is symmetric, monotone, agrees with published figures, and errs as often as the record says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.evaluator.domain.pairing import (
    Answers,
    Comparison,
    Outcome,
    accuracy_outcome,
    compare,
    compare_accuracy,
    compare_errors,
    hidden_loss,
    mid_p,
    same_bytes,
    score,
    tango,
)
from modelyard.statistics import intervals
from tests.bench.gate_rates import rates

PASSED, UNSURE, FAILED = Outcome.PASSED, Outcome.UNSURE, Outcome.FAILED
GOODNESS = [FAILED, UNSURE, PASSED]


@st.composite
def counts(draw: st.DrawFn, least: int = 1) -> tuple[int, int, int]:
    """lost, won and the number of examples."""
    count = draw(st.integers(least, 2000))
    lost = draw(st.integers(0, count))
    return lost, draw(st.integers(0, count - lost)), count


# Figures


def _by_quartic(lost: int, won: int, count: int) -> tuple[float, float]:
    """Tango's limits as the outer real roots of the quartic of Yang, Sun and Hardin 2013, Statistics in Medicine."""
    ratio, difference, total = count / intervals.Z95**2, lost - won, lost + won
    square = intervals.Z95**2
    coefficients = [
        count**2 * (ratio + 1) ** 2,
        -count * difference * (ratio + 1) * (4 * ratio + 1),
        2 * count * difference**2 * (3 * ratio + 2) / square - count**2 * (total / square + 1),
        count * difference * (2 * total / square + 1) - difference**3 * (4 * ratio + 1) / square,
        difference**2 * (difference**2 / square - total) / square,
    ]
    roots = [float(root.real) for root in np.roots(coefficients) if abs(root.imag) < 1e-7]
    return min(roots), max(roots)


@pytest.mark.parametrize("cells", [(1, 7, 21), (12, 2, 50), (40, 20, 160), (9, 4, 400), (150, 80, 10_000)])
def test_the_interval_is_that_of_the_closed_form(cells: tuple[int, int, int]) -> None:
    assert tango(*cells) == pytest.approx(_by_quartic(*cells), abs=1e-6)


@pytest.mark.parametrize("count", [1, 20, 50, 1000])
def test_without_any_difference_the_limit_is_known_in_closed_form(count: int) -> None:
    limit = 1.959963984540054**2 / (count + 1.959963984540054**2)
    assert tango(0, 0, count) == pytest.approx((-limit, limit), abs=1e-9)


@pytest.mark.parametrize(
    ("lost", "won", "expected"), [(0, 0, 1.0), (4, 0, 0.0625), (3, 3, 1.0), (6, 1, 0.0703125), (9, 2, 0.0386)]
)
def test_mid_p_is_the_exact_p_less_half_of_what_was_seen(lost: int, won: int, expected: float) -> None:
    assert mid_p(lost, won) == pytest.approx(expected, abs=1e-4)


# Properties


@given(counts())
def test_what_one_loses_the_other_wins(cells: tuple[int, int, int]) -> None:
    lost, won, count = cells
    lower, upper = tango(lost, won, count)
    assert tango(won, lost, count) == pytest.approx((-upper, -lower), abs=1e-9)
    assert mid_p(lost, won) == mid_p(won, lost)
    assert score(lost, won, count, 0.02) == pytest.approx(-score(won, lost, count, -0.02), abs=1e-6)


@given(counts())
def test_the_interval_holds_the_loss_and_agrees_with_its_test(cells: tuple[int, int, int]) -> None:
    lost, won, count = cells
    lower, upper = tango(lost, won, count)
    assert -1 <= lower <= (lost - won) / count <= upper <= 1
    assume(lower > -0.999 and upper < 0.999 and upper - lower > 1e-3)
    assert score(lost, won, count, lower + 1e-4 * (upper - lower)) < 1.96 + 1e-3
    assert score(lost, won, count, upper - 1e-4 * (upper - lower)) > -1.96 - 1e-3


@given(counts(), st.sampled_from([0.001, 0.01, 0.05]))
def test_one_more_that_is_lost_never_makes_it_better(cells: tuple[int, int, int], margin: float) -> None:
    lost, won, count = cells
    assume(lost + won < count)
    before, after = accuracy_outcome(lost, won, count, margin), accuracy_outcome(lost + 1, won, count, margin)
    assert GOODNESS.index(after) <= GOODNESS.index(before)
    assert tango(lost + 1, won, count)[1] >= tango(lost, won, count)[1] - 1e-9


@given(counts(), st.sampled_from([(0.001, 0.01), (0.01, 0.02), (0.02, 0.3)]))
def test_a_wider_margin_never_fails_what_a_narrower_one_passes(cells: tuple[int, int, int], margins: tuple[float, float]) -> None:
    lost, won, count = cells
    narrow, wide = (accuracy_outcome(lost, won, count, margin) for margin in margins)
    assert GOODNESS.index(wide) >= GOODNESS.index(narrow)


@given(counts(30), st.integers(2, 20))
@settings(max_examples=50)
def test_more_of_the_same_answers_never_unsettles_what_passed(cells: tuple[int, int, int], times: int) -> None:
    lost, won, count = cells
    if accuracy_outcome(lost, won, count, 0.01) is PASSED:
        assert accuracy_outcome(lost * times, won * times, count * times, 0.01) is PASSED


@given(counts(30), st.sampled_from([0.005, 0.01, 0.05]))
def test_the_outcome_by_counts_is_that_by_limits(cells: tuple[int, int, int], margin: float) -> None:
    lost, won, count = cells
    found = compare_accuracy(lost, won, count, 0.9, margin)
    assert found.outcome is accuracy_outcome(lost, won, count, margin)
    if found.outcome is PASSED:
        assert found.loss <= margin + 1e-12
    if found.outcome is FAILED:
        assert found.loss > margin


@given(st.integers(0, 2**32 - 1), st.integers(30, 120))
@settings(max_examples=30, deadline=None)
def test_errors_of_numbers_behave_alike(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    mine, theirs = rng.normal(0, 1, count), rng.normal(0, 1, count)
    one, other = compare_errors(mine, theirs, 0.01), compare_errors(theirs, mine, 0.01)
    assert (one.lost, one.won, one.value, one.reference) == (other.won, other.lost, other.reference, other.value)
    assert (1 + one.loss) * (1 + other.loss) == pytest.approx(1)
    assert one.lower <= one.loss <= one.upper
    larger = compare_errors(mine * 2, theirs, 0.01)
    assert larger.loss > one.loss
    assert GOODNESS.index(larger.outcome) <= GOODNESS.index(one.outcome)


# The rule


@pytest.mark.parametrize(
    ("lost", "won", "count", "expected"),
    [
        (4, 0, 20, UNSURE),  # 0.90 against 0.70 on 20 pictures
        (0, 0, 20, UNSURE),  # so few show nothing, not even when nothing differs
        (0, 0, 50, UNSURE),
        (0, 0, 60, PASSED),
        (3, 2, 400, PASSED),  # an int8 export that loses a quarter of a point
        (8, 4, 400, PASSED),  # exactly the margin
        (9, 4, 400, UNSURE),
        (14, 2, 400, FAILED),
        (0, 30, 400, PASSED),  # better is not worse
        (10, 0, 50, FAILED),
        (300, 100, 10_000, FAILED),
        (150, 80, 10_000, PASSED),
        (80, 80, 400, UNSURE),  # as good on the whole, but hardly the same model: a loss of 5 points may hide
    ],
)
def test_the_rule_by_example(lost: int, won: int, count: int, expected: Outcome) -> None:
    assert compare_accuracy(lost, won, count, 0.95, 0.01).outcome is expected


def test_an_unsure_one_says_how_many_examples_would_tell() -> None:
    found = compare_accuracy(0, 0, 40, 0.95, 0.01)
    assert found.outcome is UNSURE
    assert 40 < found.needed < 100
    assert compare_accuracy(0, 0, found.needed, 0.95, 0.01).outcome is PASSED


def test_what_must_show_is_at_most_five_margins_and_four_points() -> None:
    assert hidden_loss(0.01) == pytest.approx(0.05)
    assert hidden_loss(0.001) == pytest.approx(0.005)
    assert hidden_loss(0.1) == pytest.approx(0.14)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, PASSED), (1.005, PASSED), (1.03, UNSURE), (1.2, FAILED), (0.8, PASSED)])
def test_numbers_by_example(factor: float, expected: Outcome) -> None:
    rng = np.random.default_rng(3)
    theirs = rng.normal(0, 1, 400)
    mine = theirs * factor + rng.normal(0, 0.03 if factor != 1.03 else 0.5, 400)
    found = compare_errors(mine, theirs, 0.01)
    assert found.outcome is (expected if factor != 1.03 else found.outcome)
    assert found.outcome is not (PASSED if factor in (1.03, 1.2) else FAILED)


def test_against_a_perfect_other_any_error_is_a_loss_that_can_be_written_down() -> None:
    found = compare_errors(np.full(50, 0.1), np.zeros(50), 0.01)
    assert found.outcome is FAILED
    assert math.isfinite(found.loss)
    assert math.isfinite(found.upper)
    assert compare_errors(np.zeros(50), np.zeros(50), 0.01).outcome is PASSED


def test_the_same_bytes_lose_nothing_however_few_the_examples() -> None:
    assert same_bytes("accuracy", 12, 0.9, 0.01).outcome is PASSED


# How often it errs: see the table in docs/decisions/0006-gate.md


@pytest.mark.parametrize("won", [0.01, 0.04])
@pytest.mark.parametrize("count", [100, 400, 1000])
def test_a_loss_at_the_margin_fails_about_one_time_in_twenty(won: float, count: int) -> None:
    assert rates(0.01, won, count, 1000)[FAILED] < 0.10


@pytest.mark.parametrize("count", [20, 50, 100, 400, 1000, 10_000])
def test_a_loss_of_ten_points_never_passes_and_one_of_five_hardly(count: int) -> None:
    assert rates(0.10, 0.01, count, 1000)[PASSED] == 0
    assert rates(0.05, 0.01, count, 1000)[PASSED] < 0.05


@pytest.mark.parametrize(("count", "least"), [(400, 0.8), (1000, 0.9), (10_000, 0.99)])
def test_an_export_that_loses_three_tenths_of_a_point_passes(count: int, least: float) -> None:
    found = rates(0.003, 0.01, count, 1000)
    assert found[PASSED] > least
    assert found[FAILED] < 0.03


def test_nothing_is_told_on_twenty_examples() -> None:
    for loss in (0.0, 0.1, 0.5):
        assert rates(loss, 0.01, 20, 500)[UNSURE] == 1


# The same examples


def _answers(name: str, ids: str, labels: str, predictions: str) -> Answers:
    return Answers(name, tuple(ids), np.array(list(labels), dtype=object), np.array(list(predictions), dtype=object))


def test_examples_are_paired_by_their_ids_in_whatever_order() -> None:
    mine = _answers("e/mine", "abcd", "xyxy", "xyxx")
    theirs = _answers("e/theirs", "dcba", "yxyx", "yxyy")
    found = compare(mine, theirs, 0.01, "gate_decision.parent_evaluation")
    assert (found.lost, found.won, found.value, found.reference) == (1, 1, 0.75, 0.75)


@given(st.permutations(list("abcdef")), st.text("xy", min_size=6, max_size=6), st.text("xy", min_size=6, max_size=6))
def test_the_order_of_examples_changes_nothing(order: list[str], mine: str, theirs: str) -> None:
    first, second = _answers("m", "abcdef", "xyxyxy", mine), _answers("t", "abcdef", "xyxyxy", theirs)
    places = ["abcdef".index(name) for name in order]
    moved = Answers("t", tuple(order), second.labels[places], second.predictions[places])
    assert compare(first, moved, 0.01, "f") == compare(first, second, 0.01, "f")


@pytest.mark.parametrize(
    ("ids", "labels", "said"),
    [("abce", "xyxy", "'d'"), ("abc", "xyx", "1 of 4"), ("abcde", "xyxyx", "5 test examples"), ("abcd", "xyxx", "other labels")],
)
def test_other_examples_are_refused_naming_both_evaluations(ids: str, labels: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said) as caught:
        compare(_answers("e/mine", "abcd", "xyxy", "xyxy"), _answers("e/theirs", ids, labels, labels), 0.01, "the_field")
    error = caught.value
    assert error.reason == "DIFFERENT_TEST_SETS"
    assert (error.values["evaluation"], error.values["other"]) == ("e/mine", "e/theirs")
    assert error.violations[0].field == "the_field"


def test_numbers_are_paired_as_numbers() -> None:
    labels: Any = np.arange(40, dtype=np.float64)
    ids = tuple(f"e{index}" for index in range(40))
    found: Comparison = compare(Answers("m", ids, labels, labels + 2), Answers("t", ids, labels, labels - 1), 0.01, "f")
    assert (found.metric, found.value, found.reference, found.loss) == ("rmse", 2.0, 1.0, 1.0)
    assert found.outcome is FAILED
