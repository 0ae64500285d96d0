"""One loaded model of any format: what goes in and comes out is the signature on the bundle's card.

`load_model` is the only door; what a format's own runtime wants (one example at a time, other scales, other layouts) stays in
its module. What a server answers beside (`label`, runtime.derived) is added here, so that evaluation and serving agree.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol, runtime_checkable

from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition, InvalidArgument, ModelyardError
from modelyard.formats.bundle import Bundle, BundleCard
from modelyard.runtime.derived import Derive, derive
from modelyard.runtime.device import CPU, check_device
from modelyard.runtime.inputs import Tensors, prepared
from modelyard.runtime.native_words import words_of

Array = NDArray[Any]


@dataclass(frozen=True)
class Runtime:
    """Where a format is run: the module of ours with `load`, the package it needs, and our extra that installs it."""

    module: str
    package: str
    extra: str


RUNTIMES: Final[Mapping[str, Runtime]] = {
    "onnx": Runtime("modelyard.runtime.onnx", "onnxruntime", "serving"),
    "litert": Runtime("modelyard.runtime.litert", "ai_edge_litert", "litert"),
    "edge": Runtime("modelyard.runtime.litert", "ai_edge_litert", "litert"),
    "savedmodel": Runtime("modelyard.runtime.savedmodel", "tensorflow", "tensorflow"),
    "openvino": Runtime("modelyard.runtime.openvino", "openvino", "openvino"),
    "torch_export": Runtime("modelyard.runtime.torch_export", "torch", "torch-export"),
}


class Engine(Protocol):
    """What a format's module gives: the model in its runtime."""

    def run(self, tensors: Tensors) -> Tensors:
        """The card's outputs for the card's inputs, which were checked. May be called from several threads at once."""

    def close(self) -> None:
        """Lets go of memory and files. Nothing is run after it."""


@runtime_checkable
class Settles(Protocol):
    """An engine that keeps memory between calls, and can be told how much of it is of use."""

    def settle(self, rows: int, example: Tensors) -> None:
        """Gives back what calls so far took beyond what `example` (one row) needs. From now on calls of more than `rows` give
        theirs back at their end; smaller ones keep it for the next."""


class RunnableModel(Protocol):
    """A model that answers. `run` may be called from several threads at once."""

    @property
    def card(self) -> BundleCard:
        """What it takes and gives."""

    def run(self, inputs: Mapping[str, Array]) -> Tensors:
        """Answers for a batch: every input named as on the card with the batch first, every output likewise, and the derived one.

        `image` may also be an array [N] of dtype object that holds the bytes of JPEG or PNG files. Text is an array of dtype
        object that holds str or bytes (UTF-8). Raises InvalidArgument naming the input, what it is, and what would be right.
        """

    def prepare(self, inputs: Mapping[str, Array]) -> Tensors:
        """The inputs as `run` takes them further: checked, pictures decoded, text as str."""

    def settle(self, rows: int, example: Mapping[str, Array]) -> None:
        """After trials: lets go of memory that serving batches of up to `rows` examples does not need. `example` has one row."""

    def close(self) -> None:
        """Lets go of memory and files. Nothing is run after it."""


@dataclass(frozen=True)
class LoadedModel:
    """The RunnableModel of every format."""

    card: BundleCard
    engine: Engine

    def run(self, inputs: Mapping[str, Array]) -> Tensors:
        """See RunnableModel.run."""
        answers = self.engine.run(self.prepare(inputs))
        if self._derive is not None and self.card.derived is not None:
            answers[self.card.derived.name] = self._derive(answers)
        return answers

    def prepare(self, inputs: Mapping[str, Array]) -> Tensors:
        """See RunnableModel.prepare."""
        return prepared(self.card, inputs)

    def settle(self, rows: int, example: Mapping[str, Array]) -> None:
        """See RunnableModel.settle."""
        if isinstance(self.engine, Settles):
            self.engine.settle(rows, self.prepare(example))

    def close(self) -> None:
        """See RunnableModel.close."""
        self.engine.close()

    @cached_property
    def _derive(self) -> Derive | None:
        return derive(self.card)


def load_model(bundle: Bundle, threads: int = 1, *, concurrency: int = 1, device: str = CPU) -> RunnableModel:
    """Loads a bundle's model; `threads` (1 or more) is how many one call may use.

    `concurrency` (1 or more) is how many calls a runtime that answers one at a time may work on at once: each costs memory, made
    when first needed; calls beyond it wait. onnxruntime, TensorFlow and torch answer any number at once whatever it is.
    `device`: one of runtime.device.DEVICES; a model is measured and proven on the processor unless somebody says otherwise.
    Raises InvalidArgument INVALID_BUNDLE, BAD_THREADS, BAD_DEVICE, EXTERNAL_DATA, UNSUPPORTED_OPERATOR; FailedPrecondition
    RUNTIME_NOT_INSTALLED, DEVICE_NOT_AVAILABLE.
    """
    _check_count("threads", threads)
    _check_count("concurrency", concurrency)
    check_device(device)
    runtime = import_runtime(bundle.card.format)
    try:
        return LoadedModel(bundle.card, runtime.load(bundle, threads, concurrency, device))
    except (ModelyardError, MemoryError):
        raise
    except Exception as error:  # on bytes that are something else a runtime may raise anything
        message = f"bundle {bundle.path.name}: the runtime of the format {bundle.card.format} cannot load it: {words_of(error)}"
        raise InvalidArgument("INVALID_BUNDLE", message, bundle=bundle.path.name) from error


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise InvalidArgument(f"BAD_{name.upper()}", f"{name} is {value}, it must be 1 or more", field=name, value=value)


def import_runtime(form: str) -> Any:
    """The module that runs a format. Raises FailedPrecondition RUNTIME_NOT_INSTALLED when the package it needs is not here."""
    runtime = RUNTIMES[form]
    try:
        importlib.import_module(runtime.package)
    except ImportError as error:
        message = (
            f"a bundle of the format {form} needs {runtime.package}, which is not here: pip install modelyard[{runtime.extra}]"
        )
        raise FailedPrecondition("RUNTIME_NOT_INSTALLED", message, format=form, extra=runtime.extra) from error
    return importlib.import_module(runtime.module)
