"""From model files to proven bundles and their latency, with real networks and real trees; no service."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.exporter.domain.targets import Target
from modelyard.exporter.worker.candidates import measure_candidates
from modelyard.exporter.worker.export import UNKNOWN, export_model
from modelyard.formats.bundle import Source, open_bundle
from modelyard.formats.dataset import DatasetReader
from modelyard.formats.model import ModelCard, Normalization, PictureInput, write_model
from modelyard.formats.pictures import encode_png
from modelyard.recipes.catalogue import find_recipe
from modelyard.recipes.tabular import TabularHyperparameters
from modelyard.runtime.latency import measure
from modelyard.runtime.model import load_model
from modelyard.trainer.worker.tabular import run_tabular_training, write_tabular_model
from tests.support.datasets import file_store, open_reader, publish_pictures, publish_table
from tests.support.tables import TARGETS, credit_table

SOURCE = Source("projects/p/models/m/versions/V001", "projects/p/datasets/d/versions/V001", "ab" * 32, "cd" * 32)
SIZE = PictureInput(16, 16, 1)
ONE_CORE = Target("cpu-1core", threads=1, local=True)


def ignore(*_: object) -> None:
    pass


@pytest.fixture
def pictures(tmp_path: Path) -> DatasetReader:
    rng = np.random.default_rng(0)
    store = file_store(tmp_path / "artifacts")
    images = rng.integers(0, 256, (60, 20, 20), dtype=np.uint8)
    return open_reader(store, publish_pictures(store, images, ["a", "b", "c"] * 20))


def table(tmp_path: Path, target: str = "good") -> DatasetReader:
    store = file_store(tmp_path / "artifacts")
    task = "tabular_regression" if target == "limit" else "tabular_classification"
    drop = [name for name in TARGETS if name != target]
    return open_reader(store, publish_table(store, credit_table(), target, task=task, drop=drop))


def picture_model(path: Path, classes: tuple[str, ...] = ("a", "b", "c")) -> Path:
    """A network with random weights that are not all alike, in a model file as the trainer writes it."""
    import torch

    from modelyard.recipes.build_image import build

    torch.manual_seed(0)
    module = build("modelyard:micronet", classes=len(classes), channels=1, height=16, width=16)
    for buffer in module.buffers():
        if buffer.is_floating_point():
            torch.nn.init.uniform_(buffer, 0.5, 1.5)
    card = ModelCard("torch", "image_classification", "modelyard:micronet", classes, SIZE, Normalization((0.4,), (0.3,)))
    write_model(path, card, {name: value.numpy() for name, value in module.state_dict().items()})
    return path


def table_model(path: Path, reader: DatasetReader, recipe: str) -> Path:
    wanted = replace(find_recipe(recipe, reader.descriptor.task), tabular=TabularHyperparameters(max_steps=30))
    result = run_tabular_training(reader, wanted, on_event=ignore)
    write_tabular_model(path, result, wanted, reader.descriptor, {"version": "V001"})
    return path


def test_pictures(tmp_path: Path, pictures: DatasetReader) -> None:
    path = tmp_path / "m.bundle"
    stages: list[str] = []
    card = export_model(picture_model(tmp_path / "m.zip"), pictures, path, SOURCE, stages.append)
    assert stages == ["graph", "parity"]
    assert card.parity is not None
    assert card.parity.max_abs_difference < 1e-5
    assert card.parity.label_agreement == 1.0
    assert card.parity.against == "torch"
    assert card.source == SOURCE
    assert card.classes == ("a", "b", "c")
    bundle = open_bundle(path)
    vectors = bundle.test_vectors()
    assert vectors.count >= 16
    model = load_model(bundle)
    answers = model.run(vectors.inputs)
    np.testing.assert_allclose(answers["probabilities"], vectors.outputs["probabilities"], atol=1e-6)
    np.testing.assert_allclose(answers["probabilities"].sum(axis=1), 1, atol=1e-5)
    files = np.array([encode_png(picture) for picture in vectors.inputs["image"][:3]], dtype=object)
    np.testing.assert_array_equal(model.run({"image": files})["label"], answers["label"][:3])


@pytest.mark.parametrize("recipe", ["lightgbm", "linear"])
@pytest.mark.parametrize("target", ["good", "level", "limit"])
def test_tables(tmp_path: Path, recipe: str, target: str) -> None:
    reader = table(tmp_path, target)
    path = tmp_path / "m.bundle"
    card = export_model(table_model(tmp_path / "m.zip", reader, recipe), reader, path, SOURCE, ignore)
    assert card.parity is not None
    assert card.parity.max_abs_difference <= card.parity.tolerance
    assert card.parity.label_agreement == 1.0
    assert [column.name for column in card.columns] == ["amount", "purpose", "town", "age"]
    assert [spec.datatype for spec in card.inputs] == ["FP32", "BYTES", "BYTES", "FP32"]
    assert card.target_name == target
    vectors = open_bundle(path).test_vectors()
    assert vectors.count >= 16
    assert np.isnan(vectors.inputs["age"]).any()
    assert {"", UNKNOWN} < set(vectors.inputs["town"].ravel().tolist())
    answers = load_model(open_bundle(path)).run(vectors.inputs)
    assert ("label" in answers) == (target != "limit")


def test_the_same_model_gives_the_same_bundle(tmp_path: Path) -> None:
    reader = table(tmp_path)
    model = table_model(tmp_path / "m.zip", reader, "lightgbm")
    for name in ("one", "two"):
        export_model(model, reader, tmp_path / name, SOURCE, ignore)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_model_of_another_dataset_is_refused(tmp_path: Path, pictures: DatasetReader) -> None:
    reader = table(tmp_path / "t")
    model = table_model(tmp_path / "m.zip", reader, "linear")
    with pytest.raises(FailedPrecondition) as caught:
        export_model(model, pictures, tmp_path / "m.bundle", SOURCE, ignore)
    assert caught.value.reason == "DATASET_MISMATCH"
    assert not (tmp_path / "m.bundle").exists()


def test_weights_of_another_network_are_refused(tmp_path: Path, pictures: DatasetReader) -> None:
    card = ModelCard("torch", "image_classification", "modelyard:micronet", ("a", "b", "c"), SIZE, Normalization((0.5,), (0.5,)))
    write_model(tmp_path / "m.zip", card, {"nothing": np.zeros(1, np.float32)})
    with pytest.raises(InvalidArgument, match="do not fit modelyard:micronet"):
        export_model(tmp_path / "m.zip", pictures, tmp_path / "m.bundle", SOURCE, ignore)


def test_latency_of_a_bundle(tmp_path: Path) -> None:
    reader = table(tmp_path)
    path = tmp_path / "m.bundle"
    export_model(table_model(tmp_path / "m.zip", reader, "linear"), reader, path, SOURCE, ignore)
    result = measure(path, "cpu-1core", seconds=0.3)
    assert 0 < result.p50_ms <= result.p95_ms <= result.p99_ms
    assert result.calls >= 20
    assert result.threads == 1
    assert result.hardware


def test_candidates_are_measured_before_training(tmp_path: Path, pictures: DatasetReader) -> None:
    known = replace(find_recipe("micronet"), input=SIZE)
    odd = replace(known, name="odd", architecture="timm:no_such_network")
    heard: list[int] = []
    results = measure_candidates(
        [known, odd], pictures, tmp_path, ONE_CORE, seconds=0.2, on_measured=lambda number, result: heard.append(number)
    )
    assert heard == [1, 2]
    assert results[0].latency is not None
    assert results[0].latency.p50_ms > 0
    assert results[0].size_bytes > 10_000
    assert results[0].error_message == results[0].unmeasured_reason == ""
    assert results[1].latency is None
    assert "no_such_network" in results[1].error_message
    assert not list(tmp_path.glob("*.bundle"))


def test_candidates_for_a_target_that_is_not_here_are_made_and_not_guessed(tmp_path: Path, pictures: DatasetReader) -> None:
    recipe = replace(find_recipe("micronet"), input=SIZE)
    camera = Target("camera", format="litert", precision="int8", flash_bytes=1 << 20)
    (made,) = measure_candidates([recipe], pictures, tmp_path, camera, seconds=0.2)
    assert made.latency is None
    assert "no agent" in made.unmeasured_reason
    assert 1000 < made.size_bytes < 100_000
    (small,) = measure_candidates([recipe], pictures, tmp_path, replace(camera, flash_bytes=500), seconds=0.2)
    assert (small.latency, small.unmeasured_reason) == (None, "")
    assert "the target has 500" in small.error_message


@pytest.mark.parametrize("target", ["level", "limit"])
def test_tabular_candidates(tmp_path: Path, target: str) -> None:
    reader = table(tmp_path, target)
    recipes = [find_recipe(name, reader.descriptor.task) for name in ("tabular-auto", "lightgbm", "linear")]
    results = measure_candidates(recipes, reader, tmp_path, Target("cpu", local=True), seconds=0.2)
    assert [result.error_message for result in results] == ["", "", ""]
    assert all(result.latency is not None for result in results)
    assert results[2].size_bytes < results[1].size_bytes
    assert [result.recipe_id for result in results] == ["tabular-auto", "lightgbm", "linear"]
    assert results[0].latency == results[1].latency, "the same graph is measured once"
