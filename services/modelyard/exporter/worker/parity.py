"""Proof that an exported model answers as the trained model does, on real examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition
from modelyard.formats.agreement import SAME_PLACE, agreement, least_share
from modelyard.formats.bundle import Parity
from modelyard.formats.dataset_descriptor import SEMANTIC_SEGMENTATION
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

SET_SHARES: Final[Mapping[str, float]] = {"fp32": 0.99, "fp16": 0.9, "int8": 0.0, "dynamic_int8": 0.0}
"""Share of the boxes or pixels that must agree with the trained model's, by precision; of integers as of TOLERANCES."""

RELATIVE_TOLERANCE: Final = 1e-4
"""The same for a number, as a share of the spread (standard deviation) of the model's answers."""

SINGLE: Final = 4
"""Examples that are also asked one at a time: a batched answer must be the single one."""


def run_graph(model: bytes, inputs: Tensors) -> Array:
    """The only output of an ONNX graph, for a batch."""
    return graph_runner(model)(inputs)


def graph_runner(model: bytes, output: str = "") -> Run:
    """Runs an ONNX graph for one of its outputs; the first unless it is named."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], disabled_optimizers=LEFT_OUT)

    def run(inputs: Tensors) -> Array:
        answers: Array = session.run([output] if output else None, dict(inputs))[0]
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


def prove_sets(
    run: Callable[[dict[str, Array]], dict[str, Array]],
    inputs: dict[str, Array],
    expected: Tensors,
    *,
    task: str,
    against: str,
    precision: str = "fp32",
) -> tuple[Parity, dict[str, Array]]:
    """The parity of a model whose answers are compared as sets (formats.agreement), and its answers for all examples.

    `max_abs_difference` is the largest between scores of boxes or points that both found, or the share of pixels that differ;
    `label_agreement` the share of boxes or pixels that both have. Raises FailedPrecondition PARITY_FAILED where fewer than
    SET_SHARES of them agree, or an answer is not a number.
    """
    found = run(inputs)
    for name, values in found.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise FailedPrecondition(
                "PARITY_FAILED", f"the exported model's {name} holds values that are no numbers", output=name
            )
    alike = agreement(task, expected, found, SAME_PLACE)
    least = SET_SHARES[precision]
    if alike.share < least:
        message = (
            f"the exported model finds {100 * alike.share:.2f} percent of what the trained model finds, and it of its; at least "
            f"{100 * least:g} percent are right for {precision} ({len(next(iter(inputs.values())))} examples)"
        )
        raise FailedPrecondition("PARITY_FAILED", message, share=alike.share, least=least)
    difference = 1 - alike.share if task == SEMANTIC_SEGMENTATION else alike.difference
    return Parity(len(next(iter(inputs.values()))), difference, alike.share, TOLERANCES[precision], against), found


def check_same_sets(task: str, wanted: Tensors, found: Tensors, precision: str) -> None:
    """Raises FailedPrecondition PARITY_FAILED unless the same bytes say the same twice."""
    alike = agreement(task, wanted, found, SAME_PLACE)
    if alike.share < least_share(precision):
        message = f"of the bundle's own test vectors {100 * alike.share:.2f} percent come out the same when it is served"
        raise FailedPrecondition("PARITY_FAILED", message, share=alike.share, least=least_share(precision))


def _largest(found: Array, expected: Array) -> float:
    """NaN when any answer is NaN, so that no comparison lets it pass."""
    return float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max())


def _resolution(expected: Array) -> float:
    """What float32 sums of numbers of this size may differ by."""
    return 64 * float(np.finfo(np.float32).eps) * max(float(np.abs(expected).max()), 1e-30)
