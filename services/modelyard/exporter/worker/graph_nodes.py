"""An ONNX graph in the making, for what is written operator by operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

ML: Final = "ai.onnx.ml"
INNER: Final = "__m/"
"""What names of the graph's own begin with."""


@dataclass
class Graph:
    """A graph in the making: nodes and constants, with names of its own for what lies between."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, inputs: Sequence[str], output: str = "", *, domain: str = "", **attributes: Any) -> str:
        """Adds a node with one output; the output's name."""
        output = output or f"{INNER}{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], domain=domain, **attributes))
        return output

    def constant(self, value: NDArray[Any]) -> str:
        """Adds a constant; its name."""
        name = f"{INNER}constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name
