"""The card of a bundle, `bundle.json`: what the model takes and gives, where it came from, and what its files must be."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

from cattrs import BaseValidationError, Converter, transform_error

from modelyard.formats.bundle_files import CALIBRATION, CAPS, CARD, FORMATS, LABELS, STATISTICS, FileEntry, FormatFiles, refuse
from modelyard.formats.bundle_vectors import VECTORS_JSON, VECTORS_SAFETENSORS
from modelyard.formats.dataset_descriptor import (
    ANOMALY_DETECTION,
    IMAGE_MULTILABEL,
    KEYPOINT_DETECTION,
    OBJECT_DETECTION,
    SEMANTIC_SEGMENTATION,
)
from modelyard.formats.text_numbers import DateNumbers, HashedText

FORMAT_VERSION: Final = 1
PRECISIONS: Final = ("fp32", "fp16", "int8", "dynamic_int8")
QUANTIZATION_METHODS: Final = ("post_training", "aware", "dynamic", "imported")
ORIGINS: Final = ("trained", "imported")
LAYOUTS: Final = ("", "NCHW")
# Name of each Open Inference Protocol datatype in numpy; BYTES is an array of Python objects (str or bytes).
DATATYPES: Final[Mapping[str, str]] = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: its name, Open Inference Protocol datatype, and shape with -1 for the batch."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class PictureInput:
    """How a JPEG or PNG file becomes the input `image`: formats.pictures decodes it to uint8 [height, width, channels]."""

    height: int
    width: int
    channels: int
    resize: str = "bilinear_antialias"


@dataclass(frozen=True)
class ColumnInput:
    """A column of a table: its name in the data, the graph's input that takes it, and its type (`numeric`, `categorical`)."""

    name: str
    input: str
    type: str


@dataclass(frozen=True)
class Source:
    """Where the model came from: resource names, the digest of the data, and the sha256 of the model file."""

    model_version: str = ""
    dataset_version: str = ""
    dataset_digest: str = ""
    model_sha256: str = ""


@dataclass(frozen=True)
class Parity:
    """How near the exported graph's answers are to those of the trained model, on real examples.

    `max_abs_difference` is in units of the output (probabilities: 0 to 1); `label_agreement` is the share of examples with the
    same most probable class (1.0 for regression); `tolerance` is the difference above which the export would have been refused.
    """

    examples: int
    max_abs_difference: float
    label_agreement: float
    tolerance: float
    against: str


@dataclass(frozen=True)
class QuantizationCard:
    """How the numbers of a quantized model were found.

    `post_training`: ranges seen on the calibration set. `aware`: learned on with rounding in the loop. `dynamic`: weights only.
    `imported`: the file came quantized.
    """

    method: str


@dataclass(frozen=True)
class CalibrationCard:
    """The examples that ranges were measured on: how many, the seed of their draw, and the sha256 of `calibration.txt`."""

    examples: int
    seed: int
    digest: str


@dataclass(frozen=True)
class TensorMap:
    """What stands between a served tensor `name` and the graph's own `tensor`.

    A served input becomes the real number `value * scale + offset` (float32), which is what a float graph takes and what a
    quantized graph takes by the scale and zero point of its own tensor. Of an output, the same is done to what the graph answers.
    `layout` "NCHW": the graph wants, or gives, the channels before the height; "": the axes are as served.
    """

    name: str
    tensor: str
    scale: float = 1.0
    offset: float = 0.0
    layout: str = ""


@dataclass(frozen=True)
class TextNumbers:
    """A text that becomes numbers before the graph sees it: the served input (BYTES [N, 1]), the graph's tensor (float32
    [N, width]), and how: as a date, or hashed."""

    input: str
    tensor: str
    date: DateNumbers | None = None
    hashed: HashedText | None = None

    @property
    def reading(self) -> DateNumbers | HashedText:
        """How it is read."""
        found = self.date or self.hashed
        if found is None:
            raise AssertionError("checked when the card is read")
        return found

    @property
    def width(self) -> int:
        """How many numbers it becomes."""
        return len(self.reading.names)


