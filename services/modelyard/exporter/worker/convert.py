"""From a served network to the files of a format: the one door to every converter.

The network first becomes an ONNX graph. ONNX and OpenVINO are forms of that graph; LiteRT, the edge files and the SavedModel are
written from the operators read from it (worker/network.py). Integer forms share their ranges. A torch.export program alone is
torch's own writing of the network.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import onnx
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.exporter.domain.form import (
    DYNAMIC_INT8,
    EDGE,
    FP16,
    INT8,
    LITERT,
    ONNX,
    OPENVINO,
    SAVEDMODEL,
    TORCH_EXPORT,
    Form,
    check_form,
)
from modelyard.exporter.worker import to_onnx
from modelyard.exporter.worker.calibration import CalibrationSet
from modelyard.exporter.worker.network import Network, read_network, without_decoding
from modelyard.exporter.worker.parity import TOLERANCES, graph_runner
from modelyard.exporter.worker.picture_graph import image_graph
from modelyard.exporter.worker.ranges import METHODS, Range, ranges_by, seen_ranges
from modelyard.exporter.worker.to_torch_export import torch_program
from modelyard.formats.agreement import LEAST_SHARE, MASK, SCORES
from modelyard.formats.bundle import TensorMap
from modelyard.formats.bundle_files import MODEL, TFLITE, TORCH_PROGRAM
from modelyard.formats.model import PictureInput

if TYPE_CHECKING:
    from modelyard.recipes.build_image import ServedImageModel

Array = NDArray[Any]

JUDGED: Final = 64
"""Calibration pictures on which the ways to choose ranges are compared."""
WORTH: Final = 0.95
"""Another way than the plain one is taken when its error is below this share of the plain one's."""
_NAMES: Final = {
    ONNX: "ONNX",
    LITERT: "LiteRT",
    SAVEDMODEL: "SavedModel",
    OPENVINO: "OpenVINO",
    EDGE: "LiteRT for microcontrollers",
    TORCH_EXPORT: "torch.export",
}


