"""Exported bytes are run over a dataset version as they will be served, and scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.evaluator.domain.evaluation import EvaluationResult, EvaluationSpec
from modelyard.evaluator.worker import classification, scoring
from modelyard.evaluator.worker.tasks import scoring_of
from modelyard.formats.bundle import open_bundle
from tests.support import small_bundles as bundles
from tests.support.datasets import file_store, publish_pictures, publish_table

TABLE = "tabular_classification"


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return file_store(tmp_path / "artifacts", "evaluator")


def _spec(
    artifact: Blob,
    descriptor: Blob,
    task: str,
    usages: tuple[str, ...] = ("train", "validation", "test"),
    slice_columns: tuple[str, ...] = (),
) -> EvaluationSpec:
    version = "projects/p/datasets/d/versions/V001"
    return EvaluationSpec(
        "projects/p/exports/x", artifact, version, descriptor, "ab" * 32, task, usages, slice_columns=slice_columns
    )


def _evaluate(spec: EvaluationSpec, store: ArtifactStore, folder: Path, report: Any = lambda *_: None) -> EvaluationResult:
    result = scoring.evaluate(spec, store, folder, report)
    assert from_document(to_document(result), EvaluationResult) == result
    return result


def _rows(count: int) -> dict[str, Any]:
    """Every fifth row is labelled against its x; every seventh x is missing and counts as "no"."""
    x = [None if row % 7 == 0 else float(1 - 2 * (row % 2)) for row in range(count)]
    says = ["no" if value is None or value < 0 else "yes" for value in x]
    labels = [("yes" if said == "no" else "no") if row % 5 == 0 else said for row, said in enumerate(says)]
    return {"x": x, "word": [None if row % 3 else "ä" for row in range(count)], "y": labels}


def test_a_table_classifier_is_scored_by_usage(store: ArtifactStore, tmp_path: Path) -> None:
    usage = ["train" if row < 200 else "test" if row < 300 else "validation" for row in range(350)]
    descriptor = publish_table(store, _rows(350), "y", task=TABLE, usage=usage)
    artifact = store.put_file(bundles.table_classifier(tmp_path / "bundle.zip"))
    reports: list[tuple[str, int, int]] = []
    result = _evaluate(_spec(artifact, descriptor, TABLE), store, tmp_path, lambda *report: reports.append(report))
    test = result.usage("test")
    assert test is not None
    accuracy = test.score.metric("accuracy")
    assert accuracy is not None
    assert accuracy.value == pytest.approx(0.8)
    assert [entry.score.example_count for entry in result.results] == [200, 50, 100]
    assert result.artifact_sha256 == artifact.sha256
    assert reports[-1] == ("figures", 350, 350)
    assert [done for _, done, _ in reports] == sorted(done for _, done, _ in reports)


def test_predictions_are_kept_per_example(store: ArtifactStore, tmp_path: Path) -> None:
    rows = _rows(100)
    descriptor = publish_table(store, rows, "y", task=TABLE)
    artifact = store.put_file(bundles.table_classifier(tmp_path / "bundle.zip"))
    result = _evaluate(_spec(artifact, descriptor, TABLE, ("test",)), store, tmp_path)
    table = pq.read_table(store.path(result.predictions))
    assert table.column_names == ["example_id", "usage", "label", "prediction", "probability:no", "probability:yes"]
    assert table.num_rows == result.results[0].score.example_count
    right = np.mean(
        [label == said for label, said in zip(table["label"].to_pylist(), table["prediction"].to_pylist(), strict=True)]
    )
    accuracy = result.results[0].score.metric("accuracy")
    assert accuracy is not None
    assert right == pytest.approx(accuracy.value)
    assert result.predictions.uri.startswith("artifact://evaluator/")


def test_a_class_that_the_model_does_not_know_counts_as_wrong(store: ArtifactStore, tmp_path: Path) -> None:
    rows: dict[str, Any] = {"x": [1.0] * 40, "word": ["w"] * 40, "y": ["yes"] * 30 + ["perhaps"] * 10}
    descriptor = publish_table(store, rows, "y", task=TABLE, usage=["train", "test"] * 20)
    artifact = store.put_file(bundles.table_classifier(tmp_path / "bundle.zip"))
    score = _evaluate(_spec(artifact, descriptor, TABLE, ("test",)), store, tmp_path).results[0].score
    assert [entry.label for entry in score.classes] == ["no", "yes", "perhaps"]
    assert score.confusion[2] == (0, 5, 0)
    assert score.metrics[0].value == pytest.approx(0.75)


def test_a_regression_is_scored_against_the_mean(store: ArtifactStore, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(3, 1, 300)
    rows = {"x": x.tolist(), "y": (2 * x + 0.5).tolist()}
    descriptor = publish_table(store, rows, "y", task="tabular_regression")
    artifact = store.put_file(bundles.table_regression(tmp_path / "bundle.zip"))
    result = _evaluate(_spec(artifact, descriptor, "tabular_regression"), store, tmp_path)
    test = result.usage("test")
    assert test is not None
    values = {metric.name: metric.value for metric in test.score.metrics}
    assert values["mae"] == pytest.approx(0.5, abs=1e-5)
    assert values["rmse"] == pytest.approx(0.5, abs=1e-5)
    assert test.paired[0].p_value < 0.001
    assert pq.read_table(store.path(result.predictions)).column_names == ["example_id", "usage", "label", "prediction"]


def test_pictures_are_decoded_and_scored(store: ArtifactStore, tmp_path: Path) -> None:
    light = np.tile(np.array([230, 20], np.uint8), 150)
    pictures = np.broadcast_to(light[:, None, None], (300, 12, 12)).copy()
    descriptor = publish_pictures(store, pictures, ["bright", "dark"] * 150)
    artifact = store.put_file(bundles.brightness_classifier(tmp_path / "bundle.zip"))
    result = _evaluate(_spec(artifact, descriptor, "image_classification"), store, tmp_path)
    assert [entry.score.metrics[0].value for entry in result.results] == [1.0, 1.0, 1.0]
    assert [entry.score.example_count for entry in result.results] == [240, 30, 30]


def test_only_five_thousand_training_examples_are_scored(store: ArtifactStore, tmp_path: Path) -> None:
    rows = _rows(6100)
    usage = ["train"] * 6000 + ["test"] * 100
    descriptor = publish_table(store, rows, "y", task=TABLE, usage=usage)
    artifact = store.put_file(bundles.table_classifier(tmp_path / "bundle.zip"))
    first = _evaluate(_spec(artifact, descriptor, TABLE), store, tmp_path)
    assert {entry.score.usage: entry.score.example_count for entry in first.results} == {"train": 5000, "test": 100}
    assert _evaluate(_spec(artifact, descriptor, TABLE), store, tmp_path) == first


def test_a_missing_column_is_named(store: ArtifactStore, tmp_path: Path) -> None:
    descriptor = publish_table(store, {"z": [1.0] * 20, "y": ["no", "yes"] * 10}, "y", task=TABLE)
    artifact = store.put_file(bundles.table_classifier(tmp_path / "bundle.zip"))
    with pytest.raises(FailedPrecondition, match="no column x, word") as caught:
        _evaluate(_spec(artifact, descriptor, TABLE), store, tmp_path)
    assert caught.value.reason == "MISSING_COLUMNS"


def test_a_usage_without_examples_cannot_be_scored_alone(store: ArtifactStore, tmp_path: Path) -> None:
    descriptor = publish_table(store, _rows(40), "y", task=TABLE, usage=["train"] * 40)
    artifact = store.put_file(bundles.table_classifier(tmp_path / "bundle.zip"))
    with pytest.raises(FailedPrecondition) as caught:
        _evaluate(_spec(artifact, descriptor, TABLE, ("test",)), store, tmp_path)
    assert caught.value.reason == "NO_EXAMPLES"


def test_answers_that_are_not_finite_are_refused(store: ArtifactStore, tmp_path: Path) -> None:
    rows: dict[str, Any] = {"x": [float("3e38")] * 40, "y": [1.0] * 40}
    descriptor = publish_table(store, rows, "y", task="tabular_regression")
    artifact = store.put_file(bundles.table_regression(tmp_path / "bundle.zip", factor=1e38))
    with pytest.raises(FailedPrecondition) as caught:
        _evaluate(_spec(artifact, descriptor, "tabular_regression"), store, tmp_path)
    assert caught.value.reason == "NOT_FINITE"


def test_a_table_is_sliced_by_its_columns_and_the_rest_is_told(store: ArtifactStore, tmp_path: Path) -> None:
    usage = ["train" if row < 200 else "test" if row < 400 else "validation" for row in range(500)]
    rows = _rows(500) | {"site": ["north" if row % 10 < 5 else "south" for row in range(500)]}
    rows["y"] = [said if row % 5 or row % 10 >= 5 else "no" for row, said in enumerate(rows["y"])]
    descriptor = publish_table(store, rows, "y", task=TABLE, usage=usage)
    artifact = store.put_file(bundles.table_classifier(tmp_path / "bundle.zip"))
    result = _evaluate(_spec(artifact, descriptor, TABLE, slice_columns=("site", "x")), store, tmp_path)
    assert {entry.column for entry in result.slices} == {"site", "x"}
    accuracies = [entry.metrics[0].value for entry in result.slices]
    assert accuracies == sorted(accuracies)
    sites = {entry.value: entry for entry in result.slices if entry.column == "site"}
    assert sites["north"].example_count + sites["south"].example_count == 200
    assert {example.usage for example in result.worst_examples} == {"train", "validation", "test"}
    assert {example.usage for example in result.label_suspects} <= {"train", "validation", "test"}
    assert result.label_suspects[0].usage != "train"
    assert [gap.name for gap in result.train_gaps] == ["accuracy", "f1_macro", "log_loss"]
    assert 0 < result.suggested_threshold < 1


def test_worst_examples_are_named_by_their_ids(store: ArtifactStore, tmp_path: Path) -> None:
    descriptor = publish_table(store, _rows(100), "y", task=TABLE)
    artifact = store.put_file(bundles.table_classifier(tmp_path / "bundle.zip"))
    result = _evaluate(_spec(artifact, descriptor, TABLE, ("test",)), store, tmp_path)
    kept = {row["example_id"]: row for row in pq.read_table(store.path(result.predictions)).to_pylist()}
    for example in result.worst_examples:
        row = kept[example.example_id]
        assert (example.label, example.prediction) == (row["label"], row["prediction"])
        assert example.probability == pytest.approx(row[f"probability:{example.prediction}"])
    assert result.train_gaps == ()
    assert result.suggested_threshold == 0


def test_a_regression_has_worst_examples_and_slices_by_error(store: ArtifactStore, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(3, 1, 400)
    rows = {"x": x.tolist(), "y": (2 * x + np.where(x > 3, 2.0, 0.1)).tolist()}
    descriptor = publish_table(store, rows, "y", task="tabular_regression")
    artifact = store.put_file(bundles.table_regression(tmp_path / "bundle.zip"))
    result = _evaluate(_spec(artifact, descriptor, "tabular_regression", slice_columns=("x",)), store, tmp_path)
    rmse = [entry.metrics[0].value for entry in result.slices]
    assert rmse == sorted(rmse, reverse=True)
    assert rmse[0] == pytest.approx(2.0, abs=1e-3)
    assert result.worst_examples[0].loss == pytest.approx(2.0, abs=1e-3)
    assert result.label_suspects == ()


def test_pictures_are_sliced_by_size_and_nothing_else(store: ArtifactStore, tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (300, 12, 12), np.uint8)
    descriptor = publish_pictures(store, pictures, ["bright", "dark"] * 150)
    artifact = store.put_file(bundles.brightness_classifier(tmp_path / "bundle.zip"))
    result = _evaluate(_spec(artifact, descriptor, "image_classification", slice_columns=("width",)), store, tmp_path)
    assert [(entry.column, entry.value, entry.example_count) for entry in result.slices] == [("width", "12", 30)]
    with pytest.raises(InvalidArgument, match="width, height, bytes") as caught:
        _evaluate(_spec(artifact, descriptor, "image_classification", slice_columns=("camera",)), store, tmp_path)
    assert caught.value.reason == "UNKNOWN_SLICE_COLUMN"


def test_classes_are_matched_by_name_whatever_their_order(store: ArtifactStore, tmp_path: Path) -> None:
    descriptor = publish_table(store, _rows(300), "y", task=TABLE)
    orders = (("no", "yes"), ("yes", "no"))
    straight, turned = (store.put_file(bundles.table_classifier(tmp_path / f"{names[0]}.zip", names)) for names in orders)
    accuracy = [
        _evaluate(_spec(artifact, descriptor, TABLE), store, tmp_path).results[2].score.metrics[0].value
        for artifact in (straight, turned)
    ]
    assert sum(accuracy) == pytest.approx(1.0)  # the turned one says the opposite of every name
    assert abs(accuracy[0] - 0.5) > 0.1


def test_classes_of_which_none_is_the_same_are_refused(store: ArtifactStore, tmp_path: Path) -> None:
    descriptor = publish_table(store, _rows(100), "y", task=TABLE)
    artifact = store.put_file(bundles.table_classifier(tmp_path / "bundle.zip", ("0", "1")))
    with pytest.raises(FailedPrecondition, match=r"0, 1.*no, yes") as caught:
        _evaluate(_spec(artifact, descriptor, TABLE), store, tmp_path)
    assert caught.value.reason == "CLASSES_DIFFER"


@pytest.mark.parametrize(("outputs", "match"), [(np.zeros((3, 5)), "names 2 classes"), (np.full((3, 2), 7.5), "from 7.5 to 7.5")])
def test_answers_that_are_no_probabilities_are_refused(outputs: Any, match: str, tmp_path: Path) -> None:
    card = open_bundle(bundles.table_classifier(tmp_path / "bundle.zip")).card
    with pytest.raises(FailedPrecondition, match=match) as caught:
        classification.read(card, {"probabilities": outputs})
    assert caught.value.reason == "WRONG_OUTPUT"


def test_a_classifier_that_answers_something_else_is_named(tmp_path: Path) -> None:
    card = open_bundle(bundles.table_classifier(tmp_path / "bundle.zip")).card
    with pytest.raises(FailedPrecondition, match="answers score; a classifier answers probabilities"):
        classification.read(card, {"score": np.zeros((3, 2))})


def test_a_task_that_cannot_be_scored_is_named() -> None:
    with pytest.raises(FailedPrecondition, match="image_classification") as caught:
        scoring_of("dream_reading")
    assert caught.value.reason == "TASK_NOT_SCORED"


def test_a_bundle_cut_short_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    descriptor = publish_table(store, _rows(100), "y", task=TABLE)
    whole = bundles.table_classifier(tmp_path / "bundle.zip").read_bytes()
    with pytest.raises(InvalidArgument) as caught:
        _evaluate(_spec(store.put_bytes(whole[: len(whole) // 2]), descriptor, TABLE), store, tmp_path)
    assert caught.value.reason == "INVALID_BUNDLE"
