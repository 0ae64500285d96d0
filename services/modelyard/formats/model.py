"""The model file: what a trainer hands on, and what the exporter reads. One zip, stored, the same bytes for the same content.

    model.json            the card: what the model is, what it takes, what it gives (JSON, UTF-8, sorted keys)
    weights.safetensors   the weights, when the card's kind is `torch`
    model.txt             the trees, when it is `lightgbm`
    linear.safetensors    the coefficients, when it is `linear`
    network.safetensors   the weights of a network of rows, when it is `mlp`

Nothing in it is ever executed: no pickle, no code. `read_model` takes files from anywhere and refuses whatever it does not know.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import DataLoss, InvalidArgument
from modelyard.formats.dataset_descriptor import ANOMALY_DETECTION, FORECASTING, SERIES_CLASSIFICATION
from modelyard.formats.tasks import TASKS, task_of

FORMAT = 1
"""Version of the form; a reader refuses a newer one."""

PAYLOADS = {
    "torch": "weights.safetensors",
    "lightgbm": "model.txt",
    "linear": "linear.safetensors",
    "mlp": "network.safetensors",
}
"""Name of the file that holds the numbers, by kind."""


MAX_CARD_BYTES = 16 * 1024 * 1024
"""Largest model.json that is read."""

MAX_PAYLOAD_BYTES = 4 * 1024**3
"""Largest file of weights that is read."""

_COUNTED = {
    SERIES_CLASSIFICATION: ("steps", "channels"),
    ANOMALY_DETECTION: ("steps", "channels", "reference"),
    FORECASTING: ("context", "horizon", "period", "channels"),
}
"""Details of a card that are whole numbers, by task."""

_CARD = "model.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)

Tensors = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class PictureInput:
    """The picture a model takes: height and width in pixels, channels 1 (grey) or 3 (RGB)."""

    height: int
    width: int
    channels: int


@dataclass(frozen=True)
class Normalization:
    """The scaling inside a served image model: (pixel / 255 - mean) / std, one number per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class ModelCard:
    """What a model is. JSON values only, so that any reader can show it.

    kind: one of PAYLOADS. task: one of TASKS. architecture: `timm:NAME`, `modelyard:NAME`, `lightgbm`, `linear`.
    classes: names in the order of the output's index; empty for regression. input, normalization: for pictures.
    columns: for tables, in the order of the inputs, each {"name", "type", ...} with all that imputing and encoding need; target:
    the column that is predicted. metrics: validation metrics of the training graph by name. recipe: how it was trained, in full.
    dataset: {"version", "digest", "train_examples"...} of what it was trained on. details: what else the kind needs.
    """

    kind: str
    task: str
    architecture: str
    classes: tuple[str, ...] = ()
    input: PictureInput | None = None
    normalization: Normalization | None = None
    columns: tuple[Mapping[str, Any], ...] = ()
    target: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    parameter_count: int = 0
    recipe: Mapping[str, Any] = field(default_factory=dict)
    dataset: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelFile:
    """A model file in memory: its card and the bytes of its payload."""

    card: ModelCard
    payload: bytes

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The payload's tensors by name; raises InvalidArgument for the kind `lightgbm`, DataLoss when they cannot be read."""
        return load_tensors(self.payload, PAYLOADS[self.card.kind])


def write_model(path: Path, card: ModelCard, payload: bytes | Tensors) -> None:
    """Writes a model file, visible only when it is whole. `payload`: tensors (torch, linear) or the text of the trees (lightgbm).

    Raises InvalidArgument with reason BAD_MODEL when the card or the payload would make a file that `read_model` refuses.
    """
    data = payload if isinstance(payload, bytes) else dump_tensors(payload)
    check_card(card)
    write_zip(path, {_CARD: _card_bytes(card, data), PAYLOADS[card.kind]: data})


def read_model(path: Path) -> ModelFile:
    """Reads a model file and checks it: members, sizes, the payload's sha256, the card's fields.

    Raises InvalidArgument with reason BAD_MODEL for a file that is something else, DataLoss with reason DAMAGED_MODEL for one
    whose bytes are not what was written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            document = _read_card(archive, path)
            card = _card_from(document, path)
            payload = _member(archive, PAYLOADS[card.kind], MAX_PAYLOAD_BYTES, path)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise _bad(path, f"it is not a readable zip file: {error}") from error
    digest = hashlib.sha256(payload).hexdigest()
    if digest != document.get("payload_sha256"):
        message = f"{path.name} is damaged: its {PAYLOADS[card.kind]} has sha256 {digest}, not the one in its {_CARD}"
        raise DataLoss("DAMAGED_MODEL", message, file=path.name, sha256=digest)
    return ModelFile(card, payload)


def read_card(path: Path) -> ModelCard:
    """The card alone, without reading the weights; raises as `read_model` does."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _card_from(_read_card(archive, path), path)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise _bad(path, f"it is not a readable zip file: {error}") from error


def dump_tensors(tensors: Tensors) -> bytes:
    """A safetensors file of arrays, the same bytes for the same arrays."""
    from safetensors.numpy import save

    return save({name: np.asarray(tensors[name], order="C") for name in sorted(tensors)})


