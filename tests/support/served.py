"""Asking a ServedModel in tests, and models that behave badly."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from modelyard.formats.bundle import BundleCard, Source, TensorSpec, TestVectors, write_bundle
from modelyard.serving.domain.tensors import NUMERIC, encode_raw, split_bytes
from modelyard.serving.ports import Answer, ServedModel, Tensor
from tests.support.bundles import model_bytes


def tensor(name: str, datatype: str, array: Any) -> Tensor:
    """An array as it travels."""
    raw = encode_raw(array) if datatype == "BYTES" else np.ascontiguousarray(array, NUMERIC[datatype]).tobytes()
    return Tensor(name, datatype, np.shape(array), raw)


def read(answer: Tensor) -> Any:
    """The array, or list of texts, of a tensor that came."""
    if answer.datatype == "BYTES":
        return [each.decode() for each in split_bytes(answer.name, bytes(answer.data), int(np.prod(answer.shape)))]
    return np.frombuffer(answer.data, NUMERIC[answer.datatype]).reshape(answer.shape)


async def ask(model: ServedModel, *inputs: Tensor, deadline: float | None = None) -> Answer:
    """What the model answers; raises what it raises."""
    ended: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def done(answer: Any) -> None:
        assert not ended.done(), "answered twice"
        if isinstance(answer, Exception):
            ended.set_exception(answer)
        else:
            ended.set_result(answer)

    model.submit(inputs, inputs[0].shape[0], deadline, done)
    return await asyncio.wait_for(ended, 60)


def rows(count: int, seed: int = 0) -> Any:
    """Inputs of the small MLP: float32 [count, 4]."""
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def greedy_bundle(path: Path) -> Path:
    """`x` FP32 [N, 1] -> `prediction` [N, 1], which is x; on the way it makes as many floats as the largest x says."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["count"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["count", "one"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["many"]),
        helper.make_node("ReduceSum", ["many"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["x", "nothing"], ["prediction"]),
    ]
    inputs = np.array([[1], [2], [3]], np.float32)
    return _written(path, nodes, [numpy_helper.from_array(np.array([1], np.int64), "one")], inputs, inputs)


def mixing_bundle(path: Path) -> Path:
    """`x` FP32 [N, 1] -> `prediction` [N, 1]: x less the mean of the whole batch, as a model that cannot be batched would."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Add", ["centred", "x"], ["prediction"]),
    ]
    inputs = np.array([[1]], np.float32)
    return _written(path, nodes, [], inputs, inputs)


def looking_up_bundle(path: Path) -> Path:
    """`x` INT64 [N, 1] -> `prediction` [N, 1]: the element of a table of three; beyond it onnxruntime raises."""
    nodes = [helper.make_node("Gather", ["table", "x"], ["prediction"])]
    table = numpy_helper.from_array(np.array([10, 20, 30], np.float32), "table")
    inputs = np.array([[0], [1], [2]], np.int64)
    return _written(path, nodes, [table], inputs, np.array([[10], [20], [30]], np.float32), "INT64")


def _written(path: Path, nodes: list[Any], weights: list[Any], inputs: Any, outputs: Any, datatype: str = "FP32") -> Path:
    card = BundleCard(
        task="tabular_regression",
        inputs=(TensorSpec("x", datatype, (-1, 1)),),
        outputs=(TensorSpec("prediction", "FP32", (-1, 1)),),
        source=Source(),
    )
    write_bundle(path, card, model_bytes(card, nodes, weights), TestVectors({"x": inputs}, {"prediction": outputs}))
    return path
