"""LiteRT: what is particular to .tflite files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
from ai_edge_litert.interpreter import Interpreter

from modelyard.core.errors import InvalidArgument
from modelyard.formats.bundle import BundleCard, Source, TensorMap, TensorSpec, TestVectors, open_bundle, write_bundle
from modelyard.runtime.litert import foreign_operators
from modelyard.runtime.model import RunnableModel, load_model
from tests.support.runtime_bundles import runtime_bundle
from tests.support.tflite_files import custom_operator, passing, red_or_green

MLPERF = (
    Path(os.environ.get("MODELYARD_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data") / "models" / "mlperf_tiny"
)


def raw_model(
    path: Path, model: bytes, taken: tuple[int, ...], given: tuple[int, ...], datatype: str = "FP32", scale: float = 1.0
) -> RunnableModel:
    """A model of one input `x` and one output `y`, as an imported file is brought."""
    card = BundleCard(
        task="tabular_regression",
        inputs=(TensorSpec("x", datatype, (-1, *taken)),),
        outputs=(TensorSpec("y", "FP32", (-1, *given)),),
        source=Source(),
        format="litert",
        tensors=(TensorMap("x", "", scale),),
        origin="imported",
    )
    zeros = np.zeros((1, *taken), np.uint8 if datatype == "UINT8" else np.float32)
    write_bundle(path, card, model, TestVectors({"x": zeros}, {"y": np.zeros((1, *given), np.float32)}))
    return load_model(open_bundle(path))


@pytest.mark.parametrize("name", ["FlexErf", "MyOp", "TFLite_Detection_PostProcess"])
def test_operators_of_others_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = runtime_bundle(tmp_path / "m", "litert-fp32", {"model.tflite": custom_operator(name)})
    with pytest.raises(InvalidArgument, match=name) as caught:
        load_model(open_bundle(path))
    assert caught.value.reason == "UNSUPPORTED_OPERATOR"
    assert foreign_operators(red_or_green()) == []


@pytest.mark.parametrize(("dtype", "zero_point"), [("int8", -128), ("int8", 5), ("uint8", 128), ("float32", 0)])
def test_what_goes_through_comes_back(tmp_path: Path, dtype: str, zero_point: int) -> None:
    """A graph that changes nothing: the answer is within half a step of the question."""
    step = 0.0 if dtype == "float32" else 0.02
    model = raw_model(tmp_path / "m", passing(dtype, (1, 5), step, zero_point), (5,), (5,))
    asked = np.linspace(-1, 1, 20, dtype=np.float32).reshape(4, 5)
    low, high = ((np.array([0, 255]) if dtype == "uint8" else np.array([-128, 127])) - zero_point) * 0.02
    wanted = asked if dtype == "float32" else np.clip(asked, low, high)
    np.testing.assert_allclose(model.run({"x": asked})["y"], wanted, atol=step / 2 + 1e-6)


def test_whole_numbers_go_in_as_they_are(tmp_path: Path) -> None:
    asked = np.array([[0, 7, 255]], np.uint8)
    assert raw_model(tmp_path / "a", passing("uint8", (1, 3), 0.0, 0), (3,), (3,), "UINT8").run({"x": asked})["y"].tolist() == [
        [0, 7, 255]
    ]
    with pytest.raises(InvalidArgument, match="its graph takes int8, which does not hold what it becomes"):
        raw_model(tmp_path / "b", passing("int8", (1, 3), 0.0, 0), (3,), (3,), "UINT8")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "taken", "given", "datatype", "scale"),
    [
        ("ad01_fp32", (640,), (640,), "FP32", 1.0),
        ("ad01_int8", (640,), (640,), "FP32", 1.0),
        ("kws_ref_model", (49, 10, 1), (12,), "FP32", 1.0),
        ("kws_ref_model_float32", (49, 10, 1), (12,), "FP32", 1.0),
        ("pretrainedResnet", (32, 32, 3), (10,), "UINT8", 1.0),
        ("pretrainedResnet_large_int8", (32, 32, 3), (10,), "UINT8", 1.0),
        ("pretrainedResnet_quant", (32, 32, 3), (10,), "UINT8", 1.0),
        ("str_ww_ref_model", (30, 1, 40), (3,), "FP32", 1.0),
        ("vww_96_float", (96, 96, 3), (2,), "UINT8", 1 / 255),
        ("vww_96_int8", (96, 96, 3), (2,), "UINT8", 1 / 255),
    ],
)
def test_models_of_mlperf_tiny(
    tmp_path: Path, name: str, taken: tuple[int, ...], given: tuple[int, ...], datatype: str, scale: float
) -> None:
    """As they are: each answers through the runtime what the interpreter answers when it is fed by hand."""
    file = MLPERF / f"{name}.tflite"
    if not file.exists():
        pytest.skip("the MLPerf Tiny models are not here (MODELYARD_DATA)")
    data = file.read_bytes()
    chance = np.random.default_rng(0)
    asked: Any = chance.normal(size=(3, *taken)).astype(np.float32) * 5
    if datatype == "UINT8":
        asked = chance.integers(0, 256, size=(3, *taken)).astype(np.uint8)
    model = raw_model(tmp_path / "m", data, taken, given, datatype, scale)
    found = model.run({"x": asked})["y"]
    assert found.shape == (3, *given)
    np.testing.assert_allclose(found, [by_hand(data, row * scale) for row in asked.astype(np.float32)], rtol=1e-5, atol=1e-5)


def by_hand(data: bytes, real: np.ndarray[Any, Any]) -> Any:
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    (scale, zero_point), (out_scale, out_zero) = taken["quantization"], given["quantization"]
    values = np.clip(np.round(real / scale) + zero_point, -128, 127) if scale else real
    interpreter.set_tensor(taken["index"], values[None].astype(taken["dtype"]))
    interpreter.invoke()
    answer = interpreter.get_tensor(given["index"])[0].astype(np.float32)
    return (answer - out_zero) * out_scale if out_scale else answer
