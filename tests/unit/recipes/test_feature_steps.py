"""Feature pipelines as data: what is right is completed, what is wrong is named by its place and what would be right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.formats.text_numbers import MOST_BUCKETS
from modelyard.recipes.features import FEATURE_FORMS, check_features
from modelyard.recipes.steps import MOST_STEPS, Step, said, step_document, steps_from, version_of
from tests.support.feature_tables import COLUMNS, EVERYTHING


def check(*steps: Step, rows: int = 0) -> tuple[Step, ...]:
    return check_features(steps, COLUMNS, rows=rows, target="survived")


def refused(*steps: Step, rows: int = 0) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        check(*steps, rows=rows)
    assert caught.value.reason == "INVALID_FEATURES"
    assert caught.value.violations
    return caught.value


def test_a_pipeline_of_every_step_is_completed() -> None:
    checked = check(*EVERYTHING)
    assert {step.do for step in checked} == set(FEATURE_FORMS) - {"drop", "keep"}
    assert checked[0].settings == {"by": "mean", "value": "", "indicator": True}
    assert check(*checked) == checked


def test_documents_and_back() -> None:
    checked = check(*EVERYTHING)
    documents = [step_document(step) for step in checked]
    assert documents[0] == {"columns": ["age"], "impute": {"by": "mean", "value": "", "indicator": True}}
    assert check_features(steps_from(documents, FEATURE_FORMS), COLUMNS, target="survived") == checked


def test_versions_differ_by_what_is_said_and_not_by_what_is_left_to_the_defaults() -> None:
    first = check(Step("impute", {}, ("age",)))
    assert version_of(first) == version_of(check(Step("impute", {"by": "auto"}, ("age",))))
    assert len({version_of(first), version_of(check(Step("impute", {"by": "mean"}, ("age",)))), version_of(())}) == 3
    assert version_of(()) == ""
    assert said(check(Step("impute", {"by": "mean"}, ("age",)))[0], FEATURE_FORMS) == "impute age (by mean)"


@pytest.mark.parametrize(
    ("steps", "field", "words"),
    [
        ([Step("imput", {}, ("age",))], "recipe.features[0]", "did you mean 'impute'?"),
        ([Step("impute", {"by": "mode"}, ("age",))], "recipe.features[0].impute.by", "one of auto, mean, median"),
        ([Step("impute", {"how": "mean"}, ("age",))], "recipe.features[0].impute", "names the setting 'how'"),
        ([Step("impute", {}, ("ages",))], "recipe.features[0].columns[0]", "did you mean 'age'?"),
        ([Step("impute", {})], "recipe.features[0].columns", "give either columns, or a kind"),
        ([Step("impute", {}, ("age",), "numeric")], "recipe.features[0].columns", "both columns and a kind"),
        ([Step("impute", {}, kind="words")], "recipe.features[0].kind", "must be numeric or categorical"),
        ([Step("impute", {}, ("age", "age"))], "recipe.features[0].columns", "names a column twice"),
        ([Step("scale", {}, ("deck",))], "recipe.features[0].columns[0]", "'deck', which holds text; scale is for numbers"),
        ([Step("encode", {}, ("age",))], "recipe.features[0].columns[0]", "'age', which holds numbers; encode is for text"),
        ([Step("date", {}, ("age",))], "recipe.features[0].columns[0]", "date is for text"),
        ([Step("impute", {"by": "mean"}, ("deck",))], "recipe.features[0].columns[0]", "most_frequent or constant is right"),
        ([Step("impute", {"by": "constant", "value": "x"}, ("age",))], "recipe.features[0].impute.value", "holds numbers"),
        ([Step("impute", {"by": "constant"}, ("age",))], "recipe.features[0].impute.value", "needs the value"),
        ([Step("impute", {"value": "3"}, ("age",))], "recipe.features[0].impute.value", "goes with by constant"),
        ([Step("keep", {}, ("alive",))], "recipe.features[0].columns[0]", "keep_leaking_columns"),
        ([Step("encode", {}, ("survived",))], "recipe.features[0].columns[0]", "which is the target"),
        ([Step("drop", {}, ("age",)), Step("scale", {}, ("age",))], "recipe.features[1].columns[0]", "dropped or replaced"),
        ([Step("scale", {"bins": 1, "by": "quantile"}, ("age",))], "recipe.features[0].scale.bins", "2 to 256"),
        ([Step("date", {"format": "%Q"}, ("when",))], "recipe.features[0].date.format", "strptime's directives"),
        ([Step("date", {"reference": "spring"}, ("when",))], "recipe.features[0].date.reference", "a date such as"),
        ([Step("date", {"parts": ["era"]}, ("when",))], "recipe.features[0].date.parts", "year, month"),
        ([Step("text", {"shortest": 3, "longest": 2}, ("note",))], "recipe.features[0].text.shortest", "above longest"),
        ([Step("impute", {}, ("note",)), Step("text", {}, ("note",))], "recipe.features[1].columns[0]", "as it came"),
        ([Step("interact", {}, ("age",))], "recipe.features[0].columns", "interact takes two"),
        ([Step("cross", {}, ("deck",))], "recipe.features[0].columns", "cross takes two"),
        ([Step("cross", {}, ("deck", "age"))], "recipe.features[0].columns[1]", "cross is for text"),
        (
            [Step("encode", {}, ("deck",)), Step("cross", {}, ("class", "deck"))],
            "recipe.features[1].columns[1]",
            "several numbers",
        ),
        ([Step("aggregate", {"group_by": "age"}, ("fare",))], "recipe.features[0].aggregate.group_by", "a column of text"),
        ([Step("aggregate", {}, ("fare",))], "recipe.features[0].aggregate.group_by", "1 to 500 characters"),
        ([Step("encode", {"order": ["A"]}, ("deck",))], "recipe.features[0].encode.order", "goes with by ordinal"),
        ([Step("interact", {}, ("age", "fare"))] * 2, "recipe.features[1]", "which is there already"),
        ([Step("drop", {}, kind="numeric"), Step("drop", {}, kind="categorical")], "recipe.features", "leaves no column"),
        ([Step("drop", {}, ("age",))] * (MOST_STEPS + 1), "recipe.features", "at most 100"),
    ],
)
def test_what_is_wrong_is_named(steps: list[Step], field: str, words: str) -> None:
    error = refused(*steps)
    assert error.violations[0].field == field
    assert words in error.message


def test_several_settings_are_named_at_once() -> None:
    error = refused(Step("text", {"buckets": 1, "shortest": 0}, ("note",)))
    assert [each.field for each in error.violations] == ["recipe.features[0].text.shortest", "recipe.features[0].text.buckets"]


def test_texts_too_wide_together_are_refused_before_anything_is_read() -> None:
    wide = {"buckets": MOST_BUCKETS}
    check(Step("text", wide, ("note",)))
    assert "at most 4096" in refused(Step("text", wide, ("note",)), Step("text", {"buckets": 2}, ("when",))).message


def test_a_column_without_any_value_wants_a_constant() -> None:
    columns = [replace(column, missing_count=9 if column.name == "age" else 0) for column in COLUMNS]
    with pytest.raises(InvalidArgument, match="no value in any row; drop it, or impute it by constant"):
        check_features([Step("impute", {"by": "mean"}, ("age",))], columns, rows=9)
    check_features([Step("impute", {"by": "constant", "value": "1"}, ("age",))], columns, rows=9)


def test_a_kind_is_what_no_step_of_the_sort_has_had() -> None:
    steps = [Step("scale", {"by": "log"}, ("fare",)), Step("scale", {}, kind="numeric")]
    from modelyard.recipes.features import namespace_of

    space = namespace_of(COLUMNS)
    checked = check(*steps)
    assert space.take(checked[0]) == ("fare",)
    assert space.take(checked[1]) == ("age",)


@pytest.mark.parametrize("value", ["1e400", "nan", "inf", "-1e39"])
def test_a_constant_that_float32_does_not_hold_is_refused(value: str) -> None:
    assert "holds numbers" in refused(Step("impute", {"by": "constant", "value": value}, ("age",))).message


def test_settings_of_another_type_are_refused() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [({"indicator": 1}, "true or false"), ({"by": 3}, "one of")]
    for settings, words in wrong:
        assert words in refused(Step("impute", settings, ("age",))).message
