"""Errors of native libraries, as they were met, without places in source or on a machine."""

from __future__ import annotations

import pytest

from modelyard.runtime.native_words import MOST, words_of

SAID = {
    "tflite/kernels/reduce.cc:87 NumOutputs(node) != 1 (0 != 1)Node number 0 (MEAN) failed.": "NumOutputs(node) != 1",
    "1 : FAIL : /onnxruntime_src/onnxruntime/core/graph/graph.cc:1587 void onnxruntime::Graph::State() This is an "
    "invalid model.": "1 : FAIL : This is an invalid model.",
    "Load model from /home/someone/models/m.onnx failed:Protobuf parsing failed.": "failed:Protobuf parsing failed.",
    "SavedModel file does not exist at: /tmp/modelyard-savedmodel-x1/saved_model/{saved_model.pb}": "does not exist at",
    "tflite/util.cc BytesRequired number of elements overflowed.": "BytesRequired number",
    "File '/usr/lib/python3.11/site-packages/x/y.py', line 3": "line 3",
    "Exception from src/core/src/node.cpp:60: Check failed": "Check failed",
}


@pytest.mark.parametrize("said", SAID)
def test_places_are_left_out(said: str) -> None:
    words = words_of(RuntimeError(said))
    assert SAID[said] in words
    assert not [gone for gone in ("/home", "/tmp", "/usr", ".cc", ".cpp", "onnxruntime_src", "::") if gone in words]


def test_one_line_of_bounded_length() -> None:
    words = words_of(RuntimeError("first\nsecond\t" + "x" * 1000))
    assert words.startswith("first second xxx")
    assert len(words) == MOST


def test_what_says_nothing_is_called_by_its_kind() -> None:
    assert words_of(MemoryError()) == "MemoryError"


def test_fractions_and_shapes_stay() -> None:
    assert words_of(ValueError("1/2 of [3, 4] and/or int8")) == "1/2 of [3, 4] and/or int8"
