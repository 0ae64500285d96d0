"""Whether a model that was loaded answers as it did when it was exported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modelyard.formats.bundle import Parity
from modelyard.serving.handlers.proven_model import DEFAULT_TOLERANCE, differences, tolerance_of
from tests.support.runtime_bundles import card


def test_differences_are_told_by_output() -> None:
    wanted = {"y": np.array([1.0, np.nan], np.float32)}
    assert differences(wanted, {"y": np.array([1.0, np.nan], np.float32)}, 0.0) == []
    assert differences(wanted, {"y": np.array([1.1, np.nan], np.float32)}, 0.01) == [
        "output 'y' differs by up to 0.1, allowed is 0.01"
    ]
    assert differences(wanted, {"y": np.array([1.0, 2.0], np.float32)}, 0.5) != []
    assert differences(wanted, {"y": np.array([1.0], np.float32)}, 0.5) == ["output 'y' has the shape [1], expected [2]"]
    assert differences({"n": np.array([1])}, {"n": np.array([2])}, 5.0) == ["output 'n' differs"]


def test_what_int8_may_differ() -> None:
    """A step or two; not what another model would answer. Float32 keeps to what its export allowed."""
    int8 = replace(card("litert-int8"), parity=Parity(8, 0.9, 0.5, 1.0, "torch"))
    assert tolerance_of(int8, {"probabilities": np.array([[0.5, 0.5]], np.float32)}) == 0.05
    assert tolerance_of(int8, {"y": np.array([[-40.0, np.nan, 3]], np.float32)}) == 2.0
    assert tolerance_of(card("litert-fp32"), {}) == DEFAULT_TOLERANCE
    assert tolerance_of(replace(card("onnx"), parity=Parity(8, 0, 1, 1e-3, "torch")), {}) == 1e-3
