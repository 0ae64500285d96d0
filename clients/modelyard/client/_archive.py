"""What is uploaded, as a stream of bytes: a file as it is, or a folder as a zip that is never whole in memory or on disk.

Entries of the zip are stored, sorted and carry a fixed time, so that the same folder gives the same bytes and the same sha256.
"""

from __future__ import annotations

import logging
import os
import stat
import struct
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

from modelyard.client.errors import InvalidArgument, Violation

# Bytes of one message of an upload.
CHUNK_BYTES: Final = 1 << 20

log = logging.getLogger("modelyard.client")

OnSkipped = Callable[[Path, str], None]
OnProgress = Callable[[int, int], None]


class Entry(NamedTuple):
    """A file of a folder: its name inside the zip, where it is, and its size in bytes."""

    name: str
    path: str
    size_bytes: int


@dataclass(frozen=True)
class Source:
    """What is to be sent. `content_bytes` counts the files' own bytes, `size_bytes` is the stream's length."""

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
    """The bytes to send, in chunks of at most CHUNK_BYTES. on_progress(done, total) counts the files' own bytes.

    InvalidArgument FILE_CHANGED where a file is longer or shorter than it was when `open_source` looked at it.
    """
    blocks = _zipped(source, on_progress) if source.entries else _plain(source, on_progress)
    yield from _rechunked(blocks)


def _folder(root: Path, skipped: OnSkipped) -> Source:
    entries = tuple(sorted(_walk(root, skipped), key=_BY_NAME))
    if not entries:
        raise _wrong("EMPTY_FOLDER", root, f"source is {str(root)!r}: the folder holds no file that can be read")
    name = root.resolve().name or "folder"
    return Source(f"{name}.zip", sum(entry.size_bytes for entry in entries), _zip_bytes(entries), root, entries)


_BY_NAME: Final = itemgetter(0)
_ALL_MAY_READ: Final = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH


