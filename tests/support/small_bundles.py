"""Small bundles whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from modelyard.formats.bundle import BundleCard, ColumnInput, PictureInput, Source, TensorSpec, TestVectors, write_bundle


def table_classifier(path: Path, classes: tuple[str, ...] = ("no", "yes")) -> Path:
    """Says "yes" with probability sigmoid(2 x), for a column "x" (missing: "no"); it ignores its text column "word"."""
    nodes = [
        helper.make_node("IsNaN", ["x"], ["gone"]),
        helper.make_node("Where", ["gone", "low", "x"], ["known"]),
        helper.make_node("Neg", ["known"], ["minus"]),
        helper.make_node("Concat", ["minus", "known"], ["logits"], axis=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    inputs = (TensorSpec("x", "FP32", (-1, 1)), TensorSpec("word", "BYTES", (-1, 1)))
    columns = (ColumnInput("x", "x", "numeric"), ColumnInput("word", "word", "categorical"))
    low = helper.make_tensor("low", TensorProto.FLOAT, [1], [-3.0])
    model = _model(nodes, [("x", TensorProto.FLOAT, [None, 1]), ("word", TensorProto.STRING, [None, 1])], 2, [low])
    vectors = TestVectors(
        {"x": np.zeros((1, 1), np.float32), "word": np.array([["w"]], object)},
        {"probabilities": np.full((1, 2), 0.5, np.float32)},
    )
    card = BundleCard("tabular_classification", inputs, (_probabilities(2),), Source(), classes=classes, columns=columns)
    write_bundle(path, card, model, vectors)
    return path


def table_regression(path: Path, factor: float = 2.0) -> Path:
    """Says `factor` times column "x"."""
    nodes = [helper.make_node("Mul", ["x", "factor"], ["prediction"])]
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])
    model = _model(nodes, [("x", TensorProto.FLOAT, [None, 1])], 1, [constant], "prediction")
    vectors = TestVectors({"x": np.ones((1, 1), np.float32)}, {"prediction": np.full((1, 1), factor, np.float32)})
    card = BundleCard(
        "tabular_regression",
        (TensorSpec("x", "FP32", (-1, 1)),),
        (TensorSpec("prediction", "FP32", (-1, 1)),),
        Source(),
        columns=(ColumnInput("x", "x", "numeric"),),
    )
    write_bundle(path, card, model, vectors)
    return path


def brightness_classifier(path: Path) -> Path:
    """Says "bright" with the mean brightness of a picture (8 by 8, grey, 0 to 255) as its probability."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("ReduceMean", ["flat", "axes"], ["mean"], keepdims=1),
        helper.make_node("Div", ["mean", "white"], ["bright"]),
        helper.make_node("Sub", ["one", "bright"], ["dark"]),
        helper.make_node("Concat", ["bright", "dark"], ["probabilities"], axis=1),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        helper.make_tensor("white", TensorProto.FLOAT, [1], [255.0]),
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
    ]
    model = _model(nodes, [("image", TensorProto.UINT8, [None, 8, 8, 1])], 2, constants)
    vectors = TestVectors({"image": np.zeros((1, 8, 8, 1), np.uint8)}, {"probabilities": np.array([[0, 1]], np.float32)})
    inputs = (TensorSpec("image", "UINT8", (-1, 8, 8, 1)),)
    card = BundleCard(
        "image_classification",
        inputs,
        (_probabilities(2),),
        Source(),
        picture=PictureInput(8, 8, 1),
        classes=("bright", "dark"),
    )
    write_bundle(path, card, model, vectors)
    return path


def _probabilities(classes: int) -> TensorSpec:
    return TensorSpec("probabilities", "FP32", (-1, classes))


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[tuple[str, int, list[int | None]]],
    width: int,
    constants: list[onnx.TensorProto],
    output: str = "probabilities",
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, width])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()
