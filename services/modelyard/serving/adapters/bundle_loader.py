"""Brings a bundle into memory, has it answer its test vectors, and finds out how it is best run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition
from modelyard.formats.bundle import Bundle, BundleCard, TestVectors, open_bundle
from modelyard.runtime.model import RunnableModel, load_model
from modelyard.serving.ports import LoadedModel, Tensors

Array = NDArray[Any]

DEFAULT_TOLERANCE: Final = 1e-4
"""Largest difference from a test vector where the bundle states none, in units of the output."""
RELATIVE_TOLERANCE: Final = 1e-5
"""On top, in proportion to the expected value: float32 holds about 7 digits, and other processors add up in other orders."""
SHARES: Final[Mapping[str, float]] = {"fp16": 0.01, "int8": 0.05, "dynamic_int8": 0.05}
"""By precision: largest difference as a share of the output. int8 kernels differ by a step or two of 1/256 from one another."""
TIMED_CALLS: Final = 30


@dataclass(frozen=True)
class Loaded:
    """A bundle's model, ready to answer."""

    model: RunnableModel
    inline_examples: int

    @property
    def card(self) -> BundleCard:
        """What it takes and gives."""
        return self.model.card

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """See LoadedModel.run."""
        return self.model.run(inputs)


@dataclass(frozen=True)
class BundleLoader:
    """Loads bundles of every format, each for its own runtime.

    One call may use `threads` threads. A model that answers one example in less than `inline_ms` gets a single thread, and what
    takes no longer than that is answered where the request is read (docs/decisions/0005-inline-inference.md); 0: nothing is.
    `concurrency`: how many calls come at once; a runtime that answers one at a time makes as many interpreters, when needed.
    """

    threads: int
    inline_ms: float
    concurrency: int = 1

    def load(self, bundle: Path) -> LoadedModel:
        """See ModelLoader.load."""
        opened = open_bundle(bundle)
        vectors = opened.test_vectors()
        model = self._proven(opened, vectors, self.threads)
        inline = inline_examples(_median_ms(model, vectors), self.inline_ms) if self.inline_ms > 0 else 0
        if inline and self.threads > 1:
            model.close()
            model = self._proven(opened, vectors, 1)
        return Loaded(model, inline)

    def _proven(self, bundle: Bundle, vectors: TestVectors, threads: int) -> RunnableModel:
        """The model, loaded, after it answered all its test vectors. Raises FailedPrecondition TEST_VECTORS_DIFFER."""
        model = load_model(bundle, threads, concurrency=self.concurrency)
        try:
            _check_answers(bundle.card, vectors, model.run(vectors.inputs))
        except BaseException:
            model.close()
            raise
        return model


def inline_examples(example_ms: float, limit_ms: float) -> int:
    """How many examples are answered within `limit_ms`, when one takes `example_ms`. A batch takes less, so this is cautious."""
    return int(limit_ms / max(example_ms, 1e-3))


def differences(expected: Mapping[str, Array], answers: Mapping[str, Array], tolerance: float) -> list[str]:
    """What differs, one sentence an output; empty when all is as it should be. NaN equals NaN."""
    wrong = []
    for name, wanted in expected.items():
        found = answers[name]
        if found.shape != wanted.shape:
            wrong.append(f"output {name!r} has the shape {list(found.shape)}, expected {list(wanted.shape)}")
        elif wanted.dtype.kind not in "fc":
            wrong += [f"output {name!r} differs"] if not np.array_equal(found, wanted) else []
        elif not np.allclose(found, wanted, rtol=RELATIVE_TOLERANCE, atol=tolerance, equal_nan=True):
            largest = float(np.nanmax(np.abs(found.astype(np.float64) - wanted)))
            wrong.append(f"output {name!r} differs by up to {largest:.6g}, allowed is {tolerance:.6g}")
    return wrong


def tolerance_of(card: BundleCard, outputs: Mapping[str, Array]) -> float:
    """The largest difference from a test vector that is let pass, in units of the output.

    Float32: what the export allowed, or DEFAULT_TOLERANCE. With fewer bits other processors round otherwise, so it is a share of
    the largest value (at least 1, which is that of probabilities); parity is not asked, because it compares with the float model.
    """
    if card.precision not in SHARES:
        return card.parity.tolerance if card.parity else DEFAULT_TOLERANCE
    numbers = [np.abs(values[np.isfinite(values)]) for values in outputs.values() if values.dtype.kind == "f"]
    return SHARES[card.precision] * max([1.0, *(float(values.max()) for values in numbers if values.size)])


def _check_answers(card: BundleCard, vectors: TestVectors, answers: Mapping[str, Array]) -> None:
    tolerance = tolerance_of(card, vectors.outputs)
    wrong = differences(vectors.outputs, answers, tolerance)
    if wrong:
        message = f"the model does not answer its {vectors.count} test vectors as it did when it was exported: {'; '.join(wrong)}"
        raise FailedPrecondition("TEST_VECTORS_DIFFER", message, tolerance=tolerance, examples=vectors.count)


def _median_ms(model: RunnableModel, vectors: TestVectors) -> float:
    """Milliseconds that one example takes: the median, because what else runs on the machine shows in the upper percentiles."""
    example = {name: array[:1] for name, array in vectors.inputs.items()}
    times = []
    for _ in range(TIMED_CALLS):
        start = time.perf_counter()
        model.run(example)
        times.append(time.perf_counter() - start)
        if sum(times) > 1:
            break
    return 1000 * float(np.median(times))
