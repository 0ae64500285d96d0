"""The runtime: what goes in is checked and named, what comes out carries labels, and nothing outside the bundle is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.formats import bundle as bundles
from modelyard.formats.bundle import Bundle, BundleCard, ColumnInput, PictureInput, Source, TensorSpec, TestVectors
from modelyard.formats.pictures import encode_png
from modelyard.runtime.model import RunnableModel, load_model
from modelyard.runtime.onnx import providers
from modelyard.serving.handlers.proven_model import resident_bytes


def picture_graph() -> onnx.ModelProto:
    """Probabilities = softmax of the picture's mean in (red, green)."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Slice", ["mean", "zero", "two", "one"], ["first"]),
        helper.make_node("Softmax", ["first"], ["probabilities"], axis=1),
    ]
    constants = [
        numpy_helper.from_array(np.array([1, 2]), "axes"),
        *(numpy_helper.from_array(np.array([value]), name) for value, name in ((0, "zero"), (2, "two"), (1, "one"))),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 4, 4, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def write(path: Path, card: BundleCard, model: bytes, vectors: TestVectors) -> Bundle:
    bundles.write_bundle(path, card, model, vectors)
    return bundles.open_bundle(path)


def picture_bundle(path: Path, model: bytes | None = None) -> Bundle:
    card = BundleCard(
        task="image_classification",
        inputs=(TensorSpec("image", "UINT8", (-1, 4, 4, 3)),),
        outputs=(TensorSpec("probabilities", "FP32", (-1, 2)),),
        source=Source(),
        picture=PictureInput(4, 4, 3),
        classes=("red", "green"),
    )
    vectors = TestVectors({"image": np.zeros((1, 4, 4, 3), np.uint8)}, {"probabilities": np.full((1, 2), 0.5, np.float32)})
    return write(path, card, model or picture_graph().SerializeToString(), vectors)


def table_bundle(path: Path) -> Bundle:
    """prediction = age, and a text input that is read but not used."""
    nodes = [
        helper.make_node("LabelEncoder", ["sex"], ["n"], domain="ai.onnx.ml", keys_strings=["é"], values_floats=[1.0]),
        helper.make_node("Mul", ["n", "age"], ["prediction"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("age", TensorProto.FLOAT, ["N", 1]),
            helper.make_tensor_value_info("sex", TensorProto.STRING, ["N", 1]),
        ],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["N", 1])],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=10
    )
    card = BundleCard(
        task="tabular_regression",
        inputs=(TensorSpec("age", "FP32", (-1, 1)), TensorSpec("sex", "BYTES", (-1, 1))),
        outputs=(TensorSpec("prediction", "FP32", (-1, 1)),),
        source=Source(),
        columns=(ColumnInput("age", "age", "numeric"), ColumnInput("sex", "sex", "categorical")),
    )
    vectors = TestVectors(
        {"age": np.ones((1, 1), np.float32), "sex": np.array([["é"]], object)}, {"prediction": np.ones((1, 1), np.float32)}
    )
    return write(path, card, model.SerializeToString(), vectors)


@pytest.fixture
def pictures(tmp_path: Path) -> RunnableModel:
    return load_model(picture_bundle(tmp_path / "m.bundle"))


def filled(red: int, green: int, size: int = 4) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((size, size, 3), (red, green, 0), np.uint8)


def test_labels_follow_probabilities(pictures: RunnableModel) -> None:
    answers = pictures.run({"image": np.stack([filled(9, 0), filled(0, 9), filled(5, 5)])})
    assert answers["label"].tolist() == ["red", "green", "red"]
    assert answers["probabilities"].shape == (3, 2)


def test_picture_files_are_decoded(pictures: RunnableModel) -> None:
    files = np.array([encode_png(filled(9, 0)), encode_png(filled(0, 9, size=8))], dtype=object)
    pixels = np.stack([filled(9, 0), filled(0, 9)])
    from_files, from_pixels = pictures.run({"image": files}), pictures.run({"image": pixels})
    np.testing.assert_array_equal(from_files["probabilities"], from_pixels["probabilities"])


