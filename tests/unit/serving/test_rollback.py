"""When a change of traffic is taken back: the decision at its edges."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.serving.domain.rollback import (
    Counts,
    RollbackPolicy,
    between,
    check_policy,
    counts_of,
    evident,
    failing,
    slow,
    together,
)
from modelyard.serving.domain.version_statistics import LATENCY_BOUNDS_MS, Timing, VersionStatistics

USUAL = RollbackPolicy()


def did(successes: int, failures: int = 0, ms: float = 5.0) -> Counts:
    """So many answers in about this time each."""
    statistics = VersionStatistics()
    for _ in range(successes):
        statistics.succeeded(int(ms * 1e6), 1, Timing())
    for _ in range(failures):
        statistics.failed(1)
    return counts_of(statistics)


def tail(count: int, total: int, share: float) -> float:
    """P(X >= count) of a binomial, summed as it is defined."""
    return sum(math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(count, total + 1))


@given(st.integers(1, 300), st.data())
def test_what_is_evident_is_less_than_1_in_1000_likely(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    share = data.draw(st.sampled_from([0.001, 0.01, 0.1, 0.5, 0.9]))
    if evident(count, total, share):
        assert tail(count, total, share) < 0.001 + 1e-12  # 3 of 3 at 0.1 are just that


@pytest.mark.parametrize(
    ("count", "total", "share", "answer"),
    [
        (0, 0, 0.01, False),
        (0, 50, 0.0, False),
        (1, 50, 0.0, True),
        (2, 60, 0.01, False),
        (5, 50, 0.01, True),
        (100, 100, 0.01, True),
        (100, 100, 1.0, False),
        (1, 1, 0.01, False),
        (2, 2, 0.01, True),
        (11, 1000, 0.01, False),
        (30, 1000, 0.01, True),
    ],
)
def test_how_many_bad_ones_prove_something(count: int, total: int, share: float, answer: bool) -> None:
    assert evident(count, total, share) is answer


def test_before_enough_requests_nothing_is_concluded() -> None:
    assert failing(USUAL, did(500), did(0, 49)) == ""
    assert failing(USUAL, did(500), did(0, 50)) == "50 of 50 requests failed (100 %; at most 1 % may)"
    assert slow(USUAL, did(500), Counts(), did(49, ms=500)) == ""
    assert slow(USUAL, did(500), Counts(), did(50, ms=500))


def test_failures_within_the_policy_are_none() -> None:
    assert failing(USUAL, did(500), did(990, 10)) == ""
    assert "40 of 1000 requests failed (4 %" in failing(USUAL, did(500), did(960, 40))


def test_what_failed_before_as_often_is_not_the_changes_fault() -> None:
    assert failing(USUAL, did(960, 40), did(960, 40)) == ""
    assert failing(USUAL, did(960, 40), did(800, 200))
    assert failing(USUAL, did(30, 19), did(960, 40))  # too few before to know what is usual


def test_slowness_is_measured_against_before() -> None:
    assert slow(USUAL, did(500, ms=5), Counts(), did(500, ms=8)) == ""
    why = slow(USUAL, did(500, ms=5), Counts(), did(500, ms=20))
    assert why.startswith("p99 was ")
    assert "is allowed" in why


def test_without_enough_before_slowness_is_unknown() -> None:
    assert slow(USUAL, did(49, ms=5), Counts(), did(500, ms=500)) == ""
    assert slow(USUAL, Counts(), Counts(), did(500, ms=500)) == ""


def test_one_slow_request_of_sixty_is_an_accident_and_ten_are_not() -> None:
    def mixed(late: int) -> Counts:
        return together([did(60 - late, ms=5), did(late, ms=100)])

    assert slow(USUAL, did(500, ms=5), Counts(), mixed(1)) == ""
    assert slow(USUAL, did(500, ms=5), Counts(), mixed(10))


def test_a_machine_that_is_busier_excuses_what_slows_all_alike_but_not_without_end() -> None:
    busy = did(500, ms=9)
    assert slow(USUAL, did(500, ms=5), Counts(), did(500, ms=16))
    assert slow(USUAL, did(500, ms=5), busy, did(500, ms=16)) == ""
    assert slow(USUAL, did(500, ms=5), did(10, ms=9), did(500, ms=16))  # too few beside to know
    assert slow(USUAL, did(500, ms=5), did(500, ms=80), did(500, ms=80))  # it takes the cores that the others need
    assert slow(USUAL, did(500, ms=5), did(500, ms=1), did(500, ms=8)) == ""  # the others being quicker now is no fault of it


def test_the_ratio_is_the_policys() -> None:
    patient = RollbackPolicy(max_latency_ratio=10)
    assert slow(patient, did(500, ms=5), Counts(), did(500, ms=20)) == ""
    assert slow(patient, did(500, ms=5), Counts(), did(500, ms=200))


def test_disabled_takes_nothing_back() -> None:
    assert failing(RollbackPolicy(disabled=True), did(500), did(0, 1000)) == ""
    assert slow(RollbackPolicy(disabled=True), did(500, ms=5), Counts(), did(500, ms=500)) == ""


@given(st.integers(0, 200), st.integers(0, 50), st.integers(0, 200), st.integers(0, 50))
def test_a_window_is_the_difference_of_its_ends(successes: int, failures: int, more: int, worse: int) -> None:
    earlier, added = did(successes, failures, 5), did(more, worse, 50)
    assert between(earlier, together([earlier, added])) == added


def test_a_version_that_was_loaded_again_counts_anew() -> None:
    assert between(did(100, 3), did(7)) == did(7)


def test_the_last_bin_is_slower_than_everything() -> None:
    assert slow(USUAL, did(500, ms=5), Counts(), did(100, ms=10 * LATENCY_BOUNDS_MS[-1]))


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (RollbackPolicy(window_s=0.5), "window"),
        (RollbackPolicy(window_s=86_401), "window"),
        (RollbackPolicy(max_error_rate=-0.1), "max_error_rate"),
        (RollbackPolicy(max_error_rate=1.1), "max_error_rate"),
        (RollbackPolicy(max_error_rate=math.nan), "max_error_rate"),
        (RollbackPolicy(max_latency_ratio=0.9), "max_latency_ratio"),
        (RollbackPolicy(max_latency_ratio=math.inf), "max_latency_ratio"),
        (RollbackPolicy(min_requests=0), "min_requests"),
    ],
)
def test_policies_that_cannot_be_are_refused_by_field(policy: RollbackPolicy, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_policy(policy)
    assert refused.value.violations[0].field == f"endpoint.rollback_policy.{field}"
    assert check_policy(USUAL) is USUAL
