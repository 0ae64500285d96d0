"""Training with a feature pipeline: what is learned comes from training rows alone, and the model file answers as trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.core.errors import InvalidArgument, ResourceExhausted
from modelyard.formats.dataset import DatasetReader
from modelyard.formats.model import read_model
from modelyard.recipes.build_tabular import model_from
from modelyard.recipes.catalogue import find_recipe
from modelyard.recipes.features import check_features
from modelyard.recipes.recipe import Recipe
from modelyard.recipes.steps import Step
from modelyard.recipes.tabular import TabularHyperparameters
from modelyard.trainer.worker.tabular import TabularResult, check_room, load_rows, run_tabular_training, write_tabular_model
from tests.support.datasets import file_store, open_reader, publish_table, usages
from tests.support.feature_tables import COLUMNS
from tests.support.tables import TARGETS, credit_table

STEPS = (
    Step("impute", {"by": "mean", "indicator": True}, ("amount",)),
    Step("impute", {}, ("purpose",)),
    Step("aggregate", {"group_by": "purpose", "values": ["mean"]}, ("amount",)),
    Step("scale", {"by": "standard"}, ("age",)),
    Step("encode", {"by": "target"}, ("town",)),
    Step("encode", {}, ("purpose",)),
)


def reader_of(folder: Path, change: Any = None, usage: list[str] | None = None) -> DatasetReader:
    """The credit table; change(columns, usage) may spoil it before it is published."""
    columns = credit_table()
    usage = usage or usages([str(each) for each in columns["good"]])
    if change is not None:
        change(columns, usage)
    store = file_store(folder / "artifacts")
    drop = [name for name in TARGETS if name != "good"]
    return open_reader(store, publish_table(store, columns, "good", task="tabular_classification", usage=usage, drop=drop))


def recipe_for(name: str, steps: tuple[Step, ...] = STEPS, **settings: Any) -> Recipe:
    found = find_recipe(name, "tabular_classification")
    return replace(found, tabular=TabularHyperparameters(**{"max_steps": 30, **settings}), features=steps)


def trained(reader: DatasetReader, recipe: Recipe, **more: Any) -> TabularResult:
    return run_tabular_training(reader, recipe, on_event=lambda event: None, **more)


@pytest.mark.parametrize("name", ["lightgbm", "linear"])
def test_the_model_file_answers_as_the_trained_model(tmp_path: Path, name: str) -> None:
    reader, recipe = reader_of(tmp_path), recipe_for(name)
    result = trained(reader, recipe)
    path = tmp_path / "model.zip"
    card = write_tabular_model(path, result, recipe, reader.descriptor, {"version": "V001", "digest": "ab"})
    assert [dict(column) for column in card.columns] == [
        {"name": "amount", "type": "numeric"},
        {"name": "purpose", "type": "categorical"},
        {"name": "town", "type": "categorical"},
        {"name": "age", "type": "numeric"},
    ]
    assert card.recipe["features"][0]["impute"]["by"] == "mean"
    columns = load_rows(reader, "test").columns
    np.testing.assert_array_equal(model_from(read_model(path)).predict(columns), result.model.predict(columns))
    assert result.metrics["roc_auc"] > 0.7


def test_validation_and_test_rows_never_influence_what_is_learned(tmp_path: Path) -> None:
    """The same training rows with everything else moved far away: what the pipeline and the encoding learned stays the same."""

    def spoil(columns: dict[str, list[Any]], usage: list[str]) -> None:
        for row, each in enumerate(usage):
            if each != "train":
                columns["amount"][row] = 1e9
                columns["age"][row] = -1e9
                columns["purpose"][row] = "only outside of training"
                columns["town"][row] = "nowhere"

    recipe = recipe_for("linear", weight_decay=1.0)
    plain, moved = (trained(reader_of(tmp_path / str(at), change), recipe) for at, change in enumerate((None, spoil)))
    assert plain.model.encoding == moved.model.encoding
    np.testing.assert_array_equal(plain.model.linear.weight, moved.model.linear.weight)
    train = [each == "train" for each in usages([str(each) for each in credit_table()["good"]])]
    ages = np.array(credit_table()["age"], np.float32)[train]
    scale = next(op for op in plain.model.encoding.features.ops if type(op).__name__ == "Scale")
    assert scale.center == pytest.approx(float(ages.astype(np.float64).mean()), rel=1e-6)


def test_without_steps_nothing_is_added(tmp_path: Path) -> None:
    reader, recipe = reader_of(tmp_path), recipe_for("linear", ())
    result = trained(reader, recipe)
    card = write_tabular_model(tmp_path / "m.zip", result, recipe, reader.descriptor, {})
    assert result.model.encoding.features is None
    assert set(card.details) == {"settings", "rounds", "selection_loss"}
    assert {"fill", "center", "scale", "indicator", "name", "type"} == set(card.columns[0])
    assert "features" not in card.recipe


def test_a_column_without_values_in_training_ends_the_run(tmp_path: Path) -> None:
    def empty(columns: dict[str, list[Any]], usage: list[str]) -> None:
        columns["amount"] = [None if each == "train" else 3.0 for each in usage]

    with pytest.raises(InvalidArgument, match="'amount', which has no value in any training row") as caught:
        trained(reader_of(tmp_path, empty), recipe_for("linear"))
    assert caught.value.reason == "FEATURE_COLUMN_EMPTY"


def test_trees_go_on_with_the_same_features_only(tmp_path: Path) -> None:
    reader = reader_of(tmp_path)
    first = trained(reader, recipe_for("lightgbm", max_steps=5))
    again = trained(reader, recipe_for("lightgbm", max_steps=7), start=first.model)
    assert again.model.encoding == first.model.encoding
    assert again.step > first.step
    with pytest.raises(InvalidArgument, match="other features"):
        trained(reader, recipe_for("lightgbm", STEPS[:1]), start=first.model)
    with pytest.raises(InvalidArgument, match="other features"):
        trained(reader, recipe_for("lightgbm", ()), start=first.model)


def test_texts_that_memory_does_not_hold_are_refused_before_they_are_read() -> None:
    steps = check_features([Step("text", {"buckets": 4096}, ("note",))], COLUMNS)
    check_room(steps, 1000)
    with pytest.raises(ResourceExhausted, match="fewer buckets are right"):
        check_room(steps, 10**9)
