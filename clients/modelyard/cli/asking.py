"""What users give, checked and made ready: sources, floors, numbers."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.cli.live import bar
from modelyard.cli.output import note
from modelyard.client import FailedPrecondition, InvalidArgument, PermissionDenied, Violation
from modelyard.client.enums import short_name
from modelyard.dataset.v1 import dataset_pb2
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.exporter.v1 import exporter_pb2
from modelyard.type.v1 import blob_pb2

if TYPE_CHECKING:
    from modelyard.cli.session import Session

URI = "artifact://"


def source_of(here: Session, source: str) -> tuple[blob_pb2.Blob | dataset_pb2.LocalFolder, str]:
    """What an import is to read, and its file name: a folder where it lies, if the server is this user's own; else an upload."""
    from modelyard.cli import huggingface

    path = Path(source).expanduser()
    if not source.startswith(URI) and not huggingface.is_one(path):
        folder = here.client.datasets.local_folder(path)
        if folder is not None:
            return folder, path.resolve().name
    return uploaded(here, source)


def import_begun(
    here: Session, dataset: str, source: str, found: blob_pb2.Blob | dataset_pb2.LocalFolder, **options: Any
) -> dataset_pb2.Import:
    """An import of what `source_of` found, started. A folder that the server may not, or cannot, read is uploaded after all."""
    try:
        return here.client.datasets.create_import(dataset, found, **options)
    except (FailedPrecondition, PermissionDenied) as error:
        if error.reason not in ("NOT_THE_SAME_FOLDER", "NOT_THE_OWNER"):
            raise
    blob, _ = uploaded(here, source)
    return here.client.datasets.create_import(dataset, blob, **options)


def uploaded(here: Session, source: str) -> tuple[blob_pb2.Blob, str]:
    """The blob of a source and its file name. A path is uploaded; an artifact:// URI is taken as it is."""
    if source.startswith(URI):
        digest = source.rpartition("/")[2]
        return blob_pb2.Blob(uri=source, sha256=digest), ""
    from modelyard.cli import huggingface

    path = Path(source).expanduser()
    skipped: list[tuple[Path, str]] = []
    with tempfile.TemporaryDirectory(prefix="modelyard-") as folder:
        if huggingface.is_one(path):
            note(f"{path.name} is a Hugging Face dataset; it is read without its library")
            path = huggingface.converted(path, Path(folder))
        with bar(f"upload {path.name}") as show:
            blob = here.client.artifacts.upload(path, show, on_skipped=lambda left, why: skipped.append((left, why)))
    for left, why in skipped[:20]:
        note(f"left out: {left}: {why}")
    if len(skipped) > 20:
        note(f"left out: {len(skipped) - 20} more")
    return blob, path.resolve().name


def uploaded_model(here: Session, path: Path) -> blob_pb2.Blob:
    """The blob of a model file."""
    path = path.expanduser()
    if path.is_dir():
        raise wrong("file", path, f"file is {str(path)!r}, a folder; give a .onnx, .tflite or .pt2 file")
    with bar(f"upload {path.name}") as show:
        return here.client.artifacts.upload(path, show, service="exporter")


def class_floors_of(floors: Sequence[str]) -> list[evaluator_pb2.ClassFloor]:
    """`CLASS:METRIC=VALUE` options."""
    found = []
    for floor in floors:
        place, separator, value = floor.rpartition("=")
        label, colon, metric = place.rpartition(":")
        try:
            found.append(evaluator_pb2.ClassFloor(label=label, metric=metric, value=float(value)))
        except ValueError:
            separator = ""
        if not (separator and colon and label and metric):
            raise wrong("class_floors", floor, f"class_floors has {floor!r}; give CLASS:METRIC=VALUE, such as rose:recall=0.8")
    return found


def forms_of(formats: Sequence[str]) -> tuple[str, exporter_pb2.Format.ValueType]:
    """What `--format` says of the data and of the model: their words differ, so one option serves both."""
    models, sources = dict(exporter_pb2.Format.items()), dict(dataset_pb2.SourceFormat.items())
    of_data, of_model = "", exporter_pb2.FORMAT_UNSPECIFIED
    for format in formats:
        word = format.strip().upper().replace("-", "_")
        if models.get(f"FORMAT_{word}") and not of_model:
            of_model = models[f"FORMAT_{word}"]
        elif sources.get(f"SOURCE_FORMAT_{word}") and not of_data:
            of_data = format
        else:
            names = [*(short_name(exporter_pb2.Format, name) for name in models)]
            names += [short_name(dataset_pb2.SourceFormat, name) for name in sources]
            right = ", ".join(filter(None, names))
            raise wrong("format", format, f"format is {format!r}; give one form of the model and one of the data, of {right}")
    return of_data, of_model


def floors_of(floors: Sequence[str], min_accuracy: float | None) -> dict[str, float]:
    """`metric=value` options as a mapping; --min-accuracy is one for accuracy."""
    found = {} if min_accuracy is None else {"accuracy": _share(min_accuracy)}
    for floor in floors:
        metric, separator, value = floor.partition("=")
        try:
            found[metric.strip()] = float(value)
        except ValueError:
            separator = ""
        if not separator or not metric.strip():
            raise wrong("floors", floor, f"floors has {floor!r}; give METRIC=VALUE, such as accuracy=0.9 or rmse=12.5")
    return found


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise wrong("min_accuracy", value, f"min_accuracy is {value:g}; give a share from 0 to 1")
    return value


def whole_number(value: int, least: int, most: int, field: str, unit: str) -> int:
    """InvalidArgument when it is outside the bounds."""
    if not least <= value <= most:
        raise wrong(field, value, f"{field} is {value}; give {least} to {most} {unit}")
    return value


def written_to(field: str, place: Path, *, is_folder: bool = False) -> Path:
    """Makes the folder that is to be written into: InvalidArgument before the work whose result it holds, not after."""
    folder = place if is_folder else place.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return place
    except OSError as error:
        why = "a file is where a folder is to be" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        where = f" (in {str(folder)!r})" if folder != place and folder != Path() else ""
        raise wrong(field, place, f"{field} is {str(place)!r}, which cannot be written: {why}{where}") from None


def wrong(field: str, value: object, message: str) -> InvalidArgument:
    """An InvalidArgument about a field."""
    values = {"field": field, "value": str(value)}
    return InvalidArgument(message, reason="INVALID_VALUE", values=values, violations=(Violation(field, message),))
