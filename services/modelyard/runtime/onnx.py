"""Runs a bundle's ONNX model on onnxruntime.

Threads: onnxruntime gets exactly the number given and its threads do not spin while they wait, so that several models share a
machine fairly. The graph takes and gives the card's tensors as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import onnxruntime

from modelyard.core.errors import InvalidArgument
from modelyard.formats.bundle import DATATYPES, Bundle, TensorSpec
from modelyard.runtime.device import CUDA, chosen_device, not_available
from modelyard.runtime.inputs import Tensors
from modelyard.runtime.native_words import words_of
from modelyard.runtime.onnx_check import check_onnx


class OnnxEngine:
    """An onnxruntime session, which answers any number of calls at once."""

    def __init__(self, bundle: Bundle, threads: int, device: str) -> None:
        """Raises InvalidArgument INVALID_BUNDLE, EXTERNAL_DATA, UNSUPPORTED_OPERATOR; FailedPrecondition DEVICE_NOT_AVAILABLE."""
        self._outputs = [spec.name for spec in bundle.card.outputs]
        self._session = _session(bundle, threads, device)
        _check_signature(self._session, bundle)
        taken = {value.name for value in self._session.get_inputs()}
        self._texts = bundle.card.texts
        self._only_read = {each.input for each in self._texts} - taken
        self._first = bundle.card.inputs[0].name
        self._usual_rows: int | None = None
        self._giving_back = _giving_back()

    def run(self, tensors: Tensors) -> Tensors:
        """See Engine.run."""
        usual = self._usual_rows
        rows = len(tensors[self._first])
        if self._texts:
            tensors = self._read(tensors)
        if usual is None or rows <= usual:
            answers = self._session.run(self._outputs, tensors)
        else:
            answers = self._session.run(self._outputs, tensors, self._giving_back)
        return dict(zip(self._outputs, answers, strict=True))

    def settle(self, rows: int, example: Tensors) -> None:
        """See model.Settles."""
        if self._session.get_providers() == [_CPU]:  # another device's memory is not asked for
            self._session.run(self._outputs, self._read(example) if self._texts else example, self._giving_back)
            self._usual_rows = rows

    def close(self) -> None:
        """See Engine.close."""
        self._session = None

    def _read(self, tensors: Tensors) -> Tensors:
        """The tensors with the texts that the graph takes as numbers."""
        kept = {name: values for name, values in tensors.items() if name not in self._only_read}
        return {**kept, **{each.tensor: each.reading.numbers(tensors[each.input][:, 0]) for each in self._texts}}


def load(bundle: Bundle, threads: int, concurrency: int, device: str) -> OnnxEngine:
    """The engine of a bundle. `concurrency` does not matter: a session is not in one call's hands."""
    return OnnxEngine(bundle, threads, device)


_ORT_TYPES = {
    "BOOL": "tensor(bool)",
    "FP16": "tensor(float16)",
    "FP32": "tensor(float)",
    "FP64": "tensor(double)",
    "BYTES": "tensor(string)",
} | {name: f"tensor({DATATYPES[name]})" for name in DATATYPES if "INT" in name}


def _check_signature(session: Any, bundle: Bundle) -> None:
    """The graph's inputs and outputs must be those of the card, or a caller would meet onnxruntime's own errors."""
    texts = bundle.card.texts
    read = {each.input for each in texts} - {value.name for value in session.get_inputs()}
    inputs = [spec for spec in bundle.card.inputs if spec.name not in read]
    inputs += [TensorSpec(each.tensor, "FP32", (-1, each.width)) for each in texts]
    for found, specs in ((session.get_inputs(), inputs), (session.get_outputs(), bundle.card.outputs)):
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


def _session(bundle: Bundle, threads: int, device: str) -> Any:
    model = bundle.model_bytes()
    check_onnx(model, f"bundle {bundle.path.name}: model.onnx")
    wanted = providers(device, onnxruntime.get_available_providers())
    try:
        return _opened(model, threads, wanted)
    except Exception as error:  # onnxruntime's exceptions share no base class but this one
        reason = words_of(error)
    if wanted != [_CPU]:  # a GPU that is there but cannot be used: no driver, no memory, libraries of another version
        return _on_the_processor(bundle, model, threads, device, reason)
    raise _refused(bundle, reason)


def _on_the_processor(bundle: Bundle, model: bytes, threads: int, device: str, reason: str) -> Any:
    if device == CUDA:
        raise not_available(f"onnxruntime cannot run this model on it: {reason}")
    try:
        return _opened(model, threads, [_CPU])
    except Exception as error:
        raise _refused(bundle, words_of(error)) from error


def _refused(bundle: Bundle, reason: str) -> InvalidArgument:
    message = f"bundle {bundle.path.name}: onnxruntime cannot load model.onnx: {reason}"
    return InvalidArgument("INVALID_BUNDLE", message, bundle=bundle.path.name)


LEFT_OUT: Final = ("WeightBiasQuantization",)
"""An optimization that changes answers: it rounds the weights of a layer that is to stay in floating point, by one scale for all,
wherever the layer's input was rounded. Kept in float, the first layer of efficientnet-lite0 made int8 worse instead of better
(mean difference of probabilities 0.045 instead of 0.015). Our integer graphs bring all their rounded weights and biases along."""
Provider = str | tuple[str, dict[str, str]]
_CPU: Final = "CPUExecutionProvider"
_CUDA: Final[Provider] = ("CUDAExecutionProvider", {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"})
"""float32 as a processor computes it, so that test vectors stay true; algorithms chosen by rule, so that they stay the same."""


def providers(device: str, available: Sequence[str]) -> list[Provider]:
    """What onnxruntime is to run a model on, best first; `available` as it lists them.

    Raises InvalidArgument BAD_DEVICE, FailedPrecondition DEVICE_NOT_AVAILABLE.
    """
    why_not = "this onnxruntime has no CUDAExecutionProvider: install onnxruntime-gpu in the place of onnxruntime"
    chosen = chosen_device(device, cuda="CUDAExecutionProvider" in available, why_not=why_not)
    return [_CUDA, _CPU] if chosen == CUDA else [_CPU]


def _opened(model: bytes, threads: int, wanted: list[Provider]) -> Any:
    session = onnxruntime.InferenceSession(model, _options(threads), providers=wanted, disabled_optimizers=LEFT_OUT)
    if wanted != [_CPU] and session.get_providers()[0] == _CPU:
        raise RuntimeError("the CUDAExecutionProvider could not be started")
    return session


def _giving_back() -> Any:
    """Run options by which a call's end gives the system back what the arena does not hold anything in."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = True  # without it each call faults its memory in again: docs/decisions/0029-fast-path.md
    options.enable_mem_pattern = True  # one block a call; pieces from here and there can make two calls a third slower (0029)
    options.log_severity_level = 3
    return options