def load_tensors(data: bytes, name: str = "file") -> dict[str, npt.NDArray[Any]]:
    """The arrays of a safetensors file; raises DataLoss with reason DAMAGED_TENSORS."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(data))
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DataLoss("DAMAGED_TENSORS", f"{name} is not a readable safetensors file: {error}", file=name) from error


def write_zip(path: Path, members: Mapping[str, bytes]) -> None:
    """A stored zip with fixed times and modes, so that the same members give the same bytes; visible only when whole."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, data in members.items():
                    archive.writestr(_entry(name), data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_card(card: ModelCard) -> None:
    """Raises InvalidArgument with reason BAD_MODEL naming the field of the card that is wrong."""
    _expect(card.kind in PAYLOADS, "kind", card.kind, f"one of {', '.join(PAYLOADS)}")
    _expect(card.task in TASKS, "task", card.task, f"one of {', '.join(TASKS)}")
    _expect(bool(card.architecture), "architecture", card.architecture, "a name")
    if card.task not in ("tabular_regression", FORECASTING):
        fewest = 2 if task_of(card.task).one_label or card.task == "semantic_segmentation" else 1
        _expect(len(card.classes) >= fewest, "classes", len(card.classes), f"at least {fewest} names")
        _expect(len(set(card.classes)) == len(card.classes), "classes", "a name twice", "each name once")
    if task_of(card.task).pictured:
        _check_picture(card)
    for name in _COUNTED.get(card.task, ()):
        _expect(isinstance(card.details.get(name), int), f"details.{name}", card.details.get(name), "a whole number")


def _check_picture(card: ModelCard) -> None:
    picture, norm = card.input, card.normalization
    _expect(picture is not None and norm is not None, "input", None, "a picture input with its normalization")
    if picture is None or norm is None:
        return
    _expect(picture.channels in (1, 3), "input.channels", picture.channels, "1 or 3")
    _expect(1 <= picture.height <= 4096, "input.height", picture.height, "1 to 4096")
    _expect(1 <= picture.width <= 4096, "input.width", picture.width, "1 to 4096")
    same = len(norm.mean) == len(norm.std) == picture.channels
    _expect(same, "normalization", (len(norm.mean), len(norm.std)), f"{picture.channels} numbers in mean and in std")
    _expect(all(std > 0 for std in norm.std), "normalization.std", norm.std, "above 0")


def _expect(holds: bool, name: str, value: object, right: str) -> None:
    if not holds:
        message = f"the model card's {name} is {value!r}; {right} is right"
        raise InvalidArgument("BAD_MODEL", message, field=f"card.{name}", value=value)


def _card_bytes(card: ModelCard, payload: bytes) -> bytes:
    document = {"format": FORMAT, "payload_sha256": hashlib.sha256(payload).hexdigest(), **asdict(card)}
    data = json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1).encode()
    _expect(len(data) <= MAX_CARD_BYTES, "size", len(data), f"at most {MAX_CARD_BYTES} bytes")
    return data


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_STORED
    info.create_system = 3
    info.external_attr = 0o100644 << 16
    return info


def _member(archive: zipfile.ZipFile, name: str, cap: int, path: Path) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise _bad(path, f"it holds no {name}") from error
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > cap:
        raise _bad(path, f"its {name} is compressed or larger than {cap} bytes")
    return archive.read(info)


def _read_card(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        document = json.loads(_member(archive, _CARD, MAX_CARD_BYTES, path))
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"its {_CARD} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise _bad(path, f"its {_CARD} is not a JSON object")
    if document.get("format") != FORMAT:
        raise _bad(path, f"its format is {document.get('format')!r}; this version reads {FORMAT}")
    names = {info.filename for info in archive.infolist()}
    if len(archive.infolist()) != 2 or names != {_CARD, PAYLOADS.get(str(document.get("kind")), "")}:
        raise _bad(path, f"it holds {', '.join(sorted(names)[:5])}; a model file holds {_CARD} and the payload of its kind")
    return document


def _card_from(document: dict[str, Any], path: Path) -> ModelCard:
    try:
        values = {name: document[name] for name in (each.name for each in fields(ModelCard)) if name in document}
        values["classes"] = tuple(str(each) for each in values.get("classes", ()))
        values["columns"] = tuple(dict(each) for each in values.get("columns", ()))
        values["input"] = _picture_from(values.get("input"))
        values["normalization"] = _normalization_from(values.get("normalization"))
        values["metrics"] = {str(key): float(value) for key, value in values.get("metrics", {}).items()}
        card = ModelCard(**values)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise _bad(path, f"its {_CARD} lacks a field or has one of the wrong type: {error}") from error
    check_card(card)
    return card


def _picture_from(value: Any) -> PictureInput | None:
    return PictureInput(int(value["height"]), int(value["width"]), int(value["channels"])) if value else None


def _normalization_from(value: Any) -> Normalization | None:
    if not value:
        return None
    return Normalization(tuple(float(each) for each in value["mean"]), tuple(float(each) for each in value["std"]))


def _bad(path: Path, detail: str) -> InvalidArgument:
    return InvalidArgument("BAD_MODEL", f"{path.name} is not a model file: {detail}", file=path.name, detail=detail)