@dataclass(frozen=True)
class BundleCard:
    """The content of `bundle.json`. `outputs` are the model's own; `served_outputs` adds the `label` a runtime derives.

    `tensors` need only name what differs from the graph: without an entry a tensor is taken as it is, by name, or by being the
    only one. `licence` is that of the weights it started from, as far as known. `classes`: of key points their names.
    `thresholds`: by class, the probability from which on it counts as found (0 to 1); empty where none were chosen. The most
    probable class is the answer either way. `texts`: inputs that become numbers before the graph.
    """

    task: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    source: Source
    recipe: str = ""
    format: str = "onnx"
    precision: str = "fp32"
    picture: PictureInput | None = None
    classes: tuple[str, ...] = ()
    columns: tuple[ColumnInput, ...] = ()
    target_name: str = ""
    parity: Parity | None = None
    files: dict[str, FileEntry] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    quantization: QuantizationCard | None = None
    calibration: CalibrationCard | None = None
    tensors: tuple[TensorMap, ...] = ()
    origin: str = "trained"
    licence: str = ""
    thresholds: tuple[float, ...] = ()
    texts: tuple[TextNumbers, ...] = ()

    @property
    def served_outputs(self) -> tuple[TensorSpec, ...]:
        """The graph's outputs and the `derived` one."""
        return (*self.outputs, self.derived) if self.derived else self.outputs

    @property
    def derived(self) -> TensorSpec | None:
        """What a runtime adds (runtime.derived): for a classifier `label` (BYTES [N]), the name of the most probable class; for
        several labels `labels` (BYTES [N]), the names of those found as a JSON list; for boxes `labels` (BYTES [N, K]), the class
        of each, "" beyond what was found; for a detector of anomalies `state` (BYTES [N]), normal or anomaly. None for all
        else."""
        if self.task == ANOMALY_DETECTION:
            return TensorSpec("state", "BYTES", (-1,))
        if not self.classes:
            return None
        if self.task == IMAGE_MULTILABEL:
            return TensorSpec("labels", "BYTES", (-1,))
        if self.task == OBJECT_DETECTION:
            return next((TensorSpec("labels", "BYTES", each.shape) for each in self.outputs if each.name == "classes"), None)
        named = self.task in (SEMANTIC_SEGMENTATION, KEYPOINT_DETECTION)
        return None if named else TensorSpec("label", "BYTES", (-1,))


def card_json(card: BundleCard) -> bytes:
    """The card as it stands in `bundle.json`."""
    document = dataclasses.asdict(card)
    if not card.texts:  # a card without them is what earlier releases wrote and read
        del document["texts"]
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def parse_card(data: bytes, path: Path) -> BundleCard:
    """Reads `bundle.json`. Raises InvalidArgument (INVALID_BUNDLE) naming the field that is wrong."""
    try:
        document = json.loads(data)
    except ValueError as error:
        raise refuse(path, f"{CARD} is not JSON ({error})", file=CARD) from error
    version = document.get("format_version") if isinstance(document, dict) else None
    if version != FORMAT_VERSION:
        raise refuse(path, f"{CARD}: format_version is {version!r}, this program reads {FORMAT_VERSION}", file=CARD)
    try:
        card = _CONVERTER.structure(document, BundleCard)
    except (BaseValidationError, TypeError, ValueError) as error:
        raise refuse(path, f"{CARD}: {'; '.join(transform_error(error))[:500]}", file=CARD) from error
    check_card(path, card)
    return card


_CONVERTER = Converter(forbid_extra_keys=True)


def _exactly(kind: type) -> Any:
    def structure(value: object, _: type) -> object:
        if type(value) is not kind:
            raise TypeError(f"{value!r:.80} is not of type {kind.__name__}")
        return value

    return structure


def _number(value: object, _: type) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r:.80} is not a number")
    return float(value)


def _tuple(value: object, kind: Any) -> tuple[Any, ...]:
    """Only from a list: text and objects can be iterated too."""
    if type(value) is not list:
        raise TypeError(f"{value!r:.80} is not a list")
    return tuple(_CONVERTER.structure(item, get_args(kind)[0]) for item in value)


_CONVERTER.register_structure_hook_func(lambda kind: getattr(kind, "__origin__", None) is tuple, _tuple)
_CONVERTER.register_structure_hook(str, _exactly(str))
_CONVERTER.register_structure_hook(int, _exactly(int))
_CONVERTER.register_structure_hook(bool, _exactly(bool))
_CONVERTER.register_structure_hook(float, _number)


def format_files(path: Path, name: str) -> FormatFiles:
    """The files of a format. Raises InvalidArgument INVALID_BUNDLE for one that is not known."""
    if name not in FORMATS:
        raise refuse(path, f"{CARD}: format is {name!r:.40}, it must be one of {', '.join(FORMATS)}", file=CARD)
    return FORMATS[name]


def check_card(path: Path, card: BundleCard) -> None:
    """Raises InvalidArgument INVALID_BUNDLE naming the field of the card that is wrong."""
    _check_entries(path, card)
    for specs, field_name in ((card.inputs, "inputs"), (card.outputs, "outputs")):
        _check_specs(path, specs, field_name)
    if {column.input for column in card.columns} - {spec.name for spec in card.inputs}:
        raise refuse(path, f"{CARD}: columns name an input that is not there", file=CARD)
    _check_choices(path, card)
    _check_tensors(path, card)
    _check_texts(path, card)


