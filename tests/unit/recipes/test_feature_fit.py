"""Feature pipelines fitted: what the steps learn and give, and that training rows alone count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.formats.dataset import Column
from modelyard.formats.model import ModelCard
from modelyard.recipes.build_tabular import apply_out_of_fold, card_parts, encoding_of, fit_encoding, target_matrix
from modelyard.recipes.features import check_features
from modelyard.recipes.features_fit import FittedFeatures, fit_features, settled_steps, with_readings
from modelyard.recipes.steps import Step
from tests.support.feature_tables import COLUMNS, EVERYTHING, awkward, voyage


def fitted(steps: Any, columns: dict[str, Any], table: Any = COLUMNS, *, strict: bool = True) -> FittedFeatures:
    settled = settled_steps(check_features(steps, table), columns)
    return fit_features(settled, table, columns, strict=strict)


def made(step: Step, columns: dict[str, Any]) -> dict[str, Any]:
    return fitted([step], columns).apply(columns)


AGES = {**voyage(4), "age": np.array([1, np.nan, 3, 8], np.float32)}


@pytest.mark.parametrize(
    ("by", "value", "filling"),
    [("mean", "", 4.0), ("median", "", 3.0), ("auto", "", 3.0), ("most_frequent", "", 1.0), ("constant", "-2.5", -2.5)],
)
def test_imputing_numbers(by: str, value: str, filling: float) -> None:
    out = made(Step("impute", {"by": by, "value": value, "indicator": True}, ("age",)), AGES)
    np.testing.assert_array_equal(out["age"], np.array([1, filling, 3, 8], np.float32))
    np.testing.assert_array_equal(out["age missing"], np.array([0, 1, 0, 0], np.float32))


def test_imputing_text_takes_the_first_by_name_of_the_most_frequent() -> None:
    columns = {**voyage(5), "deck": np.array(["B", "", "A", "A", "B"], object)}
    assert made(Step("impute", {}, ("deck",)), columns)["deck"].tolist() == ["B", "A", "A", "A", "B"]


def test_scaling() -> None:
    columns = {**voyage(5), "age": np.array([0, 10, 20, 30, np.nan], np.float32)}
    assert made(Step("scale", {"by": "min_max"}, ("age",)), columns)["age"][:4].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert made(Step("scale", {"by": "standard"}, ("age",)), columns)["age"][:4].mean() == pytest.approx(0, abs=1e-6)
    assert made(Step("scale", {"by": "robust"}, ("age",)), columns)["age"][:4].tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 1])
    assert made(Step("scale", {"by": "log"}, ("age",)), columns)["age"][3] == pytest.approx(np.log(31))
    bins = made(Step("scale", {"by": "quantile", "bins": 2}, ("age",)), columns)["age"]
    assert bins[:4].tolist() == [0, 0, 1, 1]
    assert np.isnan(bins[4])
    held = fitted([Step("scale", {"by": "min_max", "clip": True}, ("age",))], columns)
    assert held.apply({**columns, "age": np.array([-5, 99, 15, 0, 0], np.float32)})["age"].tolist() == [0, 1, 0.5, 0, 0]


def test_one_hot_pools_the_rare_and_the_unknown() -> None:
    columns = {**voyage(6), "deck": np.array(["A", "A", "B", "B", "C", ""], object)}
    features = fitted([Step("encode", {"rare": 2}, ("deck",))], columns)
    assert features.output("deck").labels == ("A", "B", "(rare)")
    later = {**columns, "deck": np.array(["B", "C", "", "new", "A", "A"], object)}
    np.testing.assert_array_equal(features.apply(later)["deck"], np.eye(3)[[1, 2, 2, 2, 0, 0]])


def test_one_hot_without_rare_ones_gives_unknown_ones_zeros() -> None:
    columns = {**voyage(3), "deck": np.array(["A", "B", ""], object)}
    features = fitted([Step("encode", {}, ("deck",))], columns)
    assert features.output("deck").labels == ("(missing)", "A", "B")
    later = {**columns, "deck": np.array(["new", "", "B"], object)}
    np.testing.assert_array_equal(features.apply(later)["deck"], [[0, 0, 0], [1, 0, 0], [0, 0, 1]])


def test_ordinal_and_frequency() -> None:
    columns = {**voyage(4), "deck": np.array(["low", "high", "low", ""], object)}
    ordinal = made(Step("encode", {"by": "ordinal", "order": ["low", "mid", "high"]}, ("deck",)), columns)
    assert ordinal["deck"].tolist() == [0, 2, 0, -1]
    assert made(Step("encode", {"by": "frequency"}, ("deck",)), columns)["deck"].tolist() == [0.5, 0.25, 0.5, 0.25]


def test_groups_and_unknown_groups() -> None:
    columns = {**voyage(4), "fare": np.array([1, 3, 10, np.nan], np.float32), "class": np.array(["a", "a", "b", "c"], object)}
    features = fitted([Step("aggregate", {"group_by": "class", "values": ["mean", "largest", "count"]}, ("fare",))], columns)
    whole = float(np.float32(14 / 3))
    later = {**columns, "class": np.array(["a", "b", "c", "new"], object)}
    out = features.apply(later)
    assert out["fare mean by class"].tolist() == pytest.approx([2, 10, whole, whole])
    assert out["fare largest by class"].tolist() == [3, 10, 10, 10]
    assert out["fare count by class"].tolist() == [2, 1, 1, 0]


def test_interactions() -> None:
    columns = {**voyage(3), "age": np.array([2, 0, np.nan], np.float32), "fare": np.array([6, 5, 4], np.float32)}
    out = made(Step("interact", {"by": "ratio"}, ("fare", "age")), columns)["fare / age"]
    assert out[0] == 3
    assert np.isnan(out[1:]).all()
    assert made(Step("interact", {"by": "difference"}, ("fare", "age")), columns)["fare - age"][:2].tolist() == [4, 5]


def test_crosses_tell_pairs_apart_and_pool_the_rare_and_the_unknown() -> None:
    columns = {
        **voyage(6),
        "class": np.array(["a", "a", "b", "b", "a", "c"], object),
        "deck": np.array(["x", "x", "x", "y", "", "y"], object),
    }
    features = fitted([Step("cross", {"rare": 2}, ("class", "deck"))], columns)
    assert features.output("class & deck").labels == ("a & x", "(rare)")
    assert {"class", "deck"} <= {output.name for output in features.outputs}  # they stay, too
    later = {**columns, "class": np.array(["a", "a", "z", "", "x", "b"], object)}
    assert features.apply(later)["class & deck"].tolist() == [[1, 0], [1, 0], [0, 1], [0, 1], [0, 1], [0, 1]]
    features = fitted([Step("cross", {}, ("class", "deck"))], columns)
    labels = ("a & (missing)", "a & x", "b & x", "b & y", "c & y")
    assert features.output("class & deck").labels == labels
    out = features.apply({**columns, "deck": np.array(["y", "x", "q", "y", "", "x"], object)})["class & deck"]
    assert [labels[row.argmax()] if row.any() else "" for row in out] == ["", "a & x", "", "b & y", "a & (missing)", ""]
    shares = made(Step("cross", {"by": "frequency"}, ("class", "deck")), columns)["class & deck"]
    assert shares.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 6, 1 / 6, 1 / 6, 1 / 6])
    few = fitted([Step("cross", {"most": 1}, ("class", "deck"))], columns)
    assert few.output("class & deck").labels == ("a & x", "(rare)")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=2), st.text(max_size=2)), min_size=1, max_size=30),
    st.lists(st.tuples(st.text(max_size=2), st.text(max_size=2)), min_size=1, max_size=30),
    st.sampled_from(["one_hot", "frequency"]),
    st.integers(0, 3),
)
def test_a_cross_is_the_encoding_of_the_two_texts_as_one(train: Any, later: Any, by: str, rare: int) -> None:
    def columns(rows: Any) -> dict[str, Any]:
        both = {name: np.array([row[at] for row in rows], object) for at, name in enumerate(("a", "b"))}
        return {**both, "ab": np.array([f"{one}\x01{other}" for one, other in rows], object)}

    train, later = ([(one.replace("\x00", "").replace("\x01", ""), two.replace("\x00", "").replace("\x01", ""))
                     for one, two in rows] for rows in (train, later))  # fmt: skip
    table = tuple(Column(name, "categorical", "feature") for name in ("a", "b", "ab"))
    asked = {"by": by, "rare": rare if by == "one_hot" else 0}  # frequencies of single texts pool nothing
    steps = [Step("cross", asked, ("a", "b")), Step("encode", asked, ("ab",))]
    features = fitted(steps, columns(train), table, strict=False)
    out = features.apply(columns(later))
    assert np.array_equal(out["a & b"], out["ab"])


def test_columns_that_nothing_needs_are_no_inputs() -> None:
    features = fitted([Step("drop", {}, ("deck", "when", "fare")), Step("text", {"buckets": 4}, ("note",))], voyage())
    assert features.inputs == (("age", "numeric"), ("class", "categorical"), ("note", "categorical"))


def test_a_column_of_training_without_values_is_named() -> None:
    columns = {**voyage(), "age": np.full(200, np.nan, np.float32)}
    with pytest.raises(InvalidArgument, match="'age', which has no value in any training row") as caught:
        fitted([Step("scale", {}, ("age",))], columns)
    assert caught.value.reason == "FEATURE_COLUMN_EMPTY"
    fitted([Step("scale", {}, ("age",))], columns, strict=False)


def test_what_becomes_too_wide_is_refused() -> None:
    columns = {**voyage(2000), "deck": np.array([f"deck {number}" for number in range(2000)], object)}
    table = [*COLUMNS, *(Column(f"c{number}", "categorical", "feature") for number in range(4))]
    columns |= {f"c{number}": columns["deck"] for number in range(4)}
    with pytest.raises(InvalidArgument, match="at most 4096 are right") as caught:
        fitted([Step("encode", {"most": 1024}, ("deck", "c0", "c1", "c2", "c3"))], columns, table)
    assert caught.value.reason == "FEATURES_TOO_WIDE"


@pytest.mark.parametrize("linear", [False, True])
def test_the_whole_pipeline_round_trips_through_a_model_card(linear: bool) -> None:
    columns = voyage()
    y = np.arange(200) % 2
    encoding = fit_encoding(columns, target_matrix(y, 2), linear=linear, features=fitted(EVERYTHING, columns))
    names, details = card_parts(encoding, [])
    import json

    card = ModelCard(
        "linear", "tabular_classification", "linear", ("a", "b"), columns=names, details=json.loads(json.dumps(details))
    )
    rows = awkward(columns)
    back = encoding_of(card)
    np.testing.assert_array_equal(back.apply(rows), encoding.apply(rows))
    assert back == encoding
    assert np.isfinite(back.apply(columns)).all() == linear, "a linear model has no missing number; trees take them"


def test_readings_made_before_give_the_same() -> None:
    columns = voyage()
    steps = settled_steps(check_features(EVERYTHING, COLUMNS), columns)
    features = fit_features(steps, COLUMNS, columns)
    ready = with_readings(steps, columns)
    assert len(ready) == len(columns) + 2
    for name, values in features.apply(ready).items():
        np.testing.assert_array_equal(values, features.apply(columns)[name])


def test_target_encoding_is_out_of_fold_for_the_training_rows() -> None:
    """A category of its own in every row: by the target itself each row's number would give its class away."""
    columns = {**voyage(40), "class": np.array([f"own {number}" for number in range(40)], object)}
    y = np.arange(40) % 2
    target = target_matrix(y, 2)
    encoding = fit_encoding(
        columns, target, linear=False, features=fitted([Step("encode", {"by": "target"}, ("class",))], columns)
    )
    place = [column.name for column in encoding.categorical].index("class")
    start = sum(column.rows.shape[1] for column in encoding.categorical[:place]) + len(encoding.numeric)
    inside = encoding.apply(columns)[:, start]
    outside = apply_out_of_fold(encoding, columns, target, np.arange(40) // 2 % 5)[:, start]
    assert np.corrcoef(inside, y)[0, 1] > 0.99
    assert len(np.unique(outside)) <= 5, "each row's number is its fold's mean of the others"


rows_of_numbers = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6, width=32)), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(rows_of_numbers, rows_of_numbers, st.sampled_from(["standard", "robust", "min_max", "log", "quantile"]), st.booleans())
def test_training_decides_and_later_rows_do_not(train: Any, later: Any, by: str, impute: bool) -> None:
    """Whatever comes later changes neither what was learned nor what a row becomes beside others."""
    table = (Column("x", "numeric", "feature"),)
    steps = [*([Step("impute", {}, ("x",))] if impute else []), Step("scale", {"by": by}, ("x",))]
    columns, others = ({"x": np.array(each, np.float64).astype(np.float32)} for each in (train, later))
    features = fitted(steps, columns, table, strict=False)
    whole = features.apply({"x": np.concatenate([columns["x"], others["x"]])})["x"]
    np.testing.assert_array_equal(whole[: len(train)], features.apply(columns)["x"])
    assert fitted(steps, columns, table, strict=False) == features
    assert np.array_equal(np.isnan(whole), np.isnan(np.concatenate([columns["x"], others["x"]])) & (not impute))


words = st.lists(st.sampled_from(["", "a", "b", "ç", "long word"]), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(words, words, st.sampled_from(["one_hot", "ordinal", "frequency"]), st.integers(0, 4))
def test_any_text_becomes_numbers(train: list[str], later: list[str], by: str, rare: int) -> None:
    table = (Column("t", "categorical", "feature"),)
    columns = {"t": np.array(train, object)}
    features = fitted([Step("encode", {"by": by, "rare": rare}, ("t",))], columns, table, strict=False)
    out = features.apply({"t": np.array(later, object)})["t"]
    assert np.isfinite(out).all()
    if by == "one_hot":
        assert out.shape == (len(later), features.output("t").width)
        assert set(np.unique(out.sum(axis=1))) <= {0.0, 1.0}
        known = set(train)
        for text, row in zip(later, out, strict=True):
            assert row.sum() == 1 or text not in known
