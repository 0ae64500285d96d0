"""The same small picture model as a bundle of every format: "red" or "green", by which of the two channels is brighter."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from modelyard.formats.bundle import BundleCard, PictureInput, Source, TensorMap, TensorSpec, TestVectors, write_bundle
from modelyard.runtime.model import RUNTIMES
from tests.support.tflite_files import red_or_green

Array = NDArray[Any]
FORMS = (
    "onnx",
    "litert-fp32",
    "litert-int8",
    "litert-batch3",
    "litert-nchw",
    "edge",
    "savedmodel",
    "openvino",
    "torch_export",
    "torch_export-batch3",
)
UNIT = 1 / 255


def card(form: str) -> BundleCard:
    """The card of a form, its format being the part before the dash."""
    scaled = (TensorMap("image", "image", UNIT),)
    tensors = {
        "litert-fp32": scaled,
        "litert-int8": scaled,
        "litert-batch3": scaled,
        "litert-nchw": (TensorMap("image", "image", UNIT, layout="NCHW"),),
        "edge": scaled,
        "savedmodel": (TensorMap("image", "picture"), TensorMap("probabilities", "output_0")),
    }
    return BundleCard(
        task="image_classification",
        inputs=(TensorSpec("image", "UINT8", (-1, 4, 4, 3)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, 2)),),
        source=Source(),
        format=form.partition("-")[0],
        precision="int8" if form in ("litert-int8", "edge") else "fp32",
        picture=PictureInput(4, 4, 3),
        classes=("red", "green"),
        tensors=tensors.get(form, ()),
    )


def model_files(form: str) -> dict[str, bytes]:
    """The files of the model; of a SavedModel only where TensorFlow is."""
    made: dict[str, Any] = {
        "onnx": lambda: {"model.onnx": onnx_graph().SerializeToString()},
        "litert-fp32": lambda: {"model.tflite": red_or_green()},
        "litert-int8": lambda: {"model.tflite": red_or_green(quantized=True)},
        "litert-batch3": lambda: {"model.tflite": red_or_green(batch=3)},
        "litert-nchw": lambda: {"model.tflite": red_or_green(nchw=True)},
        "edge": lambda: {**dict.fromkeys(EDGE_EXTRAS, b"x"), "model.tflite": red_or_green(quantized=True)},
        "savedmodel": saved_model_files,
        "openvino": openvino_files,
        "torch_export": torch_export_files,
        "torch_export-batch3": lambda: torch_export_files(batch=3),
    }
    files: dict[str, bytes] = made[form]()
    return files


def needs_runtime(form: str) -> None:
    """Skips where a form's runtime is not installed. Imports nothing: TensorFlow has an order (runtime/tensorflow_import)."""
    package = RUNTIMES[card(form).format].package
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


EDGE_EXTRAS = ("model_data.h", "model_data.cc", "runner.py", "runner.cc", "README.txt")


def pictures(count: int = 8, seed: int = 0) -> Array:
    """Random pictures, uint8 [count, 4, 4, 3]."""
    return np.random.default_rng(seed).integers(0, 256, size=(count, 4, 4, 3)).astype(np.uint8)


def expected(images: Array) -> Array:
    """What the model says of them, float32 [N, 2]."""
    mean = images.astype(np.float64).mean(axis=(1, 2)) / 255
    red = 1 / (1 + np.exp(-16 * (mean[:, 0] - mean[:, 1])))
    answers: Array = np.stack([red, 1 - red], axis=1).astype(np.float32)
    return answers


def runtime_bundle(path: Path, form: str, files: dict[str, bytes] | None = None, **changes: Any) -> Path:
    """Writes the bundle of a form; `files` instead of its own, `changes` to its card."""
    images = pictures()
    vectors = TestVectors({"image": images}, {"probabilities": expected(images)})
    write_bundle(path, replace(card(form), **changes), files or model_files(form), vectors)
    return path


def onnx_graph() -> onnx.ModelProto:
    """The model with its scaling inside."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    weights = np.array([[8, -8], [-8, 8], [0, 0]], np.float32) * np.float32(UNIT)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 4, 4, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(np.array([1, 2]), "axes"), numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def openvino_files() -> dict[str, bytes]:
    """The same as OpenVINO IR."""
    import openvino

    model = openvino.Core().read_model(onnx_graph().SerializeToString())
    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(model, Path(folder, "model.xml"), compress_to_fp16=False)
        return {name: Path(folder, name).read_bytes() for name in ("model.xml", "model.bin")}


def torch_export_files(batch: int = 0) -> dict[str, bytes]:
    """The same as a torch.export program; `batch`: for that many examples at once, 0 for any number."""
    import io

    import torch

    from modelyard.exporter.worker.torch_records import without_pickles

    class RedOrGreen(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.nn.Parameter(torch.tensor([[8.0, -8], [-8, 8], [0, 0]]) * UNIT)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.softmax(image.float().mean(dim=(1, 2)) @ self.weights, dim=1)

    shapes = None if batch else {"image": {0: torch.export.Dim("N")}}
    example = torch.zeros((batch or 2, 4, 4, 3), dtype=torch.uint8)
    program = torch.export.export(RedOrGreen().requires_grad_(False), (example,), dynamic_shapes=shapes).run_decompositions({})
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return {"model.pt2": without_pickles(buffer.getvalue())}


def saved_model_files(function: Any = None) -> dict[str, bytes]:
    """The same as a SavedModel whose signature takes `picture` (uint8) and answers `output_0`; or another `function` of it."""
    from modelyard.runtime import savedmodel  # noqa: F401  # silences TensorFlow before it is imported
    from modelyard.runtime.tensorflow_import import tensorflow as tf

    module = tf.Module()
    module.weights = tf.Variable(np.array([[8, -8], [-8, 8], [0, 0]], np.float32) * np.float32(UNIT))

    def answer(picture: Any) -> Any:
        mean = tf.reduce_mean(tf.cast(picture, tf.float32), axis=[1, 2])
        return {"output_0": tf.nn.softmax(tf.matmul(mean, module.weights))}

    taken = tf.TensorSpec([None, 4, 4, 3], tf.uint8, name="picture")
    call = tf.function(function or answer, input_signature=[taken], autograph=False)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": call})
        found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    return {f"saved_model/{name}": data for name, data in found.items()}
