"""Runs a bundle's `model.tflite` on LiteRT (XNNPACK on a CPU).

A graph is made for a fixed number of examples, nearly always one, and is run as often as the batch needs: so an example gets the
same answer alone and in a batch. Resizing the graph gains nothing but for tiny dense ones (docs/decisions/0012-runtimes.md).
An interpreter serves one caller at a time; there are as many as callers at once, up to `concurrency`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.formats.bundle import Bundle
from modelyard.runtime.device import only_cpu
from modelyard.runtime.inputs import Tensors
from modelyard.runtime.native_words import words_of
from modelyard.runtime.pool import Pool
from modelyard.runtime.wires import GraphTensor, Wire, connect

Array = NDArray[Any]

_IDENTIFIER: Final = b"TFL3"
_MOST_OPERATOR_KINDS: Final = 10_000


class LitertEngine:
    """A .tflite model with the interpreters that run it."""

    def __init__(self, bundle: Bundle, threads: int, concurrency: int) -> None:
        """Raises InvalidArgument INVALID_BUNDLE, UNSUPPORTED_OPERATOR."""
        model = bundle.model_bytes()
        _check_operators(bundle, model)
        self._pool = Pool(lambda: _interpreter(bundle, model, threads), concurrency)
        with self._pool.taken() as interpreter:
            inputs, outputs = graph_tensors(interpreter)
        self._inputs, self._outputs = connect(bundle.path, bundle.card, inputs, outputs)
        self._batch = _batch_of(bundle, [*self._inputs, *self._outputs])

    def run(self, tensors: Tensors) -> Tensors:
        """See Engine.run."""
        entering = [(wire.tensor.index, wire.entering(tensors[wire.spec.name])) for wire in self._inputs]
        count = len(entering[0][1])
        answers: list[list[Array]] = [[] for _ in self._outputs]
        with self._pool.taken() as interpreter:
            for start in range(0, count, self._batch):
                for index, values in entering:
                    interpreter.set_tensor(index, _filled(values[start : start + self._batch], self._batch))
                interpreter.invoke()
                for wire, parts in zip(self._outputs, answers, strict=True):
                    parts.append(interpreter.get_tensor(wire.tensor.index))
        return {
            wire.spec.name: wire.leaving(np.concatenate(parts)[:count])
            for wire, parts in zip(self._outputs, answers, strict=True)
        }

    def close(self) -> None:
        """See Engine.close."""
        self._pool.clear()


def load(bundle: Bundle, threads: int, concurrency: int, device: str) -> LitertEngine:
    """The engine of a bundle."""
    only_cpu(device, "LiteRT")
    return LitertEngine(bundle, threads, concurrency)


def graph_tensors(interpreter: Any) -> tuple[list[GraphTensor], list[GraphTensor]]:
    """Inputs and outputs of the main graph. Their names are the tensor's and, where it has one, that in the signature."""
    aliases: dict[int, str] = {}
    for key in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(key)
        for details in (runner.get_input_details(), runner.get_output_details()):
            aliases |= {tensor["index"]: name for name, tensor in details.items()}
        break
    sides = (interpreter.get_input_details(), interpreter.get_output_details())
    inputs, outputs = ([_graph_tensor(tensor, aliases) for tensor in side] for side in sides)
    return inputs, outputs


def _graph_tensor(details: Any, aliases: dict[int, str]) -> GraphTensor:
    scale, zero_point = details["quantization"]
    alias = aliases.get(details["index"])
    names = (details["name"], *([alias] if alias else []))
    shape = tuple(int(size) for size in details["shape"])
    dtype = np.dtype(details["dtype"]).name
    return GraphTensor(names, dtype, shape, float(scale), int(zero_point), int(details["index"]))


def _interpreter(bundle: Bundle, model: bytes, threads: int) -> Any:
    try:
        interpreter = Interpreter(model_content=model, num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        message = f"bundle {bundle.path.name}: LiteRT cannot load model.tflite: {words_of(error)}"
        raise InvalidArgument("INVALID_BUNDLE", message, bundle=bundle.path.name) from error
    return interpreter


def _check_operators(bundle: Bundle, model: bytes) -> None:
    """Only LiteRT's own operators: those of another library (TensorFlow's "select ops", custom ones) are not there."""
    try:
        foreign = foreign_operators(model)
    except Exception as error:  # the flatbuffers package raises many kinds on bytes that are something else
        message = f"bundle {bundle.path.name}: model.tflite is not a readable .tflite file ({words_of(error)})"
        raise InvalidArgument("INVALID_BUNDLE", message, bundle=bundle.path.name) from error
    if foreign:
        names = ", ".join(foreign[:20])
        message = f"bundle {bundle.path.name}: model.tflite uses operators that LiteRT does not have itself: {names}"
        raise InvalidArgument("UNSUPPORTED_OPERATOR", message, bundle=bundle.path.name, operators=names)


def foreign_operators(model: bytes) -> list[str]:
    """Names of the custom operators of a .tflite file, those of TensorFlow ("Flex...") among them. Raises on other bytes."""
    from ai_edge_litert import schema_py_generated as schema

    if model[4:8] != _IDENTIFIER:
        raise ValueError("it does not carry the mark TFL3")
    root = schema.Model.GetRootAs(model, 0)
    count = root.OperatorCodesLength()
    if count > _MOST_OPERATOR_KINDS:
        raise ValueError(f"it lists {count} kinds of operators")
    codes = [root.OperatorCodes(place) for place in range(count)]
    return sorted({(code.CustomCode() or b"?").decode() for code in codes if _is_custom(code)})


def _is_custom(code: Any) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    return bool(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) == schema.BuiltinOperator.CUSTOM or code.CustomCode())


def _batch_of(bundle: Bundle, wires: list[Wire]) -> int:
    """The number of examples the graph takes at once."""
    sizes = {wire.tensor.shape[0] for wire in wires}
    if len(sizes) != 1 or min(sizes) < 1:
        message = f"bundle {bundle.path.name}: the tensors of model.tflite hold different numbers of examples: {sorted(sizes)}"
        raise InvalidArgument("INVALID_BUNDLE", message, bundle=bundle.path.name)
    return sizes.pop()


def _filled(values: Array, batch: int) -> Array:
    """The examples, and the last one again as often as the graph needs more."""
    missing = batch - len(values)
    return values if not missing else np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])
