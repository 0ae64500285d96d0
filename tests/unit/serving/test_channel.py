"""What goes over the channel of a version's process."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import FailedPrecondition, InvalidArgument, ModelyardError, Unavailable
from modelyard.formats.bundle import TensorSpec
from modelyard.serving.adapters.rows import RowCutter
from modelyard.serving.domain.channel import ALIGNMENT, error_from_json, error_json, places
from modelyard.serving.domain.tensors import encode_raw


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgument("NOT_A_PICTURE", "image[0] is no picture", field="inputs.image", input="image", found="x" * 9000),
        FailedPrecondition("TEST_VECTORS_DIFFER", "they differ", tolerance=1e-4),
    ],
)
def test_errors_travel(error: ModelyardError) -> None:
    found = error_from_json(error_json(error))
    assert type(found) is type(error)
    assert (found.reason, found.message) == (error.reason, error.message)
    assert [each.field for each in found.violations] == [each.field for each in error.violations]
    assert len(error_json(error)) < 10_000


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.text(max_size=5) | st.integers(),
        lambda of: st.lists(of) | st.dictionaries(st.sampled_from(["kind", "reason", "message", "values", "field"]), of),
    ).map(lambda value: json.dumps(value).encode())
)
def test_nonsense_becomes_an_error_of_ours(data: bytes) -> None:
    assert isinstance(error_from_json(data), ModelyardError)


def test_no_class_by_name() -> None:
    document = {"kind": "SystemExit", "reason": "R", "message": "m", "values": {}, "field": ""}
    assert isinstance(error_from_json(json.dumps(document).encode()), Unavailable)
    document = {
        "kind": "InvalidArgument",
        "reason": "R",
        "message": "m",
        "values": {"retry_after_s": "x", "self": "y"},
        "field": "",
    }
    assert error_from_json(json.dumps(document).encode()).retry_after_s is None


@given(st.integers(0, 1000), st.lists(st.integers(0, 5000), max_size=20))
def test_tensors_do_not_overlap(start: int, sizes: list[int]) -> None:
    offsets, end = places(start, sizes)
    assert all(offset % ALIGNMENT == 0 for offset in offsets)
    edges = [start, *(edge for offset, size in zip(offsets, sizes, strict=True) for edge in (offset, offset + size)), end]
    assert edges == sorted(edges)


SPECS = (TensorSpec("p", "FP32", (-1, 2)), TensorSpec("label", "BYTES", (-1,)), TensorSpec("words", "BYTES", (-1, 3)))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_rows_go_to_whom_they_belong(rows: list[int], chance: object) -> None:
    total = sum(rows)
    numbers = np.arange(2 * total, dtype=np.float32).reshape(total, 2)
    labels = np.array([f"é{'x' * (number % 7)}" for number in range(total)], object)
    words = np.array([[f"{number}{'y' * place}" for place in range(3)] for number in range(total)], object)
    cut = RowCutter(SPECS).cut([encode_raw(numbers), memoryview(encode_raw(labels)), encode_raw(words)], rows)
    start = 0
    for count, tensors in zip(rows, cut, strict=True):
        end = start + count
        assert [tensor.shape for tensor in tensors] == [(count, 2), (count,), (count, 3)]
        assert bytes(tensors[0].data) == numbers[start:end].tobytes()
        assert bytes(tensors[1].data) == encode_raw(labels[start:end])
        assert bytes(tensors[2].data) == encode_raw(words[start:end])
        start = end


@given(st.binary(max_size=60), st.binary(max_size=60), st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_sizes_of_a_process_are_not_believed(numbers: bytes, text: bytes, rows: list[int]) -> None:
    cutter = RowCutter(SPECS[:2])
    try:
        cut = cutter.cut([numbers, text], rows)
    except ValueError:
        return
    assert b"".join(bytes(tensors[0].data) for tensors in cut) == numbers
    assert b"".join(bytes(tensors[1].data) for tensors in cut) == text
