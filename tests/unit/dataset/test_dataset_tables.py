"""CSV and Parquet: reading, types of columns, target, task, usage, roles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import columns as typing_
from modelyard.dataset.domain import tables
from modelyard.dataset.domain.tables import TableContent
from modelyard.dataset.worker.read_table import read_csv, read_parquet, sniff_delimiter
from modelyard.formats.dataset import CATEGORICAL, NUMERIC, TABULAR_CLASSIFICATION, TABULAR_REGRESSION

RNG = np.random.default_rng(0)


def built(tmp_path: Path, text: str | bytes, *, task: str = "", label: str = "", usage: str = "") -> TableContent:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return tables.build(read_csv(path, name="t.csv"), task=task, label_column=label, usage_column=usage)


def csv_of(columns: Mapping[str, Any], delimiter: str = ",") -> str:
    rows = zip(*columns.values(), strict=True)
    lines = [delimiter.join(columns), *(delimiter.join("" if v is None else str(v) for v in row) for row in rows)]
    return "\n".join(lines) + "\n"


def reason_of(tmp_path: Path, text: str | bytes, **more: str) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        built(tmp_path, text, **more)
    return caught.value


def column_of(content: TableContent, name: str) -> Any:
    return next(column for column in content.columns if column.name == name)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_delimiters_and_a_byte_order_mark(tmp_path: Path, delimiter: str, bom: str) -> None:
    content = built(tmp_path, bom + csv_of({"größe": [1.5, 2.5, 3.5], "y": ["a", "b", "a"]}, delimiter))
    assert content.table["größe"].to_pylist() == [1.5, 2.5, 3.5]
    assert content.classes == ("a", "b")


def test_commas_in_quotes_do_not_mislead_the_sniffer() -> None:
    assert sniff_delimiter('a;b\n"1,2,3,4";x\n"5,6,7,8";y\n') == ";"
    assert sniff_delimiter("only\n1\n2\n") == ","


def test_decimal_commas_where_semicolons_separate(tmp_path: Path) -> None:
    content = built(tmp_path, csv_of({"x": ["1,5", "-2", "3,25e1"], "y": list("aba")}, ";"))
    assert content.table["x"].to_pylist() == [1.5, -2.0, 32.5]


def test_other_encodings_are_read_and_said(tmp_path: Path) -> None:
    text = csv_of({"straße": ["ä", "b", "ä"], "y": ["1", "2", "1"]})
    for encoding, word in (("cp1252", "1252"), ("utf-16", "UTF-16")):
        content = built(tmp_path, text.encode(encoding))
        assert content.table.column_names == ["straße", "y"]
        assert any(word in note for note in content.assumptions)


def test_rows_with_the_wrong_number_of_fields_are_listed_with_their_number(tmp_path: Path) -> None:
    content = built(tmp_path, "x,y\n1,a\n2\n3,b,extra\n4,b\n")
    assert [(item.path, item.reason) for item in content.rejected] == [
        ("row 2", "WRONG_FIELD_COUNT"),
        ("row 3", "WRONG_FIELD_COUNT"),
    ]
    assert content.row_numbers.tolist() == [1, 4]


def test_rows_without_a_target_are_listed(tmp_path: Path) -> None:
    content = built(tmp_path, "x,y\n1,a\n2,\n3,NA\n4,b\n")
    assert [item.path for item in content.rejected] == ["row 2", "row 3"]
    assert {item.reason for item in content.rejected} == {"NO_LABEL"}
    assert content.table.num_rows == 2


def test_newlines_and_quotes_inside_values(tmp_path: Path) -> None:
    content = built(tmp_path, 'x,t,y\n1,"two\nlines, ""quoted""",a\n2,b,b\n')
    assert content.table["t"].to_pylist() == ['two\nlines, "quoted"', "b"]


def test_blank_lines_before_the_header_and_a_line_break_in_a_name(tmp_path: Path) -> None:
    content = built(tmp_path, '\n\n"the\nsize",y\n1,a\n2,b\n')
    assert content.table.column_names == ["the\nsize", "y"]
    assert content.table["the\nsize"].to_pylist() == [1.0, 2.0]


def test_repeated_and_empty_names_get_names_of_their_own(tmp_path: Path) -> None:
    content = built(tmp_path, "x,x,,y\n1,2,3,a\n4,5,6,b\n")
    assert content.table.column_names == ["x", "x.2", "column_3", "y"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "NO_EXAMPLES"),
        ("\n\n", "NO_EXAMPLES"),
        ("a,b\n", "NO_EXAMPLES"),
        ("x,y\n1,\n2,\n", "TARGET_ALL_MISSING"),
        ("x,y\n1,a\n2,a\n", "ONE_CLASS"),
        ("y\na\nb\n", "NO_FEATURES"),
        (b"\x00\x01\x02\x03binary\xff\x00", "NOT_A_TABLE"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str | bytes, reason: str) -> None:
    assert reason_of(tmp_path, text).reason == reason


