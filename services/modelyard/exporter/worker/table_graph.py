"""Writes a trained tabular model as one ONNX graph: one input per column, encoding, trees, linear map or network, answer.

Every step is the float32 arithmetic of recipes.build_tabular. Split thresholds of the trees, which LightGBM keeps as float64, are
rounded down to float32: for a float32 x, x <= t holds exactly when x <= floor32(t), so a row takes the same way down every tree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from modelyard.core.errors import InvalidArgument
from modelyard.exporter.worker.feature_graph import FeatureNodes, Words, feature_nodes
from modelyard.exporter.worker.graph_nodes import INNER, ML, Graph
from modelyard.formats.bundle import ColumnInput, TensorSpec, TextNumbers
from modelyard.formats.dataset import CATEGORICAL, NUMERIC
from modelyard.recipes.build_tabular import (
    CLIP,
    CategoricalEncoding,
    GivenEncoding,
    LinearMap,
    NumericEncoding,
    TableModel,
    numeric_constants,
)

OPSET: Final = 18
ML_OPSET: Final = 5
IR_VERSION: Final = 10
PROBABILITIES: Final = "probabilities"
PREDICTION: Final = "prediction"
_RESERVED: Final = (PROBABILITIES, PREDICTION, "label", "")
_SUM: Final = 1
_NO_TRANSFORM: Final = 0


def column_inputs(columns: Sequence[tuple[str, str]]) -> tuple[ColumnInput, ...]:
    """The graph's inputs for columns given as (name, type): named as the column, but for names that the graph needs itself."""
    return tuple(ColumnInput(name, f"column:{name}" if _taken(name) else name, kind) for name, kind in columns)


def _taken(name: str) -> bool:
    return name in _RESERVED or name.startswith((INNER, "column:"))


def input_specs(inputs: Sequence[ColumnInput]) -> tuple[TensorSpec, ...]:
    """Tensors of those inputs: [N, 1], FP32 or BYTES."""
    return tuple(TensorSpec(each.input, "FP32" if each.type == NUMERIC else "BYTES", (-1, 1)) for each in inputs)


def output_spec(classes: int) -> TensorSpec:
    """`probabilities` [N, classes], or `prediction` [N, 1] when `classes` is 0."""
    return TensorSpec(PROBABILITIES, "FP32", (-1, classes)) if classes else TensorSpec(PREDICTION, "FP32", (-1, 1))


def table_graph(model: TableModel, inputs: Sequence[ColumnInput]) -> bytes:
    """The ONNX file of a trained tabular model."""
    return read_table_graph(model, inputs)[0]


def read_table_graph(model: TableModel, inputs: Sequence[ColumnInput]) -> tuple[bytes, tuple[TextNumbers, ...]]:
    """The same, and the inputs that come into it as numbers."""
    graph = Graph()
    names = {each.name: each.input for each in inputs}
    nodes = _nodes(graph, model, names)
    encoded = _encoding(graph, model, nodes)
    classes = len(model.classes)
    if model.trees:
        scores = _trees(graph, model.trees, encoded, classes)
    else:
        scores = _network(graph, model.layers or ((model.linear,) if model.linear is not None else ()), encoded)
    _answer(graph, scores, classes)
    read = tuple(nodes.texts_read)
    return _finish(graph, inputs, output_spec(classes), read), read


def _nodes(graph: Graph, model: TableModel, names: Mapping[str, str]) -> FeatureNodes:
    """The columns that are encoded, as tensors."""
    encoding = model.encoding
    if encoding.features is not None:
        return feature_nodes(graph, encoding.features, names)
    numbers = {column.name: names[column.name] for column in encoding.numeric}
    return FeatureNodes(graph, numbers, {column.name: Words(names[column.name]) for column in encoding.categorical})