@pytest.mark.parametrize(
    ("inputs", "reason", "says"),
    [
        ({}, "MISSING_INPUT", "'image' is missing"),
        ({"picture": np.zeros((1, 4, 4, 3), np.uint8)}, "UNKNOWN_INPUT", "'picture' is unknown; the model takes 'image'"),
        ({"image": np.zeros((1, 4, 4, 3), np.float32)}, "WRONG_DATATYPE", "float32, it must be uint8"),
        ({"image": np.zeros((1, 4, 5, 3), np.uint8)}, "WRONG_SHAPE", r"\[1, 4, 5, 3\], it must be \[N, 4, 4, 3\]"),
        ({"image": np.zeros((4, 4, 3), np.uint8)}, "WRONG_SHAPE", "it must be"),
        ({"image": np.zeros((0, 4, 4, 3), np.uint8)}, "EMPTY_BATCH", "at least 1"),
        ({"image": np.array([b"no picture"], object)}, "NOT_A_PICTURE", r"image\[0\]"),
        ({"image": np.array([b""], object)}, "EMPTY_FILE", r"image\[0\]"),
        ({"image": np.array([7], object)}, "WRONG_DATATYPE", "int, it must be the bytes"),
        ({"image": np.array([[b"x"]], object)}, "WRONG_SHAPE", "one file per example"),
    ],
)
def test_wrong_picture_inputs_are_named(pictures: RunnableModel, inputs: dict[str, Any], reason: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says) as caught:
        pictures.run(inputs)
    assert caught.value.reason == reason


def test_text_may_be_str_or_bytes(tmp_path: Path) -> None:
    model = load_model(table_bundle(tmp_path / "m.bundle"))
    age = np.array([[3.0], [4.0]], np.float32)
    for text in (np.array([["é"], ["é"]], object), np.array([["é".encode()], ["é".encode()]], object), np.array([["é"], ["é"]])):
        assert model.run({"age": age, "sex": text})["prediction"].tolist() == [[3.0], [4.0]]
    assert "label" not in model.run({"age": age, "sex": text})


@pytest.mark.parametrize(
    ("changed", "reason", "says"),
    [
        ({"sex": np.array([[b"\xff"]], object)}, "NOT_UTF8", "not UTF-8"),
        ({"sex": np.array([[1.0]])}, "WRONG_DATATYPE", "must be text"),
        ({"sex": np.array([[None]], object)}, "WRONG_DATATYPE", "NoneType"),
        ({"age": np.ones((2, 1), np.float32)}, "WRONG_SHAPE", "different numbers of examples"),
        ({"age": np.ones((1,), np.float32)}, "WRONG_SHAPE", r"\[N, 1\]"),
    ],
)
def test_wrong_table_inputs_are_named(tmp_path: Path, changed: dict[str, Any], reason: str, says: str) -> None:
    model = load_model(table_bundle(tmp_path / "m.bundle"))
    right = {"age": np.ones((1, 1), np.float32), "sex": np.array([["x"]], object)}
    with pytest.raises(InvalidArgument, match=says) as caught:
        model.run(right | changed)
    assert caught.value.reason == reason


def test_weights_outside_the_file_are_refused(tmp_path: Path) -> None:
    graph = picture_graph()
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")
    with pytest.raises(InvalidArgument) as caught:
        load_model(picture_bundle(tmp_path / "m.bundle", graph.SerializeToString()))
    assert caught.value.reason == "EXTERNAL_DATA"


@pytest.mark.parametrize("data", [b"\xff" * 20, b"\x3a\xff\x01", b"not onnx at all", b"\x07"])
def test_what_is_not_protobuf_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InvalidArgument, match=r"model\.onnx") as caught:
        load_model(picture_bundle(tmp_path / "m.bundle", data))
    assert caught.value.reason == "INVALID_BUNDLE"


def test_graph_that_differs_from_the_card_is_refused(tmp_path: Path) -> None:
    graph = picture_graph()
    graph.graph.input[0].name = graph.graph.node[0].input[0] = "picture"
    with pytest.raises(InvalidArgument, match="its card says"):
        load_model(picture_bundle(tmp_path / "m.bundle", graph.SerializeToString()))


def test_threads_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="threads is 0"):
        load_model(picture_bundle(tmp_path / "m.bundle"), threads=0)


# Where it computes