def test_one_class_is_named(tmp_path: Path) -> None:
    assert "'a'" in reason_of(tmp_path, "x,y\n1,a\n2,a\n").message


def test_a_missing_target_column_lists_the_columns(tmp_path: Path) -> None:
    error = reason_of(tmp_path, "x,y\n1,a\n2,b\n", label="price")
    assert error.reason == "TARGET_COLUMN_MISSING"
    assert error.violations[0].field == "dataset_import.label_column"
    assert "'price'" in error.message
    assert "x, y" in error.message
    near = reason_of(tmp_path, "survived,age\n1,3\n0,4\n", label="surived")
    assert "did you mean 'survived'? It has: survived, age" in near.message


def test_regression_of_text_is_refused(tmp_path: Path) -> None:
    error = reason_of(tmp_path, "x,y\n1,a\n2,b\n", task=TABULAR_REGRESSION)
    assert error.reason == "TARGET_NOT_NUMERIC"


def test_a_picture_task_is_refused(tmp_path: Path) -> None:
    assert reason_of(tmp_path, "x,y\n1,a\n2,b\n", task="image_classification").reason == "BAD_TASK"


@pytest.mark.parametrize(("name", "target"), [("Target", "Target"), ("label", "label"), ("class", "class"), ("other", "z")])
def test_the_target_by_its_name_or_the_last(tmp_path: Path, name: str, target: str) -> None:
    content = built(tmp_path, csv_of({"x": [1, 2, 3], name: ["a", "b", "a"], "z": ["u", "v", "u"]}))
    assert content.target == target
    assert any(target in note for note in content.assumptions)


def test_many_different_numbers_are_regression_few_are_classes(tmp_path: Path) -> None:
    many = built(tmp_path, csv_of({"x": range(30), "y": [i * 1.5 for i in range(30)]}))
    assert (many.task, many.classes) == (TABULAR_REGRESSION, ())
    assert many.labels.null_count == 30
    few = built(tmp_path, csv_of({"x": range(30), "y": [i % 12 for i in range(30)]}))
    assert few.task == TABULAR_CLASSIFICATION
    assert few.classes == tuple(str(i) for i in range(12))  # by value: 2 before 10


def test_class_names_are_whole_numbers_however_written(tmp_path: Path) -> None:
    content = built(tmp_path, csv_of({"x": range(4), "y": ["1.0", "2", "1", "2.0"]}))
    assert content.classes == ("1", "2")
    assert content.labels.to_pylist() == ["1", "2", "1", "2"]


def test_the_usage_column(tmp_path: Path) -> None:
    values = {"x": range(4), "usage": ["Train", "val", "TEST", None], "y": list("abab")}
    content = built(tmp_path, csv_of(values))
    assert content.usages.to_pylist() == ["train", "validation", "test", None]
    assert column_of(content, "usage").role == "usage"


def test_a_column_called_usage_that_is_none_is_a_feature(tmp_path: Path) -> None:
    content = built(tmp_path, csv_of({"usage": [10.5, 11.5, 12.5], "y": list("aba")}))
    assert column_of(content, "usage").role == "feature"


def test_wrong_usage_columns(tmp_path: Path) -> None:
    text = csv_of({"x": range(3), "part": ["train", "hold", "test"], "y": list("aba")})
    assert reason_of(tmp_path, text, usage="part").reason == "USAGE_VALUE_UNKNOWN"
    assert reason_of(tmp_path, text, usage="nothing").reason == "USAGE_COLUMN_MISSING"
    assert reason_of(tmp_path, text, usage="y").reason == "USAGE_COLUMN_MISSING"


def test_mixed_types(tmp_path: Path) -> None:
    half = [i if i % 2 else f"v{i % 6}" for i in range(40)]
    rare = [i % 9 if i != 7 else "oops" for i in range(40)]
    content = built(tmp_path, csv_of({"half": half, "rare": rare, "y": ["a", "b"] * 20}))
    assert (column_of(content, "half").type, column_of(content, "rare").type) == (CATEGORICAL, NUMERIC)
    findings = {finding.column: finding for finding in content.findings if finding.kind == "MIXED_TYPES"}
    assert findings["rare"].examples == ("oops",)
    assert findings["half"].example_count == 20
    assert content.table["rare"].null_count == 1


