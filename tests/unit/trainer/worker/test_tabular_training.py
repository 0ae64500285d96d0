"""Training on tables: what is learnt, what is chosen, when it ends, and what the model file keeps."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.formats.dataset import DatasetReader
from modelyard.formats.model import read_model
from modelyard.recipes.build_tabular import model_from
from modelyard.recipes.catalogue import find_recipe
from modelyard.recipes.recipe import Recipe
from modelyard.recipes.tabular import TabularHyperparameters
from modelyard.trainer.worker import tabular
from modelyard.trainer.worker.tabular import Candidate, choose, load_rows, run_tabular_training, score, write_tabular_model
from tests.support.datasets import file_store, open_reader, publish_table
from tests.support.tables import TARGETS, credit_table


def reader_of(folder: Path, target: str = "good", columns: dict[str, list[Any]] | None = None, **options: Any) -> DatasetReader:
    store = file_store(folder / "artifacts")
    task = "tabular_regression" if target == "limit" else "tabular_classification"
    drop = [name for name in TARGETS if name != target]
    return open_reader(store, publish_table(store, columns or credit_table(), target, task=task, drop=drop, **options))


def recipe_for(name: str, target: str = "good", **settings: Any) -> Recipe:
    found = find_recipe(name, "tabular_regression" if target == "limit" else "tabular_classification")
    return replace(found, tabular=TabularHyperparameters(**{"max_steps": 40, **settings}))


def ignore(event: dict[str, Any]) -> None:
    pass


@pytest.mark.parametrize("recipe", ["lightgbm", "linear"])
@pytest.mark.parametrize(
    ("target", "metric", "least"), [("good", "roc_auc", 0.8), ("level", "accuracy", 0.55), ("limit", "r2", 0.5)]
)
def test_learns_from_numbers_text_and_gaps(tmp_path: Path, recipe: str, target: str, metric: str, least: float) -> None:
    reader = reader_of(tmp_path, target)
    result = run_tabular_training(reader, recipe_for(recipe, target), on_event=ignore)
    assert result.reason == "COMPLETED"
    assert result.model.kind == recipe
    assert score(result.model, load_rows(reader, "test"))[metric] >= least


def test_auto_takes_the_better_family(tmp_path: Path) -> None:
    result = run_tabular_training(reader_of(tmp_path), recipe_for("tabular-auto"), on_event=ignore)
    assert {candidate.kind for candidate in result.tried} == {"lightgbm", "linear"}
    assert result.candidate.score == min(candidate.score for candidate in result.tried), "300 rows: the least loss decides"
    assert result.model.kind == result.candidate.kind


@pytest.mark.parametrize(
    ("linear", "rows", "taken"),
    [
        ((0.50, 0.30, 0.41), 1000, "lightgbm"),  # better by 0.03, give or take 0.06
        ((0.40, 0.36, 0.38), 1000, "linear"),  # better by 0.05, give or take 0.006
        ((0.50, 0.30, 0.41), 499, "linear"),  # few rows: the least loss
        ((0.60, 0.50, 0.50), 1000, "lightgbm"),
    ],
)
def test_within_the_error_trees_are_taken(linear: tuple[float, ...], rows: int, taken: str) -> None:
    trees = Candidate("lightgbm", {}, 10, 0.43, (0.45, 0.42, 0.42))
    tried = (trees, Candidate("linear", {}, 0, float(np.mean(linear)), linear))
    assert choose(tried, rows).kind == taken


def test_without_scores_the_first_is_taken() -> None:
    tried = (Candidate("lightgbm", {"n": 1}), Candidate("lightgbm", {"n": 2}), Candidate("linear", {}))
    assert choose(tried, 1000) == tried[0]


def test_the_same_seed_gives_the_same_model(tmp_path: Path) -> None:
    reader = reader_of(tmp_path)
    first, second = (run_tabular_training(reader, recipe_for("lightgbm"), on_event=ignore) for _ in range(2))
    assert first.model == second.model


def test_events_tell_of_rounds(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    result = run_tabular_training(reader_of(tmp_path), recipe_for("lightgbm"), on_event=events.append)
    selected = [event for event in events if event["stage"] == "select"]
    assert [event["done"] for event in selected] == [1, 2, 3]
    assert all(0 < event["score"] < 1 for event in selected)
    points = [event for event in events if event["stage"] == "train"]
    assert [point["step"] for point in points] == sorted({point["step"] for point in points})
    assert points[-1]["step"] == result.step
    assert points[-1]["metrics"]["log_loss"] == pytest.approx(result.metrics["log_loss"], rel=1e-6)
    assert points[-1]["eta_seconds"] == 0


def test_time_limit_keeps_the_model_of_that_moment(tmp_path: Path) -> None:
    now = itertools.count(0.0, 1.0)
    reader = reader_of(tmp_path)
    recipe = recipe_for("lightgbm", max_steps=100_000)
    result = run_tabular_training(reader, recipe, on_event=ignore, deadline=60.0, clock=lambda: next(now))
    assert result.reason == "TIME_LIMIT"
    assert 1 <= result.step < 100
    assert np.isfinite(result.model.predict(load_rows(reader, "test").columns)).all()


def test_stop_keeps_the_model_of_that_moment(tmp_path: Path) -> None:
    result = run_tabular_training(reader_of(tmp_path), recipe_for("lightgbm"), on_event=ignore, should_stop=lambda: True)
    assert result.reason == "STOPPED"
    assert result.step == 1


def test_larger_tables_stop_on_the_validation_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabular, "CV_ROWS", 100)
    recipe = recipe_for("lightgbm", max_steps=2000, early_stopping_patience=20)
    result = run_tabular_training(reader_of(tmp_path), recipe, on_event=ignore)
    assert result.reason == "EARLY_STOPPED"
    assert result.step < 1000


def test_goes_on_from_trees(tmp_path: Path) -> None:
    reader = reader_of(tmp_path)
    first = run_tabular_training(reader, recipe_for("lightgbm", max_steps=5), on_event=ignore)
    events: list[dict[str, Any]] = []
    second = run_tabular_training(reader, recipe_for("lightgbm", max_steps=7), on_event=events.append, start=first.model)
    assert events[0]["step"] == first.step + 1
    assert first.step < second.step <= first.step + 7


def test_refuses_trees_of_other_columns(tmp_path: Path) -> None:
    first = run_tabular_training(reader_of(tmp_path / "a"), recipe_for("lightgbm", max_steps=5), on_event=ignore)
    other = reader_of(tmp_path / "b", "level")
    with pytest.raises(InvalidArgument, match="other columns or classes"):
        run_tabular_training(other, recipe_for("lightgbm"), on_event=ignore, start=first.model)


def test_a_learning_rate_that_was_given_is_used(tmp_path: Path) -> None:
    result = run_tabular_training(reader_of(tmp_path), recipe_for("lightgbm", base_lr=0.2), on_event=ignore)
    assert result.candidate.settings["learning_rate"] == 0.2


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    columns = credit_table(50)
    columns["good"] = ["yes"] * 50
    with pytest.raises(InvalidArgument) as caught:
        run_tabular_training(reader_of(tmp_path, columns=columns), recipe_for("linear"), on_event=ignore)
    assert caught.value.reason == "ONE_CLASS"


def test_no_feature_is_refused(tmp_path: Path) -> None:
    columns = {"good": credit_table(50)["good"]}
    with pytest.raises(InvalidArgument) as caught:
        run_tabular_training(reader_of(tmp_path, columns=columns), recipe_for("linear"), on_event=ignore)
    assert caught.value.reason == "NO_FEATURES"


@pytest.mark.parametrize("recipe", ["lightgbm", "linear"])
def test_model_file_answers_as_the_trained_model(tmp_path: Path, recipe: str) -> None:
    reader = reader_of(tmp_path)
    wanted = recipe_for(recipe)
    result = run_tabular_training(reader, wanted, on_event=ignore)
    path = tmp_path / "model.zip"
    card = write_tabular_model(path, result, wanted, reader.descriptor, {"version": "V001", "digest": "ab"})
    back = model_from(read_model(path))
    columns = load_rows(reader, "test").columns
    np.testing.assert_array_equal(back.predict(columns), result.model.predict(columns))
    assert back.encoding == result.model.encoding
    assert [column["name"] for column in card.columns] == ["amount", "purpose", "town", "age"]
    assert card.target == "good"
    assert card.parameter_count > 0


def test_a_class_without_training_rows_is_never_answered(tmp_path: Path) -> None:
    columns = credit_table(60)
    usage = ["test" if level == "high" else "train" for level in columns["level"]]
    reader = reader_of(tmp_path, "level", columns, usage=usage)
    result = run_tabular_training(reader, recipe_for("linear", "level"), on_event=ignore)
    high = reader.descriptor.classes.index("high")
    assert result.model.predict(load_rows(reader, "train").columns)[:, high].max() < 0.01


@pytest.mark.parametrize(
    ("field", "value"), [("max_steps", 0), ("base_lr", 0.0), ("base_lr", 1.5), ("weight_decay", -1.0), ("seed", -1)]
)
def test_hyperparameters_out_of_range_are_named(field: str, value: float) -> None:
    with pytest.raises(InvalidArgument, match=field) as caught:
        TabularHyperparameters(**{field: value}).validate()  # type: ignore[arg-type]
    assert caught.value.violations[0].field == f"hyperparameters.{field}"


def test_every_row_is_held_out_once() -> None:
    numbers = tabular.fold_numbers(np.array([0] * 17 + [1] * 8), 5, seed=3, classes=2)
    assert set(numbers.tolist()) == set(range(5))
    minority = np.bincount(numbers[17:], minlength=5)
    assert minority.max() - minority.min() <= 1


def test_out_of_fold_means_do_not_see_the_row(tmp_path: Path) -> None:
    """A category that one row alone has must not carry that row's own target."""
    from modelyard.recipes.build_tabular import apply_out_of_fold, fit_encoding

    columns = {"id": np.array([f"only {number}" for number in range(40)], dtype=object)}
    target = np.arange(40.0)[:, None]
    folds = np.arange(40) % 5
    encoding = fit_encoding(columns, target, linear=False)
    inside, outside = encoding.apply(columns)[:, 0], apply_out_of_fold(encoding, columns, target, folds)[:, 0]
    assert np.corrcoef(inside, target[:, 0])[0, 1] > 0.99
    assert abs(np.corrcoef(outside, target[:, 0])[0, 1]) < 0.5


@pytest.mark.data
@pytest.mark.slow
def test_german_credit(tmp_path: Path, data_dir: Path) -> None:
    """AUC on held-out rows, three splits: 0.78 is the project's goal, one split of 100 test rows says too little."""
    from tests.support.datasets import read_csv

    columns = read_csv(data_dir / "tabular" / "keel_german.csv")
    found = []
    for seed in range(3):
        store = file_store(tmp_path / str(seed))
        reader = open_reader(store, publish_table(store, columns, "target", task="tabular_classification", seed=seed))
        result = run_tabular_training(reader, find_recipe("tabular-auto", "tabular_classification"), on_event=ignore)
        found.append(score(result.model, load_rows(reader, "test"))["roc_auc"])
    assert np.mean(found) > 0.76
