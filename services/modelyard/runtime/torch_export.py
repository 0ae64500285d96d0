"""Runs a bundle's `model.pt2`, a torch.export program: its ATen operators one after the other, by torch.

torch's own loader is not used, because it unpickles and evaluates (runtime/torch_program.py says what). The steps that were read
and checked are called as they stand; a value is let go of after its last use. In float32 everywhere, TensorFloat-32 off, so that
a GPU answers as a processor does.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.formats.bundle import Bundle
from modelyard.runtime.device import CPU, chosen_device
from modelyard.runtime.inputs import Tensors
from modelyard.runtime.native_words import words_of
from modelyard.runtime.torch_import import torch
from modelyard.runtime.torch_operators import IN_PLACE
from modelyard.runtime.torch_program import (
    DTYPES,
    Name,
    OperatorError,
    Program,
    ProgramError,
    Signature,
    Step,
    Stored,
    Typed,
    read_program,
)
from modelyard.runtime.wires import GraphTensor, connect

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], tuple[str, ...], bool, tuple[str, ...]]
"""What to call, its arguments and keywords, the names of its values, whether it gives a list, and what is not used again."""

_MODULES: Final = {"_operator": operator}
_LAYOUTS: Final = {7: torch.strided}
_MEMORY_FORMATS: Final = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}


class TorchExportEngine:
    """A program with its weights in memory, which answers any number of calls at once."""

    def __init__(self, bundle: Bundle, threads: int, device: str) -> None:
        """Raises InvalidArgument INVALID_BUNDLE, UNSUPPORTED_OPERATOR; FailedPrecondition DEVICE_NOT_AVAILABLE."""
        program = _read(bundle)
        self._threads = threads
        self._device = torch.device(chosen_device(device, cuda=device != CPU and torch.cuda.is_available()))
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        inputs = [_graph_tensor(each, place) for place, each in enumerate(program.inputs)]
        outputs = [_graph_tensor(each, place) for place, each in enumerate(program.outputs)]
        self._inputs, self._outputs = connect(bundle.path, bundle.card, inputs, outputs)
        self._names = [each.name for each in program.inputs], [each.name for each in program.outputs]
        self._batch = _batch_of(bundle, program.inputs)
        self._calls, self._given = _prepared(bundle, program, self._device)

    def run(self, tensors: Tensors) -> Tensors:
        """See Engine.run."""
        if torch.get_num_threads() != self._threads:  # OpenMP's number is of the thread that calls, and of no other
            torch.set_num_threads(self._threads)
        entering = {wire.tensor.index: wire.entering(tensors[wire.spec.name]) for wire in self._inputs}
        count = len(next(iter(entering.values())))
        step = self._batch or count
        parts = [
            self._answers({place: _filled(values[start : start + step], self._batch) for place, values in entering.items()})
            for start in range(0, count, step)
        ]
        joined = [np.concatenate(values)[:count] for values in zip(*parts, strict=True)]
        return {wire.spec.name: wire.leaving(joined[wire.tensor.index]) for wire in self._outputs}

    def close(self) -> None:
        """See Engine.close."""
        self._calls, self._given = [], {}

    def _answers(self, entering: Mapping[int, NDArray[Any]]) -> list[NDArray[Any]]:
        given, wanted = self._names
        with torch.inference_mode():
            values = self._given | {
                name: torch.from_numpy(_writable(entering[place])).to(self._device) for place, name in enumerate(given)
            }
            for function, arguments, keywords, names, many, done in self._calls:
                found = function(
                    *(_value(each, values) for each in arguments), **{key: _value(each, values) for key, each in keywords.items()}
                )
                values.update(zip(names, found if many else (found,), strict=False) if names else ())
                for name in done:
                    del values[name]
            return [values[name].cpu().numpy() for name in wanted]


def load(bundle: Bundle, threads: int, concurrency: int, device: str) -> TorchExportEngine:
    """The engine of a bundle. `concurrency` does not matter: a program is not in one call's hands."""
    return TorchExportEngine(bundle, threads, device)


def _read(bundle: Bundle) -> Program:
    """The bundle's program. Raises InvalidArgument UNSUPPORTED_OPERATOR, INVALID_BUNDLE."""
    with _refusals(bundle):
        return read_program(bundle.model_bytes())


@contextlib.contextmanager
def _refusals(bundle: Bundle) -> Iterator[None]:
    """What is wrong with a program, as errors of ours."""
    try:
        yield
    except OperatorError as error:
        message = f"bundle {bundle.path.name}: model.pt2 uses the operator {error.operator!r}, which is not run here"
        raise InvalidArgument("UNSUPPORTED_OPERATOR", message, bundle=bundle.path.name, operators=error.operator) from error
    except ProgramError as error:
        message = f"bundle {bundle.path.name}: model.pt2 cannot be taken: {error}"
        raise InvalidArgument("INVALID_BUNDLE", message, bundle=bundle.path.name) from error


