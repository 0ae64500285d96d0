"""Which models may answer several requests at once: those whose answers do not depend on the neighbours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.formats.bundle import TestVectors
from modelyard.serving.domain.batch_proof import SIZES, arrangements, differing, varied
from modelyard.serving.handlers.proven_model import prove_batches
from tests.support.runtime_bundles import card

Array = Any


@dataclass
class Computed:
    """A model of one function. It takes no time that would matter, so a batch is always worth it."""

    function: Callable[[Array], Array]
    card: Any = field(default_factory=lambda: card("onnx"))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        answer = self.function(inputs["x"])
        return {"y": answer, "label": np.array([f"{row[0]:.2f}" for row in answer], object)}

    def prepare(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(inputs)

    def labels(self, probabilities: Array) -> Array:
        return probabilities

    def close(self) -> None: ...


def proved(function: Callable[[Array], Array], count: int = 8) -> tuple[int, str]:
    inputs = {"x": np.random.default_rng(0).normal(size=(count, 5)).astype(np.float32)}
    return prove_batches(Computed(function), TestVectors(inputs, {}), 1.0e-2, SIZES[-1])


def honest(x: Array) -> Array:
    return (x * 2 + 1).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_a_model_that_looks_at_each_example_by_itself(count: int) -> None:
    most, note = proved(honest, count)
    assert (most > 1, note) == (True, "")


@pytest.mark.parametrize(
    "function",
    [
        lambda x: honest(x - x.mean(axis=0)),
        lambda x: honest(x[::-1]),
        lambda x: honest(np.roll(x, 1, axis=0)),
        lambda x: honest(np.where(np.arange(len(x))[:, None] == 2, x + 0.01, x)),
        lambda x: honest(np.round(x / np.abs(x).max() * 127) / 127 * np.abs(x).max()),
        lambda x: honest(np.sort(x, axis=0)),
        lambda x: honest(x + 1e-3 * (len(x) > 5)),
    ],
    ids=["normalized over the batch", "reversed", "rolled", "third one off", "dynamic quantization", "sorted", "from six on"],
)
@pytest.mark.parametrize("count", [1, 2, 8])
def test_models_that_must_not_be_batched(function: Callable[[Array], Array], count: int) -> None:
    most, note = proved(function, count)
    assert most == 1
    assert "with its neighbours" in note or "all give the same answer" in note


def test_what_cannot_be_proved() -> None:
    assert proved(lambda x: np.zeros((len(x), 1), np.float32)) == (
        1,
        "its test vectors all give the same answer, so batches cannot be proved",
    )
    assert proved(lambda x: honest(x[:1]))[0] == 1


def test_rounding_is_let_pass() -> None:
    most, _ = proved(lambda x: (honest(x) * np.float32(1 + 1e-6 * (len(x) > 1))).astype(np.float32))
    assert most == 32


@given(st.integers(1, 40), st.sampled_from(SIZES))
def test_arrangements_use_every_place_twice_and_only_what_is_there(count: int, size: int) -> None:
    found = arrangements(count, size)
    assert all(order.shape == (size,) and order.min() >= 0 and order.max() < count for order in found)
    if count >= 2:
        assert (found[0] != found[1]).any()


@given(st.integers(1, 2), st.integers(1, 6))
def test_few_vectors_become_more(count: int, features: int) -> None:
    more = varied({"x": np.arange(1, count * features + 1, dtype=np.uint8).reshape(count, features)})["x"]
    assert more.dtype == np.uint8
    assert more.shape == (3 * count, features)


def test_labels_must_be_equal() -> None:
    labels = np.array(["a", "b"], object)
    assert differing({"label": labels}, {"label": labels[::-1]}, np.array([0, 1]), "fp32") != ""
    assert differing({"label": labels}, {"label": labels[::-1]}, np.array([1, 0]), "fp32") == ""