def _check_entries(path: Path, card: BundleCard) -> None:
    """The listed files are those that the format has."""
    files = format_files(path, card.format)
    for name in (*files.required, LABELS):
        if name not in card.files:
            raise refuse(path, f"{CARD} lists no {name}", file=name)
    if (VECTORS_JSON in card.files) == (VECTORS_SAFETENSORS in card.files):
        raise refuse(path, f"{CARD} must list one of {VECTORS_JSON} and {VECTORS_SAFETENSORS}", file=CARD)
    allowed = files.allowed | {LABELS, CALIBRATION, STATISTICS, VECTORS_JSON, VECTORS_SAFETENSORS}
    for name, entry in card.files.items():
        if name not in allowed:
            raise refuse(path, f"{CARD} lists {name!r:.120}, which a bundle of the format {card.format} does not hold", file=name)
        if not _SHA256.fullmatch(entry.sha256) or not 0 <= entry.size_bytes <= CAPS.get(name, 0):
            raise refuse(path, f"{CARD}: the entry of {name!r:.120} is wrong", file=name)


def _check_choices(path: Path, card: BundleCard) -> None:
    method = card.quantization.method if card.quantization else QUANTIZATION_METHODS[0]
    for name, value, known in (
        ("precision", card.precision, PRECISIONS),
        ("origin", card.origin, ORIGINS),
        ("quantization.method", method, QUANTIZATION_METHODS),
    ):
        if value not in known:
            raise refuse(path, f"{CARD}: {name} is {value!r:.40}, it must be one of {', '.join(known)}", file=CARD)
    if card.thresholds and (len(card.thresholds) != len(card.classes) or not all(0 <= each <= 1 for each in card.thresholds)):
        raise refuse(path, f"{CARD}: thresholds must be one number from 0 to 1 a class, or none at all", file=CARD)
    if card.calibration and (card.calibration.examples < 1 or not _SHA256.fullmatch(card.calibration.digest)):
        raise refuse(path, f"{CARD}: calibration needs 1 or more examples and the sha256 of their ids", file=CARD)


def _check_tensors(path: Path, card: BundleCard) -> None:
    shapes = {spec.name: spec.shape for spec in (*card.inputs, *card.outputs)}
    if len({tensor.name for tensor in card.tensors}) != len(card.tensors):
        raise refuse(path, f"{CARD}: tensors name the same input or output twice", file=CARD)
    for tensor in card.tensors:
        if tensor.name not in shapes:
            raise refuse(path, f"{CARD}: tensors.{tensor.name:.80} is no input or output of the card", file=CARD)
        if not (math.isfinite(tensor.scale) and math.isfinite(tensor.offset)) or tensor.scale == 0:
            raise refuse(path, f"{CARD}: tensors.{tensor.name}: scale must be finite and not 0, offset finite", file=CARD)
        if tensor.layout not in LAYOUTS or (tensor.layout and len(shapes[tensor.name]) != 4):
            raise refuse(path, f"{CARD}: tensors.{tensor.name}: layout {tensor.layout!r:.40} does not fit its shape", file=CARD)


def _check_texts(path: Path, card: BundleCard) -> None:
    text = {spec.name for spec in card.inputs if spec.datatype == "BYTES" and spec.shape == (-1, 1)}
    for at, each in enumerate(card.texts):
        where = f"{CARD}: texts[{at}]"
        if each.input not in text:
            raise refuse(path, f"{where}.input {each.input!r:.80} is no input of text", file=CARD)
        if (each.date is None) == (each.hashed is None):
            raise refuse(path, f"{where} must be read as a date or hashed", file=CARD)
        fault = each.reading.fault()
        if fault:
            raise refuse(path, f"{where}: {fault}", file=CARD)
    if len({each.tensor for each in card.texts}) != len(card.texts):
        raise refuse(path, f"{CARD}: texts name a tensor twice", file=CARD)


def _check_specs(path: Path, specs: tuple[TensorSpec, ...], field_name: str) -> None:
    if not specs or len({spec.name for spec in specs}) != len(specs):
        raise refuse(path, f"{CARD}: {field_name} must be one or more tensors with different names", file=CARD)
    for spec in specs:
        if spec.datatype not in DATATYPES:
            raise refuse(path, f"{CARD}: {field_name}.{spec.name}: datatype {spec.datatype!r:.40} is unknown", file=CARD)
        if not 1 <= len(spec.shape) <= 8 or spec.shape[0] != -1 or any(size < 1 for size in spec.shape[1:]):
            raise refuse(path, f"{CARD}: {field_name}.{spec.name}: shape {list(spec.shape)} must be [-1, sizes...]", file=CARD)
