"""One call of a model: raw tensors in, raw tensors out. The same in a process of its own and in the server."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument, ModelyardError
from modelyard.formats.bundle import BundleCard, TensorSpec
from modelyard.runtime.derived import derive
from modelyard.runtime.inputs import IMAGE, LABEL, PROBABILITIES
from modelyard.runtime.model import LoadedModel
from modelyard.serving.domain.drift import DriftScore
from modelyard.serving.domain.tensors import BYTES, NUMERIC, encode_raw, split_bytes

Array = NDArray[Any]
log = logging.getLogger(__name__)
_NO_MEMORY: Final = ("bad_alloc", "Failed to allocate memory", "out of memory", "OOM")
"""How runtimes say that memory could not be had."""


class Observe(Protocol):
    """Watches what a model sees and answers, cheaply; keeps counts, never the tensors."""

    def due(self) -> bool:
        """Whether `seen` would look at a call now; asked after each, so it costs next to nothing."""

    def seen(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], files: Sequence[bytes] = ()) -> None:
        """After each call, with the batch: inputs as the model took them; where pictures came as files, those. Never raises."""

    def scores(self) -> tuple[DriftScore, ...]:
        """How far what was seen lately is from the training data."""


class Execution:
    """The calls of one model."""

    def __init__(self, model: LoadedModel, observe: Observe | None = None) -> None:
        self._model = model
        self._observe = observe
        self._observing = threading.Lock()  # an observer is for one thread; a call that meets it busy is not observed
        self.inputs = model.card.inputs
        self.outputs = model.card.served_outputs
        self._labels = [encode_label(name) for name in model.card.classes] if _names_one(model.card) else []
        self._derive = None if self._labels else derive(model.card)
        self._engine = model.engine
        self._has_bytes = model.card.picture is not None or any(spec.datatype == BYTES for spec in model.card.inputs)

    def read(self, rows: int, tensors: Sequence[tuple[str, bytes | memoryview]]) -> dict[str, Array]:
        """Arrays of raw tensors, each with its datatype, in the order of the card; BYTES for a picture are files [rows].

        Numbers are views of the given memory. Raises InvalidArgument.
        """
        arrays = {}
        for spec, (datatype, data) in zip(self.inputs, tensors, strict=True):
            if datatype == BYTES:
                arrays[spec.name] = _elements(spec, rows, bytes(data))
            else:
                arrays[spec.name] = np.frombuffer(data, NUMERIC[spec.datatype]).reshape(rows, *spec.shape[1:])
        return arrays

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The answers. Raises InvalidArgument for contents that the model cannot take, MemoryError.

        What the runtime itself raises counts as the contents' fault too (MODEL_REFUSED): the model has answered its test vectors,
        so it can compute; an index beyond its table, for one, is found only there.
        """
        try:
            return self._observed(inputs)
        except (ModelyardError, MemoryError):
            raise
        except Exception as error:  # runtimes' exceptions share no base class but this one
            if any(sign in str(error) for sign in _NO_MEMORY):
                raise MemoryError from error
            log.warning("the model cannot compute a request", exc_info=True)
            raise InvalidArgument(
                "MODEL_REFUSED", "the model cannot compute an answer to these values", field="inputs"
            ) from error

    def _observed(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Numbers go straight to the runtime: they have the card's types and shapes, as views that `read` made."""
        files: Sequence[bytes] = ()
        if self._has_bytes and any(array.dtype == object for array in inputs.values()):
            image = inputs.get(IMAGE)
            files = image.tolist() if image is not None and image.dtype == object else ()
            inputs = self._model.prepare(inputs)
        answers = self._engine.run(dict(inputs))
        observe = self._observe
        if observe is not None and observe.due() and self._observing.acquire(blocking=False):
            try:
                observe.seen(inputs, answers, files)
            finally:
                self._observing.release()
        return answers

    def write(self, answers: Mapping[str, Array]) -> list[bytes | memoryview]:
        """The served outputs, raw, in the order of the card."""
        raw: list[bytes | memoryview] = [encode_raw(answers[spec.name]) for spec in self._model.card.outputs]
        if self._labels:
            classes = answers[PROBABILITIES].argmax(axis=1).tolist()  # the first of equals, as RunnableModel.labels
            raw.append(b"".join([self._labels[index] for index in classes]))
        elif self._derive is not None:
            raw.append(b"".join([encode_label(name) for name in self._derive(answers).ravel().tolist()]))
        return raw

    def scores(self) -> tuple[DriftScore, ...]:
        """What the observer says; empty without one."""
        if self._observe is None:
            return ()
        with self._observing:
            return self._observe.scores()

    def close(self) -> None:
        """Lets go of the model."""
        self._model.close()


def _elements(spec: TensorSpec, rows: int, data: bytes) -> Array:
    """Byte strings as the card shapes them, or [rows] picture files where it wants pixels."""
    shape = (rows, *spec.shape[1:]) if spec.datatype == BYTES else (rows,)
    array = np.empty(math.prod(shape), dtype=object)
    array[:] = split_bytes(spec.name, data, len(array))
    return array.reshape(shape)


def _names_one(card: BundleCard) -> bool:
    """Whether `label` is to be served: its names are encoded once, for that is most of what writing an answer takes."""
    return card.derived is not None and card.derived.name == LABEL


def encode_label(name: str) -> bytes:
    """A label as an element of a BYTES tensor."""
    data = name.encode()
    return len(data).to_bytes(4, "little") + data
