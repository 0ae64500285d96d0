"""dataset.domain.split: shares, strata, groups, given usages."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.dataset.domain.split import (
    GIVEN,
    NONE,
    RATIO,
    TEST,
    TRAIN,
    VALIDATION,
    Split,
    parse_ratio,
    split,
    strata_of,
)

Ints = npt.NDArray[np.int64]
ratios = st.integers(1, 99_999).map(lambda n: Decimal(n) / 100_000)
class_sizes = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def strata_with(sizes: list[int]) -> Ints:
    return np.repeat(np.arange(len(sizes)), sizes).astype(np.int64)


def run(
    strata: Ints, ratio: str | Decimal = "0.8", groups: Ints | None = None, given_: Ints | None = None, **more: object
) -> Split:
    alone = np.arange(len(strata)) if groups is None else groups
    none = np.full(len(strata), NONE) if given_ is None else given_
    seed, source = int(str(more.get("seed", 0))), str(more.get("source", "auto"))
    return split(strata, alone, none, Decimal(ratio), seed=seed, source=source)


def counts(usage: npt.NDArray[np.int8]) -> list[int]:
    return [int((usage == value).sum()) for value in (TRAIN, VALIDATION, TEST)]


@given(class_sizes, ratios, st.integers(-(2**53), 2**53))
@settings(max_examples=150, deadline=None)
def test_the_ratio_is_met_in_every_class_to_within_one_example(sizes: list[int], ratio: Decimal, seed: int) -> None:
    strata = strata_with(sizes)
    usage = run(strata, ratio, seed=seed).usage
    for number, size in enumerate(sizes):
        train, validation, test = counts(usage[strata == number])
        allowed = 2 if len(sizes) == 1 else 1  # a class that is alone holds out for both validation and test
        assert abs(train - size * ratio) <= allowed
        assert train >= 1
        assert abs(validation - test) <= 1
        if size == 1:
            assert train == 1


@given(class_sizes, ratios)
@settings(max_examples=100, deadline=None)
def test_rounding_does_not_add_up_over_classes(sizes: list[int], ratio: Decimal) -> None:
    sizes = [size + 200 for size in sizes]  # large enough that no class needs an example held out for its own sake
    ratio = min(max(ratio, Decimal("0.01")), Decimal("0.99"))
    train = counts(run(strata_with(sizes), ratio).usage)[0]
    assert abs(train - sum(sizes) * ratio) <= 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=1, max_size=120), ratios, st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_groups_stay_on_one_side_and_everyone_has_a_usage(examples: list[tuple[int, int]], ratio: Decimal, seed: int) -> None:
    strata, groups = (np.array(values, dtype=np.int64) for values in zip(*examples, strict=True))
    usage = run(strata, ratio, groups, seed=seed).usage
    assert set(usage.tolist()) <= {TRAIN, VALIDATION, TEST}
    for group in np.unique(groups):
        assert len(set(usage[groups == group].tolist())) == 1


@given(class_sizes, ratios, st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_the_same_arguments_give_the_same_split(sizes: list[int], ratio: Decimal, seed: int) -> None:
    strata = strata_with(sizes)
    assert np.array_equal(run(strata, ratio, seed=seed).usage, run(strata, ratio, seed=seed).usage)


def test_another_seed_gives_another_split() -> None:
    strata = strata_with([50, 50])
    assert not np.array_equal(run(strata, seed=1).usage, run(strata, seed=2).usage)


def test_a_group_is_met_to_within_its_size() -> None:
    strata, groups = np.zeros(100, np.int64), np.arange(100) // 5
    train, validation, test = counts(run(strata, "0.8", groups).usage)
    assert abs(train - 80) <= 5
    assert min(validation, test) >= 5


def test_given_usages_are_kept() -> None:
    given_ = np.array([TRAIN] * 6 + [VALIDATION] * 2 + [TEST] * 2)
    assert run(strata_with([5, 5]), given_=given_).usage.tolist() == given_.tolist()


def test_validation_is_drawn_from_train_when_only_train_and_test_are_given() -> None:
    given_ = np.array([TRAIN] * 100 + [TEST] * 20)
    usage = run(np.tile([0, 1], 60).astype(np.int64), given_=given_).usage
    assert counts(usage) == [80, 20, 20]
    assert np.all(usage[100:] == TEST)


def test_test_is_half_of_a_given_validation() -> None:
    given_ = np.array([TRAIN] * 80 + [VALIDATION] * 20)
    usage = run(np.tile([0, 1], 50).astype(np.int64), given_=given_).usage
    assert counts(usage) == [80, 10, 10]
    assert np.all(usage[:80] == TRAIN)


def test_train_alone_is_split_as_if_nothing_were_given() -> None:
    strata = strata_with([50, 50])
    assert counts(run(strata, given_=np.full(100, TRAIN)).usage) == [80, 10, 10]


def test_examples_without_usage_are_shared_out() -> None:
    given_ = np.array([TRAIN] * 50 + [VALIDATION] * 10 + [TEST] * 10 + [NONE] * 100)
    usage = run(np.zeros(170, np.int64), given_=given_).usage
    assert usage[:70].tolist() == given_[:70].tolist()
    assert counts(usage[70:]) == [80, 10, 10]


def test_source_ratio_ignores_what_was_given() -> None:
    given_ = np.full(100, TEST)
    assert counts(run(strata_with([50, 50]), given_=given_, source=RATIO).usage) == [80, 10, 10]


def test_source_given_is_refused_without_usages() -> None:
    with pytest.raises(FailedPrecondition) as caught:
        run(strata_with([5, 5]), source=GIVEN)
    assert caught.value.reason == "NO_GIVEN_USAGE"


def test_given_usages_without_train_are_refused() -> None:
    with pytest.raises(FailedPrecondition) as caught:
        run(strata_with([4]), given_=np.full(4, TEST))
    assert caught.value.reason == "NO_TRAIN_EXAMPLES"


def test_duplicates_across_given_usages_are_told() -> None:
    notes = run(strata_with([4]), groups=np.array([0, 1, 2, 0]), given_=np.array([TRAIN, TRAIN, VALIDATION, TEST])).notes
    assert any("1 groups of duplicates lie on more than one side" in note for note in notes)


@pytest.mark.parametrize(
    ("text", "value"), [("0.8", "0.8"), ("", "0.8"), (".5", "0.5"), ("0.12345", "0.12345"), ("0.00001", "0.00001")]
)
def test_ratios_as_given(text: str, value: str) -> None:
    assert parse_ratio(text) == Decimal(value)


@pytest.mark.parametrize(
    "text", ["1.5", "0.1234567", "0", "1", "0.0", "1.0", "-0.5", "0,8", "80%", "nan", "8e-1", " 0.8", "0.８", "0.", "x" * 500]
)
def test_ratios_that_are_wrong(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_ratio(text)
    assert caught.value.reason == "BAD_TRAIN_RATIO"
    assert caught.value.violations[0].field == "split.train_ratio"
    assert text[:40] in caught.value.message


def test_strata_of_numbers_are_bins_of_equal_counts() -> None:
    targets = np.random.default_rng(0).lognormal(size=1000)
    strata = strata_of(targets)
    assert np.bincount(strata).tolist() == [100] * 10
    assert targets[strata == 0].max() <= targets[strata == 1].min()
    assert strata_of(np.array([3.0, 1.0])).tolist() == [0, 0]
