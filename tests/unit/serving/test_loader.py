"""Loading a bundle: its test vectors decide, and its speed decides where it runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.formats.bundle import Parity
from modelyard.serving.adapters.bundle_loader import DEFAULT_TOLERANCE, BundleLoader, differences, inline_examples, tolerance_of
from tests.support.bundles import mlp_bundle, picture_bundle, spoil_vectors, text_bundle
from tests.support.runtime_bundles import card, expected, pictures, runtime_bundle


@pytest.mark.parametrize("make", [mlp_bundle, picture_bundle, text_bundle])
def test_a_bundle_that_answers_its_vectors_is_loaded(tmp_path: Path, make: type[Path]) -> None:
    path = make(tmp_path / "m.zip")
    loaded = BundleLoader(threads=1, inline_ms=0).load(path)
    assert loaded.inline_examples == 0
    assert loaded.card.inputs


def test_a_bundle_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    path = spoil_vectors(tmp_path / "bad.zip", mlp_bundle(tmp_path / "m.zip"))
    with pytest.raises(FailedPrecondition) as refused:
        BundleLoader(1, 0.3).load(path)
    assert refused.value.reason == "TEST_VECTORS_DIFFER"
    assert "'probabilities' differs by up to 0.25" in refused.value.message


def test_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    path = mlp_bundle(tmp_path / "m.zip")
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(InvalidArgument) as refused:
        BundleLoader(1, 0.3).load(path)
    assert refused.value.reason == "INVALID_BUNDLE"


def test_a_tiny_model_is_run_where_its_request_is_read(tmp_path: Path) -> None:
    loaded = BundleLoader(threads=2, inline_ms=10).load(mlp_bundle(tmp_path / "m.zip"))
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


@pytest.mark.parametrize("form", ["litert-int8", "litert-fp32", "edge", "openvino"])
def test_other_formats_are_loaded_and_answer_many_at_once(tmp_path: Path, form: str) -> None:
    loaded = BundleLoader(threads=1, inline_ms=5, concurrency=3).load(runtime_bundle(tmp_path / "m.zip", form))
    batches = [pictures(1 + number % 3, seed=number) for number in range(30)]
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda batch: loaded.run({"image": batch}), batches))
    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_allclose(answer["probabilities"], expected(batch), atol=0.05)
    assert loaded.inline_examples > 0


def test_what_int8_may_differ() -> None:
    """A step or two; not what another model would answer. Float32 keeps to what its export allowed."""
    int8 = replace(card("litert-int8"), parity=Parity(8, 0.9, 0.5, 1.0, "torch"))
    assert tolerance_of(int8, {"probabilities": np.array([[0.5, 0.5]], np.float32)}) == 0.05
    assert tolerance_of(int8, {"y": np.array([[-40.0, np.nan, 3]], np.float32)}) == 2.0
    assert tolerance_of(card("litert-fp32"), {}) == DEFAULT_TOLERANCE
    assert tolerance_of(replace(card("onnx"), parity=Parity(8, 0, 1, 1e-3, "torch")), {}) == 1e-3
