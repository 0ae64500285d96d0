"""What requests to one version must look like, worked out once from its card: a request is checked with a few comparisons."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from modelyard.formats.bundle import BundleCard, TensorSpec
from modelyard.runtime.inputs import IMAGE
from modelyard.serving.domain.tensors import BYTES, NUMERIC

MOST_KEPT: Final = 1024
"""Signatures, and answer shapes of each, that are kept; beyond it all are forgotten and worked out again."""


@dataclass(frozen=True, slots=True)
class InputRule:
    """One input. `example_bytes`: of one example; 0 for BYTES. `plain`: size is all there is to check (no BYTES, no BOOL)."""

    spec: TensorSpec
    datatype: str
    trailing: tuple[int, ...]
    example_elements: int
    example_bytes: int
    plain: bool
    takes_files: bool


@dataclass(slots=True)
class Signature:
    """The rules of a version. `heads` keeps what answers of the same shapes begin with (see infer_response)."""

    model: str
    version: str
    card: BundleCard
    max_batch: int
    inputs: dict[str, InputRule]
    outputs: tuple[TensorSpec, ...]
    output_index: dict[str, int]
    heads: dict[tuple[tuple[str, str, tuple[int, ...]], ...], bytes] = field(default_factory=dict)


class Signatures:
    """The signatures of the versions that are asked."""

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        self._kept: dict[tuple[str, str], Signature] = {}

    def of(self, model: str, version: str, card: BundleCard) -> Signature:
        """The signature of a version; worked out anew when another card came under the same name."""
        found = self._kept.get((model, version))
        if found is None or found.card is not card:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            found = self._kept[(model, version)] = signature(model, version, card, self._max_batch)
        return found


def signature(model: str, version: str, card: BundleCard, max_batch: int) -> Signature:
    """Works a card's rules out. `max_batch`: most examples of one request."""
    outputs = card.served_outputs
    return Signature(
        model,
        version,
        card,
        max_batch,
        {spec.name: _rule(spec, card) for spec in card.inputs},
        outputs,
        {spec.name: index for index, spec in enumerate(outputs)},
    )


def _rule(spec: TensorSpec, card: BundleCard) -> InputRule:
    trailing = tuple(spec.shape[1:])
    elements = math.prod(trailing)
    size = 0 if spec.datatype == BYTES else elements * NUMERIC[spec.datatype].itemsize
    plain = spec.datatype not in (BYTES, "BOOL")
    files = card.picture is not None and spec.name == IMAGE
    return InputRule(spec, spec.datatype, trailing, elements, size, plain, files)
