"""Proof that a model answers an example in a batch as it does alone, whatever its neighbours are.

Each row of a batch is compared with the answer to that row by itself, over several sizes, positions and neighbours. What must
be equal: text, integers and labels exactly; floats within the rounding of their precision, because a matrix product of other
sizes may add up in another order: |a - b| <= relative * max(1, largest) with relative as in ROUNDING. That is far below what a
leak from a neighbour changes: a model that measures something over its whole batch (dynamic quantization, normalization) does
not pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.formats.agreement import SAME_PLACE, agreement, compared_as_sets, least_share

Array = NDArray[Any]

ROUNDING: Final[Mapping[str, float]] = {"fp16": 4e-3}
"""By precision of the bundle, in units of the largest value; others: FLOAT32. Half precision has 11 bits: 4 units of 2^-10."""
FLOAT32: Final = 2e-5
"""About 170 units of 2^-23: the sums of a deep float32 net in another order."""
LEAST_ALIKE: Final = 0.99
"""Share of boxes or pixels of a batch that must be those of the single answers, whatever the precision: the processor is the
same."""
SIZES: Final = (2, 3, 4, 8, 16, 32)
"""Sizes that are proved; no batch is made larger than the largest that was."""


def arrangements(rows: int, size: int) -> list[Array]:
    """Which of `rows` examples stand where in batches of `size`: [size] indices each. Two ways, so that each place has had two
    examples (where there are two), and each example other neighbours."""
    forward = np.arange(size) % rows
    return [forward, rows - 1 - forward]


def differing(alone: Mapping[str, Array], together: Mapping[str, Array], order: Array, precision: str, task: str = "") -> str:
    """What differs between the batch and the single answers of its rows, as a clause; empty when nothing does. Boxes and masks
    are compared by formats.agreement: two that are nearly alike may change places."""
    if compared_as_sets(task):
        return _differing_sets(task, {name: values[order] for name, values in alone.items()}, together, precision)
    relative = ROUNDING.get(precision, FLOAT32)
    for name, single in alone.items():
        wanted, found = single[order], together[name]
        if found.shape != wanted.shape:
            return f"output {name!r} has the shape {list(found.shape)} for {len(order)} examples"
        if wanted.dtype.kind != "f":
            if not np.array_equal(wanted, found):
                return f"output {name!r} of an example changes with its neighbours"
            continue
        largest = _largest(wanted)
        if not np.allclose(found, wanted, rtol=0, atol=relative * largest, equal_nan=True):
            off = float(np.nanmax(np.abs(found.astype(np.float64) - wanted)))
            return f"output {name!r} of an example changes by up to {off:.3g} with its neighbours"
    return ""


def _differing_sets(task: str, wanted: Mapping[str, Array], found: Mapping[str, Array], precision: str) -> str:
    if any(values.shape != found[name].shape for name, values in wanted.items()):
        return "an output has another shape"
    alike = agreement(task, wanted, found, SAME_PLACE)
    least = max(least_share(precision), LEAST_ALIKE)
    return "" if alike.share >= least else f"{100 * (1 - alike.share):.3g} percent of what is found changes with its neighbours"


def varied(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The examples and, where there are fewer than three, others made of them (the values in reverse order): rows must differ,
    or mixing them up would not show."""
    count = len(next(iter(inputs.values())))
    if count >= 3:
        return dict(inputs)
    mirrored = {name: array.reshape(count, -1)[:, ::-1].reshape(array.shape) for name, array in inputs.items()}
    halved = {name: _halved(array) for name, array in inputs.items()}
    return {name: np.concatenate([array, mirrored[name], halved[name]]) for name, array in inputs.items()}


def all_alike(answers: Mapping[str, Array]) -> bool:
    """Whether the single answers are all the same: then nothing can be proved with them."""
    return all(bool(np.all(array == array[:1])) for array in answers.values())


def _halved(array: Array) -> Array:
    return array if array.dtype.kind not in "fiu" else (array / 2).astype(array.dtype)


def _largest(values: Array) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return max(1.0, float(finite.max()) if finite.size else 1.0)