CUDA_THERE = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("device", "available", "first"),
    [
        ("cpu", CUDA_THERE, "CPUExecutionProvider"),
        ("auto", CUDA_THERE, "CUDAExecutionProvider"),
        ("cuda", CUDA_THERE, "CUDAExecutionProvider"),
        ("auto", ["AzureExecutionProvider", "CPUExecutionProvider"], "CPUExecutionProvider"),
    ],
)
def test_the_device_chooses_the_provider(device: str, available: list[str], first: str) -> None:
    chosen = providers(device, available)
    names = [each if isinstance(each, str) else each[0] for each in chosen]
    assert names[0] == first
    assert names[-1] == "CPUExecutionProvider"


def test_a_gpu_computes_in_float32() -> None:
    first = providers("cuda", CUDA_THERE)[0]
    assert isinstance(first, tuple)
    assert first[1]["use_tf32"] == "0"


def test_a_gpu_that_is_not_there_is_refused_with_what_to_do() -> None:
    with pytest.raises(FailedPrecondition, match=r"MODELYARD_DEVICE.*onnxruntime-gpu.*set it to auto or cpu") as caught:
        providers("cuda", ["CPUExecutionProvider"])
    assert caught.value.reason == "DEVICE_NOT_AVAILABLE"


def test_a_device_that_is_none() -> None:
    with pytest.raises(InvalidArgument, match="device is 'tpu', it must be one of auto, cpu, cuda") as caught:
        providers("tpu", CUDA_THERE)
    assert caught.value.reason == "BAD_DEVICE"


class NoDriver:
    """An onnxruntime that was built with CUDA, on a machine without its driver: it says so and falls back."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __call__(self, model: bytes, options: Any, providers: list[Any], **named: Any) -> Any:
        return self._session(model, options, providers=["CPUExecutionProvider"], **named)


def test_auto_falls_back_where_the_gpu_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: CUDA_THERE)
    monkeypatch.setattr(onnxruntime, "InferenceSession", NoDriver(onnxruntime.InferenceSession))
    bundle = picture_bundle(tmp_path / "m.bundle")
    answers = load_model(bundle, device="auto").run({"image": np.zeros((1, 4, 4, 3), np.uint8)})
    np.testing.assert_allclose(answers["probabilities"], [[0.5, 0.5]])
    with pytest.raises(FailedPrecondition, match="could not be started") as caught:
        load_model(bundle, device="cuda")
    assert caught.value.reason == "DEVICE_NOT_AVAILABLE"


def test_a_model_that_is_none_is_refused_with_a_gpu_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: CUDA_THERE)
    monkeypatch.setattr(onnxruntime, "InferenceSession", NoDriver(onnxruntime.InferenceSession))
    graph = picture_graph()
    graph.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(InvalidArgument, match="onnxruntime cannot load") as caught:
        load_model(picture_bundle(tmp_path / "m.bundle", graph.SerializeToString()), device="auto")
    assert caught.value.reason == "INVALID_BUNDLE"


def wide_bundle(path: Path) -> Bundle:
    """Every example needs 2 MiB while it is computed."""
    nodes = [
        helper.make_node("Tile", ["x", "times"], ["wide"]),
        helper.make_node("Exp", ["wide"], ["larger"]),
        helper.make_node("ReduceMax", ["larger", "axis"], ["y"], keepdims=1),
    ]
    constants = [numpy_helper.from_array(np.array([1, 256]), "times"), numpy_helper.from_array(np.array([1]), "axis")]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name, size in (("x", 1024), ("y", 1))]
    graph = helper.make_graph(nodes, "wide", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    card = BundleCard("", (TensorSpec("x", "FP32", (-1, 1024)),), (TensorSpec("y", "FP32", (-1, 1)),), Source())
    vectors = TestVectors({"x": np.zeros((1, 1024), np.float32)}, {"y": np.ones((1, 1), np.float32)})
    return write(path, card, model.SerializeToString(), vectors)


def test_memory_of_a_call_beyond_the_usual_goes_back_to_the_system(tmp_path: Path) -> None:
    model = load_model(wide_bundle(tmp_path / "wide.zip"))
    one, many = ({"x": np.zeros((rows, 1024), np.float32)} for rows in (1, 64))
    model.run(one)
    before = resident_bytes()
    model.run(many)
    kept = resident_bytes() - before
    model.settle(4, one)
    settled = resident_bytes() - before
    model.run(many)
    after = resident_bytes() - before
    model.close()
    assert kept > 60 << 20, "else there is nothing to give back"
    assert max(settled, after) < 20 << 20
