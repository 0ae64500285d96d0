"""Drift on real data: a model is trained, exported and watched; what callers send is test data as they are, then shifted."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from modelyard.exporter.worker.drift_statistics import write_statistics
from modelyard.exporter.worker.export import export_model
from modelyard.formats.bundle import Bundle, BundleCard, PictureInput, Source, TensorSpec, TestVectors, open_bundle, write_bundle
from modelyard.formats.dataset import TEST, DatasetReader
from modelyard.recipes.build_tabular import columns_of
from modelyard.recipes.catalogue import find_recipe
from modelyard.recipes.tabular import TabularHyperparameters
from modelyard.runtime.model import load_model
from modelyard.serving.domain.drift import DriftScore, Level
from modelyard.serving.worker.observing import Observer
from modelyard.trainer.worker.tabular import run_tabular_training, write_tabular_model
from tests.support.datasets import file_store, open_reader, publish_pictures, publish_table, read_csv

pytestmark = pytest.mark.data
Inputs = dict[str, np.ndarray]
Scores = dict[str, DriftScore]


def exported_table(folder: Path, csv: Path, target: str, task: str, recipe: str) -> tuple[Bundle, DatasetReader]:
    store = file_store(folder / "artifacts")
    columns = read_csv(csv)
    if task == "tabular_classification":
        columns[target] = [str(value) for value in columns[target]]
    reader = open_reader(store, publish_table(store, columns, target, task=task))
    wanted = replace(find_recipe(recipe, task), tabular=TabularHyperparameters(max_steps=60))
    result = run_tabular_training(reader, wanted, on_event=lambda *_: None)
    write_tabular_model(folder / "m.zip", result, wanted, reader.descriptor, {"version": "V001"})
    export_model(folder / "m.zip", reader, folder / "m.bundle", Source(), lambda _: None)
    write_statistics(folder / "m.bundle", reader)
    return open_bundle(folder / "m.bundle"), reader


def rows_of(bundle: Bundle, reader: DatasetReader) -> Inputs:
    """The test rows as callers would send them."""
    names = [column.name for column in bundle.card.columns]
    columns = columns_of(reader.table(TEST, columns=names), names)
    return {column.input: columns[column.name][:, None] for column in bundle.card.columns}


def watched(bundle: Bundle, inputs: Inputs, change: Callable[[Inputs], Inputs] = lambda rows: rows) -> Scores:
    """Scores after callers sent this, 8 examples at a time, to a model whose observer is never short of time."""
    statistics, model = bundle.statistics(), load_model(bundle)
    assert statistics is not None
    observer = Observer(bundle.card, statistics, clock=lambda: 0.0, cpu=lambda: 0.0)
    sent = change({name: values.copy() for name, values in inputs.items()})
    for start in range(0, len(next(iter(sent.values()))), 8):
        part = {name: values[start : start + 8] for name, values in sent.items()}
        observer.seen(part, model.run(part))
    scores = observer.scores()
    assert {each.key[1] for each in statistics.features} - {"image.pixels", "image.aspect"} == {each.feature for each in scores}
    return {each.feature: each for each in scores}


def alarms(scores: Scores) -> set[str]:
    return {each.feature for each in scores.values() if each.level in (Level.SOME, Level.STRONG)}


@pytest.fixture(scope="module")
def credit(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Inputs]:
    bundle, reader = exported_table(
        tmp_path_factory.mktemp("credit"), data_dir / "tabular" / "keel_german.csv", "target", "tabular_classification", "linear"
    )
    inputs = rows_of(bundle, reader)
    return bundle, {name: np.concatenate([values] * 3) for name, values in inputs.items()}


def column(bundle: Bundle, name: str) -> str:
    return next(each.input for each in bundle.card.columns if each.name == name)


def test_german_credit_as_it_is(credit: tuple[Bundle, Inputs]) -> None:
    assert alarms(watched(*credit)) == set()


def test_german_credit_with_a_shifted_column(credit: tuple[Bundle, Inputs]) -> None:
    """Amounts (f4) inflated by half."""
    bundle, inputs = credit
    name = column(bundle, "f4")
    scores = watched(bundle, inputs, lambda rows: rows | {name: rows[name] * 1.5})
    assert "f4" in alarms(scores)
    assert "% in training" in scores["f4"].note
    assert "f12" not in alarms(scores)


def test_german_credit_with_a_new_category(credit: tuple[Bundle, Inputs]) -> None:
    bundle, inputs = credit
    name = column(bundle, "f3")

    def change(rows: Inputs) -> Inputs:
        rows[name][::4] = "A499"
        return rows

    scores = watched(bundle, inputs, change)
    assert scores["f3"].level == Level.STRONG
    assert scores["f3"].note.startswith("f3 with values that were new or rare in training: ")
    assert alarms(scores) <= {"f3", "label", "probabilities.top", "probabilities.entropy"}


def test_german_credit_with_other_classes(credit: tuple[Bundle, Inputs]) -> None:
    """Only those come whom the model turns down: its answers show it, whatever the inputs do."""
    bundle, inputs = credit
    labels = load_model(bundle).run(inputs)["label"]
    rare = min(set(labels.tolist()), key=labels.tolist().count)
    few = {name: np.concatenate([values[labels == rare]] * 3) for name, values in inputs.items()}
    scores = watched(bundle, few)
    assert scores["label"].level == Level.STRONG


@pytest.fixture(scope="module")
def housing(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Inputs]:
    bundle, reader = exported_table(
        tmp_path_factory.mktemp("housing"),
        data_dir / "tabular" / "california_housing.csv",
        "median_house_value",
        "tabular_regression",
        "linear",
    )
    return bundle, rows_of(bundle, reader)


def test_california_as_it_is(housing: tuple[Bundle, Inputs]) -> None:
    assert alarms(watched(*housing)) == set()


def test_california_with_dearer_incomes(housing: tuple[Bundle, Inputs]) -> None:
    bundle, inputs = housing
    name = column(bundle, "median_income")
    scores = watched(bundle, inputs, lambda rows: rows | {name: rows[name] * 1.4})
    assert {"median_income", "prediction"} <= alarms(scores)
    assert scores["longitude"].level == Level.NONE


def test_california_from_the_north_alone(housing: tuple[Bundle, Inputs]) -> None:
    bundle, inputs = housing
    north = inputs[column(bundle, "latitude")][:, 0] > 37
    scores = watched(bundle, {name: values[north] for name, values in inputs.items()})
    assert {"latitude", "longitude", "ocean_proximity"} <= alarms(scores)
    assert scores["latitude"].level == Level.STRONG


# Pictures


@pytest.fixture(scope="module")
def fashion(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Inputs]:
    """Least squares on pixels: enough of a model, and no torch."""
    folder = tmp_path_factory.mktemp("fashion")
    images, labels = (_idx(data_dir / "fashion_mnist" / f"train-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    train, held_out = slice(0, 3000), slice(3000, 5000)
    usage = ["train"] * 3000 + ["test"] * 2000
    store = file_store(folder / "artifacts")
    names = [f"c{label}" for label in labels[:5000]]
    reader = open_reader(store, publish_pictures(store, images[:5000], names, usage=usage))
    bundle = folder / "m.bundle"
    _write_linear(bundle, images[train], labels[train])
    write_statistics(bundle, reader)
    return open_bundle(bundle), {"image": images[held_out][..., None]}


def _idx(path: Path) -> Any:
    data = gzip.decompress(path.read_bytes())
    shape = [int.from_bytes(data[4 + 4 * at : 8 + 4 * at], "big") for at in range(data[3])]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def _write_linear(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    pixels = np.c_[images.reshape(len(images), -1) / 255, np.ones(len(images))]
    weights = np.linalg.solve(pixels.T @ pixels + 20 * np.eye(785), pixels.T @ np.eye(10)[labels]) * 6
    constants = [
        helper.make_tensor("weights", TensorProto.FLOAT, [784, 10], (weights[:-1] / 255).astype(np.float32).ravel().tolist()),
        helper.make_tensor("bias", TensorProto.FLOAT, [10], weights[-1].astype(np.float32).tolist()),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    value = helper.make_tensor_value_info
    sides = (
        [value("image", TensorProto.UINT8, [None, 28, 28, 1])],
        [value("probabilities", TensorProto.FLOAT, [None, 10])],
    )
    graph = helper.make_graph(nodes, "linear", *sides, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    card = BundleCard(
        "image_classification",
        (TensorSpec("image", "UINT8", (-1, 28, 28, 1)),),
        (TensorSpec("probabilities", "FP32", (-1, 10)),),
        Source(),
        picture=PictureInput(28, 28, 1),
        classes=tuple(f"c{number}" for number in range(10)),
    )
    vectors = TestVectors({"image": np.zeros((1, 28, 28, 1), np.uint8)}, {"probabilities": np.full((1, 10), 0.1, np.float32)})
    write_bundle(path, card, model.SerializeToString(), vectors)


def test_fashion_as_it_is(fashion: tuple[Bundle, Inputs]) -> None:
    assert alarms(watched(*fashion)) == set()


def test_fashion_in_less_light(fashion: tuple[Bundle, Inputs]) -> None:
    bundle, inputs = fashion
    dim = {"image": (inputs["image"][:600] * 0.6).astype(np.uint8)}
    scores = watched(bundle, dim)
    assert scores["image.brightness"].level == Level.STRONG
    assert scores["image.brightness"].note.startswith("image.brightness up to 0.")


def test_fashion_out_of_focus(fashion: tuple[Bundle, Inputs]) -> None:
    bundle, inputs = fashion
    sharp = inputs["image"][:600].astype(np.float32)
    blurred = sum(np.roll(sharp, (dy, dx), (1, 2)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)) / 9
    scores = watched(bundle, {"image": blurred.astype(np.uint8)})
    assert scores["image.sharpness"].level == Level.STRONG
    assert scores["image.brightness"].level != Level.STRONG


def test_fashion_with_other_clothes(fashion: tuple[Bundle, Inputs]) -> None:
    """Mostly shoes: the prior shifts."""
    bundle, inputs = fashion
    labels = load_model(bundle).run(inputs)["label"]
    shoes = np.isin(labels, ["c5", "c7", "c9"])
    chosen = np.concatenate([np.flatnonzero(shoes)[:300], np.flatnonzero(~shoes)[:200]])
    scores = watched(bundle, {"image": inputs["image"][chosen]})
    assert scores["label"].level == Level.STRONG
