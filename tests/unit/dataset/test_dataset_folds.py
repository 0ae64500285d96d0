"""Folds and iterative stratification: shares, groups, repeats, and what they promise for any data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.dataset.adapters.folds_parquet import ParquetFolding
from modelyard.dataset.domain.folds import FoldPlan, draw_folds, fold_notes
from modelyard.dataset.domain.records import FREEZE_TEST, SplitPolicy
from modelyard.dataset.domain.stratify import deal_labels
from modelyard.formats import dataset as files
from tests.unit.dataset.test_dataset_report_publish import Bench, digits

sizes_of_classes = st.lists(st.integers(1, 60), min_size=1, max_size=6)


def alone(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64)


@given(sizes_of_classes, st.integers(2, 7), st.integers(1, 3), st.integers(-(2**53), 2**53))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_classes_are_spread_to_within_one_example(sizes: list[int], k: int, repeats: int, seed: int) -> None:
    strata = np.repeat(np.arange(len(sizes)), sizes)
    if len(strata) < k:
        return
    drawn = draw_folds(strata, alone(len(strata)), FoldPlan(k, repeats, seed))
    assert drawn.shape == (repeats, len(strata))
    for folds in drawn:
        assert set(folds.tolist()) == set(range(k))
        for number, size in enumerate(sizes):
            share = np.bincount(folds[strata == number], minlength=k)
            assert share.max() - share.min() <= (1 if size % k or share.max() else 0)
        whole = np.bincount(folds, minlength=k)
        assert whole.max() - whole.min() <= len(sizes)


@given(st.lists(st.integers(1, 9), min_size=7, max_size=40), st.integers(2, 5), st.integers(0, 1000))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_groups_stay_whole_and_every_fold_has_some(sizes: list[int], k: int, seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(seed)
    strata = rng.integers(0, 3, len(groups))
    folds = draw_folds(strata, groups, FoldPlan(k, 1, seed))[0]
    for group in range(len(sizes)):
        assert len(set(folds[groups == group].tolist())) == 1
    shares = np.bincount(folds, minlength=k)
    assert (shares > 0).all()
    assert shares.max() - shares.min() <= 2 * max(sizes)


def test_repeats_differ_and_the_same_plan_is_the_same() -> None:
    strata, groups = np.repeat([0, 1], 50), alone(100)
    first, again = (draw_folds(strata, groups, FoldPlan(5, 3, 7)) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, draw_folds(strata, groups, FoldPlan(5, 3, 8)))
    assert np.array_equal(first[:1], draw_folds(strata, groups, FoldPlan(5, 1, 7)))


@pytest.mark.parametrize(
    "plan", [FoldPlan(1), FoldPlan(21), FoldPlan(5, 0), FoldPlan(5, 101), FoldPlan(20, 11), FoldPlan(3, 1, 2**60)]
)
def test_a_plan_out_of_range_is_refused(plan: FoldPlan) -> None:
    with pytest.raises(InvalidArgument) as caught:
        draw_folds(np.zeros(100, np.int64), alone(100), plan)
    assert caught.value.reason == "BAD_FOLDS"


def test_too_few_examples_or_groups_are_refused() -> None:
    with pytest.raises(FailedPrecondition, match="4 examples"):
        draw_folds(np.zeros(4, np.int64), alone(4), FoldPlan(5))
    with pytest.raises(FailedPrecondition, match="3 groups"):
        draw_folds(np.zeros(9, np.int64), np.repeat(alone(3), 3), FoldPlan(5))


def test_a_class_smaller_than_the_folds_is_said() -> None:
    assert fold_notes(np.array([10, 3, 0]), ("a", "b", "c"), 5)[0].endswith('"b" (3).')
    assert fold_notes(np.array([10, 5]), ("a", "b"), 5) == []


@given(st.integers(0, 10_000), st.integers(2, 6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_class_of_several_is_spread(seed: int, parts: int) -> None:
    """Iterative stratification keeps each class' share; dealing at random does not."""
    rng = np.random.default_rng(seed)
    labels = rng.random((600, 5)) < np.array([0.5, 0.2, 0.1, 0.05, 0.02])
    part = deal_labels(labels, alone(600), [1 / parts] * parts, rng)
    for label in range(5):
        share = np.bincount(part[labels[:, label]], minlength=parts)
        assert share.max() - share.min() <= 3, share
    assert np.ptp(np.bincount(part, minlength=parts)) <= 6


