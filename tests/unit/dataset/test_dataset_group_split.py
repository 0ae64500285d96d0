"""Splits by group and by time."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import FailedPrecondition
from modelyard.dataset.domain.group_split import split_by_groups, split_by_time

RATIO = Decimal("0.6")


def by_groups(groups: list[int], strata: list[int] | None = None, near: list[int] | None = None, seed: int = 0) -> np.ndarray:
    count = len(groups)
    return split_by_groups(
        np.array(strata or [0] * count),
        np.array(groups),
        np.array(near or range(count)),
        RATIO,
        seed=seed,
        field="speaker",
    ).usage


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2), st.integers(0, 40)), min_size=1, max_size=120), st.integers(0, 99)
)
def test_no_group_and_no_duplicate_is_on_two_sides(rows: list[tuple[int, int, int]], seed: int) -> None:
    groups, strata, near = (list(column) for column in zip(*rows, strict=True))
    reached, todo = set(), {groups[0]}  # what hangs together with the first example by groups and duplicates
    while todo:
        group = todo.pop()
        reached.add(group)
        mine = {near[i] for i in range(len(rows)) if groups[i] == group}
        todo |= {groups[i] for i in range(len(rows)) if near[i] in mine} - reached
    if reached == set(groups):
        with pytest.raises(FailedPrecondition, match="belong together"):
            by_groups(groups, strata, near, seed)
        return
    usage = by_groups(groups, strata, near, seed)
    for kind in (groups, near):
        for value in set(kind):
            assert len({int(usage[i]) for i in range(len(rows)) if kind[i] == value}) == 1
    assert {0, 1} <= set(usage.tolist())
    assert (usage == by_groups(groups, strata, near, seed)).all()


def test_groups_of_equal_size_are_shared_out_by_the_ratio() -> None:
    usage = by_groups([group for group in range(10) for _ in range(20)])
    assert np.bincount(usage).tolist() == [120, 40, 40]


def test_classes_are_shared_out_as_evenly_as_groups_allow() -> None:
    groups = [group for group in range(20) for _ in range(10)]
    strata = [int(group % 2) for group in groups]  # every group has one class
    usage = by_groups(groups, strata)
    shares = [[int(((usage == number) & (np.array(strata) == label)).sum()) for label in (0, 1)] for number in range(3)]
    assert shares == [[60, 60], [20, 20], [20, 20]]


def test_one_group_cannot_be_split_and_two_give_no_test() -> None:
    with pytest.raises(FailedPrecondition, match="speaker"):
        by_groups([7] * 30)
    assert set(by_groups([1] * 20 + [2] * 10).tolist()) == {0, 1}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200))
def test_nothing_trained_on_is_later_than_what_it_is_tested_on(times: list[float]) -> None:
    values = np.array(times)
    if len(set(times)) == 1:
        with pytest.raises(FailedPrecondition, match="same time"):
            split_by_time(values, RATIO, field="when")
        return
    usage = split_by_time(values, RATIO, field="when").usage
    assert (np.diff(usage[np.argsort(values, kind="stable")]) >= 0).all()
    assert all(len(set(usage[values == moment].tolist())) == 1 for moment in set(times))
    assert set(usage.tolist()) == ({0, 1} if len(set(times)) == 2 else {0, 1, 2})


def test_even_times_are_split_at_the_ratio() -> None:
    usage = split_by_time(np.arange(100.0), RATIO, field="when").usage
    assert np.bincount(usage).tolist() == [60, 20, 20]
