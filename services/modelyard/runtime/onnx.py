"""Runs the ONNX model of a bundle on onnxruntime, with the checks that a caller's tensors need.

Threads: onnxruntime gets exactly the number given and its threads do not spin while they wait, so that several models share a
machine fairly. What a server answers for a classifier (`label`) is added here, so that evaluation and serving agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.formats import pictures
from modelyard.formats.bundle import DATATYPES, Bundle, TensorSpec
from modelyard.runtime.onnx_wire import NotOnnxError, has_external_data

Array = NDArray[Any]
Tensors = dict[str, Array]

IMAGE = "image"
LABEL = "label"
PROBABILITIES = "probabilities"


class OnnxModel:
    """One loaded model. `run` may be called from several threads at once."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        """Loads the model; `threads` (1 or more) is how many one call may use. Raises InvalidArgument INVALID_BUNDLE."""
        self.card = bundle.card
        self._specs = {spec.name: spec for spec in bundle.card.inputs}
        self._classes = np.array(bundle.card.classes, dtype=object)
        self._outputs = [spec.name for spec in bundle.card.outputs]
        self._session = _session(bundle, threads)
        self._check_signature(bundle)

    def run(self, inputs: Mapping[str, Array]) -> Tensors:
        """Answers for a batch: every input named as on the card with the batch first, every output likewise.

        `image` may also be an array [N] of dtype object that holds the bytes of JPEG or PNG files. Text is an array of dtype
        object that holds str or bytes (UTF-8). Raises InvalidArgument naming the input, what it is, and what would be right.
        """
        tensors = self.prepare(inputs)
        answers = dict(zip(self._outputs, self._session.run(self._outputs, tensors), strict=True))
        if self._classes.size:
            answers[LABEL] = self.labels(answers[PROBABILITIES])
        return answers

    def prepare(self, inputs: Mapping[str, Array]) -> Tensors:
        """The tensors that go into the graph: checked, pictures decoded, text as str."""
        _check_names(inputs, self._specs)
        tensors = {name: self._tensor(spec, np.asarray(inputs[name])) for name, spec in self._specs.items()}
        _check_batch(tensors)
        return tensors

    def labels(self, probabilities: Array) -> Array:
        """The most probable class of each row; the first of equals. dtype object holding str, [N]."""
        named: Array = self._classes[np.argmax(probabilities, axis=1)]
        return named

    def _tensor(self, spec: TensorSpec, value: Array) -> Array:
        if spec.name == IMAGE and self.card.picture and value.dtype == object:
            value = self._decode(value)
        expected = DATATYPES[spec.datatype]
        if spec.datatype == "BYTES":
            value = _text(spec, value)
        elif value.dtype.name != expected:
            found = value.dtype.name
            raise _wrong(spec, "WRONG_DATATYPE", f"has the type {found}, it must be {expected} ({spec.datatype})", found=found)
        if value.ndim != len(spec.shape) or value.shape[1:] != spec.shape[1:]:
            found = str(list(value.shape))
            raise _wrong(spec, "WRONG_SHAPE", f"has the shape {found}, it must be {_shape_text(spec)}", found=found)
        return np.ascontiguousarray(value)

    def _decode(self, files: Array) -> Array:
        picture = self.card.picture
        if picture is None or files.ndim != 1:
            message = f"holds picture files in the shape {list(files.shape)}, it must be one file per example: [N]"
            raise _wrong(self._specs[IMAGE], "WRONG_SHAPE", message, found=str(list(files.shape)))
        size = (picture.height, picture.width, picture.channels)
        decoded = np.empty((len(files), *size), np.uint8)
        for row, data in enumerate(files):
            if not isinstance(data, bytes | bytearray | memoryview):
                message = f"[{row}] is of the type {type(data).__name__}, it must be the bytes of a JPEG or PNG file"
                raise _wrong(self._specs[IMAGE], "WRONG_DATATYPE", message, found=type(data).__name__)
            decoded[row] = pictures.decode(data, height=size[0], width=size[1], channels=size[2], name=f"image[{row}]")
        return decoded

    def _check_signature(self, bundle: Bundle) -> None:
        """The graph's inputs and outputs must be those of the card, or a caller would meet onnxruntime's own errors."""
        for found, specs in (
            (self._session.get_inputs(), bundle.card.inputs),
            (self._session.get_outputs(), bundle.card.outputs),
        ):
            graph = {value.name: (value.type, len(value.shape)) for value in found}
            card = {spec.name: (_ORT_TYPES.get(spec.datatype), len(spec.shape)) for spec in specs}
            if graph != card:
                message = f"bundle {bundle.path.name}: its graph has {graph}, its card says {card}"
                raise InvalidArgument("INVALID_BUNDLE", message, bundle=bundle.path.name)


_ORT_TYPES = {
    "BOOL": "tensor(bool)",
    "FP16": "tensor(float16)",
    "FP32": "tensor(float)",
    "FP64": "tensor(double)",
    "BYTES": "tensor(string)",
} | {name: f"tensor({DATATYPES[name]})" for name in DATATYPES if "INT" in name}


def _session(bundle: Bundle, threads: int) -> Any:
    import onnxruntime

    if threads < 1:
        raise InvalidArgument("BAD_THREADS", f"threads is {threads}, it must be 1 or more", field="threads", threads=threads)
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
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _check_names(inputs: Mapping[str, Array], specs: Mapping[str, TensorSpec]) -> None:
    for name in inputs:
        if name not in specs:
            message = f"input {name!r} is unknown; the model takes {_names(list(specs))}"
            raise InvalidArgument("UNKNOWN_INPUT", message, field=f"inputs.{name}", input=name)
    for name in specs:
        if name not in inputs:
            raise _wrong(
                specs[name], "MISSING_INPUT", f"is missing; it must be {specs[name].datatype} {_shape_text(specs[name])}"
            )


def _check_batch(tensors: Tensors) -> None:
    sizes = {name: value.shape[0] for name, value in tensors.items()}
    if len(set(sizes.values())) != 1:
        message = f"the inputs hold different numbers of examples: {sizes}; the first axis must be the same in all"
        raise InvalidArgument("WRONG_SHAPE", message, field="inputs", sizes=sizes)
    if 0 in sizes.values():
        raise InvalidArgument("EMPTY_BATCH", "the inputs hold 0 examples; at least 1 is needed", field="inputs")


def _text(spec: TensorSpec, value: Array) -> Array:
    """The same array with every element a str."""
    if value.dtype.kind not in "OUS":
        found = value.dtype.name
        raise _wrong(spec, "WRONG_DATATYPE", f"has the type {found}, it must be text (BYTES)", found=found)
    out = np.empty(value.shape, dtype=object)
    out.ravel()[:] = [_as_str(spec, element) for element in value.ravel().tolist()]
    return out


def _as_str(spec: TensorSpec, element: object) -> str:
    if isinstance(element, str):
        return element
    if not isinstance(element, bytes):
        found = type(element).__name__
        raise _wrong(spec, "WRONG_DATATYPE", f"holds a value of the type {found}, it must hold text (BYTES)", found=found)
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise _wrong(spec, "NOT_UTF8", f"holds {element[:40]!r}, which is not UTF-8 text", found=element[:40]) from error


def _wrong(spec: TensorSpec, reason: str, what: str, *, found: object = "") -> InvalidArgument:
    return InvalidArgument(
        reason,
        f"input {spec.name!r} {what}",
        field=f"inputs.{spec.name}",
        input=spec.name,
        found=found,
        expected=_shape_text(spec),
    )


def _shape_text(spec: TensorSpec) -> str:
    return f"[{', '.join('N' if size == -1 else str(size) for size in spec.shape)}]"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"
