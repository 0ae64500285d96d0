"""Small bundles to serve: made with onnx.helper, so that no training is needed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from modelyard.formats.bundle import (
    DATATYPES,
    BundleCard,
    ColumnInput,
    Parity,
    PictureInput,
    Source,
    TensorSpec,
    TestVectors,
    write_bundle,
)

Array = NDArray[Any]
ELEMENTS = {
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "UINT8": TensorProto.UINT8,
    "INT64": TensorProto.INT64,
    "BYTES": TensorProto.STRING,
    "BOOL": TensorProto.BOOL,
}
SOURCE = Source("projects/default/models/m/versions/V001", "projects/default/datasets/d/versions/V001", "ab" * 32, "cd" * 32)


def mlp_bundle(path: Path, *, features: int = 4, hidden: int = 16, classes: int = 3, seed: int = 0, layers: int = 1) -> Path:
    """`x` FP32 [N, features] -> `probabilities`; Gemm, Relu (`layers` times), Gemm, Softmax. The seed decides the weights."""
    chance = np.random.default_rng(seed)
    sizes = [features, *[hidden] * layers, classes]
    weights, nodes, value = [], [], "x"
    for index, (before, after) in enumerate(itertools.pairwise(sizes)):
        weights.append(_weight(f"w{index}", chance.normal(size=(before, after)) / np.sqrt(before)))
        weights.append(_weight(f"b{index}", chance.normal(size=after)))
        nodes.append(helper.make_node("Gemm", [value, f"w{index}", f"b{index}"], [f"g{index}"]))
        value = f"g{index}"
        if index < layers:
            nodes.append(helper.make_node("Relu", [value], [f"r{index}"]))
            value = f"r{index}"
    nodes.append(helper.make_node("Softmax", [value], ["probabilities"], axis=1))
    inputs = (TensorSpec("x", "FP32", (-1, features)),)
    outputs = (TensorSpec("probabilities", "FP32", (-1, classes)),)
    card = BundleCard(
        task="tabular_classification",
        inputs=inputs,
        outputs=outputs,
        source=SOURCE,
        classes=tuple(f"class {index}" for index in range(classes)),
        parity=Parity(8, 1e-7, 1.0, 1e-5, "onnxruntime"),
    )
    return _written(path, card, nodes, weights, {"x": chance.normal(size=(8, features)).astype(np.float32)})


def picture_bundle(path: Path, *, size: int = 8, seed: int = 0) -> Path:
    """`image` UINT8 [N, size, size, 3] -> `probabilities` of "dark", "red", "blue": from the mean of each channel."""
    weights = [
        _weight("scale", np.array(1 / 255)),
        _weight("w", np.array([[-4.0, 8.0, -4.0], [-4.0, -4.0, -4.0], [-4.0, -4.0, 8.0]])),
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["unit"]),
        helper.make_node("ReduceMean", ["unit", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    card = BundleCard(
        task="image_classification",
        inputs=(TensorSpec("image", "UINT8", (-1, size, size, 3)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, 3)),),
        source=SOURCE,
        picture=PictureInput(size, size, 3),
        classes=("dark", "red", "blue"),
        parity=Parity(8, 1e-7, 1.0, 1e-4, "onnxruntime"),
    )
    images = np.random.default_rng(seed).integers(0, 256, size=(8, size, size, 3)).astype(np.uint8)
    return _written(path, card, nodes, weights, {"image": images})


def text_bundle(path: Path) -> Path:
    """A table: `sex` BYTES [N, 1] and `age` FP32 [N, 1] -> `prediction` FP32 [N, 1]: the age, plus 100 for "male"."""
    weights = [
        numpy_helper.from_array(np.array(["male"], object), "male"),
        _weight("hundred", np.array(100.0)),
    ]
    nodes = [
        helper.make_node("Equal", ["sex", "male"], ["is_male"]),
        helper.make_node("Cast", ["is_male"], ["one"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["one", "hundred"], ["bonus"]),
        helper.make_node("Add", ["age", "bonus"], ["prediction"]),
    ]
    card = BundleCard(
        task="tabular_regression",
        inputs=(TensorSpec("sex", "BYTES", (-1, 1)), TensorSpec("age", "FP32", (-1, 1))),
        outputs=(TensorSpec("prediction", "FP32", (-1, 1)),),
        source=SOURCE,
        columns=(ColumnInput("sex", "sex", "categorical"), ColumnInput("age", "age", "numeric")),
        target_name="fare",
    )
    inputs = {"sex": np.array([["male"], ["female"]], object), "age": np.array([[1.5], [30]], np.float32)}
    return _written(path, card, nodes, weights, inputs)


def half_bundle(path: Path) -> Path:
    """`x` FP16 [N, 4] -> `prediction` FP16 [N, 4]: twice the input."""
    card = BundleCard(
        task="tabular_regression",
        inputs=(TensorSpec("x", "FP16", (-1, 4)),),
        outputs=(TensorSpec("prediction", "FP16", (-1, 4)),),
        source=SOURCE,
        precision="fp16",
        target_name="twice",
    )
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float16)
    return _written(path, card, [helper.make_node("Add", ["x", "x"], ["prediction"])], [], {"x": x})


def spoil_vectors(path: Path, source: Path) -> Path:
    """A copy of a bundle, sound as a file, whose expected outputs are not what its model answers."""
    from modelyard.formats.bundle import open_bundle

    bundle = open_bundle(source)
    vectors = bundle.test_vectors()
    wrong = {name: array + np.float32(0.25) for name, array in vectors.outputs.items()}
    write_bundle(path, bundle.card, bundle.model_bytes(), TestVectors(vectors.inputs, wrong))
    return path


def model_bytes(card: BundleCard, nodes: Sequence[Any], weights: Sequence[Any]) -> bytes:
    """The ONNX file of a graph with the card's inputs and outputs."""
    graph = helper.make_graph(nodes, "g", [_value(s) for s in card.inputs], [_value(s) for s in card.outputs], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _written(path: Path, card: BundleCard, nodes: list[Any], weights: list[Any], inputs: Mapping[str, Array]) -> Path:
    model = model_bytes(card, nodes, weights)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [spec.name for spec in card.outputs]
    answers = dict(zip(names, session.run(names, dict(inputs)), strict=True))
    write_bundle(path, card, model, TestVectors(dict(inputs), answers))
    return path


def _weight(name: str, values: Array) -> Any:
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def _value(spec: TensorSpec) -> Any:
    assert spec.datatype in DATATYPES
    shape = ["N" if size == -1 else size for size in spec.shape]
    return helper.make_tensor_value_info(spec.name, ELEMENTS[spec.datatype], shape)
