"""The test vectors of a bundle: example inputs with the outputs to expect, as safetensors, or JSON where an input holds text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

VECTORS_SAFETENSORS: Final = "test_vectors.safetensors"
VECTORS_JSON: Final = "test_vectors.json"

Array = NDArray[Any]


@dataclass(frozen=True)
class TestVectors:
    """Real example inputs with the outputs to expect, by tensor name; the first axis of each array is the example.

    Text is an array of dtype object that holds `str`.
    """

    __test__ = False  # not a test class, whatever its name says to pytest

    inputs: dict[str, Array]
    outputs: dict[str, Array]

    @property
    def count(self) -> int:
        """Number of examples."""
        return int(next(iter(self.inputs.values())).shape[0]) if self.inputs else 0


def vectors_file(vectors: TestVectors) -> tuple[str, bytes]:
    """Name and bytes of the file that holds them."""
    if any(array.dtype == object for array in (*vectors.inputs.values(), *vectors.outputs.values())):
        return VECTORS_JSON, vectors_to_json(vectors)
    return VECTORS_SAFETENSORS, vectors_to_safetensors(vectors)


def vectors_to_safetensors(vectors: TestVectors) -> bytes:
    """As a safetensors file; only numbers."""
    from safetensors.numpy import save

    arrays = {f"input.{name}": value for name, value in vectors.inputs.items()}
    arrays |= {f"output.{name}": value for name, value in vectors.outputs.items()}
    return bytes(save({name: np.ascontiguousarray(value) for name, value in arrays.items()}))


def vectors_from_safetensors(data: bytes) -> TestVectors:
    """Reads what vectors_to_safetensors wrote."""
    from safetensors.numpy import load

    arrays: dict[str, Array] = load(data)
    sides = {side: {k.removeprefix(side): v for k, v in arrays.items() if k.startswith(side)} for side in ("input.", "output.")}
    return TestVectors(sides["input."], sides["output."])


def vectors_to_json(vectors: TestVectors) -> bytes:
    """As JSON: numbers exact, NaN as null, text as it is."""
    document = {
        side: {
            name: {"dtype": array.dtype.name, "shape": list(array.shape), "values": _json_values(array)} for name, array in arrays
        }
        for side, arrays in (("inputs", sorted(vectors.inputs.items())), ("outputs", sorted(vectors.outputs.items())))
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


def _json_values(array: Array) -> list[object]:
    """The values in C order; NaN, which JSON does not have, as null. float32 -> float64 -> text -> back is exact."""
    values = array.ravel().tolist()
    return [None if isinstance(value, float) and value != value else value for value in values]


def vectors_from_json(data: bytes) -> TestVectors:
    """Reads what vectors_to_json wrote."""
    document = json.loads(data)
    return TestVectors(*({name: _json_array(entry) for name, entry in document[side].items()} for side in ("inputs", "outputs")))


def _json_array(entry: Mapping[str, Any]) -> Array:
    dtype = np.dtype(entry["dtype"])
    values = entry["values"]
    if dtype.kind == "f":
        values = [float("nan") if value is None else value for value in values]
    array = np.empty(len(values), dtype=dtype)
    array[:] = values
    return array.reshape(entry["shape"])
