"""What is uploaded, as a stream of bytes: a file as it is, or a folder as a zip that is never whole in memory or on disk.

Entries of the zip are stored, sorted and carry a fixed time, so that the same folder gives the same bytes and the same sha256.
"""

from __future__ import annotations

import logging
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelyard.client.errors import InvalidArgument, Violation

# Bytes of one message of an upload.
CHUNK_BYTES: Final = 1 << 20

log = logging.getLogger("modelyard.client")

OnSkipped = Callable[[Path, str], None]
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Entry:
    """A file of a folder: where it is, its name inside the zip, and its size in bytes."""

    path: str
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
    """Files of a folder and of those below, links to folders left out. One look at each: a folder may hold very many."""
    inside = root.resolve()
    waiting = [(str(root), "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            with os.scandir(folder) as found:
                items = sorted(found, key=lambda item: item.name)
        except OSError as error:
            skipped(Path(error.filename or folder), error.strerror or "cannot be read")
            continue
        for item in items:
            name = f"{prefix}{item.name}"
            if item.is_dir(follow_symlinks=False):
                waiting.append((item.path, f"{name}/"))
            elif item.is_dir():
                skipped(Path(item.path), "a link to a folder")
            elif why := _unfit(item, inside):
                skipped(Path(item.path), why)
            else:
                yield Entry(item.path, name, item.stat().st_size)


def _unfit(item: os.DirEntry[str], inside: Path) -> str:
    """Why a file cannot go along; empty when it can."""
    try:
        item.name.encode()
        if item.is_symlink() and not Path(item.path).resolve(strict=True).is_relative_to(inside):
            return "a link that leads out of the folder"
        if not item.is_file():
            item.stat()  # says why, where it cannot be looked at
            return "not a regular file"
    except UnicodeEncodeError:
        return "its name is not Unicode"
    except OSError as error:
        return error.strerror or "it cannot be read"
    return "" if os.access(item.path, os.R_OK) else "you may not read it"


def _plain(source: Source, report: OnProgress) -> Iterator[bytes]:
    done = 0
    with source.path.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            yield block
            done += len(block)
            report(done, max(source.content_bytes, done))


def _zipped(source: Source, report: OnProgress) -> Iterator[bytes]:
    """The zip, entry by entry. A small file is read whole, so its size and checksum stand before it; of a larger one after it."""
    done = at = 0
    directory: list[bytes] = []
    for entry in source.entries:
        name = entry.name.encode()
        descriptor = os.open(entry.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
        try:
            data = _first(descriptor, entry.size_bytes)
            whole = len(data) < CHUNK_BYTES
            checksum, size, start = zlib.crc32(data), len(data), at
            flags = _UTF8 if whole else _UTF8 | _SIZES_FOLLOW
            head = _local_header(name, flags, checksum if whole else 0, size if whole else 0)
            yield head + data
            at += len(head) + len(data)
            done += len(data)
            report(done, max(source.content_bytes, done))
            while not whole and (block := os.read(descriptor, CHUNK_BYTES)):
                checksum, size = zlib.crc32(block, checksum), size + len(block)
                yield block
                at += len(block)
                done += len(block)
                report(done, max(source.content_bytes, done))
        finally:
            os.close(descriptor)
        if not whole:
            sizes = struct.pack("<4sLQQ", b"PK\x07\x08", checksum, size, size)
            yield sizes
            at += len(sizes)
        directory.append(_directory_entry(name, flags, checksum, size, start))
    listing = b"".join(directory)
    yield listing + _end(len(directory), len(listing), at)


def _first(descriptor: int, expected: int) -> bytes:
    """The first CHUNK_BYTES of a file, or all of a smaller one; one read where it is as large as was expected."""
    data = os.read(descriptor, CHUNK_BYTES)
    while len(data) != expected and len(data) < CHUNK_BYTES and (more := os.read(descriptor, CHUNK_BYTES - len(data))):
        data += more
    return data


# ZIP (PKWARE's APPNOTE 6.3): what zipfile writes, without its cost for each small file.
_UTF8, _SIZES_FOLLOW = 0x800, 0x8
_VERSION, _UNIX = 45, 3 << 8
_LARGE = 0xFFFFFFFF
_MANY = 0xFFFF
_DATE = (1 << 5) | 1  # 1 January 1980, which is where the format's time begins


def _local_header(name: bytes, flags: int, checksum: int, size: int) -> bytes:
    """Of a file whose sizes follow, they are told as of more than 4 GiB, so that 8 bytes are read for each."""
    extra = struct.pack("<HHQQ", 1, 16, 0, 0) if flags & _SIZES_FOLLOW else b""
    shown = _LARGE if extra else size
    head = struct.pack(
        "<4sHHHHHLLLHH", b"PK\x03\x04", _VERSION, flags, 0, 0, _DATE, checksum, shown, shown, len(name), len(extra)
    )
    return head + name + extra


def _directory_entry(name: bytes, flags: int, checksum: int, size: int, start: int) -> bytes:
    large = [value for value in (size, size, start) if value >= _LARGE]
    extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
    shown, place = min(size, _LARGE), min(start, _LARGE)
    attributes = (stat.S_IFREG | 0o644) << 16
    numbers = (_UNIX | _VERSION, _VERSION, flags, 0, 0, _DATE, checksum, shown, shown, len(name), len(extra), 0, 0, 0, attributes)
    return struct.pack("<4sHHHHHHLLLHHHHHLL", b"PK\x01\x02", *numbers, place) + name + extra


def _end(count: int, length: int, start: int) -> bytes:
    """The end of the directory; before it the one for many files or much data, where there are such."""
    large = b""
    if count >= _MANY or length >= _LARGE or start >= _LARGE:
        large = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, _UNIX | _VERSION, _VERSION, 0, 0, count, count, length, start)
        large += struct.pack("<4sLQL", b"PK\x06\x07", 0, start + length, 1)
    shown = min(count, _MANY)
    return large + struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, shown, shown, min(length, _LARGE), min(start, _LARGE), 0)


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


def _wrong(reason: str, path: Path, message: str) -> InvalidArgument:
    return InvalidArgument(message, reason=reason, values={"source": str(path)}, violations=(Violation("source", message),))
