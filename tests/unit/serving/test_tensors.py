"""Tensors on the wire: what goes in comes out, and whatever does not fit is refused by name before memory is taken."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelyard.core.errors import InvalidArgument
from modelyard.serving.domain import tensors

SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, max_side=4)


@given(st.data(), st.sampled_from(sorted(tensors.NUMERIC)), SHAPES)
def test_numbers_survive_the_wire(data: st.DataObject, datatype: str, shape: tuple[int, ...]) -> None:
    array = data.draw(arrays.arrays(tensors.NUMERIC[datatype], shape))
    back = tensors.decode_raw("x", datatype, shape, tensors.encode_raw(array))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=12))
def test_byte_strings_survive_the_wire(elements: list[bytes]) -> None:
    array = np.empty(len(elements), object)
    array[:] = elements
    back = tensors.decode_raw("x", "BYTES", [len(elements), 1], tensors.encode_raw(array))
    assert back.ravel().tolist() == elements
    assert back.shape == (len(elements), 1)


def test_raw_numbers_are_a_view_not_a_copy() -> None:
    raw = np.arange(6, dtype=np.float32).tobytes()
    array = tensors.decode_raw("x", "FP32", [2, 3], raw)
    assert not array.flags.owndata
    assert not array.flags.writeable


def test_text_is_written_as_utf8_with_its_length() -> None:
    assert tensors.encode_raw(np.array(["é", ""], object)) == b"\x02\x00\x00\x00\xc3\xa9\x00\x00\x00\x00"


def test_big_endian_arrays_are_written_little_endian() -> None:
    assert tensors.encode_raw(np.array([1], ">i4")) == b"\x01\x00\x00\x00"


@pytest.mark.parametrize(
    "shape",
    [[], [-1], [2, -3], [0], [2, 0], [-(2**63), -1], [1] * 17],
)
def test_shapes_that_are_none_are_refused(shape: list[int]) -> None:
    for raw in (b"", b"\0" * 16):
        with pytest.raises(InvalidArgument) as refused:
            tensors.decode_raw("x", "FP32", shape, raw)
        assert refused.value.reason == "BAD_SHAPE"
        assert refused.value.violations[0].field == "inputs.x"


@pytest.mark.parametrize("shape", [[2**31, 2**31], [2**62, 4], [2**63 - 1] * 8, [3]])
@pytest.mark.parametrize("datatype", ["FP32", "UINT8", "INT64"])
def test_shapes_that_overflow_or_do_not_fit_are_refused(datatype: str, shape: list[int]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        tensors.decode_raw("x", datatype, shape, b"\x00" * 16)
    assert refused.value.reason == "SIZE_MISMATCH"
    for refuse in (tensors.check_raw, tensors.pack):
        with pytest.raises(InvalidArgument) as unread:
            refuse("x", datatype, math.prod(shape), b"\x00" * 16)
        assert unread.value.reason == "SIZE_MISMATCH"


@pytest.mark.parametrize("datatype", ["", "BF16", "fp32", "STRING", "X" * 1000])
def test_unknown_datatypes_are_refused(datatype: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        tensors.decode_raw("x", datatype, [1], b"\x00\x00")
    assert refused.value.reason == "UNKNOWN_DATATYPE"
    assert len(refused.value.message) < 300


@pytest.mark.parametrize(
    ("raw", "count"),
    [
        (b"", 1),
        (b"\x01\x00\x00", 1),
        (b"\x05\x00\x00\x00abc", 1),
        (b"\xff\xff\xff\xffabc", 1),
        (b"\x01\x00\x00\x00ab", 1),
        (b"\x04\x00\x00\x00abcd", 2),
        (b"\x02\x00\x00\x00abc", 2),
        (b"\0" * 16, 2**62),
    ],
)
def test_byte_strings_that_do_not_fit_are_refused(raw: bytes, count: int) -> None:
    with pytest.raises(InvalidArgument) as refused:
        tensors.decode_raw("x", "BYTES", [count], raw)
    assert refused.value.reason == "BAD_BYTES"


@given(st.binary(max_size=64), st.integers(1, 8))
def test_any_bytes_are_either_exactly_the_elements_or_refused(raw: bytes, count: int) -> None:
    try:
        elements = tensors.split_bytes("x", raw, count)
    except InvalidArgument as error:
        assert error.reason == "BAD_BYTES"  # noqa: PT017
    else:
        assert b"".join(struct.pack("<I", len(element)) + element for element in elements) == raw
        assert len(elements) == count


def test_a_bool_that_is_neither_is_refused() -> None:
    assert tensors.decode_raw("x", "BOOL", [3], b"\0\1\0").tolist() == [False, True, False]
    assert tensors.decode_raw("x", "BOOL", [3], b"\1\0\1").tolist() == [True, False, True]
    for raw in (b"\0\2\1", b"\2\0\0", b"\0\0\xff"):
        with pytest.raises(InvalidArgument) as refused:
            tensors.decode_raw("x", "BOOL", [3], raw)
        assert refused.value.reason == "BAD_BOOL"


@pytest.mark.parametrize(
    ("datatype", "values"),
    [("UINT8", [300]), ("INT8", [-129]), ("INT16", [40_000]), ("UINT16", [70_000])],
)
def test_typed_values_out_of_range_are_refused_and_not_wrapped(datatype: str, values: list[int]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        tensors.pack("x", datatype, 1, values)
    assert refused.value.reason == "OUT_OF_RANGE"


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("FP32", [1.5, 2.0]),
        ("INT64", [1, -(2**63)]),
        ("UINT64", [0, 2**64 - 1]),
        ("BOOL", [True, False]),
        ("BYTES", [b"a\0", b""]),
    ],
)
def test_typed_contents_are_read(datatype: str, values: list[Any]) -> None:
    raw = tensors.pack("x", datatype, 2, values)
    assert tensors.decode_raw("x", datatype, [2, 1], raw).tolist() == [[value] for value in values]
    assert tensors.unpack(datatype, raw) == values


@given(st.data(), st.sampled_from(sorted(tensors.NUMERIC)), SHAPES)
def test_lists_survive_the_wire(data: st.DataObject, datatype: str, shape: tuple[int, ...]) -> None:
    values = data.draw(arrays.arrays(tensors.NUMERIC[datatype], shape)).ravel().tolist()
    raw = tensors.pack("x", datatype, len(values), values)
    np.testing.assert_array_equal(tensors.unpack(datatype, raw), values)


@given(st.lists(st.floats(width=16), min_size=1, max_size=8))
def test_bf16_becomes_the_same_number(values: list[float]) -> None:
    """A number of 16 bits that BF16 can hold: its FP32 form with the lower half cut off."""
    cut = np.array(values, "<f4").view("<u4") & 0xFFFF0000
    halves = (cut >> 16).astype("<u2").tobytes()
    np.testing.assert_array_equal(np.frombuffer(tensors.bf16_to_fp32(halves), "<f4"), cut.view("<f4"))
