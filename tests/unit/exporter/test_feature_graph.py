"""Feature pipelines as ONNX: the served model makes the very numbers of training, of real rows and of rows it never saw the like
of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.exporter.worker.feature_graph import feature_nodes
from modelyard.exporter.worker.graph_nodes import Graph
from modelyard.exporter.worker.parity import run_graph
from modelyard.exporter.worker.table_graph import column_inputs, input_specs, output_spec, read_table_graph
from modelyard.formats.bundle import BundleCard, Source, TestVectors, open_bundle, write_bundle
from modelyard.formats.dataset import CATEGORICAL, Column
from modelyard.recipes.build_tabular import LinearMap, TableModel, fit_encoding, target_matrix
from modelyard.recipes.features import check_features
from modelyard.recipes.features_fit import FittedFeatures, fit_features, settled_steps
from modelyard.recipes.steps import Step
from modelyard.runtime.model import load_model
from tests.support.feature_tables import COLUMNS, EVERYTHING, awkward, voyage

DATA = Path(os.environ.get("MODELYARD_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")
Columns = dict[str, Any]


def fitted(steps: Any, columns: Columns, table: Any = COLUMNS) -> FittedFeatures:
    return fit_features(settled_steps(check_features(steps, table), columns), table, columns)


def linear_model(features: FittedFeatures, columns: Columns) -> TableModel:
    """Whose answer is a sum over every number: one that differs shows."""
    rows = len(next(iter(columns.values())))
    encoding = fit_encoding(columns, target_matrix(np.arange(rows) % 2, 2), linear=True, features=features)
    width = encoding.apply({name: values[:1] for name, values in columns.items()}).shape[1]
    weight = np.random.default_rng(0).normal(size=(1, width)).astype(np.float32) / 8
    return TableModel(encoding, ("no", "yes"), linear=LinearMap(weight, np.zeros(1, np.float32)))


def served(model: TableModel, path: Path, rows: Columns) -> Any:
    """The bundle on disk, and what its runtime answers to raw columns."""
    features = model.encoding.features
    assert features is not None
    inputs = column_inputs(features.inputs)
    graph, texts = read_table_graph(model, inputs)
    tensors = {each.input: rows[each.name][:, None] for each in inputs}
    card = BundleCard(
        task="tabular_classification",
        inputs=input_specs(inputs),
        outputs=(output_spec(2),),
        source=Source(),
        classes=model.classes,
        columns=inputs,
        texts=texts,
    )
    some = {name: values[:4] for name, values in tensors.items()}
    write_bundle(path, card, graph, TestVectors(some, {"probabilities": np.full((4, 2), 0.5, np.float32)}))
    loaded = load_model(open_bundle(path))
    try:
        return loaded.run(tensors)["probabilities"]
    finally:
        loaded.close()


def test_every_step_gives_the_same_bits_in_a_graph() -> None:
    """Each output alone, so that the order of sums cannot hide or make a difference."""
    import onnx
    from onnx import TensorProto, helper

    columns = voyage()
    features = fitted(EVERYTHING, columns)
    graph = Graph()
    nodes = feature_nodes(graph, features, {name: name for name, _ in features.inputs})
    kinds = dict(features.inputs)
    read = {each.tensor: each for each in nodes.texts_read}
    used = {name for node in graph.nodes for name in node.input}
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.STRING if kind == CATEGORICAL else TensorProto.FLOAT, ["N", 1])
        for name, kind in kinds.items()
        if name in used
    ]
    inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", each.width]) for name, each in read.items()]
    rows = awkward(columns)
    given = {name: rows[name][:, None] for name in kinds if name in used}
    given |= {name: each.reading.numbers(rows[each.input]) for name, each in read.items()}
    expected = features.apply(rows)
    for output in features.outputs:
        if output.kind == CATEGORICAL:
            continue
        nodes_ = [*graph.nodes, helper.make_node("Identity", [nodes.numbers[output.name]], ["out"])]
        info = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", output.width])
        proto = helper.make_graph(nodes_, "one", inputs, [info], graph.constants)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 5)]
        model = helper.make_model(proto, opset_imports=opsets, ir_version=10)
        onnx.checker.check_model(model)
        found = run_graph(model.SerializeToString(), given)
        wanted = expected[output.name].reshape(len(found), -1)
        np.testing.assert_array_equal(found, wanted, err_msg=output.name)


def test_the_served_model_takes_raw_columns(tmp_path: Path) -> None:
    columns = voyage()
    model = linear_model(fitted(EVERYTHING, columns), columns)
    rows = awkward(columns)
    np.testing.assert_allclose(served(model, tmp_path / "m.bundle", rows), model.predict(rows), atol=2e-6)


def test_a_bundle_without_texts_is_written_as_it_always_was(tmp_path: Path) -> None:
    columns = voyage()
    model = linear_model(fitted([Step("scale", {}, ("age",)), Step("drop", {}, ("when",))], columns), columns)
    served(model, tmp_path / "m.bundle", columns)
    import zipfile

    with zipfile.ZipFile(tmp_path / "m.bundle") as file:
        assert b'"texts"' not in file.read("bundle.json")


def real_table(name: str) -> tuple[Columns, tuple[Column, ...]]:
    """A table of the real data, its types as the import would have them."""
    import pyarrow.csv

    from modelyard.dataset.domain.columns import type_column
    from modelyard.recipes.build_tabular import columns_of

    path = DATA / "tabular" / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    raw = pyarrow.csv.read_csv(path)
    typed = {each: type_column(each, raw[each]) for each in raw.column_names}
    kept = {each: column for each, column in typed.items() if column is not None}
    import pyarrow as pa

    table = pa.table({each: column.values for each, column in kept.items()})
    return columns_of(table, list(kept)), tuple(Column(each, column.type, "feature") for each, column in kept.items())


REAL = {
    "titanic.csv": [
        Step("drop", {}, ("alive", "survived")),
        Step("impute", {"by": "median", "indicator": True}, ("age",)),
        Step("aggregate", {"group_by": "class", "values": ["mean", "median"]}, ("fare",)),
        Step("interact", {"by": "difference"}, ("fare", "fare mean by class")),
        Step("scale", {"by": "log"}, ("fare",)),
        Step("encode", {"rare": 15}, ("deck",)),
        Step("text", {"by": "character", "shortest": 2, "longest": 3, "buckets": 64}, ("embark_town",)),
        Step("encode", {"by": "frequency"}, ("who",)),
        Step("scale", {"by": "robust"}, kind="numeric"),
    ],
    "diamonds.csv": [
        Step("drop", {}, ("price",)),
        Step("encode", {"by": "ordinal", "order": ["Fair", "Good", "Very Good", "Premium", "Ideal"]}, ("cut",)),
        Step("interact", {"by": "product"}, ("x", "y")),
        Step("interact", {"by": "ratio"}, ("carat", "z")),
        Step("scale", {"by": "quantile", "bins": 20}, ("carat",)),
        Step("scale", {"by": "min_max", "clip": True}, ("depth", "table")),
        Step("encode", {}, kind="categorical"),
    ],
}


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_real_tables_are_served_as_they_were_trained(tmp_path: Path, name: str) -> None:
    whole, table = real_table(name)
    train = {each: values[::2][:2000] for each, values in whole.items()}
    held_out = {each: values[1::2][:2000] for each, values in whole.items()}
    features = fitted(REAL[name], train, table)
    model = linear_model(features, train)
    gaps = {}
    for place, (each, values) in enumerate(held_out.items()):
        changed, numbers = values.copy(), np.arange(len(values)) + place
        changed[numbers % 4 == 0] = "" if values.dtype == object else np.nan
        changed[numbers % 9 == 0] = "never seen" if values.dtype == object else np.float32(1e9)
        gaps[each] = changed
    for number, rows in enumerate((held_out, gaps)):
        found = served(model, tmp_path / f"{number}.bundle", rows)
        np.testing.assert_allclose(found, model.predict(rows), atol=1e-5)


def test_trees_are_trained_exported_and_served_with_dates_texts_and_gaps(tmp_path: Path) -> None:
    """From a dataset version to a bundle through the worker's own functions; the parity is proven on rows with gaps."""
    from dataclasses import replace

    from modelyard.exporter.worker.export import export_model
    from modelyard.recipes.catalogue import find_recipe
    from modelyard.recipes.tabular import TabularHyperparameters
    from modelyard.trainer.worker.tabular import run_tabular_training, write_tabular_model
    from tests.support.datasets import file_store, open_reader, publish_table

    columns = voyage(240)
    plain: dict[str, Any] = {
        name: [None if value == "" or value != value else value for value in values.tolist()] for name, values in columns.items()
    }
    plain["survived"] = ["yes" if deck in ("A", "G") else "no" for deck in plain["deck"]]
    store = file_store(tmp_path / "artifacts")
    reader = open_reader(store, publish_table(store, plain, "survived", task="tabular_classification"))
    found = find_recipe("lightgbm", "tabular_classification")
    recipe = replace(found, tabular=TabularHyperparameters(max_steps=30), features=EVERYTHING)
    result = run_tabular_training(reader, recipe, on_event=lambda event: None)
    write_tabular_model(tmp_path / "model.zip", result, recipe, reader.descriptor, {})
    card = export_model(tmp_path / "model.zip", reader, tmp_path / "m.bundle", Source(), lambda stage: None)
    assert card.parity is not None
    assert card.parity.max_abs_difference < 1e-5
    assert [each.input for each in card.texts] == ["when", "note"]
    assert [column.name for column in card.columns] == ["age", "fare", "class", "deck", "when", "note"]
    rows = awkward(columns)
    loaded = load_model(open_bundle(tmp_path / "m.bundle"))
    answers = loaded.run({each.input: rows[each.name][:, None] for each in card.columns})["probabilities"]
    loaded.close()
    np.testing.assert_allclose(answers, result.model.predict(rows), atol=1e-5)
