"""Every format is scored through the runtime that serves it; an imported model too, whatever the order of its classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from modelyard.core.artifacts import ArtifactStore
from modelyard.evaluator.domain.evaluation import EvaluationResult, EvaluationSpec
from modelyard.evaluator.worker import scoring
from tests.support.datasets import file_store, publish_pictures
from tests.support.runtime_bundles import FORMS, expected, needs_runtime, pictures, runtime_bundle

COUNT = 200


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return file_store(tmp_path / "artifacts", "evaluator")


def _evaluate(store: ArtifactStore, bundle: Path, classes: tuple[str, ...]) -> EvaluationResult:
    """On pictures labelled as they are brighter, a tenth of them wrongly; `classes` names red and green in the data."""
    images = pictures(COUNT)
    said = expected(images).argmax(axis=1)
    wrong = np.arange(COUNT) % 10 == np.arange(COUNT) // 10 % 10
    said[wrong] = 1 - said[wrong]
    usage = ["validation", *["test"] * 3, "train"] * (COUNT // 5)
    descriptor = publish_pictures(store, images, [classes[index] for index in said], usage=usage)
    names = ("train", "validation", "test")
    spec = EvaluationSpec("x", store.put_file(bundle), "v", descriptor, "ab" * 32, "image_classification", names)
    return scoring.evaluate(spec, store, bundle.parent, lambda *_: None)


@pytest.mark.parametrize("form", FORMS)
def test_every_format_is_scored(form: str, store: ArtifactStore, tmp_path: Path) -> None:
    needs_runtime(form)
    result = _evaluate(store, runtime_bundle(tmp_path / "m.bundle", form), ("red", "green"))
    test = result.usage("test")
    assert test is not None
    accuracy = test.score.metric("accuracy")
    assert accuracy is not None
    assert accuracy.value == pytest.approx(0.9, abs=0.05)
    assert result.label_suspects
    assert pq.read_table(store.path(result.predictions)).num_rows == COUNT


def test_an_imported_model_may_know_the_classes_in_another_order(store: ArtifactStore, tmp_path: Path) -> None:
    """The data's classes are sorted: green, red; the model's are red, green."""
    bundle = runtime_bundle(tmp_path / "m.bundle", "litert-int8", origin="imported", licence="Apache-2.0")
    result = _evaluate(store, bundle, ("red", "green"))
    table = pq.read_table(store.path(result.predictions))
    assert table.column_names[-2:] == ["probability:red", "probability:green"]
    right = np.mean([a == b for a, b in zip(table["label"].to_pylist(), table["prediction"].to_pylist(), strict=True)])
    assert right == pytest.approx(0.9, abs=0.05)
    assert [entry.label for entry in result.results[0].score.classes] == ["red", "green"]
