"""Reading zip files that strangers made: nothing in a header is trusted, nothing is ever written under a name from the archive.

An entry that cannot be used is listed in `rejected` and skipped; an archive that attacks as a whole (too many entries, too
much data, a compression ratio that only a bomb has) is refused with InvalidArgument. Sizes and ratios are counted while the
bytes come out of the decompressor, so a header that lies changes nothing.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import InvalidArgument, ResourceExhausted
from modelyard.formats.zip_directory import from_infos, read_directory

_CHUNK = 1024 * 1024
_GZIP_WINDOW = 31
_ENCRYPTED_FLAG = 0x1
_FILE_KIND, _SYMLINK = 0o170000, 0o120000
_READ_HERE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile raises on bytes that are no zip, or no longer one.
_BROKEN = (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OverflowError, IndexError, struct.error)
_DRIVE = re.compile(r"^[A-Za-z]:")
# A name with which nothing can be the matter, and that no system leaves behind: most names, told at once.
_FILE_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*\.(?:png|jpe?g|wav|flac|txt|xml|json|csv)"
_PLAIN = re.compile(rf"(?:[A-Za-z0-9][A-Za-z0-9_-]*/)*{_FILE_NAME}", re.ASCII)
_PLAIN_FILE = re.compile(_FILE_NAME, re.ASCII)

_SYSTEM_PARTS = frozenset(
    {"__MACOSX", ".git", ".svn", ".hg", ".ipynb_checkpoints", "__pycache__", ".Trashes", ".Spotlight-V100", ".fseventsd"}
)
_SYSTEM_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Limits:
    """What an archive may hold."""

    entries: int = 1_000_000
    entry_bytes: int = 256 * 1024**2
    total_bytes: int = 50 * 1024**3
    ratio: int = 200  # decompressed to compressed bytes of one entry...
    ratio_from_bytes: int = 1024**2  # ...once it gave this many bytes


class Entry(NamedTuple):
    """A file in the archive: its path with forward slashes and no "." or ".." parts, and its size as the header claims it."""

    path: str
    claimed_bytes: int
    index: int  # type: ignore[assignment]  # a tuple has a method of this name, which nobody needs here


@dataclass(frozen=True, slots=True)
class Located:
    """Where an entry's bytes lie in the archive's file, for `read_located`: of a zip its local header, with the name that
    stands there; of a tar (name None) the data. `method`: 0 stored, 8 deflated."""

    offset: int
    packed_bytes: int
    size_bytes: int
    method: int = 0
    crc: int = 0
    name: bytes | None = None


_INDEX = itemgetter(2)
BARE, ONLY_HERE = -1, -2
"""Methods of `Places` besides zip's own: the data lie there without a header of their own; and only the archive can read it."""


@dataclass(frozen=True)
class Places:
    """Where n entries lie, as `Located` says of one: int64 [n] each. `names`: by number, those that stand in the file otherwise
    than as the entry's path in UTF-8."""

    offsets: npt.NDArray[np.int64]
    packed: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    methods: npt.NDArray[np.int64]
    checksums: npt.NDArray[np.int64]
    names: dict[int, bytes]

    def part(self, start: int, end: int) -> Places:
        """Those of some entries."""
        names = {n - start: name for n, name in self.names.items() if start <= n < end} if self.names else {}
        offsets, packed, sizes = self.offsets[start:end], self.packed[start:end], self.sizes[start:end]
        return Places(offsets, packed, sizes, self.methods[start:end], self.checksums[start:end], names)


@dataclass(frozen=True)
class RejectedEntry:
    """An entry that is not read, with the reason (UPPER_SNAKE_CASE) and the reason in a sentence."""

    path: str
    reason: str
    message: str


