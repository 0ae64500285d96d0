"""Proof that an exported model answers as the trained model does, on real examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition
from modelyard.formats.bundle import Parity
from modelyard.runtime.onnx import LEFT_OUT

Array = NDArray[Any]
Tensors = Mapping[str, Array]
Run = Callable[[Tensors], Array]
"""The only output for a batch."""

PROBABILITY_TOLERANCE: Final = 1e-3
"""Largest difference of a probability that is let through; float32 arithmetic in another order gives about 1e-6."""

TOLERANCES: Final[Mapping[str, float]] = {"fp32": PROBABILITY_TOLERANCE, "fp16": 2e-2, "int8": 1.0, "dynamic_int8": 1.0}
"""The same by precision. Integers may differ by anything here: what that costs is measured on the test examples, by the
evaluator."""

RELATIVE_TOLERANCE: Final = 1e-4
"""The same for a number, as a share of the spread (standard deviation) of the model's answers."""

SINGLE: Final = 4
"""Examples that are also asked one at a time: a batched answer must be the single one."""


def run_graph(model: bytes, inputs: Tensors) -> Array:
    """The only output of an ONNX graph, for a batch."""
    return graph_runner(model)(inputs)


def graph_runner(model: bytes) -> Run:
    """Runs an ONNX graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], disabled_optimizers=LEFT_OUT)

    def run(inputs: Tensors) -> Array:
        answers: Array = session.run(None, dict(inputs))[0]
        return answers

    return run


def prove(
    run: Run, inputs: Tensors, expected: Array, *, classes: int, against: str, precision: str = "fp32"
) -> tuple[Parity, Array]:
    """The parity of a model with `expected` [N, outputs], and the model's own answers for all examples.

    Raises FailedPrecondition with reason PARITY_FAILED when a difference is above the tolerance or an answer is not a number.
    """
    found = run(inputs)
    count = min(SINGLE, len(found))
    single = [run({name: values[row : row + 1] for name, values in inputs.items()}) for row in range(count)]
    difference = max(_largest(found, expected), _largest(np.concatenate(single), expected[:count]))
    tolerance = TOLERANCES[precision] if classes else max(RELATIVE_TOLERANCE * float(np.std(expected)), _resolution(expected))
    agreement = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean()) if classes else 1.0
    if not difference <= tolerance:
        message = (
            f"the exported model's answers differ from those of the trained model by up to {difference:g}; "
            f"at most {tolerance:g} is allowed for {precision} ({len(found)} examples)"
        )
        raise FailedPrecondition("PARITY_FAILED", message, difference=difference, tolerance=tolerance, examples=len(found))
    return Parity(len(found), difference, agreement, tolerance, against), found


def _largest(found: Array, expected: Array) -> float:
    """NaN when any answer is NaN, so that no comparison lets it pass."""
    return float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max())


def _resolution(expected: Array) -> float:
    """What float32 sums of numbers of this size may differ by."""
    return 64 * float(np.finfo(np.float32).eps) * max(float(np.abs(expected).max()), 1e-30)