@dataclass(frozen=True)
class Converted:
    """The files of the format by their names in a bundle; how served tensors enter the graph, where not by name; remarks."""

    files: dict[str, bytes]
    tensors: tuple[TensorMap, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """The network's simplified ONNX graph, batch open."""

    graph: onnx.ModelProto
    picture: PictureInput
    outputs: tuple[str, ...] = ("probabilities",)

    @property
    def decoded(self) -> bool:
        """Whether its answers are made of what the network gives (ServedImageModel.decode): that stays in floating point."""
        return self.outputs != ("probabilities",)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the picture: [H, W, C]."""
        return self.picture.height, self.picture.width, self.picture.channels

    @cached_property
    def whole(self) -> onnx.ModelProto:
        """The graph that integer forms are made from."""
        return to_onnx.with_whole_pixels(self.graph)

    def network(self, format: str, *, whole: bool = False) -> Network:
        """Its operators, for the formats that are written from those; up to what its answers are made of. Raises InvalidArgument
        UNSUPPORTED_OPERATOR."""
        graph = to_onnx.for_one(self.whole if whole else self.graph, self.shape)
        return read_network(without_decoding(graph) if self.decoded else graph, _NAMES[format])


def convert(model: ServedImageModel, picture: PictureInput, form: Form, calibration: CalibrationSet | None = None) -> Converted:
    """The network in a form. calibration is needed for int8 (and for fp16 it tells which layers would overflow).

    Raises InvalidArgument UNSUPPORTED_FORM, NOT_EXPORTABLE, UNSUPPORTED_OPERATOR (naming the operator and its layer),
    UNKNOWN_LAYER; FailedPrecondition BAD_WEIGHTS (naming the tensor), CALIBRATION_MISSING, CONVERTER_NOT_INSTALLED.
    """
    check_form(form)
    check_installed(form.format)
    check_layers(model, form.float_layers)
    if form.needs_calibration and calibration is None:
        message = f"{form.format} {form.precision} needs ranges of activations, and there is no calibration set to see them on"
        raise FailedPrecondition("CALIBRATION_MISSING", message, format=form.format, precision=form.precision)
    if form.format == TORCH_EXPORT:
        check_weights(model)
        return Converted({TORCH_PROGRAM: torch_program(model, picture)})
    prepared = prepare(model, picture)
    if form.format in (ONNX, OPENVINO):
        return _from_graph(prepared, form, calibration)
    if form.format == SAVEDMODEL:
        from modelyard.exporter.worker.to_savedmodel import saved_model

        return Converted(saved_model(prepared.network(form.format)))
    return _litert(prepared, form, calibration)


_PACKAGES: Final = {SAVEDMODEL: "tensorflow", OPENVINO: "openvino", LITERT: "ai_edge_litert", EDGE: "ai_edge_litert"}


def check_installed(format: str, found: Callable[[str], object] = importlib.util.find_spec) -> None:
    """Raises FailedPrecondition CONVERTER_NOT_INSTALLED naming the extra that installs what writes and runs the format."""
    package = _PACKAGES.get(format)
    if package is not None and found(package) is None:
        extra = {"ai_edge_litert": "litert"}.get(package, package)
        message = f"the format {format} needs {package}, which is not here: pip install modelyard[{extra}]"
        raise FailedPrecondition("CONVERTER_NOT_INSTALLED", message, format=format, extra=extra)


_PREPARED: WeakKeyDictionary[ServedImageModel, tuple[str, Prepared]] = WeakKeyDictionary()


def prepare(model: ServedImageModel, picture: PictureInput) -> Prepared:
    """The network's graph, simplified where that changes no answer. Kept as long as the model lives and its weights stay.

    Raises FailedPrecondition BAD_WEIGHTS, InvalidArgument NOT_EXPORTABLE.
    """
    digest = check_weights(model)
    known = _PREPARED.get(model)
    if known is not None and known[0] == digest and known[1].picture == picture:
        return known[1]
    plain = onnx.load_from_string(image_graph(model, picture))
    kept = _if_same(plain, to_onnx.simplified(plain), picture, model.output_names)
    prepared = Prepared(kept, picture, model.output_names)
    _PREPARED[model] = digest, prepared
    return prepared


def check_weights(model: ServedImageModel) -> str:
    """A digest of the weights. Raises FailedPrecondition BAD_WEIGHTS naming the first tensor with a NaN or an infinity."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        array = value.detach().cpu().numpy()
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad, layer = int((~np.isfinite(array)).sum()), name.removeprefix("module.")
            message = f"the tensor {layer} holds {bad} of {array.size} values that are no numbers (NaN or infinite)"
            raise FailedPrecondition("BAD_WEIGHTS", message, tensor=layer, count=bad)
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def check_layers(model: ServedImageModel, layers: tuple[str, ...]) -> None:
    """Raises InvalidArgument UNKNOWN_LAYER for a layer that the network does not have."""
    known = {name for name, _ in model.module.named_modules()}
    for layer in layers:
        if layer not in known or not layer:
            message = f"float_layers names {layer!r:.120}, which the network does not have"
            raise InvalidArgument("UNKNOWN_LAYER", message, field="float_layers", layer=layer[:120])


def _if_same(plain: onnx.ModelProto, other: onnx.ModelProto, picture: PictureInput, outputs: tuple[str, ...]) -> onnx.ModelProto:
    """The other graph when it answers as the plain one does, on noise; else the plain one."""
    if other is plain:
        return plain
    noise = np.random.default_rng(0).integers(0, 256, (3, picture.height, picture.width, picture.channels), np.uint8)
    name = _telling(outputs)
    first, second = (graph_runner(each.SerializeToString(), name)({to_onnx.IMAGE: noise}) for each in (plain, other))
    if name == MASK:
        return other if float((first != second).mean()) <= 1 - LEAST_SHARE else plain
    return other if float(np.abs(first - second).max()) <= TOLERANCES["fp32"] / 10 else plain


def _telling(outputs: tuple[str, ...]) -> str:
    """The output by which two graphs of one network are compared: probabilities; of boxes their scores."""
    return SCORES if SCORES in outputs else outputs[0]


def _from_graph(prepared: Prepared, form: Form, calibration: CalibrationSet | None) -> Converted:
    graph = prepared.graph
    notes: tuple[str, ...] = ()
    if form.precision == INT8 and calibration is not None:
        ranges, notes = chosen_ranges(prepared, form, calibration)
        graph = _integers(prepared, form, ranges)
        if form.format == OPENVINO:
            graph, note = _signed_if_as_good(prepared, form, ranges, graph, calibration)
            notes += note
    elif form.precision == DYNAMIC_INT8:
        graph = to_onnx.integer_weights(graph, per_channel=form.per_channel)
    elif form.precision == FP16 and form.format == ONNX:
        seen = seen_ranges(graph, calibration.inputs) if calibration is not None else {}
        graph = to_onnx.half_precision(graph, ranges_by("min_max", seen))
    if form.format == OPENVINO:
        from modelyard.exporter.worker.to_openvino import openvino_files

        return Converted(openvino_files(graph, half=form.precision == FP16), notes=notes)
    return Converted({MODEL: graph.SerializeToString(deterministic=True)}, notes=notes)


def _signed_if_as_good(
    prepared: Prepared, form: Form, ranges: Mapping[str, Range], unsigned: onnx.ModelProto, calibration: CalibrationSet
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The integer graph with signed weights, which OpenVINO has integer kernels for, where they answer as well as unsigned ones.

    On processors without VNNI those kernels add in 16 bits, which saturate; unsigned weights are computed in floating point
    there. Efficientnet-lite0 on flowers128 lost 6.5 points of accuracy to it, tinynet on fashion_mnist nothing.
    """
    from modelyard.exporter.worker.to_openvino import openvino_answers

    pictures = calibration.inputs[:JUDGED]
    wanted = openvino_answers(prepared.graph, pictures)
    signed = _integers(prepared, form, ranges, unsigned=False)
    errors = [float(np.abs(openvino_answers(each, pictures) - wanted).mean()) for each in (signed, unsigned)]
    if errors[0] <= errors[1] / WORTH:
        return signed, ()
    said = f"mean difference of probabilities {errors[0]:.4f}, unsigned {errors[1]:.4f}"
    return unsigned, (f"weights unsigned: OpenVINO's kernels for signed ones saturate on this processor ({said})",)


def _litert(prepared: Prepared, form: Form, calibration: CalibrationSet | None) -> Converted:
    from modelyard.exporter.worker import to_litert

    network = prepared.network(form.format, whole=form.precision == INT8)
    decoded = prepared.outputs if prepared.decoded else ()
    if form.precision == DYNAMIC_INT8:
        return Converted({TFLITE: to_litert.dynamic_file(network, per_channel=form.per_channel, decoded=decoded)})
    if form.precision != INT8 or calibration is None:
        return Converted({TFLITE: to_litert.float_file(network, decoded)})
    ranges, notes = chosen_ranges(prepared, form, calibration)
    data = to_litert.integer_file(network, ranges, per_channel=form.per_channel, float_layers=form.float_layers, decoded=decoded)
    return Converted({TFLITE: data}, notes=notes)


def chosen_ranges(prepared: Prepared, form: Form, calibration: CalibrationSet) -> tuple[dict[str, Range], tuple[str, ...]]:
    """Ranges of all activations, chosen the way that brings the integer graph's answers nearest to the float graph's; a remark.

    The ways are compared on calibration pictures by the mean absolute difference of probabilities; the plain one (smallest and
    largest value) is kept unless another is clearly better.
    """
    seen = seen_ranges(prepared.whole, calibration.inputs)
    pictures = {to_onnx.IMAGE: calibration.inputs[:JUDGED]}
    wanted = _judged(prepared, prepared.graph, pictures)
    errors, learned = {}, to_onnx.learned_bounds(prepared.graph)
    for method in METHODS:
        found = _judged(prepared, _integers(prepared, form, {**ranges_by(method, seen), **learned}), pictures)
        errors[method] = float(np.abs(found - wanted).mean())
    best = min(errors, key=lambda method: errors[method] * (WORTH if method == METHODS[0] else 1.0))
    ranges = {**ranges_by(best, seen), **learned}
    said = ", ".join(f"{method} {error:.4f}" for method, error in errors.items())
    return ranges, (f"ranges by {best} (mean difference of probabilities on the calibration set: {said})",)


def _judged(prepared: Prepared, graph: onnx.ModelProto, pictures: Mapping[str, Array]) -> Array:
    """What the ways to choose ranges are compared by: probabilities; of boxes their scores, of masks which pixels are of which
    class."""
    name = _telling(prepared.outputs)
    answers = graph_runner(graph.SerializeToString(), name)(pictures)
    return answers.astype(np.float32) if name != MASK else np.eye(256, dtype=np.float32)[answers[:, ::4, ::4]]


def _integers(prepared: Prepared, form: Form, ranges: Mapping[str, Range], *, unsigned: bool = True) -> onnx.ModelProto:
    floats = (*form.float_layers, "decode") if prepared.decoded else form.float_layers
    return to_onnx.integers(
        prepared.whole, ranges, per_channel=form.per_channel, float_layers=floats, unsigned=unsigned, ends=not prepared.decoded
    )
