"""Runs a bundle's OpenVINO IR (`model.xml`, `model.bin`) on OpenVINO's CPU plug-in.

Threads: each call gets the number given, on a stream of its own when there is more than one call at once. Arithmetic is float32
whatever the processor has (OpenVINO would choose bfloat16 where it can), so that a model answers everywhere as it was proven;
layers that are quantized stay int8.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import openvino

from modelyard.core.errors import InvalidArgument
from modelyard.formats.bundle import Bundle
from modelyard.formats.bundle_files import OPENVINO_BIN, OPENVINO_XML
from modelyard.runtime.device import only_cpu
from modelyard.runtime.inputs import Tensors
from modelyard.runtime.native_words import words_of
from modelyard.runtime.pool import Pool
from modelyard.runtime.wires import GraphTensor, connect


class OpenvinoEngine:
    """A compiled model with the requests that run it."""

    def __init__(self, bundle: Bundle, threads: int, concurrency: int) -> None:
        """Raises InvalidArgument INVALID_BUNDLE."""
        model, compiled = _compiled(bundle, threads, concurrency)
        inputs = [_graph_tensor(port, place) for place, port in enumerate(model.inputs)]
        outputs = [_graph_tensor(port, place) for place, port in enumerate(model.outputs)]
        self._inputs, self._outputs = connect(bundle.path, bundle.card, inputs, outputs)
        self._batch = _batch_of(bundle, [wire.tensor for wire in self._inputs])
        self._pool: Pool[Any] = Pool(compiled.create_infer_request, concurrency)

    def run(self, tensors: Tensors) -> Tensors:
        """See Engine.run."""
        entering = {wire.tensor.index: wire.entering(tensors[wire.spec.name]) for wire in self._inputs}
        count = len(next(iter(entering.values())))
        step = self._batch or count
        answers: list[list[Any]] = [[] for _ in self._outputs]
        with self._pool.taken() as request:
            for start in range(0, count, step):
                results = request.infer({index: values[start : start + step] for index, values in entering.items()})
                for wire, parts in zip(self._outputs, answers, strict=True):
                    parts.append(results[wire.tensor.index].copy())
        return {wire.spec.name: wire.leaving(np.concatenate(parts)) for wire, parts in zip(self._outputs, answers, strict=True)}

    def close(self) -> None:
        """See Engine.close."""
        self._pool.clear()


def load(bundle: Bundle, threads: int, concurrency: int, device: str) -> OpenvinoEngine:
    """The engine of a bundle."""
    only_cpu(device, "OpenVINO")
    return OpenvinoEngine(bundle, threads, concurrency)


def _compiled(bundle: Bundle, threads: int, concurrency: int) -> tuple[Any, Any]:
    files = bundle.model_files()
    settings = {
        "INFERENCE_NUM_THREADS": threads * concurrency,
        "NUM_STREAMS": concurrency,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    try:
        core = openvino.Core()
        model = core.read_model(model=files[OPENVINO_XML], weights=files[OPENVINO_BIN])
        return model, core.compile_model(model, "CPU", settings)
    except Exception as error:  # OpenVINO's exceptions share no base class but this one
        message = f"bundle {bundle.path.name}: OpenVINO cannot load model.xml with model.bin: {_reason(error)}"
        raise InvalidArgument("INVALID_BUNDLE", message, bundle=bundle.path.name) from error


def _reason(error: Exception) -> str:
    """The last line of OpenVINO's message: those before name the places in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return words_of(RuntimeError(lines[-1])) if lines else type(error).__name__


_DTYPES: Final = {"boolean": "bool", "f16": "float16", "f32": "float32", "f64": "float64"} | {
    f"{kind}{bits}": f"{name}{bits}" for kind, name in (("i", "int"), ("u", "uint")) for bits in (8, 16, 32, 64)
}


def _graph_tensor(port: Any, place: int) -> GraphTensor:
    shape = tuple(-1 if size.is_dynamic else int(size.get_length()) for size in port.partial_shape)
    names = tuple(sorted(port.get_names())) or (port.get_node().get_friendly_name(),)
    return GraphTensor(names, _DTYPES.get(port.element_type.to_string(), "object"), shape, index=place)


def _batch_of(bundle: Bundle, tensors: list[GraphTensor]) -> int:
    """The number of examples the graph takes at once: 1, or 0 for any."""
    sizes = {tensor.shape[0] for tensor in tensors}
    if sizes == {-1}:
        return 0
    if sizes != {1}:
        message = f"bundle {bundle.path.name}: its graph takes {sorted(sizes)} examples at once; it must be 1 or any number"
        raise InvalidArgument("INVALID_BUNDLE", message, bundle=bundle.path.name)
    return 1