def _graph_tensor(signature: Signature, place: int) -> GraphTensor:
    return GraphTensor((signature.name,), signature.dtype, signature.shape, index=place)


def _batch_of(bundle: Bundle, inputs: tuple[Signature, ...]) -> int:
    """The number of examples the program takes at once; 0 for any."""
    sizes = {each.shape[0] if each.shape else 0 for each in inputs}
    if sizes == {-1}:
        return 0
    if len(sizes) != 1 or min(sizes) < 1:
        message = f"bundle {bundle.path.name}: the inputs of model.pt2 hold different numbers of examples: {sorted(sizes)}"
        raise InvalidArgument("INVALID_BUNDLE", message, bundle=bundle.path.name)
    return sizes.pop()


def _filled(values: NDArray[Any], batch: int) -> NDArray[Any]:
    """The examples, and the last one again as often as the program needs more."""
    missing = batch - len(values)
    return values if missing <= 0 else np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])


def _writable(values: NDArray[Any]) -> NDArray[Any]:
    """torch warns of arrays that must not be written to; nothing here writes to one, but there is no other way to say so."""
    return values if values.flags.writeable else values.copy()


# From steps to calls


def _prepared(bundle: Bundle, program: Program, device: Any) -> tuple[list[Call], dict[str, Any]]:
    try:
        with _refusals(bundle):
            return _calls(program, device)
    except (AttributeError, RuntimeError, TypeError, ValueError, KeyError) as error:  # what torch raises on what does not fit
        message = f"bundle {bundle.path.name}: torch cannot take model.pt2: {words_of(error)}"
        raise InvalidArgument("INVALID_BUNDLE", message, bundle=bundle.path.name) from error


def _calls(program: Program, device: Any) -> tuple[list[Call], dict[str, Any]]:
    stored = {name: _tensor(each).to(device) for name, each in program.stored.items()}
    done = _last_uses(program)
    return [_call(step, done[place], device) for place, step in enumerate(program.steps)], stored


def _tensor(stored: Stored) -> Any:
    """A tensor of its own memory; one of four axes with its channels last, as the convolutions on a picture take it."""
    dtype = getattr(torch, DTYPES[stored.dtype][0])
    flat = torch.frombuffer(bytearray(stored.data), dtype=dtype) if stored.data else torch.empty(0, dtype=dtype)
    tensor = torch.as_strided(flat, stored.sizes, stored.strides, stored.offset)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor.contiguous()


def _call(step: Step, done: tuple[str, ...], device: Any) -> Call:
    arguments = tuple(_ready(each, device) for each in step.arguments)
    keywords = {key: _ready(each, device) for key, each in step.keywords.items()}
    return _function(step), arguments, keywords, step.outputs, step.many, done


def _function(step: Step) -> Any:
    """The operator. Raises OperatorError for an overload that writes into an argument where the name does not say so."""
    family, _, name = step.operator.partition(".")
    function = getattr(_MODULES[family] if family in _MODULES else getattr(torch.ops.aten, family), name)
    if hasattr(function, "_schema") and function._schema.is_mutable and family not in IN_PLACE:
        raise OperatorError(step.operator)
    return function


def _ready(value: Any, device: Any) -> Any:
    """An argument as torch takes it; names stay names."""
    if isinstance(value, tuple):
        return [_ready(each, device) for each in value]
    if not isinstance(value, Typed):
        return value
    if value.kind == "device":
        return device
    if value.kind == "dtype":
        return getattr(torch, DTYPES[value.value][0])
    return (_LAYOUTS if value.kind == "layout" else _MEMORY_FORMATS)[value.value]


def _value(value: Any, values: Mapping[str, Any]) -> Any:
    if type(value) is Name:
        return values[value.name]
    return [_value(each, values) for each in value] if type(value) is list else value


def _last_uses(program: Program) -> list[tuple[str, ...]]:
    """By step: the values that nothing uses after it."""
    kept = {each.name for each in program.outputs} | set(program.stored)
    last = {name: place for place, step in enumerate(program.steps) for name in (*_uses(step), *filter(None, step.outputs))}
    done: list[list[str]] = [[] for _ in program.steps]
    for name, place in last.items():
        if name not in kept:
            done[place].append(name)
    return [tuple(names) for names in done]


def _uses(step: Step) -> list[str]:
    return [*_named(step.arguments), *_named(tuple(step.keywords.values()))]


def _named(value: Any) -> list[str]:
    if isinstance(value, Name):
        return [value.name]
    return [name for each in value for name in _named(each)] if isinstance(value, tuple) else []
