"""A fitted feature pipeline as nodes of an ONNX graph: the same float32 arithmetic as recipes.features_ops, step by step.

Text that is read as a date or hashed comes into the graph as numbers (formats.text_numbers): for that the graph has inputs of its
own, which the bundle's card ties to the served ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from onnx import TensorProto

from modelyard.exporter.worker.graph_nodes import ML, Graph
from modelyard.formats.bundle import TextNumbers
from modelyard.formats.dataset import CATEGORICAL
from modelyard.recipes.features_fit import FittedFeatures
from modelyard.recipes.features_ops import Bin, Cross, Fill, Interact, Log, LookUp, Op, Read, Scale

READ: Final = "__m/read"
_OPERATORS: Final = {"product": "Mul", "sum": "Add", "difference": "Sub"}


@dataclass(frozen=True)
class Words:
    """A text in a graph: its tensor [N, 1], and what a missing one counts as."""

    tensor: str
    missing: str = ""


@dataclass
class FeatureNodes:
    """The columns as tensors of the graph: numbers and blocks [N, width] by name, and texts. texts_read: inputs that come as
    numbers."""

    graph: Graph
    numbers: dict[str, str] = field(default_factory=dict)
    words: dict[str, Words] = field(default_factory=dict)
    texts_read: list[TextNumbers] = field(default_factory=list)
    _served: dict[str, str] = field(default_factory=dict)

    def position(self, words: Words, categories: tuple[str, ...]) -> str:
        """The place of a text among categories, int64 [N, 1]; their number where it is none of them."""
        keys, values, count = list(categories), list(range(len(categories))), len(categories)
        if words.missing and "" not in categories:
            keys, values = [*keys, ""], [*values, categories.index(words.missing) if words.missing in categories else count]
        elif words.missing:
            values[keys.index("")] = categories.index(words.missing) if words.missing in categories else count
        if not keys:  # the operator wants a key
            keys, values = [""], [count]
        return self.graph.add(
            "LabelEncoder", [words.tensor], domain=ML, keys_strings=keys, values_int64s=values, default_int64=count
        )

    def take(self, op: Op) -> None:
        """Adds the nodes of a step."""
        if isinstance(op, Fill):
            self._fill(op)
        elif isinstance(op, Scale):
            self._scale(op)
        elif isinstance(op, Log):
            self._log(op)
        elif isinstance(op, Bin):
            self._bin(op)
        elif isinstance(op, LookUp):
            self._look_up(op)
        elif isinstance(op, Interact):
            self._interact(op)
        elif isinstance(op, Cross):
            self._cross(op)
        else:
            self._read(op)

    def _fill(self, op: Fill) -> None:
        if op.number is None:
            words = self.words[op.name]
            if op.indicator:
                known = 0.0 if words.missing else 1.0
                self.numbers[op.indicator] = self.graph.add(
                    "LabelEncoder", [words.tensor], domain=ML, keys_strings=[""], values_floats=[known], default_float=0.0
                )
            self.words[op.name] = Words(words.tensor, words.missing or op.text)
            return
        values = self.numbers[op.name]
        missing = self.graph.add("IsNaN", [values])
        self.numbers[op.name] = self.graph.add("Where", [missing, self._constant(op.number), values])
        if op.indicator:
            self.numbers[op.indicator] = self.graph.add("Cast", [missing], to=TensorProto.FLOAT)

    def _scale(self, op: Scale) -> None:
        moved = self.graph.add("Sub", [self.numbers[op.name], self._constant(op.center)])
        scaled = self.graph.add("Div", [moved, self._constant(op.scale)])
        if op.clip:
            missing = self.graph.add("IsNaN", [scaled])
            held = self.graph.add("Clip", [scaled, self._constant(0.0), self._constant(1.0)])
            scaled = self.graph.add("Where", [missing, scaled, held])
        self.numbers[op.name] = scaled

    def _log(self, op: Log) -> None:
        graph = self.graph
        wide = graph.add("Cast", [self.numbers[op.name]], to=TensorProto.DOUBLE)
        size = graph.add("Log", [graph.add("Add", [graph.add("Abs", [wide]), graph.constant(np.array(1.0, np.float64))])])
        signed = graph.add("Mul", [graph.add("Sign", [wide]), size])
        self.numbers[op.name] = graph.add("Cast", [signed], to=TensorProto.FLOAT)

    def _bin(self, op: Bin) -> None:
        graph, values = self.graph, self.numbers[op.name]
        if not op.edges:  # every value is in the one bin
            below = graph.add("Mul", [values, self._constant(0.0)])
            self.numbers[op.name] = graph.add("Where", [graph.add("IsInf", [values]), self._constant(0.0), below])
            return
        edges = graph.constant(np.array([op.edges], np.float32))
        above = graph.add("Cast", [graph.add("Greater", [values, edges])], to=TensorProto.FLOAT)
        count = graph.add("ReduceSum", [above, graph.constant(np.array([1], np.int64))], keepdims=1)
        self.numbers[op.name] = graph.add("Where", [graph.add("IsNaN", [values]), values, count])

    def _look_up(self, op: LookUp) -> None:
        position = self.position(self.words[op.name], op.categories)
        rows = self.graph.add("Gather", [self.graph.constant(op.table), position], axis=0)
        found = self.graph.add("Squeeze", [rows, self.graph.constant(np.array([1], np.int64))])
        if op.block:
            self.numbers[op.out[0]] = found
            self.words.pop(op.out[0], None)
            return
        for at, name in enumerate(op.out):
            self.numbers[name] = self._column(found, at)

    def _interact(self, op: Interact) -> None:
        graph, first, second = self.graph, self.numbers[op.first], self.numbers[op.second]
        if op.by != "ratio":
            self.numbers[op.out] = graph.add(_OPERATORS[op.by], [first, second])
            return
        zero = graph.add("Equal", [second, self._constant(0.0)])
        self.numbers[op.out] = graph.add("Where", [zero, self._constant(float("nan")), graph.add("Div", [first, second])])

    def _cross(self, op: Cross) -> None:
        graph = self.graph
        first, second = (
            self.position(self.words[name], categories) for name, categories in ((op.first, op.firsts), (op.second, op.seconds))
        )
        across = graph.constant(np.array(op.cells.shape[1], np.int64))
        cell = graph.add("Add", [graph.add("Mul", [first, across]), second])
        place = graph.add("Gather", [graph.constant(op.cells.ravel()), cell], axis=0)
        rows = graph.add("Gather", [graph.constant(op.table), place], axis=0)
        self.numbers[op.out] = graph.add("Squeeze", [rows, graph.constant(np.array([1], np.int64))])

    def _read(self, op: Read) -> None:
        width = len(op.reading.names)
        tensor = f"{READ}{len(self.texts_read)}"
        self.texts_read.append(TextNumbers(self._served[op.name], tensor, op.date, op.hashed))
        if op.hashed is not None:
            self.numbers[op.out[0]] = tensor
            return
        for at in range(width):
            self.numbers[op.out[at]] = self._column(tensor, at)

    def _column(self, matrix: str, at: int) -> str:
        return self.graph.add("Gather", [matrix, self.graph.constant(np.array([at], np.int64))], axis=1)

    def _constant(self, value: float) -> str:
        return self.graph.constant(np.array(value, np.float32))


def feature_nodes(graph: Graph, features: FittedFeatures, names: Mapping[str, str]) -> FeatureNodes:
    """Adds the nodes of a pipeline; names: the graph's input of each column."""
    nodes = FeatureNodes(graph, _served=dict(names))
    for name, kind in features.inputs:
        if kind == CATEGORICAL:
            nodes.words[name] = Words(names[name])
        else:
            nodes.numbers[name] = names[name]
    for op in features.ops:
        nodes.take(op)
    return nodes