class SafeZip:
    """A zip file opened for reading. `entries` are the files that may be read, in the archive's order; folders and what an
    operating system leaves behind (`ignored` counts it) are not among them. Not safe to use from several threads."""

    def __init__(self, path: Path, *, name: str = "archive", limits: Limits | None = None) -> None:
        self.name, self.path, self.whereabouts = name, path, str(path)
        self.limits = limits or Limits()
        self.ignored = 0
        self.rejected: list[RejectedEntry] = []
        self._archive_bytes = path.stat().st_size
        self._total = 0
        self._opened: zipfile.ZipFile | None = None
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._directory = read_directory(path, most=self.limits.entries) or from_infos(self._zip.infolist())
            if len(self._directory.names) > self.limits.entries:
                found = len(self._directory.names)
                raise _bomb(name, f"it has {found} entries; at most {self.limits.entries} are read")
        except BaseException:
            self.close()
            raise
        self.entries = self._accept()

    @property
    def _zip(self) -> zipfile.ZipFile:
        """What zipfile makes of it, where somebody must look closer."""
        if self._opened is None:
            self._opened = _open_zip(self.path, self.name)
        return self._opened

    def read(self, entry: Entry) -> bytes:
        """All bytes of an entry. InvalidArgument ENTRY_TOO_LARGE or CORRUPT_ENTRY for this entry alone, ARCHIVE_BOMB for all."""
        located = self.locate(entry)
        data = read_located(self._descriptor, located, self.limits) if located is not None else None
        if data is None:
            return b"".join(self.stream(entry))
        self.passed(len(data))
        return data

    def copy(self, entry: Entry, to: Path, *, limit_bytes: int | None = None) -> Path:
        """Writes an entry to a file of the caller's choice; `limit_bytes` replaces the limit for one entry."""
        with to.open("wb") as out:
            for chunk in self.stream(entry, limit_bytes=limit_bytes):
                out.write(chunk)
        return to

    def stream(self, entry: Entry, *, limit_bytes: int | None = None) -> Iterator[bytes]:
        """The bytes of an entry in chunks of at most 1 MiB."""
        limit = limit_bytes or self.limits.entry_bytes
        try:
            info = self._zip.infolist()[entry.index]
            compressed = min(info.compress_size, self._archive_bytes)
            with self._zip.open(info) as file:
                yield from self._guarded(file, entry.path, compressed, limit)
        except (*_BROKEN, zlib.error, RuntimeError, OSError) as error:
            if _of_the_disk(error):
                raise
            message = f"{entry.path} in {self.name} cannot be read: {error}"
            raise InvalidArgument("CORRUPT_ENTRY", message, file=entry.path, archive=self.name) from error

    def locate(self, entry: Entry) -> Located | None:
        """Where an entry lies, for another process to read; None where only this class can read it."""
        said, at = self._directory, entry.index
        method = int(said.methods[at])
        if method not in _READ_HERE or said.flags[at] & _ENCRYPTED_FLAG:
            return None
        offset, packed, size, checksum = (int(c[at]) for c in (said.offsets, said.packed, said.sizes, said.checksums))
        return Located(offset, packed, size, method, checksum, said.raw_name(at))

    def locate_all(self, entries: Sequence[Entry]) -> Places:
        """Where many entries lie, as `locate` says of each."""
        said, at = self._directory, np.fromiter(map(_INDEX, entries), np.int64, len(entries))
        methods = said.methods[at]
        methods[~np.isin(methods, _READ_HERE) | (said.flags[at] & _ENCRYPTED_FLAG != 0)] = ONLY_HERE
        names: dict[int, bytes] = {}
        if said.old_names or [said.names[index] for index in at.tolist()] != [entry[0] for entry in entries]:
            names = {n: said.raw_name(entry.index) for n, entry in enumerate(entries)}
        return Places(said.offsets[at], said.packed[at], said.sizes[at], methods, said.checksums[at], names)

    def passed(self, size: int) -> None:
        """Counts bytes that another process has read. Raises InvalidArgument ARCHIVE_BOMB."""
        self._total += size
        if self._total > self.limits.total_bytes:
            raise _bomb(self.name, f"it unpacks to more than {self.limits.total_bytes} bytes")

    def close(self) -> None:
        """Closes the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._opened is not None:
            self._opened.close()

    def __enter__(self) -> SafeZip:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _guarded(self, file: IO[bytes], path: str, compressed: int, limit: int) -> Iterator[bytes]:
        for size, chunk in _counted(file, f"{path} in {self.name}", compressed, self.limits):
            self._total += len(chunk)
            if self._total > self.limits.total_bytes:
                raise _bomb(self.name, f"it unpacks to more than {self.limits.total_bytes} bytes")
            if size > limit:
                message = f"{path} in {self.name} unpacks to more than {limit} bytes, the most for one file"
                raise InvalidArgument("ENTRY_TOO_LARGE", message, file=path, archive=self.name, limit_bytes=limit)
            yield chunk

    def _accept(self) -> list[Entry]:
        said = self._directory
        encrypted = said.flags & _ENCRYPTED_FLAG != 0
        links = (said.attributes >> 16) & _FILE_KIND == _SYMLINK
        names, sizes = said.names, said.sizes.tolist()
        suspect = bool(np.any(encrypted | links))
        if not suspect and len(set(names)) == len(names) and all(map(_PLAIN.fullmatch, names)):
            return list(map(Entry, names, sizes, range(len(names))))
        seen: set[str] = set()
        accepted = []
        for index, name in enumerate(names):
            closed, link = bool(encrypted[index]), bool(links[index])
            if _PLAIN.fullmatch(name) and not closed and name not in seen and not link:
                seen.add(name)
                accepted.append(Entry(name, sizes[index], index))
                continue
            if name.endswith("/") or is_system_file(name):
                self.ignored += not name.endswith("/")
                continue
            refused = refusal(name, encrypted=closed, link=link)
            path = clean_path(name) if refused is None else name
            if refused is None and path in seen:
                refused = ("DUPLICATE_NAME", "the archive holds another file of the same name")
            if refused is not None:
                self.rejected.append(RejectedEntry(name, refused[0], f"{name}: {refused[1]}"))
                continue
            seen.add(path)
            accepted.append(Entry(path, sizes[index], index))
        return accepted


def is_zip(head: bytes) -> bool:
    """Whether a file's first bytes are those of a zip (an empty one too)."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def is_gzip(head: bytes) -> bool:
    """Whether a file's first bytes are those of a gzip."""
    return head.startswith(b"\x1f\x8b")


