"""From served values to the graph's own and back: scales, rounding, clipping, layouts."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.formats.bundle import TensorMap, TensorSpec
from modelyard.runtime.wires import GraphTensor, Wire, quantized


def wire(datatype: str, dtype: str, *, scale: float = 0.0, zero_point: int = 0, **mapped: object) -> Wire:
    spec = TensorSpec("x", datatype, (-1, 3))
    return Wire(spec, GraphTensor(("g",), dtype, (1, 3), scale, zero_point), TensorMap("x", "g", **mapped))  # type: ignore[arg-type]


def test_pixels_to_a_float_graph() -> None:
    entering = wire("UINT8", "float32", scale=0, **{}).entering(np.array([[0, 1, 255]], np.uint8))
    assert entering.dtype == np.float32
    assert entering.tolist() == [[0.0, 1.0, 255.0]]
    tied = Wire(TensorSpec("x", "UINT8", (-1, 3)), GraphTensor(("g",), "float32", (1, 3)), TensorMap("x", "g", 1 / 127.5, -1.0))
    np.testing.assert_allclose(tied.entering(np.array([[0, 255, 51]], np.uint8)), [[-1, 1, -0.6]], atol=1e-6)


def test_pixels_to_an_int8_graph() -> None:
    """Every pixel keeps its own step where the graph was made for 0 to 1, or for 0 to 255."""
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 256)
    spec = TensorSpec("x", "UINT8", (-1, 256))
    for scale in (1 / 255, 1.0):
        tied = Wire(spec, GraphTensor(("g",), "int8", (1, 256), scale, -128), TensorMap("x", "g", scale))
        assert tied.entering(pixels).tolist() == [list(range(-128, 128))]
        assert tied.entering(pixels).dtype == np.int8


@pytest.mark.parametrize(
    ("real", "steps"),
    [(0.5, 1), (-0.5, -1), (1.5, 2), (2.5, 3), (-2.5, -3), (0.49999997, 0), (-0.49999997, 0), (1e9, 127), (-1e9, -128)],
)
def test_halves_go_away_from_zero_and_ends_are_clipped(real: float, steps: int) -> None:
    assert quantized(np.array([real], np.float32), GraphTensor(("g",), "int8", (1,), 1.0, 0)).tolist() == [steps]


def test_infinities_are_clipped_and_nan_is_refused() -> None:
    tied = wire("FP32", "int8", scale=0.1, zero_point=3)
    assert tied.entering(np.array([[np.inf, -np.inf, 0]], np.float32)).tolist() == [[127, -128, 3]]
    with pytest.raises(InvalidArgument, match="input 'x' holds values that are no numbers") as caught:
        tied.entering(np.array([[0, np.nan, 0]], np.float32))
    assert caught.value.reason == "NOT_FINITE"


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20),
    st.floats(2**-20, 2**10, width=32),
    st.integers(-128, 127),
    st.sampled_from(["int8", "uint8", "int16"]),
)
def test_quantizing_is_the_nearest_step(values: list[float], scale: float, zero_point: int, dtype: str) -> None:
    """Against exact arithmetic: the step nearest to the float32 quotient, clipped."""
    tensor = GraphTensor(("g",), dtype, (1, len(values)), scale, zero_point)
    limits = np.iinfo(dtype)
    for value, found in zip(values, quantized(np.array(values, np.float32), tensor).tolist(), strict=True):
        exact = Fraction(float(np.float32(value) / np.float32(scale)))
        away = math.copysign(math.floor(abs(exact) + Fraction(1, 2)), exact)
        assert found == min(max(int(away) + zero_point, limits.min), limits.max)


def test_what_a_quantized_graph_answers() -> None:
    tied = wire("FP32", "int8", scale=1 / 256, zero_point=-128)
    answer = tied.leaving(np.array([[-128, 0, 127]], np.int8))
    assert answer.dtype == np.float32
    assert answer.tolist() == [[0.0, 0.5, 255 / 256]]


def test_layouts_turn_and_turn_back() -> None:
    images = np.arange(2 * 2 * 3 * 4, dtype=np.uint8).reshape(2, 2, 3, 4)
    spec = TensorSpec("x", "UINT8", (-1, 2, 3, 4))
    tied = Wire(spec, GraphTensor(("g",), "uint8", (1, 4, 2, 3)), TensorMap("x", "g", layout="NCHW"))
    inside = tied.entering(images)
    assert inside.shape == (2, 4, 2, 3)
    assert inside.flags.c_contiguous
    np.testing.assert_array_equal(inside[:, 1], images[..., 1])
    np.testing.assert_array_equal(tied.leaving(inside), images)