def _walk(root: Path, skipped: OnSkipped) -> Iterator[Entry]:
    """Files of a folder and of those below, links to folders left out. One look at each: a folder may hold very many."""
    inside = root.resolve()
    waiting = [(str(root), "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            with os.scandir(folder) as found:
                items = list(found)
        except OSError as error:
            skipped(Path(error.filename or folder), error.strerror or "cannot be read")
            continue
        for item in items:
            if item.is_file(follow_symlinks=False) and item.name.isascii():  # most files: nothing else to ask
                known = _look(item)
                if known is not None and known.st_mode & _ALL_MAY_READ == _ALL_MAY_READ:
                    yield Entry(prefix + item.name, item.path, known.st_size)
                    continue
            name = f"{prefix}{item.name}"
            if item.is_dir(follow_symlinks=False):
                waiting.append((item.path, f"{name}/"))
            elif item.is_dir():
                skipped(Path(item.path), "a link to a folder")
            elif why := _unfit(item, inside):
                skipped(Path(item.path), why)
            else:
                yield Entry(name, item.path, item.stat().st_size)


def _look(item: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return item.stat()
    except OSError:
        return None


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


def _plain(source: Source, report: OnProgress | None) -> Iterator[bytes]:
    done = 0
    with source.path.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            done += len(block)
            if done > source.size_bytes:
                raise _changed(source.path, source.size_bytes)
            yield block
            if report is not None:
                report(done, source.content_bytes)
    if done != source.size_bytes:
        raise _changed(source.path, source.size_bytes)


def _zipped(source: Source, report: OnProgress | None) -> Iterator[bytes]:
    """The zip. A small file is read whole, so its size and checksum stand before it; of a larger one after it.

    Of small files there may be very many, and each costs what its system calls do: what is left of it here is written out.
    """
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    open_, read, close, crc32, numbers = os.open, os.read, os.close, zlib.crc32, _SIZES.pack
    done = at = held = 0
    parts: list[bytes] = []
    directory: list[bytes] = []
    for entry in source.entries:
        name = entry.name.encode()
        size = entry.size_bytes
        if size >= CHUNK_BYTES:
            yield b"".join(parts)
            parts, held = [], 0
            checksum, sent = yield from _large(entry, name, flags, report, done, source.content_bytes)
            directory.append(_directory_entry(name, _UTF8 | _SIZES_FOLLOW, checksum, size, at))
            at += sent
            done += size
            continue
        descriptor = open_(entry.path, flags)
        try:
            data = read(descriptor, size + 1)
            if len(data) != size:
                data = _all_of(descriptor, data, entry)
        finally:
            close(descriptor)
        length = _LOCAL_BYTES + len(name) + size
        if held + length > CHUNK_BYTES:
            yield b"".join(parts)
            parts, held = [], 0
        told = numbers(crc32(data), size, size, len(name), 0)
        parts += (_LOCAL_START, told, name, data)
        if at < _LARGE:
            directory += (_DIRECTORY_START, told, _DIRECTORY_MIDDLE, _PLACE.pack(at), name)
        else:
            directory.append(_directory_entry(name, _UTF8, crc32(data), size, at))
        at += length
        held += length
        done += size
        if report is not None:
            report(done, source.content_bytes)
    listing = b"".join(directory)
    parts += (listing, _end(len(source.entries), len(listing), at))
    yield b"".join(parts)


def _large(
    entry: Entry, name: bytes, flags: int, report: OnProgress | None, done: int, total: int
) -> Generator[bytes, None, tuple[int, int]]:
    """A file that is read piece by piece; gives its checksum, and how much was sent."""
    head = _header_of_large(name)
    yield head
    checksum = size = 0
    descriptor = os.open(entry.path, flags)
    try:
        while block := os.read(descriptor, CHUNK_BYTES):
            checksum, size = zlib.crc32(block, checksum), size + len(block)
            if size > entry.size_bytes:
                break
            yield block
            if report is not None:
                report(done + size, total)
    finally:
        os.close(descriptor)
    if size != entry.size_bytes:
        raise _changed(Path(entry.path), entry.size_bytes)
    sizes = struct.pack("<4sLQQ", b"PK\x07\x08", checksum, size, size)
    yield sizes
    return checksum, len(head) + size + len(sizes)


def _all_of(descriptor: int, data: bytes, entry: Entry) -> bytes:
    """All of a small file whose first reading gave less than was expected (a pipe's way on some file systems), or more."""
    while len(data) <= entry.size_bytes and (more := os.read(descriptor, entry.size_bytes + 1 - len(data))):
        data += more
    if len(data) != entry.size_bytes:
        raise _changed(Path(entry.path), entry.size_bytes)
    return data


def _changed(path: Path, size: int) -> InvalidArgument:
    message = f"{path} has changed while it was sent: it had {size} bytes before. Send it again when nobody writes to it"
    return InvalidArgument(message, reason="FILE_CHANGED", values={"file": str(path)}, violations=(Violation("source", message),))


# ZIP (PKWARE's APPNOTE 6.3): what zipfile writes, without its cost for each small file.
_UTF8, _SIZES_FOLLOW = 0x800, 0x8
_VERSION, _UNIX = 45, 3 << 8
_LARGE = 0xFFFFFFFF
_MANY = 0xFFFF
_DATE = (1 << 5) | 1  # 1 January 1980, which is where the format's time begins


_SIZES = struct.Struct("<LLLHH")
"""Checksum, packed size, size, length of the name, length of what is said besides."""
_PLACE = struct.Struct("<L")
_LOCAL_START = struct.pack("<4sHHHHH", b"PK\x03\x04", _VERSION, _UTF8, 0, 0, _DATE)
_LOCAL_BYTES = len(_LOCAL_START) + _SIZES.size
_DIRECTORY_START = struct.pack("<4sHHHHHH", b"PK\x01\x02", _UNIX | _VERSION, _VERSION, _UTF8, 0, 0, _DATE)
_DIRECTORY_MIDDLE = struct.pack("<HHHL", 0, 0, 0, (stat.S_IFREG | 0o644) << 16)
_DIRECTORY_BYTES = len(_DIRECTORY_START) + _SIZES.size + len(_DIRECTORY_MIDDLE) + _PLACE.size


def _header_of_large(name: bytes) -> bytes:
    """Of a file whose sizes follow. They are told as of more than 4 GiB, so that 8 bytes are read for each."""
    extra = struct.pack("<HHQQ", 1, 16, 0, 0)
    start = struct.pack("<4sHHHHH", b"PK\x03\x04", _VERSION, _UTF8 | _SIZES_FOLLOW, 0, 0, _DATE)
    return start + _SIZES.pack(0, _LARGE, _LARGE, len(name), len(extra)) + name + extra


def _zip_bytes(entries: Sequence[Entry]) -> int:
    """How long the zip of these files will be."""
    at = listing = 0
    for name, _, size in entries:
        long = len(name) if name.isascii() else len(name.encode())
        start, at = at, at + _LOCAL_BYTES + long + size
        listing += _DIRECTORY_BYTES + long
        if size >= CHUNK_BYTES:
            at += _MORE_OF_LARGE
        if size >= _LARGE or start >= _LARGE:
            listing += 4 + 8 * (2 * (size >= _LARGE) + (start >= _LARGE))
    return at + listing + len(_end(len(entries), listing, at))


_MORE_OF_LARGE = 20 + 24  # 8 bytes for each size, and the sizes that follow


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
    """The same bytes in chunks of at most CHUNK_BYTES, few of them small: small files would make one message each."""
    waiting = bytearray()
    for block in blocks:
        if not waiting and CHUNK_BYTES // 2 <= len(block) <= CHUNK_BYTES:
            yield block
            continue
        waiting += block
        while len(waiting) >= CHUNK_BYTES:
            yield bytes(waiting[:CHUNK_BYTES])
            del waiting[:CHUNK_BYTES]
    if waiting:
        yield bytes(waiting)


def _wrong(reason: str, path: Path, message: str) -> InvalidArgument:
    return InvalidArgument(message, reason=reason, values={"source": str(path)}, violations=(Violation("source", message),))
