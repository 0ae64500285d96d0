"""The bundle: one exported model with everything that is needed to serve it and to prove that it answers as it should.

A bundle is a zip whose entries are stored (not compressed) with fixed times, so that equal content gives equal bytes:

* `bundle.json`   the card: inputs, outputs, picture decoding, classes, columns, origin, parity, sha256 and size of each file
* `model.onnx`    the graph, weights inside (no external data)
* `labels.txt`    one class per line, in the order of the model's outputs; empty for regression
* `test_vectors.safetensors` or `.json`   real example inputs and the outputs to expect (JSON where an input holds text)

Reading trusts nothing: every listed sha256 and size is checked, and files that are missing, not listed, compressed, twice there,
badly named or larger than the caps are refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, get_args

import numpy as np
from cattrs import BaseValidationError, Converter, transform_error
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument

FORMAT_VERSION: Final = 1
CARD: Final = "bundle.json"
MODEL: Final = "model.onnx"
LABELS: Final = "labels.txt"
VECTORS_SAFETENSORS: Final = "test_vectors.safetensors"
VECTORS_JSON: Final = "test_vectors.json"

MIB: Final = 1 << 20
# The largest size of each file that is read, in bytes. A protobuf message, so an ONNX file, ends at 2 GiB.
CAPS: Final[Mapping[str, int]] = {
    CARD: 16 * MIB,
    MODEL: 2048 * MIB,
    LABELS: 16 * MIB,
    VECTORS_SAFETENSORS: 256 * MIB,
    VECTORS_JSON: 256 * MIB,
}
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

Array = NDArray[Any]


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
class FileEntry:
    """What a file inside the bundle must be."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class BundleCard:
    """The content of `bundle.json`. `outputs` are the graph's own; `served_outputs` adds the `label` a runtime derives."""

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

    @property
    def served_outputs(self) -> tuple[TensorSpec, ...]:
        """The graph's outputs, and for a classifier `label` (BYTES [N]): the name of the most probable class."""
        return (*self.outputs, TensorSpec("label", "BYTES", (-1,))) if self.classes else self.outputs


@dataclass(frozen=True)
class TestVectors:
    """Real example inputs with the outputs to expect, by tensor name; the first axis of each array is the example.

    Text is an array of dtype object that holds `str`.
    """

    __test__ = False  # not a test class, whatever its name says to pytest

    inputs: dict[str, Array]
    outputs: dict[str, Array]

    @property
    def count(self) -> int:
        """Number of examples."""
        return int(next(iter(self.inputs.values())).shape[0]) if self.inputs else 0


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on disk."""

    path: Path
    card: BundleCard

    def model_bytes(self) -> bytes:
        """The ONNX file, checked again against its sha256."""
        return self._read(MODEL)

    def test_vectors(self) -> TestVectors:
        """The example inputs and expected outputs. Raises InvalidArgument (INVALID_BUNDLE) when they do not fit the card."""
        name, read = (VECTORS_JSON, _vectors_from_json)
        if name not in self.card.files:
            name, read = (VECTORS_SAFETENSORS, _vectors_from_safetensors)
        data = self._read(name)
        try:
            vectors = read(data)
        except Exception as error:  # safetensors, json and numpy raise many kinds on bytes that are something else
            raise _refuse(self.path, f"{name} cannot be read ({error!r:.200})", file=name) from error
        _check_vectors(self.path, self.card, vectors)
        return vectors

    def _read(self, name: str) -> bytes:
        with zipfile.ZipFile(self.path) as archive:
            data = archive.read(name)
        if hashlib.sha256(data).hexdigest() != self.card.files[name].sha256:
            raise _refuse(self.path, f"{name} changed after the bundle was opened", file=name)
        return data


def write_bundle(path: Path, card: BundleCard, model: bytes, vectors: TestVectors) -> BundleCard:
    """Writes the bundle at `path` at once (temporary name, fsync, rename) and returns its card with `files` filled in."""
    files = {MODEL: model, LABELS: _labels_text(card.classes)}
    name, data = _vectors_file(vectors)
    files[name] = data
    card = dataclasses.replace(card, files={key: _entry(value) for key, value in sorted(files.items())})
    _check_card(path, card)
    _check_vectors(path, card, vectors)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            _write_zip(stream, {CARD: card_json(card), **files})
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return card


def open_bundle(path: Path) -> Bundle:
    """Reads the card and checks every file of the bundle against it.

    Raises InvalidArgument with reason INVALID_BUNDLE, naming the file and what is wrong with it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _safe_entries(path, archive)
            card = parse_card(archive.read(entries[CARD]), path)
            _check_files(path, archive, entries, card)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OverflowError) as error:
        raise _refuse(path, f"not a readable zip file ({error})") from error
    return Bundle(path, card)


