"""Edits of a table's columns: what they change, what they learn from, and what is refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.column_edits import CAP, IMPUTE, ChangedColumn, change_column, check_column_edit
from modelyard.dataset.domain.records import Edit
from modelyard.formats.dataset import CATEGORICAL, FEATURE, NUMERIC, USAGE, Column

NUMBERS = Column("x", NUMERIC, FEATURE, missing_count=1, distinct_count=4)
WORDS = Column("w", CATEGORICAL, FEATURE, missing_count=1, distinct_count=2, categories=("a", "b"))


def changed(
    edit: Edit,
    values: list[object],
    column: Column,
    trained: list[bool] | None = None,
    kept: list[bool] | None = None,
    open_: list[bool] | None = None,
) -> ChangedColumn:
    kind = pa.float64() if column.type == NUMERIC else pa.string()
    every = [True] * len(values)
    return change_column(
        edit,
        pa.chunked_array([pa.array(values, kind)]),
        column,
        np.array(kept or every),
        np.array(open_ or kept or every),
        np.array(trained or every),
        "dataset_version.edits[0]",
    )


def test_cap_cuts_to_the_limits_and_leaves_what_is_missing() -> None:
    made = changed(Edit(CAP, column="x", lower=0.0, upper=10.0), [-5.0, 3.0, None, 40.0, 10.0], NUMBERS)
    assert made.values.to_pylist() == [0.0, 3.0, None, 10.0, 10.0]
    assert made.changed.tolist() == [True, False, False, True, False]
    assert (made.column.missing_count, made.column.distinct_count) == (1, 3)
    assert made.note == 'Column "x": 2 values below 0 or above 10 were cut to that.'


def test_a_gap_is_filled_with_the_median_of_train_alone() -> None:
    made = changed(Edit(IMPUTE, column="x"), [1.0, 2.0, 3.0, 900.0, None], NUMBERS, trained=[True, True, True, False, False])
    assert made.values.to_pylist()[-1] == 2.0
    assert made.column.missing_count == 0
    assert "2, the median of train" in made.note


def test_a_gap_among_words_is_filled_with_the_commonest_of_train() -> None:
    values: list[object] = ["b", "b", "a", "c", "c", "c", None]
    made = changed(Edit(IMPUTE, column="w"), values, WORDS, trained=[True] * 3 + [False] * 4)
    assert made.values.to_pylist()[-1] == "b"
    assert made.column.categories == ("a", "b", "c")
    tied = changed(Edit(IMPUTE, column="w"), ["b", "a", None], WORDS)
    assert tied.values.to_pylist()[-1] == "a"


def test_what_was_asked_for_is_filled_in() -> None:
    assert changed(Edit(IMPUTE, column="x", fill="-1"), [None, 2.0], NUMBERS).values.to_pylist() == [-1.0, 2.0]
    made = changed(Edit(IMPUTE, column="w", fill="unknown"), [None, "a"], WORDS)
    assert made.values.to_pylist() == ["unknown", "a"]
    assert made.column.categories == ("a", "unknown")


def test_rows_that_are_gone_are_not_counted() -> None:
    made = changed(Edit(CAP, column="x", upper=5.0), [9.0, 9.0, 1.0], NUMBERS, kept=[False, True, True])
    assert made.changed.tolist() == [False, True, False]


def test_rows_of_a_frozen_test_set_stay_as_they_are() -> None:
    made = changed(Edit(CAP, column="x", upper=5.0), [9.0, 9.0, None], NUMBERS, open_=[True, False, True])
    assert made.values.to_pylist() == [5.0, 9.0, None]
    assert made.note.endswith("1 rows of the frozen test set stay as they are.")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (Edit(CAP), "column is empty"),
        (Edit(CAP, column="x"), "neither lower nor upper"),
        (Edit(CAP, column="x", lower=2.0, upper=1.0), "lower is 2, above upper, which is 1"),
        (Edit(CAP, column="x", upper=float("nan")), "upper is nan"),
        (Edit(IMPUTE, ("1",), column="x"), "names examples"),
        (Edit(IMPUTE, column="x", fill="y" * 201), "at most 200"),
    ],
)
def test_edits_that_are_refused_without_the_table(edit: Edit, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        check_column_edit(edit, "dataset_version.edits[3]")
    assert caught.value.reason == "BAD_EDIT"
    assert caught.value.violations[0].field.startswith("dataset_version.edits[3]")


@pytest.mark.parametrize(
    ("edit", "column", "words"),
    [
        (Edit(CAP, column="w", upper=1.0), WORDS, "CAP is for numbers"),
        (Edit(IMPUTE, column="x", fill="many"), NUMBERS, "fill is 'many'"),
        (Edit(IMPUTE, column="u"), Column("u", CATEGORICAL, USAGE), "the usage of the rows"),
    ],
)
def test_edits_that_do_not_fit_the_column(edit: Edit, column: Column, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        changed(edit, [None, None], column)


def test_a_column_without_a_value_to_learn_from() -> None:
    with pytest.raises(InvalidArgument, match="no value to train on"):
        changed(Edit(IMPUTE, column="x"), [None, 3.0], NUMBERS, trained=[True, False])


@given(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(-1e6, 1e6), st.floats(0, 1e6))
@settings(max_examples=60, deadline=None)
def test_capping_twice_is_capping_once(values: list[object], lower: float, width: float) -> None:
    edit = Edit(CAP, column="x", lower=lower, upper=lower + width)
    once = changed(edit, values, NUMBERS)
    again = changed(edit, once.values.to_pylist(), NUMBERS)
    assert again.values.to_pylist() == once.values.to_pylist()
    assert not again.changed.any()
    assert [value is None for value in values] == [value is None for value in once.values.to_pylist()]