def test_rare_classes_beat_a_random_deal() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((1000, 20)) < 0.01
    part = deal_labels(labels, alone(1000), [0.8, 0.1, 0.1], rng)
    dealt = rng.choice(3, 1000, p=[0.8, 0.1, 0.1])

    def error(of: np.ndarray) -> float:
        shares = np.array([[labels[of == p, c].sum() / max(labels[:, c].sum(), 1) for c in range(20)] for p in range(3)])
        return float(np.abs(shares - np.array([[0.8], [0.1], [0.1]])).mean())

    assert error(part) < error(dealt) / 2


def test_units_stay_together_and_a_share_of_nothing_gets_nothing() -> None:
    rng = np.random.default_rng(1)
    units = np.repeat(alone(50), 3)
    part = deal_labels(rng.random((150, 3)) < 0.3, units, [0.7, 0.3, 0.0], rng)
    assert set(part.tolist()) == {0, 1}
    assert all(len(set(part[units == unit].tolist())) == 1 for unit in range(50))


@pytest.mark.parametrize("frozen", ["", FREEZE_TEST])
def test_a_fold_is_read_as_a_version_of_its_own(tmp_path: Path, frozen: str) -> None:
    bench = Bench(tmp_path)
    imported = bench.imported(digits(), "d.zip")
    version = bench.publish(imported, SplitPolicy("0.6"), test_policy=frozen, version="v")
    whole = files.open_dataset(bench.store, version.descriptor_blob)
    test = set(whole.example_ids("test"))
    learned = set(whole.example_ids("train")) | set(whole.example_ids("validation"))
    made = ParquetFolding(bench.store).make(version, FoldPlan(4, 2, 3), "")
    assert (made.examples, len(made.descriptors)) == (len(learned), 8)
    for repeat in range(2):
        validated: list[str] = []
        for fold in range(4):
            reader = files.open_dataset(bench.store, made.descriptors[repeat * 4 + fold])
            train, validation = set(reader.example_ids("train")), reader.example_ids("validation")
            assert train | set(validation) == learned
            assert not train & set(validation)
            assert reader.descriptor.digest == version.descriptor.digest
            assert set(reader.example_ids("test")) == (set() if frozen else test)
            assert reader.descriptor.counts["validation"].classes == tuple(np.bincount(reader.labels("validation"), minlength=10))
            assert len(reader.pictures("validation", 8, 8, 1)) == len(validation)
            validated += validation
        assert sorted(validated) == sorted(learned)
    assert ParquetFolding(bench.store).make(version, FoldPlan(4, 2, 3), "") == made


def test_folds_of_a_table_keep_groups_whole(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    rows = "\n".join(["device,x,y", *(f"d{i % 12},{i * 7 % 13}.{i},{i % 5}.5{i}" for i in range(240))]).encode()
    imported = bench.imported(rows, label_column="y")
    assert imported.content.task == files.TABULAR_REGRESSION
    version = bench.publish(imported)
    made = ParquetFolding(bench.store).make(version, FoldPlan(3), "device")
    for blob in made.descriptors:
        reader = files.open_dataset(bench.store, blob)
        sides = [set(reader.table(usage, columns=["device"])["device"].to_pylist()) for usage in ("train", "validation")]
        assert not sides[0] & sides[1]
        assert len(sides[1]) >= 3
