"""Forms, calibration draws, ranges and scales: the rules of the integer formats."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.exporter.domain.form import EDGE, FP32, ONNX, PRECISIONS_OF, Form, check_form
from modelyard.exporter.worker import to_onnx
from modelyard.exporter.worker.calibration import drawn_rows, ids_text
from modelyard.exporter.worker.convert import Prepared, check_installed, convert, prepare
from modelyard.exporter.worker.parity import graph_runner
from modelyard.exporter.worker.picture_graph import untrained_model
from modelyard.exporter.worker.ranges import (
    METHODS,
    Seen,
    activation_scale,
    is_float_layer,
    weight_scales,
)
from modelyard.formats.model import Normalization, PictureInput
from modelyard.recipes.build_image import ServedImageModel

PICTURE = PictureInput(16, 16, 1)


@pytest.fixture
def model() -> ServedImageModel:
    torch.manual_seed(0)
    return untrained_model("modelyard:micronet", PICTURE, 3)


def test_every_form_that_is_listed_is_right() -> None:
    for format, precisions in PRECISIONS_OF.items():
        for precision in precisions:
            form = Form(format, precision)
            assert check_form(form) is form


@pytest.mark.parametrize(
    ("form", "field", "possible"),
    [
        (Form("tensorrt", "fp32"), "format", "onnx, litert, savedmodel, openvino, edge"),
        (Form("litert", "fp16"), "precision", "fp32, dynamic_int8, int8"),
        (Form(EDGE, FP32), "precision", "int8"),
        (Form(ONNX, "int8", accelerator="ethos-u55-128"), "accelerator", "edge"),
        (Form(EDGE, "int8", accelerator="ethos-u99"), "accelerator", "ethos-u55-32"),
    ],
)
def test_other_forms_are_refused_with_what_is_possible(form: Form, field: str, possible: str) -> None:
    with pytest.raises(InvalidArgument, match=possible) as caught:
        check_form(form)
    assert caught.value.reason == "UNSUPPORTED_FORM"
    assert [each.field for each in caught.value.violations] == [field]


def test_tables_are_onnx_fp32() -> None:
    assert check_form(Form(), "tabular_regression") == Form()
    for form in (Form("litert"), Form(precision="int8")):
        with pytest.raises(InvalidArgument, match="onnx fp32 only"):
            check_form(form, "tabular_classification")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=300), st.integers(1, 100), st.integers(0, 5))
def test_each_class_is_drawn_by_its_share(labels: list[int], count: int, seed: int) -> None:
    values = np.array(labels)
    rows = drawn_rows(values, count, seed)
    assert len(np.unique(rows)) == len(rows)
    np.testing.assert_array_equal(rows, drawn_rows(values, count, seed))
    for label in np.unique(values):
        there = int((values == label).sum())
        wanted = min(there, max(1, round(count * there / len(values))))
        assert int((values[rows] == label).sum()) == wanted


def test_another_seed_draws_others() -> None:
    labels = np.arange(100) % 2
    assert drawn_rows(labels, 10, 0).tolist() != drawn_rows(labels, 10, 1).tolist()


def test_the_digest_is_that_of_the_text() -> None:
    assert ids_text(["a", "b"]) == b"a\nb\n"
    assert hashlib.sha256(ids_text(["a"])).hexdigest() == hashlib.sha256(b"a\n").hexdigest()


RANGES = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
"""A 255th of the smallest normal number still has enough digits; one of a subnormal number has not."""


@given(RANGES, RANGES)
def test_zero_is_exact_and_the_range_is_held(low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    scales = activation_scale((low, high))
    scale, zero = scales.scales[0], scales.zero_points[0]
    assert -128 <= zero <= 127
    assert scale > 0
    assert (-128 - zero) * scale <= min(low, 0) + scale
    assert (127 - zero) * scale >= max(high, 0) - scale


def test_weight_scales_are_those_of_channels_or_one() -> None:
    weights = np.array([[1.0, -2.54], [0.0, 0.0]], np.float32)
    assert weight_scales(weights, 0, per_channel=True) == pytest.approx([0.02, 1.0])
    assert weight_scales(weights, 0, per_channel=False) == pytest.approx([0.02])


def seen(values: Any) -> Seen:
    low, high = float(values.min()), float(values.max())
    return Seen(low, high, np.histogram(values, 2048, (low, high))[0].astype(np.int64))


def test_a_lonely_large_value_is_left_out_by_all_ways_but_the_plain_one() -> None:
    values = np.append(np.random.default_rng(0).normal(size=100_000), 100.0)
    found = {method: seen(values).range(method) for method in METHODS}
    assert found["min_max"][1] == 100
    assert 3 < found["percentile"][1] < 10
    assert found["least_error"][1] < 95


def test_an_even_range_is_kept_by_all_ways() -> None:
    values = np.linspace(-1, 3, 100_000)
    for method in METHODS:
        low, high = seen(values).range(method)
        assert low == pytest.approx(-1, abs=0.05), method
        assert high == pytest.approx(3, abs=0.05), method


def test_what_is_inside_a_float_layer_is_float() -> None:
    assert is_float_layer("blocks.1.conv", ("blocks.1",))
    assert is_float_layer("blocks.1", ("blocks.1",))
    assert not is_float_layer("blocks.10", ("blocks.1",))
    assert not is_float_layer("", ())


def test_a_value_that_is_no_number_is_named(model: ServedImageModel) -> None:
    with torch.no_grad():
        model.get_parameter("module.head.weight")[1, 2] = float("nan")
    with pytest.raises(FailedPrecondition, match=r"head\.weight holds 1 of") as caught:
        convert(model, PICTURE, Form())
    assert caught.value.reason == "BAD_WEIGHTS"
    assert caught.value.values["tensor"] == "head.weight"


def test_int8_without_examples_is_refused(model: ServedImageModel) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        convert(model, PICTURE, Form("litert", "int8"))
    assert caught.value.reason == "CALIBRATION_MISSING"


def test_a_converter_that_is_not_installed_is_named() -> None:
    with pytest.raises(FailedPrecondition, match=r"modelyard\[tensorflow\]") as caught:
        check_installed("savedmodel", lambda package: None)
    assert caught.value.reason == "CONVERTER_NOT_INSTALLED"
    check_installed("onnx", lambda package: None)


def test_a_layer_that_is_not_there_is_refused(model: ServedImageModel) -> None:
    with pytest.raises(InvalidArgument, match=r"features\.99") as caught:
        convert(model, PICTURE, Form(float_layers=("features.99",)))
    assert caught.value.reason == "UNKNOWN_LAYER"


def test_the_graph_is_made_once_and_again_when_weights_change(model: ServedImageModel) -> None:
    first = prepare(model, PICTURE)
    assert prepare(model, PICTURE) is first
    with torch.no_grad():
        model.get_parameter("module.head.bias").add_(1)
    assert prepare(model, PICTURE) is not first


def test_int8_onnx_takes_the_picture_as_it_is(model: ServedImageModel) -> None:
    graph = prepare(model, PICTURE).graph
    ranges = {name: (-4.0, 4.0) for node in graph.graph.node for name in node.output}
    made = to_onnx.integers(graph, ranges)
    operators = [node.op_type for node in made.graph.node]
    assert "Cast" not in operators
    assert operators.count("QuantizeLinear") < operators.count("DequantizeLinear")


def test_half_precision_leaves_large_values_alone(model: ServedImageModel) -> None:
    graph = prepare(model, PICTURE).graph
    plain = to_onnx.half_precision(graph, {})
    large = next(node.output[0] for node in graph.graph.node if node.op_type == "Conv")
    careful = to_onnx.half_precision(graph, {large: (-1e5, 1e5)})
    sizes = [sum(each.data_type == 10 for each in made.graph.initializer) for made in (plain, careful)]
    assert sizes[0] > sizes[1] > 0


def _colour_model(mean: tuple[float, ...], std: tuple[float, ...]) -> Prepared:
    torch.manual_seed(0)
    picture = PictureInput(16, 16, 3)
    return prepare(untrained_model("modelyard:micronet", picture, 3, Normalization(mean, std)), picture)


def _normalization(graph: onnx.ModelProto) -> tuple[Any, Any]:
    """Factor and term of the pixels."""
    constants = {each.name: numpy_helper.to_array(each) for each in graph.graph.initializer}
    mul, add = (next(node for node in graph.graph.node if node.op_type == kind) for kind in ("Mul", "Add"))
    return constants[mul.input[1]].ravel(), constants[add.input[1]].ravel()


def test_integers_hold_the_normalized_pixels_without_rounding() -> None:
    prepared = _colour_model((0.5,) * 3, (0.5,) * 3)
    factor, term = _normalization(prepared.graph)
    steps = (np.arange(256)[:, None] * factor + term) / factor
    assert np.abs(steps - np.round(steps)).min() > 0.49  # why: every pixel lies between two integers
    factor, term = _normalization(prepared.whole)
    steps = (np.arange(256)[:, None] * factor + term) / factor
    assert np.abs(steps - np.round(steps)).max() < 1e-3


def test_whole_pixels_change_next_to_nothing() -> None:
    prepared = _colour_model((0.5,) * 3, (0.5,) * 3)
    pictures = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    plain, whole = (graph_runner(each.SerializeToString())({"image": pictures}) for each in (prepared.graph, prepared.whole))
    np.testing.assert_allclose(whole, plain, atol=5e-3)


def test_channels_with_factors_of_their_own_stay_as_they_are() -> None:
    prepared = _colour_model((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert prepared.whole is prepared.graph
