"""Exported bytes are run over a dataset version as they will be served, and scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import FailedPrecondition
from modelyard.evaluator.domain.evaluation import EvaluationResult, EvaluationSpec
from modelyard.evaluator.worker import scoring
from tests.support import small_bundles as bundles
from tests.support.datasets import file_store, publish_pictures, publish_table

TABLE = "tabular_classification"


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return file_store(tmp_path / "artifacts", "evaluator")


def _spec(
    artifact: Blob, descriptor: Blob, task: str, usages: tuple[str, ...] = ("train", "validation", "test")
) -> EvaluationSpec:
    return EvaluationSpec(
        "projects/p/exports/x", artifact, "projects/p/datasets/d/versions/V001", descriptor, "ab" * 32, task, usages
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