def card_json(card: BundleCard) -> bytes:
    """The card as it stands in `bundle.json`."""
    return json.dumps(dataclasses.asdict(card), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()


def parse_card(data: bytes, path: Path) -> BundleCard:
    """Reads `bundle.json`. Raises InvalidArgument (INVALID_BUNDLE) naming the field that is wrong."""
    try:
        document = json.loads(data)
    except ValueError as error:
        raise _refuse(path, f"{CARD} is not JSON ({error})", file=CARD) from error
    version = document.get("format_version") if isinstance(document, dict) else None
    if version != FORMAT_VERSION:
        raise _refuse(path, f"{CARD}: format_version is {version!r}, this program reads {FORMAT_VERSION}", file=CARD)
    try:
        card = _CONVERTER.structure(document, BundleCard)
    except (BaseValidationError, TypeError, ValueError) as error:
        raise _refuse(path, f"{CARD}: {'; '.join(transform_error(error))[:500]}", file=CARD) from error
    _check_card(path, card)
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
_CONVERTER.register_structure_hook(float, _number)


def _refuse(path: Path, what: str, file: str = "") -> InvalidArgument:
    return InvalidArgument("INVALID_BUNDLE", f"bundle {path.name}: {what}", bundle=path.name, file=file)


def _entry(data: bytes) -> FileEntry:
    return FileEntry(hashlib.sha256(data).hexdigest(), len(data))


def _write_zip(stream: IO[bytes], files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)


def _safe_entries(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename
        if name not in CAPS:
            raise _refuse(path, f"holds {name!r:.120}; a bundle holds only {', '.join(CAPS)}", file=name)
        if name in entries:
            raise _refuse(path, f"holds {name} twice", file=name)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise _refuse(path, f"{name} is compressed or encrypted; a bundle's files are stored", file=name)
        if info.file_size > CAPS[name]:
            raise _refuse(path, f"{name} has {info.file_size} bytes, at most {CAPS[name]} are read", file=name)
        entries[name] = info
    if CARD not in entries:
        raise _refuse(path, f"has no {CARD}", file=CARD)
    return entries


def _check_files(path: Path, archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], card: BundleCard) -> None:
    present = set(entries) - {CARD}
    for name in sorted(present ^ set(card.files)):
        raise _refuse(path, f"{name!r:.120} is " + ("not listed in the card" if name in present else "missing"), file=name)
    for name, expected in card.files.items():
        if entries[name].file_size != expected.size_bytes:
            found = entries[name].file_size
            raise _refuse(path, f"{name} has {found} bytes, the card says {expected.size_bytes}", file=name)
        with archive.open(entries[name]) as stream:
            found_sha = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # a readable stream will do
        if found_sha != expected.sha256:
            raise _refuse(path, f"{name} has sha256 {found_sha}, the card says {expected.sha256}", file=name)
    if archive.read(LABELS) != _labels_text(card.classes):
        raise _refuse(path, f"{LABELS} does not hold the card's classes", file=LABELS)


def _check_card(path: Path, card: BundleCard) -> None:
    for name in (MODEL, LABELS):
        if name not in card.files:
            raise _refuse(path, f"{CARD} lists no {name}", file=name)
    if (VECTORS_JSON in card.files) == (VECTORS_SAFETENSORS in card.files):
        raise _refuse(path, f"{CARD} must list one of {VECTORS_JSON} and {VECTORS_SAFETENSORS}", file=CARD)
    for name, entry in card.files.items():
        if not _SHA256.fullmatch(entry.sha256) or not 0 <= entry.size_bytes <= CAPS.get(name, 0):
            raise _refuse(path, f"{CARD}: the entry of {name!r:.120} is wrong", file=name)
    for specs, field_name in ((card.inputs, "inputs"), (card.outputs, "outputs")):
        _check_specs(path, specs, field_name)
    if {column.input for column in card.columns} - {spec.name for spec in card.inputs}:
        raise _refuse(path, f"{CARD}: columns name an input that is not there", file=CARD)


def _check_specs(path: Path, specs: tuple[TensorSpec, ...], field_name: str) -> None:
    if not specs or len({spec.name for spec in specs}) != len(specs):
        raise _refuse(path, f"{CARD}: {field_name} must be one or more tensors with different names", file=CARD)
    for spec in specs:
        if spec.datatype not in DATATYPES:
            raise _refuse(path, f"{CARD}: {field_name}.{spec.name}: datatype {spec.datatype!r:.40} is unknown", file=CARD)
        if not 1 <= len(spec.shape) <= 8 or spec.shape[0] != -1 or any(size < 1 for size in spec.shape[1:]):
            raise _refuse(path, f"{CARD}: {field_name}.{spec.name}: shape {list(spec.shape)} must be [-1, sizes...]", file=CARD)


def _check_vectors(path: Path, card: BundleCard, vectors: TestVectors) -> None:
    for specs, arrays in ((card.inputs, vectors.inputs), (card.outputs, vectors.outputs)):
        if {spec.name for spec in specs} != set(arrays):
            raise _refuse(path, f"test vectors hold {sorted(arrays)}, the card names {[spec.name for spec in specs]}")
        for spec in specs:
            array = arrays[spec.name]
            if array.shape != (vectors.count, *spec.shape[1:]) or array.dtype.name != DATATYPES[spec.datatype]:
                raise _refuse(path, f"test vector {spec.name} is {array.dtype.name} {list(array.shape)}, the card says {spec}")
            if spec.datatype == "BYTES" and not all(isinstance(value, str) for value in array.ravel()):
                raise _refuse(path, f"test vector {spec.name} holds values that are no text")


def _labels_text(classes: tuple[str, ...]) -> bytes:
    lines = (name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") + "\n" for name in classes)
    return "".join(lines).encode()


def _vectors_file(vectors: TestVectors) -> tuple[str, bytes]:
    if any(array.dtype == object for array in (*vectors.inputs.values(), *vectors.outputs.values())):
        return VECTORS_JSON, _vectors_to_json(vectors)
    return VECTORS_SAFETENSORS, _vectors_to_safetensors(vectors)


def _vectors_to_safetensors(vectors: TestVectors) -> bytes:
    from safetensors.numpy import save

    arrays = {f"input.{name}": value for name, value in vectors.inputs.items()}
    arrays |= {f"output.{name}": value for name, value in vectors.outputs.items()}
    return bytes(save({name: np.ascontiguousarray(value) for name, value in arrays.items()}))


def _vectors_from_safetensors(data: bytes) -> TestVectors:
    from safetensors.numpy import load

    arrays: dict[str, Array] = load(data)
    sides = {side: {k.removeprefix(side): v for k, v in arrays.items() if k.startswith(side)} for side in ("input.", "output.")}
    return TestVectors(sides["input."], sides["output."])


def _vectors_to_json(vectors: TestVectors) -> bytes:
    document = {
        side: {
            name: {"dtype": array.dtype.name, "shape": list(array.shape), "values": _json_values(array)} for name, array in arrays
        }
        for side, arrays in (("inputs", sorted(vectors.inputs.items())), ("outputs", sorted(vectors.outputs.items())))
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


def _json_values(array: Array) -> list[object]:
    """The values in C order; NaN, which JSON does not have, as null. float32 -> float64 -> text -> back is exact."""
    values = array.ravel().tolist()
    return [None if isinstance(value, float) and value != value else value for value in values]


def _vectors_from_json(data: bytes) -> TestVectors:
    document = json.loads(data)
    return TestVectors(*({name: _json_array(entry) for name, entry in document[side].items()} for side in ("inputs", "outputs")))


def _json_array(entry: Mapping[str, Any]) -> Array:
    dtype = np.dtype(entry["dtype"])
    values = entry["values"]
    if dtype.kind == "f":
        values = [float("nan") if value is None else value for value in values]
    array = np.empty(len(values), dtype=dtype)
    array[:] = values
    return array.reshape(entry["shape"])
