"""What is uploaded, as a stream of bytes: a file as it is, or a folder as a zip that is never whole in memory or on disk.

Entries of the zip are stored, sorted and carry a fixed time, so that the same folder gives the same bytes and the same sha256.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from modelyard.client.errors import InvalidArgument, Violation

# Bytes of one message of an upload.
CHUNK_BYTES: Final = 1 << 20
_FIXED_TIME: Final = (1980, 1, 1, 0, 0, 0)

log = logging.getLogger("modelyard.client")

OnSkipped = Callable[[Path, str], None]
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Entry:
    """A file of a folder: where it is, its name inside the zip, and its size in bytes."""

    path: Path
    name: str
    size_bytes: int


@dataclass(frozen=True)
class Source:
    """What is to be sent. `content_bytes` counts the files' own bytes; `size_bytes` is the stream's length, 0 when not known."""

    file_name: str
    content_bytes: int
    size_bytes: int
    path: Path
    entries: tuple[Entry, ...] = ()


def open_source(path: Path, on_skipped: OnSkipped | None = None) -> Source:
    """Looks at a file or folder. InvalidArgument when there is nothing to send.

    Of a folder, what is no regular file, leads out of the folder, cannot be read or has a name that is not Unicode is left
    out, and `on_skipped` (else the log) is told.
    """
    skipped = on_skipped or (lambda left, why: log.warning("%s is left out: %s", left, why))
    if path.is_dir():
        return _folder(path, skipped)
    if not path.exists():
        raise _wrong("NO_SUCH_SOURCE", path, f"source is {str(path)!r}: there is no such file or folder")
    if not path.is_file():
        raise _wrong("NOT_A_FILE", path, f"source is {str(path)!r}: give a regular file or a folder")
    size = path.stat().st_size
    if size == 0:
        raise _wrong("EMPTY_FILE", path, f"source is {str(path)!r}: the file is empty (0 bytes)")
    if not os.access(path, os.R_OK):
        raise _wrong("NOT_READABLE", path, f"source is {str(path)!r}: you may not read it")
    return Source(path.name, size, size, path)


def chunks(source: Source, on_progress: OnProgress | None = None) -> Iterator[bytes]:
    """The bytes to send, in chunks of at most CHUNK_BYTES. on_progress(done, total) counts the files' own bytes."""
    report = on_progress or (lambda done, total: None)
    blocks = _zipped(source, report) if source.entries else _plain(source, report)
    yield from _rechunked(blocks)


def _folder(root: Path, skipped: OnSkipped) -> Source:
    entries = tuple(sorted(_walk(root, skipped), key=lambda entry: entry.name))
    if not entries:
        raise _wrong("EMPTY_FOLDER", root, f"source is {str(root)!r}: the folder holds no file that can be read")
    name = root.resolve().name or "folder"
    return Source(f"{name}.zip", sum(entry.size_bytes for entry in entries), 0, root, entries)


def _walk(root: Path, skipped: OnSkipped) -> Iterator[Entry]:
    inside = root.resolve()
    for folder, folders, files in os.walk(
        root, onerror=lambda error: skipped(Path(error.filename or root), error.strerror or "cannot be read")
    ):
        for name in sorted(folders):
            if (Path(folder) / name).is_symlink():
                skipped(Path(folder) / name, "a link to a folder")
        for name in files:
            path = Path(folder) / name
            why = _unfit(path, inside)
            if why:
                skipped(path, why)
            else:
                yield Entry(path, path.relative_to(root).as_posix(), path.stat().st_size)


def _unfit(path: Path, inside: Path) -> str:
    """Why a file cannot go along; empty when it can."""
    try:
        path.name.encode()
        if path.is_symlink() and not path.resolve(strict=True).is_relative_to(inside):
            return "a link that leads out of the folder"
        if not stat.S_ISREG(path.stat().st_mode):
            return "not a regular file"
    except UnicodeEncodeError:
        return "its name is not Unicode"
    except OSError as error:
        return error.strerror or "it cannot be read"
    return "" if os.access(path, os.R_OK) else "you may not read it"


def _plain(source: Source, report: OnProgress) -> Iterator[bytes]:
    done = 0
    with source.path.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            yield block
            done += len(block)
            report(done, max(source.content_bytes, done))


def _zipped(source: Source, report: OnProgress) -> Iterator[bytes]:
    done = 0
    sink = _Sink()
    with zipfile.ZipFile(cast("io.BufferedWriter", sink), "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for entry in source.entries:
            with entry.path.open("rb") as file, archive.open(_info(entry), "w") as target:
                while block := file.read(CHUNK_BYTES):
                    target.write(block)
                    yield sink.take()
                    done += len(block)
                    report(done, max(source.content_bytes, done))
            yield sink.take()
    yield sink.take()


def _info(entry: Entry) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(entry.name, _FIXED_TIME)
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    info.file_size = entry.size_bytes
    return info


def _rechunked(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in chunks of CHUNK_BYTES, but for the last: small files would make one message each."""
    waiting = bytearray()
    for block in blocks:
        waiting += block
        while len(waiting) >= CHUNK_BYTES:
            yield bytes(waiting[:CHUNK_BYTES])
            del waiting[:CHUNK_BYTES]
    if waiting:
        yield bytes(waiting)


class _Sink(io.RawIOBase):
    """A file that only takes bytes in and hands them on: not seekable, so zipfile writes sizes after the data."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, block: Any) -> int:
        self._blocks.append(bytes(block))
        return len(block)

    def take(self) -> bytes:
        taken, self._blocks = b"".join(self._blocks), []
        return taken


def _wrong(reason: str, path: Path, message: str) -> InvalidArgument:
    return InvalidArgument(message, reason=reason, values={"source": str(path)}, violations=(Violation("source", message),))
