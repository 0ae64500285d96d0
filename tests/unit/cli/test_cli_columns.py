"""Edits of columns and comparisons of versions on the command line, against fakes."""

from __future__ import annotations

from typing import Any

import pytest

from modelyard.cli.commands.dataset_columns import column_edits
from modelyard.cli.commands.dataset_quality import edits_of
from modelyard.client import InvalidArgument
from modelyard.dataset.v1 import dataset_pb2
from tests.support.cli_fakes import P, Yard

pytestmark = pytest.mark.usefixtures("yard")
CAP, IMPUTE = dataset_pb2.Edit.ACTION_CAP, dataset_pb2.Edit.ACTION_IMPUTE


def test_columns_are_capped_and_filled_in(run: Any, yard: Yard) -> None:
    arguments = ["--cap", "fare=0:300", "--cap", "a=b=:2.5", "--impute", "age", "--impute", "deck=unknown", "--reason", "why"]
    assert run("dataset", "edit", "titanic/V001", *arguments).status == 0
    sent = yard.datasets.requests[-1].dataset_version.edits
    assert [(edit.action, edit.column, edit.fill, edit.reason) for edit in sent] == [
        (CAP, "fare", "", "why"),
        (CAP, "a=b", "", "why"),
        (IMPUTE, "age", "", "why"),
        (IMPUTE, "deck", "unknown", "why"),
    ]
    assert [(edit.HasField("lower"), edit.lower, edit.HasField("upper"), edit.upper) for edit in sent[:2]] == [
        (True, 0.0, True, 300.0),
        (False, 0.0, True, 2.5),
    ]


@pytest.mark.parametrize("text", ["fare", "fare=", "fare=1", "fare=:", "=1:2", "fare=a:b", "fare=nan:1"])
def test_limits_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="COLUMN=LOWEST:HIGHEST"):
        column_edits([text], [], "")


def test_a_fix_of_a_column_is_taken_as_it_is() -> None:
    fix = dataset_pb2.Edit(action=IMPUTE, column="age")
    finding = dataset_pb2.Finding(kind="MISSING_VALUES", column="age", fix=fix)
    assert edits_of([finding], 0) == [fix]
    with pytest.raises(InvalidArgument, match="have no scores"):
        edits_of([finding], 0.5)


def test_drift_is_asked_for_between_the_two_versions(run: Any, yard: Yard) -> None:
    ended = run("dataset", "diff", "flowers/V003", "--base", "V002", "--drift")
    assert ended.status == 0
    asked = next(one.quality_report for one in reversed(yard.datasets.requests) if hasattr(one, "quality_report"))
    assert asked.dataset_version == f"{P}/datasets/flowers/versions/V003"
    assert asked.base_version == f"{P}/datasets/flowers/versions/V002"
    assert "warning: EXACT_DUPLICATES: 4 pictures twice" in ended.out
    found = run("dataset", "diff", "flowers/V003", "--drift", "--json").document
    assert found["unchangedCount" if "unchangedCount" in found else "unchanged_count"] in (7, "7")
    assert found["drift"][0]["kind"] == "EXACT_DUPLICATES"


def test_without_drift_nothing_is_started(run: Any, yard: Yard) -> None:
    assert run("dataset", "diff", "flowers/V003").status == 0
    assert not any(hasattr(one, "quality_report") for one in yard.datasets.requests)


def test_a_column_without_a_fix_is_named_with_those_that_have_one(run: Any) -> None:
    ended = run("dataset", "fix", "flowers", "--kind", "LABEL_ERRORS", "--column", "age")
    assert ended.status == 2
    assert "--column is 'age'; the columns with a finding that an edit mends are: none" in ended.err