def _finish(graph: Graph, inputs: Sequence[ColumnInput], output: TensorSpec, read: Sequence[TextNumbers]) -> bytes:
    used = {name for node in graph.nodes for name in node.input}
    only_read = {each.input for each in read} - used
    taken = [each for each in inputs if each.input not in only_read]
    types = {NUMERIC: TensorProto.FLOAT, CATEGORICAL: TensorProto.STRING}
    proto = helper.make_graph(
        graph.nodes,
        "table",
        [
            *(helper.make_tensor_value_info(each.input, types[each.type], ["N", 1]) for each in taken),
            *(helper.make_tensor_value_info(each.tensor, TensorProto.FLOAT, ["N", each.width]) for each in read),
        ],
        [helper.make_tensor_value_info(output.name, TensorProto.FLOAT, ["N", output.shape[1]])],
        graph.constants,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
    model = helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION, producer_name="modelyard")
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _encoding(graph: Graph, model: TableModel, nodes: FeatureNodes) -> str:
    encoding = model.encoding
    parts = _numeric(graph, encoding.numeric, nodes.numbers) if encoding.numeric else []
    parts += [_given(graph, each, nodes.numbers[each.name]) for each in encoding.given]
    parts += [_categorical(graph, column, nodes) for column in encoding.categorical]
    return parts[0] if len(parts) == 1 else graph.add("Concat", parts, axis=1)


def _numeric(graph: Graph, numeric: Sequence[NumericEncoding], names: Mapping[str, str]) -> list[str]:
    """The numeric columns as one tensor, and the missing indicators as another where there are any."""
    inputs = [names[column.name] for column in numeric]
    numbers = inputs[0] if len(inputs) == 1 else graph.add("Concat", inputs, axis=1)
    if numeric[0].fill is None:
        return [numbers]
    fill, center, scale = (graph.constant(values) for values in numeric_constants(numeric))
    missing = graph.add("IsNaN", [numbers])
    filled = graph.add("Where", [missing, fill, numbers])
    scaled = graph.add("Div", [graph.add("Sub", [filled, center]), scale])
    limits = [graph.constant(np.array(limit, np.float32)) for limit in (-CLIP, CLIP)]
    parts = [graph.add("Clip", [scaled, *limits])]
    indicated = [position for position, column in enumerate(numeric) if column.indicator]
    if indicated:
        flags = graph.add("Cast", [missing], to=TensorProto.FLOAT)
        parts.append(graph.add("Gather", [flags, graph.constant(np.array(indicated, np.int64))], axis=1))
    return parts


def _given(graph: Graph, column: GivenEncoding, numbers: str) -> str:
    if not column.fill:
        return numbers
    fill = graph.constant(np.array([column.fill], np.float32))
    return graph.add("Where", [graph.add("IsNaN", [numbers]), fill, numbers])


def _categorical(graph: Graph, column: CategoricalEncoding, nodes: FeatureNodes) -> str:
    position = nodes.position(nodes.words[column.name], column.categories)
    rows = graph.add("Gather", [graph.constant(column.rows), position], axis=0)
    return graph.add("Squeeze", [rows, graph.constant(np.array([1], np.int64))])


def _network(graph: Graph, layers: Sequence[LinearMap], encoded: str) -> str:
    """Linear maps with a ReLU between them; a linear model is the one of them."""
    for place, layer in enumerate(layers):
        entering = graph.add("Relu", [encoded]) if place else encoded
        encoded = graph.add("Gemm", [entering, graph.constant(layer.weight), graph.constant(layer.bias)], transB=1)
    return encoded


def _answer(graph: Graph, scores: str, classes: int) -> None:
    if classes == 0:
        graph.add("Identity", [scores], PREDICTION)
    elif classes == 2:
        second = graph.add("Sigmoid", [scores])
        first = graph.add("Sigmoid", [graph.add("Neg", [scores])])
        graph.add("Concat", [first, second], PROBABILITIES, axis=1)
    else:
        graph.add("Softmax", [scores], PROBABILITIES, axis=1)


# Trees


