"""The files inside a bundle: which ones a format has, how large they may be, and the zip that holds them.

Every name is fixed. The only folders are those of a TensorFlow SavedModel, whose layout TensorFlow prescribes.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from modelyard.core.errors import AlreadyExists, InvalidArgument
from modelyard.formats.bundle_vectors import VECTORS_JSON, VECTORS_SAFETENSORS

CARD: Final = "bundle.json"
LABELS: Final = "labels.txt"
CALIBRATION: Final = "calibration.txt"
STATISTICS: Final = "statistics.json"
MODEL: Final = "model.onnx"
TFLITE: Final = "model.tflite"
SAVED_MODEL_FOLDER: Final = "saved_model"
SAVED_MODEL: Final = "saved_model/saved_model.pb"
TORCH_PROGRAM: Final = "model.pt2"
OPENVINO_XML: Final = "model.xml"
OPENVINO_BIN: Final = "model.bin"

MIB: Final = 1 << 20


@dataclass(frozen=True)
class FormatFiles:
    """The files of a format: `model` is what a device must hold, the first of them the main one; the rest comes with it."""

    model: tuple[str, ...]
    optional_model: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    optional_extras: tuple[str, ...] = ()

    @property
    def main(self) -> str:
        """The file that names the model: the graph."""
        return self.model[0]

    @property
    def required(self) -> tuple[str, ...]:
        """What must be there."""
        return (*self.model, *self.extras)

    @property
    def allowed(self) -> frozenset[str]:
        """What may be there."""
        return frozenset((*self.required, *self.optional_model, *self.optional_extras))


FORMATS: Final[Mapping[str, FormatFiles]] = {
    "onnx": FormatFiles((MODEL,)),
    "litert": FormatFiles((TFLITE,)),
    "edge": FormatFiles(
        (TFLITE,),
        extras=("model_data.h", "model_data.cc", "runner.py", "runner.cc", "README.txt"),
        optional_extras=("model_vela.tflite", "sound_input.h"),
    ),
    "savedmodel": FormatFiles(
        (SAVED_MODEL, "saved_model/variables/variables.index", "saved_model/variables/variables.data-00000-of-00001"),
        optional_model=("saved_model/fingerprint.pb",),
    ),
    "openvino": FormatFiles((OPENVINO_XML, OPENVINO_BIN)),
    "torch_export": FormatFiles((TORCH_PROGRAM,)),
}
# The largest size of each file that is read, in bytes. A protobuf message, so an ONNX file, ends at 2 GiB; a flatbuffer too.
CAPS: Final[Mapping[str, int]] = {
    CARD: 16 * MIB,
    LABELS: 16 * MIB,
    CALIBRATION: 16 * MIB,
    STATISTICS: 4 * MIB,
    VECTORS_SAFETENSORS: 256 * MIB,
    VECTORS_JSON: 256 * MIB,
    MODEL: 2048 * MIB,
    TFLITE: 2048 * MIB,
    "model_vela.tflite": 2048 * MIB,
    "model_data.h": MIB,
    "model_data.cc": 256 * MIB,
    "runner.py": MIB,
    "runner.cc": MIB,
    "sound_input.h": MIB,
    "README.txt": MIB,
    SAVED_MODEL: 2048 * MIB,
    "saved_model/fingerprint.pb": MIB,
    "saved_model/variables/variables.index": 16 * MIB,
    "saved_model/variables/variables.data-00000-of-00001": 2048 * MIB,
    OPENVINO_XML: 256 * MIB,
    OPENVINO_BIN: 2048 * MIB,
    TORCH_PROGRAM: 2048 * MIB,
}


@dataclass(frozen=True)
class FileEntry:
    """What a file inside the bundle must be."""

    sha256: str
    size_bytes: int


def entry_of(data: bytes) -> FileEntry:
    """The entry of a file with these bytes."""
    return FileEntry(hashlib.sha256(data).hexdigest(), len(data))


def refuse(path: Path, what: str, file: str = "") -> InvalidArgument:
    """The error of a bundle that is not as it must be."""
    return InvalidArgument("INVALID_BUNDLE", f"bundle {path.name}: {what}", bundle=path.name, file=file)


def write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files at once (temporary name, fsync, rename), stored, with fixed times and in the order given."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            _write_entries(stream, files)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_entries(stream: IO[bytes], files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)


def safe_entries(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entries by name, when all are known, stored, there once and within their caps; raises InvalidArgument else."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename
        if name not in CAPS:
            raise refuse(path, f"holds {name!r:.120}; a bundle holds only {', '.join(CAPS)}", file=name)
        if name in entries:
            raise refuse(path, f"holds {name} twice", file=name)
        if (info.external_attr >> 16) & 0o170000 not in (0, 0o100000):
            raise refuse(path, f"{name} is a link or a special file; a bundle holds plain files", file=name)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise refuse(path, f"{name} is compressed or encrypted; a bundle's files are stored", file=name)
        if info.file_size > CAPS[name]:
            raise refuse(path, f"{name} has {info.file_size} bytes, at most {CAPS[name]} are read", file=name)
        entries[name] = info
    if CARD not in entries:
        raise refuse(path, f"has no {CARD}", file=CARD)
    return entries


def check_files(
    path: Path, archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], listed: Mapping[str, FileEntry]
) -> None:
    """Every file but the card against its listed size and sha256; raises InvalidArgument for one that differsnot listed."""
    present = set(entries) - {CARD}
    for name in sorted(present ^ set(listed)):
        raise refuse(path, f"{name!r:.120} is " + ("not listed in the card" if name in present else "missing"), file=name)
    for name, expected in listed.items():
        if entries[name].file_size != expected.size_bytes:
            found = entries[name].file_size
            raise refuse(path, f"{name} has {found} bytes, the card says {expected.size_bytes}", file=name)
        with archive.open(entries[name]) as stream:
            found_sha = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # a readable stream will do
        if found_sha != expected.sha256:
            raise refuse(path, f"{name} has sha256 {found_sha}, the card says {expected.sha256}", file=name)


def extract_files(path: Path, listed: Mapping[str, FileEntry], names: tuple[str, ...], directory: Path) -> list[Path]:
    """Writes files of a bundle into a folder; gives their paths. On an error none of them stays.

    Raises AlreadyExists FILE_EXISTS, InvalidArgument INVALID_BUNDLE when a file changed after the bundle was opened.
    """
    written: list[Path] = []
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                written.append(_extract_one(path, archive, name, listed[name], directory))  # noqa: PERF401  # kept up to an error
    except BaseException:
        for target in written:
            target.unlink(missing_ok=True)
        raise
    return written


def _extract_one(path: Path, archive: zipfile.ZipFile, name: str, expected: FileEntry, directory: Path) -> Path:
    target = directory.joinpath(*name.split("/"))
    data = archive.read(name)
    if entry_of(data) != expected:
        raise refuse(path, f"{name} changed after the bundle was opened", file=name)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        stream = target.open("xb")
    except FileExistsError as error:
        message = f"{target.name} is already in the folder; extract a bundle into an empty one"
        raise AlreadyExists("FILE_EXISTS", message, file=name) from error
    try:
        with stream:
            stream.write(data)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target