def test_columns_that_carry_nothing_are_set_aside(tmp_path: Path) -> None:
    rows = 40
    content = built(
        tmp_path,
        csv_of(
            {
                "id": range(1, rows + 1),
                "code": [f"k{i}" for i in range(rows)],
                "same": ["x"] * rows,
                "void": [None] * rows,
                "random": RNG.permutation(rows) * 7 + 0.5,
                "y": ["a", "b"] * (rows // 2),
            }
        ),
    )
    reasons = {column.name: column.set_aside_reason for column in content.columns}
    assert reasons == {"id": "IDENTIFIER", "code": "IDENTIFIER", "same": "CONSTANT", "void": "ALL_MISSING", "random": "", "y": ""}


def test_a_column_that_gives_the_answer_away_is_set_aside(tmp_path: Path) -> None:
    y = RNG.integers(0, 2, 400)
    noise = RNG.normal(size=400) + y
    text = csv_of({"noise": noise, "answer": ["yes" if v else "no" for v in y], "y": y})
    content = built(tmp_path, text)
    assert column_of(content, "answer").set_aside_reason == "LEAKS_TARGET"
    assert column_of(content, "noise").role == "feature"
    assert any(f.kind == "LEAKING_COLUMN" and f.severity == "error" and f.column == "answer" for f in content.findings)


def test_an_easy_task_is_no_leak(tmp_path: Path) -> None:
    y = RNG.integers(0, 2, 300)
    text = csv_of(
        {"a": y * 10 + RNG.normal(size=300), "b": y * -8 + RNG.normal(size=300), "c": y * 9 + RNG.normal(size=300), "y": y}
    )
    content = built(tmp_path, text)
    assert all(column.role != "set_aside" for column in content.columns)


def test_a_leak_of_a_number(tmp_path: Path) -> None:
    y = RNG.lognormal(size=500)
    text = csv_of({"x": y + RNG.normal(size=500), "cents": np.round(y * 100), "y": y})
    assert column_of(built(tmp_path, text), "cents").set_aside_reason == "LEAKS_TARGET"


def test_equal_rows_have_equal_hashes_whatever_the_file(tmp_path: Path) -> None:
    values = {"x": [1.5, 2.0, 1.5], "c": ["u", None, "u"], "y": ["a", "b", "a"]}
    from_csv = built(tmp_path, csv_of(values))
    pq.write_table(pa.table(values), tmp_path / "t.parquet")
    from_parquet = tables.build(read_parquet(tmp_path / "t.parquet", name="t"), task="", label_column="", usage_column="")
    assert from_csv.sha256 == from_parquet.sha256
    assert from_csv.sha256[0] == from_csv.sha256[2] != from_csv.sha256[1]


def test_parquet_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "i": pa.array([1, 2, None], pa.int32()),
            "f": pa.array([1.5, float("nan"), float("inf")]),
            "b": pa.array([True, None, False]),
            "d": pa.array(["x", "y", "x"]).dictionary_encode(),
            "l": pa.array([[1], [2], [3]]),
            "n": pa.array([None, None, None]),
            "y": pa.array(["a", "b", "a"]),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    content = tables.build(read_parquet(tmp_path / "t.parquet", name="t"), task="", label_column="", usage_column="")
    assert content.table["i"].to_pylist() == [1.0, 2.0, None]
    assert content.table["f"].to_pylist() == [1.5, None, None]
    assert content.table["b"].to_pylist() == ["True", None, "False"]
    assert content.table["d"].to_pylist() == ["x", "y", "x"]
    assert "l" not in content.table.column_names
    assert any('"l"' in note for note in content.assumptions)


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and then nothing good PAR1")
    with pytest.raises(InvalidArgument) as caught:
        read_parquet(tmp_path / "t.parquet", name="t.parquet")
    assert caught.value.reason == "NOT_A_TABLE"


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=30))
@settings(max_examples=80, deadline=None)
def test_numbers_survive_as_text(values: list[float]) -> None:
    column = typing_.type_text("x", pa.chunked_array([[repr(value) for value in values]]))
    assert column.type == NUMERIC
    assert column.values.to_pylist() == values


@given(st.lists(st.text(max_size=8), min_size=1, max_size=30))
@settings(max_examples=80, deadline=None)
def test_any_text_is_typed_without_loss_of_rows(values: list[str]) -> None:
    column = typing_.type_text("x", pa.chunked_array([values]), comma_allowed=True)
    assert len(column.values) == len(values)
    assert column.missing_count + len(column.values.drop_null()) == len(values)


@pytest.mark.slow
def test_ten_thousand_columns(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(24, 10_000)).round(3)
    rows = {f"c{number}": values[:, number].tolist() for number in range(10_000)}
    content = built(tmp_path, csv_of({**rows, "y": list("ab") * 12}))
    assert len(content.columns) == 10_001
    assert content.rejected_count == 0