@dataclass
class Ensemble:
    """The arrays of the TreeEnsemble operator (https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html)."""

    roots: list[int] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    missing_true: list[int] = field(default_factory=list)
    true_ids: list[int] = field(default_factory=list)
    true_leafs: list[int] = field(default_factory=list)
    false_ids: list[int] = field(default_factory=list)
    false_leafs: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add_tree(self, structure: Mapping[str, Any], target: int) -> None:
        """Adds one tree of LightGBM's dump; its answers count for output `target`."""
        self.roots.append(len(self.features))
        if "leaf_value" in structure:  # a tree of one leaf: the operator wants a node, so both of its ways lead there
            self._add_constant(float(structure["leaf_value"]), target)
        else:
            self._add_node(structure, target)

    def _add_constant(self, value: float, target: int) -> None:
        leaf = self._add_leaf(value, target)
        self._open_node(0, 0.0, False)
        self._close(len(self.features) - 1, (leaf, 1), (leaf, 1))

    def _add_node(self, root: Mapping[str, Any], target: int) -> None:
        """Depth first with a stack of its own: deep trees do not exhaust Python's."""
        stack = [(root, self._open_split(root))]
        while stack:
            node, number = stack.pop()
            ways = []
            for side in ("left_child", "right_child"):
                child = node[side]
                if "leaf_value" in child:
                    ways.append((self._add_leaf(float(child["leaf_value"]), target), 1))
                else:
                    ways.append((self._open_split(child), 0))
                    stack.append((child, ways[-1][0]))
            self._close(number, ways[0], ways[1])

    def _open_split(self, node: Mapping[str, Any]) -> int:
        if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
            kinds = f"{node['decision_type']!r} with missing type {node['missing_type']!r}"
            raise InvalidArgument("UNSUPPORTED_TREE", f"the trees split by {kinds}; only '<=' on numbers can be exported")
        threshold = float(node["threshold"])
        # LightGBM takes a missing value as 0 at a split whose feature had no missing value in training.
        missing_left = node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0
        return self._open_node(int(node["split_feature"]), threshold, bool(missing_left))

    def _open_node(self, feature: int, threshold: float, missing_left: bool) -> int:
        self.features.append(feature)
        self.splits.append(threshold)
        self.missing_true.append(int(missing_left))
        for values in (self.true_ids, self.true_leafs, self.false_ids, self.false_leafs):
            values.append(0)
        return len(self.features) - 1

    def _close(self, number: int, true: tuple[int, int], false: tuple[int, int]) -> None:
        self.true_ids[number], self.true_leafs[number] = true
        self.false_ids[number], self.false_leafs[number] = false

    def _add_leaf(self, value: float, target: int) -> int:
        self.targets.append(target)
        self.weights.append(value)
        return len(self.weights) - 1


def floor32(values: Sequence[float]) -> NDArray[np.float32]:
    """The largest float32 that is not above each value."""
    exact = np.array(values, dtype=np.float64)
    limit = np.finfo(np.float32).max
    rounded = np.clip(exact, -limit, limit).astype(np.float32)
    with np.errstate(over="ignore"):
        below = np.nextafter(rounded, np.float32(-np.inf))
    down: NDArray[np.float32] = np.where(rounded > exact, below, rounded)
    return down


def read_trees(text: str, outputs: int) -> Ensemble:
    """The arrays of LightGBM's text model; tree i counts for output i modulo `outputs`."""
    import lightgbm

    ensemble = Ensemble()
    for number, tree in enumerate(lightgbm.Booster(model_str=text).dump_model()["tree_info"]):
        ensemble.add_tree(tree["tree_structure"], number % outputs)
    return ensemble


def _trees(graph: Graph, text: str, encoded: str, classes: int) -> str:
    outputs = classes if classes > 2 else 1
    trees = read_trees(text, outputs)
    splits = floor32(trees.splits)
    return graph.add(
        "TreeEnsemble",
        [encoded],
        domain=ML,
        aggregate_function=_SUM,
        post_transform=_NO_TRANSFORM,
        n_targets=outputs,
        tree_roots=trees.roots,
        nodes_featureids=trees.features,
        nodes_splits=numpy_helper.from_array(splits, "splits"),
        nodes_modes=numpy_helper.from_array(np.zeros(len(splits), np.uint8), "modes"),
        nodes_missing_value_tracks_true=trees.missing_true,
        nodes_truenodeids=trees.true_ids,
        nodes_trueleafs=trees.true_leafs,
        nodes_falsenodeids=trees.false_ids,
        nodes_falseleafs=trees.false_leafs,
        leaf_targetids=trees.targets,
        leaf_weights=numpy_helper.from_array(np.array(trees.weights, np.float32), "weights"),
    )
