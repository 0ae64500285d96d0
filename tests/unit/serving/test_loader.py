"""Loading a bundle: its test vectors decide, and its speed decides where it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.serving.adapters.onnx_loader import OnnxLoader, differences, inline_examples
from tests.support.bundles import mlp_bundle, picture_bundle, spoil_vectors, text_bundle


@pytest.mark.parametrize("make", [mlp_bundle, picture_bundle, text_bundle])
def test_a_bundle_that_answers_its_vectors_is_loaded(tmp_path: Path, make: type[Path]) -> None:
    path = make(tmp_path / "m.zip")
    loaded = OnnxLoader(threads=1, inline_ms=0).load(path)
    assert loaded.inline_examples == 0
    assert loaded.card.inputs


def test_a_bundle_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    path = spoil_vectors(tmp_path / "bad.zip", mlp_bundle(tmp_path / "m.zip"))
    with pytest.raises(FailedPrecondition) as refused:
        OnnxLoader(1, 0.3).load(path)
    assert refused.value.reason == "TEST_VECTORS_DIFFER"
    assert "'probabilities' differs by up to 0.25" in refused.value.message


def test_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    path = mlp_bundle(tmp_path / "m.zip")
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InvalidArgument) as refused:
        OnnxLoader(1, 0.3).load(path)
    assert refused.value.reason == "INVALID_BUNDLE"


def test_a_tiny_model_is_run_where_its_request_is_read(tmp_path: Path) -> None:
    loaded = OnnxLoader(threads=2, inline_ms=10).load(mlp_bundle(tmp_path / "m.zip"))
    assert loaded.inline_examples >= 1


@pytest.mark.parametrize(("example_ms", "limit_ms", "expected"), [(0.1, 0.35, 3), (0.31, 0.3, 0), (5.0, 0.3, 0), (0.0, 0.3, 300)])
def test_how_many_examples_are_quick(example_ms: float, limit_ms: float, expected: int) -> None:
    assert inline_examples(example_ms, limit_ms) == expected


def test_differences_are_told_by_output() -> None:
    wanted = {"y": np.array([1.0, np.nan], np.float32)}
    assert differences(wanted, {"y": np.array([1.0, np.nan], np.float32)}, 0.0) == []
    assert differences(wanted, {"y": np.array([1.1, np.nan], np.float32)}, 0.01) == [
        "output 'y' differs by up to 0.1, allowed is 0.01"
    ]
    assert differences(wanted, {"y": np.array([1.0, 2.0], np.float32)}, 0.5) != []
    assert differences(wanted, {"y": np.array([1.0], np.float32)}, 0.5) == ["output 'y' has the shape [1], expected [2]"]
    assert differences({"n": np.array([1])}, {"n": np.array([2])}, 5.0) == ["output 'n' differs"]
