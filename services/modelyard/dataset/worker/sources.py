"""Opening what was sent: a zip, a tar (plain or gzipped), or one file (plain or gzipped)."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path

from modelyard.core.errors import InvalidArgument
from modelyard.formats.archive import Entry, RejectedEntry, SafeZip, file_chunks, gunzip, is_gzip, is_zip
from modelyard.formats.dataset_tar import SafeTar, is_tar

SOURCE = "dataset_import.source"
"""The request field that names the source."""

_LONGEST_LINE = 64 * 1024**2


def open_archive(source: Path, head: bytes, name: str, folder: Path) -> SafeZip | SafeTar | None:
    """The archive, or None when it is one file. A gzipped tar is unpacked to a plain one in the folder first."""
    if is_zip(head):
        return SafeZip(source, name=name)
    if is_tar(head):
        return SafeTar(source, name=name)
    if not is_gzip(head) or not name.lower().endswith((".tar.gz", ".tgz")):
        return None
    return SafeTar(unpack(source, name, folder), name=name)


def one_file(source: Path, head: bytes, name: str, folder: Path) -> tuple[Path, str]:
    """The file and its name, unpacked where it is a gzip."""
    if not is_gzip(head):
        return source, name
    return unpack(source, name, folder), name.removesuffix(".gz").removesuffix(".GZ")


def unpack(source: Path, name: str, folder: Path) -> Path:
    """A gzip, unpacked into the folder."""
    unpacked = folder / "unpacked"
    with unpacked.open("wb") as out:
        for chunk in gunzip(file_chunks(source), name=name):
            out.write(chunk)
    return unpacked


class OneFile:
    """One file, opened as an archive that holds only it (see formats.dataset_tar.Archive)."""

    def __init__(self, path: Path, name: str) -> None:
        self.name, self.ignored = name, 0
        self.rejected: list[RejectedEntry] = []
        self.entries = [Entry(name.rsplit("/", 1)[-1], path.stat().st_size, 0)]
        self._path = path

    def read(self, entry: Entry) -> bytes:
        """All bytes of it."""
        return self._path.read_bytes()

    def copy(self, entry: Entry, to: Path, *, limit_bytes: int | None = None) -> Path:
        """Writes it to a file of the caller's choice."""
        with to.open("wb") as out:
            out.writelines(file_chunks(self._path))
        return to

    def stream(self, entry: Entry, *, limit_bytes: int | None = None) -> Iterator[bytes]:
        """Its bytes in chunks of at most 1 MiB."""
        return file_chunks(self._path)

    def close(self) -> None:
        """Nothing is open."""


def lines(chunks: Iterable[bytes], *, name: str) -> Iterator[str]:
    """The lines of a text, without their ends. Raises InvalidArgument NOT_TEXT, LINE_TOO_LONG (64 Mi characters)."""
    decode = codecs.getincrementaldecoder("utf-8-sig")()
    rest = ""
    try:
        for chunk in chunks:
            *whole, rest = (rest + decode.decode(chunk)).split("\n")
            yield from (line.rstrip("\r") for line in whole)
            if len(rest) > _LONGEST_LINE:
                raise InvalidArgument("LINE_TOO_LONG", f"{name} has a line of more than {_LONGEST_LINE} characters", file=name)
        rest += decode.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise InvalidArgument("NOT_TEXT", f"{name} is not UTF-8 text: {error.reason} at byte {error.start}", file=name) from error
    if rest:
        yield rest.rstrip("\r")
