"""What stands around an ONNX graph from elsewhere, so that it takes and gives what is served.

The graph's own nodes and weights stay; their names get a prefix, so that ours cannot meet them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from modelyard.core.errors import InvalidArgument
from modelyard.formats.bundle import TensorSpec

_PREFIX: Final = "given/"
_OURS: Final = "modelyard/"


def with_picture(data: bytes, image: TensorSpec, output: TensorSpec, scale: float, offset: float, layout: str) -> bytes:
    """The graph with the input `image` uint8 [N, H, W, C]: each value * scale + offset, in the graph's layout and datatype."""
    model = _prefixed(data)
    given = model.graph.input[0]
    kind = given.type.tensor_type.elem_type
    nodes = [helper.make_node("Cast", ["image"], [f"{_OURS}float"], to=TensorProto.FLOAT)]
    for operator, value in (("Mul", scale), ("Add", offset)):
        constant = f"{_OURS}{operator}/value"
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), constant))
        nodes.append(helper.make_node(operator, [nodes[-1].output[0], constant], [f"{_OURS}{operator}"]))
    if layout == "NCHW":
        nodes.append(helper.make_node("Transpose", [nodes[-1].output[0]], [f"{_OURS}transposed"], perm=[0, 3, 1, 2]))
    nodes.append(helper.make_node("Cast", [nodes[-1].output[0]], [given.name], to=kind))
    return _finished(model, nodes, [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *image.shape[1:]])], output)


def with_columns(data: bytes, columns: Sequence[TensorSpec], output: TensorSpec) -> bytes:
    """The graph with one input [N, 1] for each column, side by side as the vector that it takes."""
    model = _prefixed(data)
    given = model.graph.input[0]
    joined = f"{_OURS}joined"
    nodes = [helper.make_node("Concat", [each.name for each in columns], [joined], axis=1)]
    nodes.append(helper.make_node("Cast", [joined], [given.name], to=given.type.tensor_type.elem_type))
    inputs = [helper.make_tensor_value_info(each.name, TensorProto.FLOAT, ["N", 1]) for each in columns]
    return _finished(model, nodes, inputs, output)


def with_softmax(data: bytes) -> bytes:
    """A graph of ours with its answers turned into probabilities."""
    model = onnx.load_from_string(data)
    output = model.graph.output[0].name
    last = next(node for node in model.graph.node if output in node.output)
    last.output[:] = [f"{_OURS}scores" if name == output else name for name in last.output]
    model.graph.node.append(helper.make_node("Softmax", [f"{_OURS}scores"], [output], axis=1, name=f"{_OURS}softmax"))
    return _checked(model)


def _prefixed(data: bytes) -> onnx.ModelProto:
    model = onnx.load_from_string(data)
    constants = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    prefixed: onnx.ModelProto = compose.add_prefix(model, prefix=_PREFIX)
    return prefixed


def _finished(model: onnx.ModelProto, before: list[Any], inputs: list[Any], output: TensorSpec) -> bytes:
    """The graph with our nodes before it, the batch open, and its answer as float32 under the served name."""
    given = model.graph.output[0].name
    nodes = [*before, *model.graph.node, helper.make_node("Cast", [given], [output.name], to=TensorProto.FLOAT)]
    for number, node in enumerate(nodes):
        node.name = node.name or f"{_OURS}{number}"
    for side in (model.graph.node, model.graph.input, model.graph.output, model.graph.value_info):
        del side[:]
    model.graph.node.extend(nodes)
    model.graph.input.extend(inputs)
    model.graph.output.append(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, ["N", *output.shape[1:]]))
    return _checked(model)


def _checked(model: onnx.ModelProto) -> bytes:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        message = f"the ONNX file cannot be given the served inputs and outputs: {str(error)[:300]}"
        raise InvalidArgument("NOT_AN_ONNX_FILE", message, field="blob") from error
    data: bytes = model.SerializeToString(deterministic=True)
    return data