def is_plain_name(path: str) -> bool:
    """Whether nothing can be the matter with a name, and no system leaves it behind: most names are, told at once."""
    return _PLAIN.fullmatch(path) is not None


def are_plain_names(folder: str, names: Iterable[str]) -> bool:
    """The same of many names of files in a folder of the archive ("": the outermost)."""
    return is_plain_name(f"{folder}/x.png" if folder else "x.png") and all(map(_PLAIN_FILE.fullmatch, names))


def is_system_file(path: str) -> bool:
    """Whether a path is something an operating system or a tool leaves behind, which no one means to import.

    Dot-files are, unless they are named like pictures (".a.jpg"); "._a.jpg" is what macOS writes beside a.jpg. Folders that
    start with a dot are folders like others, but for the well-known ones of version control and notebooks.
    """
    from modelyard.formats.pictures import is_picture_name

    parts = path.replace("\\", "/").split("/")
    name = parts[-1]
    if name.lower() in _SYSTEM_NAMES or not _SYSTEM_PARTS.isdisjoint(parts):
        return True
    return name.startswith("._") or (name.startswith(".") and name not in (".", "..") and not is_picture_name(name))


def clean_path(name: str) -> str:
    """The name without "." and empty parts. Only for names that passed the checks."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def gunzip(packed: Iterable[bytes], *, name: str, limits: Limits | None = None) -> Iterator[bytes]:
    """Unpacks a gzip (of one or more members) in chunks of at most 1 MiB, under the same guard as an archive.

    Raises InvalidArgument ARCHIVE_BOMB, or CORRUPT_ENTRY where the stream is broken or cut short.
    """
    limits = limits or Limits()
    compressed = size = 0
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    try:
        for chunk in packed:
            compressed += len(chunk)
            data = chunk
            while data:
                if inflater.eof:
                    if not is_gzip(data):
                        break  # padding after the last member
                    inflater = zlib.decompressobj(_GZIP_WINDOW)
                out = inflater.decompress(data, _CHUNK)
                data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
                size += len(out)
                _check_growth(size, compressed, name, limits)
                if size > limits.total_bytes:
                    raise _bomb(name, f"it unpacks to more than {limits.total_bytes} bytes")
                yield out
        yield inflater.flush()
    except zlib.error as error:
        raise InvalidArgument("CORRUPT_ENTRY", f"{name} cannot be unpacked: {error}", file=name) from error
    if not inflater.eof:
        raise InvalidArgument("CORRUPT_ENTRY", f"{name} cannot be unpacked: it ends early", file=name)


def file_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file in chunks of at most 1 MiB."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


_LOCAL_HEADER = struct.Struct("<4s22xHH")
_EXTRA_BYTES = 64
_RAW_WINDOW = -15


def read_located(descriptor: int, located: Located, limits: Limits) -> bytes | None:
    """The bytes of an entry, read from a file descriptor without moving it; None for whatever is not as it should be (or larger
    than
    `limits` allow): then the archive's own `read` says what is wrong, or what can be had of it. Reads and unpacks no more than
    was announced.
    """
    packed, size = located.packed_bytes, located.size_bytes
    if not (0 <= size <= limits.entry_bytes and 0 <= packed <= limits.entry_bytes) or located.offset < 0:
        return None
    if located.name is None:
        data = os.pread(descriptor, size, located.offset)
        return data if len(data) == size else None
    guess = _LOCAL_HEADER.size + len(located.name) + _EXTRA_BYTES + packed
    block = os.pread(descriptor, guess, located.offset)
    if len(block) < _LOCAL_HEADER.size:
        return None
    magic, name_bytes, extra_bytes = _LOCAL_HEADER.unpack_from(block)
    start = _LOCAL_HEADER.size + name_bytes + extra_bytes
    if magic != b"PK\x03\x04" or block[_LOCAL_HEADER.size : _LOCAL_HEADER.size + name_bytes] != located.name:
        return None
    data = block[start : start + packed]
    if len(data) < packed:
        data = os.pread(descriptor, packed, located.offset + start)
    if located.method == zipfile.ZIP_DEFLATED:
        if size > limits.ratio_from_bytes and size > limits.ratio * max(packed, 1):
            return None
        inflater = zlib.decompressobj(_RAW_WINDOW)
        try:
            data = inflater.decompress(data, size + 1)
        except zlib.error:
            return None
    return data if len(data) == size and zlib.crc32(data) == located.crc else None


def _counted(file: IO[bytes], what: str, compressed: int, limits: Limits) -> Iterator[tuple[int, bytes]]:
    """Chunks with the number of bytes so far; refuses a ratio that only a bomb has."""
    size = 0
    while chunk := file.read(_CHUNK):
        size += len(chunk)
        _check_growth(size, compressed, what, limits)
        yield size, chunk


def _check_growth(size: int, compressed: int, what: str, limits: Limits) -> None:
    if size > limits.ratio_from_bytes and size > limits.ratio * max(compressed, 1):
        raise _bomb(what, f"more than {limits.ratio} bytes come out of each byte of it")


def _open_zip(path: Path, name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except MemoryError as error:
        raise ResourceExhausted("OUT_OF_MEMORY", f"the directory of {name} does not fit into memory", file=name) from error
    except (*_BROKEN, OSError) as error:
        if _of_the_disk(error):
            raise
        raise InvalidArgument("NOT_A_ZIP", f"{name} is not a zip file that can be read: {error}", file=name) from error


def _of_the_disk(error: Exception) -> bool:
    """Whether an error is the machine's and not the archive's (a negative offset in a header shows as EINVAL)."""
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def refusal(name: str, *, encrypted: bool = False, link: bool = False) -> tuple[str, str] | None:
    """Why a file of such a name is not read, as reason and sentence; None where it may be."""
    if "\\" in name or "\0" in name:
        return "UNSAFE_NAME", "the name holds a backslash or a zero byte"
    if name.startswith("/") or _DRIVE.match(name):
        return "UNSAFE_NAME", "the name is absolute; names inside an archive are relative"
    if ".." in name.split("/"):
        return "UNSAFE_NAME", 'the name leads out of the archive ("..")'
    if link:
        return "SYMBOLIC_LINK", "symbolic links are not followed"
    if encrypted:
        return "ENCRYPTED", "the entry is encrypted; send it without a password"
    return None


def _bomb(name: str, why: str) -> InvalidArgument:
    return InvalidArgument("ARCHIVE_BOMB", f"{name} is refused: {why}", file=name)
