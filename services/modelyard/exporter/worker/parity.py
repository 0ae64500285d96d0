"""Proof that an exported graph answers as the trained model does, on real examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition
from modelyard.formats.bundle import Parity

Array = NDArray[Any]
Tensors = Mapping[str, Array]

PROBABILITY_TOLERANCE: Final = 1e-3
"""Largest difference of a probability that is let through; float32 arithmetic in another order gives about 1e-6."""

RELATIVE_TOLERANCE: Final = 1e-4
"""The same for a number, as a share of the spread (standard deviation) of the model's answers."""

SINGLE: Final = 4
"""Examples that are also asked one at a time: a batched answer must be the single one."""


def run_graph(model: bytes, inputs: Tensors) -> Array:
    """The only output of a graph, for a batch."""
    answers: Array = _session(model).run(None, dict(inputs))[0]
    return answers


def _session(model: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def prove(model: bytes, inputs: Tensors, expected: Array, *, classes: int, against: str) -> tuple[Parity, Array]:
    """The parity of a graph with `expected` [N, outputs], and the graph's own answers for all examples.

    Raises FailedPrecondition with reason PARITY_FAILED when a difference is above the tolerance or an answer is not a number.
    """
    session = _session(model)
    found: Array = session.run(None, dict(inputs))[0]
    count = min(SINGLE, len(found))
    single = [session.run(None, {name: values[row : row + 1] for name, values in inputs.items()})[0] for row in range(count)]
    difference = max(_largest(found, expected), _largest(np.concatenate(single), expected[:count]))
    tolerance = PROBABILITY_TOLERANCE if classes else max(RELATIVE_TOLERANCE * float(np.std(expected)), _resolution(expected))
    agreement = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean()) if classes else 1.0
    if not difference <= tolerance:
        message = (
            f"the exported graph's answers differ from those of the trained model by up to {difference:g}; "
            f"at most {tolerance:g} is allowed ({len(found)} examples)"
        )
        raise FailedPrecondition("PARITY_FAILED", message, difference=difference, tolerance=tolerance, examples=len(found))
    return Parity(len(found), difference, agreement, tolerance, against), found


def _largest(found: Array, expected: Array) -> float:
    """NaN when any answer is NaN, so that no comparison lets it pass."""
    return float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max())


def _resolution(expected: Array) -> float:
    """What float32 sums of numbers of this size may differ by."""
    return 64 * float(np.finfo(np.float32).eps) * max(float(np.abs(expected).max()), 1e-30)
