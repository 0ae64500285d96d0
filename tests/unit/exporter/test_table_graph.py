"""Tabular models as ONNX: the graph answers as the trained model on whatever comes, and keeps odd column names apart."""

from __future__ import annotations

import itertools
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import FailedPrecondition
from modelyard.exporter.worker import parity
from modelyard.exporter.worker.parity import graph_runner, prove, run_graph
from modelyard.exporter.worker.table_graph import column_inputs, floor32, table_graph
from modelyard.recipes.build_tabular import LinearMap, TableModel, columns_of, fit_encoding, target_matrix
from tests.support.tables import credit_table

NAMES = ("amount", "purpose", "town", "age")
TARGET = {0: "limit", 2: "good", 3: "level"}


def columns_and_target(classes: int, rows: int = 200) -> tuple[dict[str, Any], Any]:
    import pyarrow as pa

    table = credit_table(rows)
    columns = columns_of(pa.table({name: table[name] for name in NAMES}), NAMES)
    values = np.array(table[TARGET[classes]])
    return columns, np.unique(values, return_inverse=True)[1] if classes else values


def trained(kind: str, classes: int) -> tuple[TableModel, dict[str, Any]]:
    columns, y = columns_and_target(classes)
    encoding = fit_encoding(columns, target_matrix(y, classes), linear=kind == "linear")
    encoded = encoding.apply(columns)
    names = tuple(f"class {number}" for number in range(classes))
    if kind == "linear":
        rng = np.random.default_rng(0)
        outputs = classes if classes > 2 else 1
        weight = rng.normal(size=(outputs, encoded.shape[1])).astype(np.float32)
        return TableModel(encoding, names, linear=LinearMap(weight, rng.normal(size=outputs).astype(np.float32))), columns
    objective = {0: "regression", 2: "binary"}.get(classes, "multiclass")
    parameters = {"objective": objective, "verbosity": -1, "min_data_in_leaf": 3, "num_threads": 1}
    parameters |= {"num_class": classes} if classes > 2 else {}
    booster = lightgbm.train(parameters, lightgbm.Dataset(encoded, y), 30)
    return TableModel(encoding, names, trees=booster.model_to_string()), columns


def awkward_rows(columns: dict[str, Any]) -> dict[str, Any]:
    """Every combination of present, missing, unknown and extreme."""
    numbers = [np.nan, 0.0, -1.0, np.inf, -np.inf, 3e38, float(np.nanmedian(columns["amount"]))]
    words = ["", "car", "never seen", "école"]
    rows = list(itertools.product(numbers, words, ["", "town 3", "atlantis"], numbers))
    dtypes = (np.float32, object, object, np.float32)
    return {name: np.array([row[place] for row in rows], dtypes[place]) for place, name in enumerate(NAMES)}


def tensors(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: values[:, None] for name, values in columns.items()}


INPUTS = column_inputs([(name, "categorical" if name in ("purpose", "town") else "numeric") for name in NAMES])


@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("kind", ["lightgbm", "linear"])
def test_graph_answers_as_the_model(kind: str, classes: int) -> None:
    model, columns = trained(kind, classes)
    graph = table_graph(model, INPUTS)
    for rows in (columns, awkward_rows(columns)):
        expected = model.predict(rows)
        found = run_graph(graph, tensors(rows))
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(found, expected, atol=2e-6 * scale, rtol=1e-5)


def test_a_value_on_the_threshold_goes_the_same_way() -> None:
    """Thresholds of LightGBM lie between values; with neighbours in float32 the nearest float32 would be the upper one."""
    low = np.float32(1.0)
    high = np.nextafter(low, np.float32(2.0))
    x = np.array([low, high] * 50, np.float32)
    columns = {"x": x}
    encoding = fit_encoding(columns, x[:, None], linear=False)
    y = np.tile([0.0, 1.0], 50)
    parameters = {"objective": "regression", "verbosity": -1, "min_data_in_leaf": 1, "min_data_in_bin": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(encoding.apply(columns).astype(np.float64), y), 5)
    model = TableModel(encoding, (), trees=booster.model_to_string())
    found = run_graph(table_graph(model, column_inputs([("x", "numeric")])), {"x": x[:, None]})
    np.testing.assert_allclose(found, model.predict(columns), atol=1e-6)


def test_trees_without_a_split_can_be_exported() -> None:
    columns = {"x": np.arange(10, dtype=np.float32)}
    encoding = fit_encoding(columns, np.ones((10, 1)), linear=False)
    parameters = {"objective": "regression", "verbosity": -1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(encoding.apply(columns), np.full(10, 7.0)), 3)
    model = TableModel(encoding, (), trees=booster.model_to_string())
    found = run_graph(table_graph(model, column_inputs([("x", "numeric")])), {"x": columns["x"][:, None]})
    np.testing.assert_allclose(found, np.full((10, 1), 7.0))


def test_column_names_that_the_graph_needs_are_kept_apart() -> None:
    names = ["probabilities", "label", "prediction", "", "__m/constant0", "column:label", "naïve name (cm)"]
    inputs = column_inputs([(name, "numeric") for name in names])
    assert [each.name for each in inputs] == names
    assert len({each.input for each in inputs}) == len(names)
    assert inputs[-1].input == "naïve name (cm)"
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=20).astype(np.float32) for name in names}
    encoding = fit_encoding(columns, np.ones((20, 1)), linear=True)
    model = TableModel(encoding, (), linear=LinearMap(np.ones((1, 7), np.float32), np.zeros(1, np.float32)))
    found = run_graph(table_graph(model, inputs), {each.input: columns[each.name][:, None] for each in inputs})
    np.testing.assert_allclose(found, model.predict(columns), atol=1e-5)


def test_equal_models_give_equal_bytes() -> None:
    model, _ = trained("lightgbm", 2)
    assert table_graph(model, INPUTS) == table_graph(model, INPUTS)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_floor32_is_the_last_float32_not_above(values: list[float]) -> None:
    down = floor32(values)
    limit = float(np.finfo(np.float32).max)
    for value, lower in zip(values, down.tolist(), strict=True):
        if abs(value) < limit:
            assert lower <= value
            assert float(np.nextafter(np.float32(lower), np.float32(np.inf))) > value


def test_a_graph_that_answers_otherwise_is_refused() -> None:
    model, columns = trained("linear", 2)
    wrong = model.predict(columns) + 0.01
    with pytest.raises(FailedPrecondition, match="differ from those of the trained model") as caught:
        prove(graph_runner(table_graph(model, INPUTS)), tensors(columns), wrong, classes=2, against="linear")
    assert caught.value.reason == "PARITY_FAILED"


def test_an_answer_that_is_no_number_is_refused() -> None:
    model, columns = trained("linear", 0)
    expected = model.predict(columns)
    expected[3] = np.nan
    with pytest.raises(FailedPrecondition):
        prove(graph_runner(table_graph(model, INPUTS)), tensors(columns), expected, classes=0, against="linear")


def test_parity_is_stated() -> None:
    model, columns = trained("lightgbm", 3)
    stated, answers = prove(
        graph_runner(table_graph(model, INPUTS)), tensors(columns), model.predict(columns), classes=3, against="lightgbm"
    )
    assert stated.examples == 200
    assert 0 < stated.max_abs_difference < 1e-5
    assert stated.label_agreement == 1.0
    assert stated.tolerance == parity.PROBABILITY_TOLERANCE
    assert answers.shape == (200, 3)
