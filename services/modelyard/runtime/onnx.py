"""Runs a bundle's ONNX model on onnxruntime.

Threads: onnxruntime gets exactly the number given and its threads do not spin while they wait, so that several models share a
machine fairly. The graph takes and gives the card's tensors as they are.
"""

from __future__ import annotations

from typing import Any

import onnxruntime

from modelyard.core.errors import InvalidArgument
from modelyard.formats.bundle import DATATYPES, Bundle
from modelyard.runtime.inputs import Tensors
from modelyard.runtime.onnx_wire import NotOnnxError, has_external_data


class OnnxEngine:
    """An onnxruntime session, which answers any number of calls at once."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        """Raises InvalidArgument INVALID_BUNDLE, EXTERNAL_DATA."""
        self._outputs = [spec.name for spec in bundle.card.outputs]
        self._session = _session(bundle, threads)
        _check_signature(self._session, bundle)

    def run(self, tensors: Tensors) -> Tensors:
        """See Engine.run."""
        return dict(zip(self._outputs, self._session.run(self._outputs, tensors), strict=True))

    def close(self) -> None:
        """See Engine.close."""
        self._session = None


def load(bundle: Bundle, threads: int, concurrency: int) -> OnnxEngine:
    """The engine of a bundle. `concurrency` does not matter: a session is not in one call's hands."""
    return OnnxEngine(bundle, threads)


_ORT_TYPES = {
    "BOOL": "tensor(bool)",
    "FP16": "tensor(float16)",
    "FP32": "tensor(float)",
    "FP64": "tensor(double)",
    "BYTES": "tensor(string)",
} | {name: f"tensor({DATATYPES[name]})" for name in DATATYPES if "INT" in name}


def _check_signature(session: Any, bundle: Bundle) -> None:
    """The graph's inputs and outputs must be those of the card, or a caller would meet onnxruntime's own errors."""
    for found, specs in ((session.get_inputs(), bundle.card.inputs), (session.get_outputs(), bundle.card.outputs)):
        graph = {value.name: (value.type, list(value.shape)) for value in found}
        card = {spec.name: (_ORT_TYPES.get(spec.datatype), list(spec.shape)) for spec in specs}
        if graph.keys() != card.keys() or any(not _fits(*graph[name], *card[name]) for name in card):
            message = f"bundle {bundle.path.name}: its graph has {graph}, its card says {card}"
            raise InvalidArgument("INVALID_BUNDLE", message, bundle=bundle.path.name)


def _fits(found: str, graph: list[int | str | None], wanted: str | None, card: list[int]) -> bool:
    """The same datatype and sizes; what the graph leaves open (a name, None), and the batch, fit anything."""
    if found != wanted or len(graph) != len(card):
        return False
    return all(a == b for a, b in zip(graph[1:], card[1:], strict=True) if isinstance(a, int))


def _session(bundle: Bundle, threads: int) -> Any:
    model = bundle.model_bytes()
    try:
        if has_external_data(model):
            message = f"bundle {bundle.path.name}: model.onnx refers to files outside it; weights must be inside"
            raise InvalidArgument("EXTERNAL_DATA", message, bundle=bundle.path.name)
        return onnxruntime.InferenceSession(model, _options(threads), providers=["CPUExecutionProvider"])
    except NotOnnxError as error:
        message = f"bundle {bundle.path.name}: model.onnx is not an ONNX file: {error}"
        raise InvalidArgument("INVALID_BUNDLE", message, bundle=bundle.path.name) from error
    except Exception as error:  # onnxruntime's exceptions share no base class but this one
        if isinstance(error, InvalidArgument):
            raise
        message = f"bundle {bundle.path.name}: onnxruntime cannot load model.onnx: {str(error)[:300]}"
        raise InvalidArgument("INVALID_BUNDLE", message, bundle=bundle.path.name) from error


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
