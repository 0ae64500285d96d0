"""What every writer of an export stands on: the version's examples one after the other, names for their files, and the zip."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.picture_names import stem
from modelyard.dataset.domain.work import Work
from modelyard.formats import dataset as files
from modelyard.formats.annotations import Annotation
from modelyard.formats.dataset import DatasetReader
from modelyard.formats.dataset_annotated import AnnotatedUsage

_TIME = (1980, 1, 1, 0, 0, 0)
_ENDINGS = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\x00", ".tif"),
    (b"MM\x00*", ".tif"),
    (b"fLaC", ".flac"),
)
_STEP = 64


@dataclass(frozen=True)
class Exported:
    """An example to write. `name` is its file's, unlike all others but for the ending; sizes as in the manifest."""

    name: str
    usage: str
    label: str
    data: bytes
    sizes: tuple[int, ...]
    said: AnnotatedUsage
    position: int  # in `said`

    @property
    def annotation(self) -> Annotation:
        """What is said of it."""
        return self.said.annotation(self.position)

    @property
    def stem(self) -> str:
        """Its name without the ending."""
        return stem(self.name)


@dataclass
class Export:
    """An export as it is written."""

    reader: DatasetReader
    format: str
    lossy: bool
    folder: Path
    archive: zipfile.ZipFile
    work: Work
    title: str
    notes: list[str] = field(default_factory=list)
    count: int = 0

    @property
    def descriptor(self) -> files.DatasetDescriptor:
        """What is exported."""
        return self.reader.descriptor

    def refuse(self, why: str) -> None:
        """Raises InvalidArgument CANNOT_CARRY, or notes it where the user wants what can be had."""
        if not self.lossy:
            message = f"format {self.format} cannot carry this version: {why}; name another format, or allow loss (lossy)"
            raise InvalidArgument("CANNOT_CARRY", message, field="dataset_export.format", format=self.format)
        if why not in self.notes:
            self.notes.append(f"Left out or changed, because {self.format} cannot carry it: {why}.")

    def need(self, *tasks: str) -> None:
        """Raises InvalidArgument FORMAT_MISMATCH when the version is of another task."""
        if self.descriptor.task not in tasks:
            message = f"format {self.format} is for {', '.join(tasks)}; the version is of task {self.descriptor.task}"
            raise InvalidArgument("FORMAT_MISMATCH", message, field="dataset_export.format", format=self.format)

    def examples(self) -> Iterator[Exported]:
        """All examples, usage by usage, in the order of the source; tells how far it is."""
        taken: set[str] = set()
        total = len(self.reader)
        for usage in files.USAGES:
            said = self.reader.annotations(usage)
            for each in _rows(self, usage, said):
                if self.count % _STEP == 0:
                    self.work.stage("write", self.count, total, "examples", 0.0, 0.9)
                self.count += 1
                yield Exported(_name(each[0], each[2], taken), usage, each[1] or "", each[2], each[3], said, each[4])

    def write(self, path: str, data: bytes | str) -> None:
        """Adds a file to the zip."""
        self.archive.writestr(_info(path), data)

    def add(self, path: str, source: Path) -> None:
        """Adds a file from the disk to the zip."""
        with source.open("rb") as file, self.open(path) as out:
            while chunk := file.read(1024 * 1024):
                out.write(chunk)

    def open(self, path: str) -> IO[bytes]:
        """A file in the zip to write to; close it before the next."""
        return self.archive.open(_info(path), "w", force_zip64=True)


Row = tuple[str, str | None, bytes, tuple[int, ...], int]


def _rows(export: Export, usage: str, said: AnnotatedUsage) -> Iterator[Row]:
    reader, kind = export.reader, export.descriptor.kind
    names = {files.IMAGE: ("width", "height"), files.AUDIO: ("rate", "frames", "channels"), files.SERIES: ("steps", "channels")}
    columns = said.columns(["path", "label", *names[kind]])
    for place, (position, (path, label, *sizes)) in enumerate(zip(reader.indices(usage).tolist(), columns, strict=True)):
        yield path, label, reader.picture(position), tuple(sizes), place


def _name(path: str, data: bytes, taken: set[str]) -> str:
    """A file name from a path of the source: letters, digits, "_", "-" and "."; another one gets a number."""
    last = re.sub(r"\.gz\[|\[", "-", path.rsplit("/", 1)[-1]).rstrip("]")
    bare = re.sub(r"[^\w-]+", "_", stem(last) if "." in last else last).strip("_")[:100] or "example"
    wanted, number = bare, 1
    while wanted.lower() in taken:
        number += 1
        wanted = f"{bare}-{number}"
    taken.add(wanted.lower())
    return wanted + ending(data)


def ending(data: bytes) -> str:
    """The ending that a file's first bytes say; "" for none that is known."""
    if data.startswith(b"RIFF"):
        return ".wav" if data[8:12] == b"WAVE" else ".webp"
    return next((known for magic, known in _ENDINGS if data.startswith(magic)), "")


def _info(path: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, _TIME)
    info.external_attr = 0o100644 << 16
    return info


def folder_name(label: str) -> bool:
    """Whether a class can be the name of a folder and is read back as itself."""
    bad = {
        ".",
        "..",
        "__MACOSX",
        ".git",
        ".svn",
        ".hg",
        ".ipynb_checkpoints",
        "__pycache__",
        ".Trashes",
        ".Spotlight-V100",
        ".fseventsd",
    }
    return bool(label) and not set("/\\\0") & set(label) and label not in bad and len(label.encode()) < 200


def listed(values: Sequence[str]) -> str:
    """A few of them, as people write them."""
    shown = ", ".join(repr(value) for value in values[:5])
    return shown + (f" and {len(values) - 5} more" if len(values) > 5 else "")
