"""Tar files that strangers made, under the rules of formats/archive.py: nothing is extracted, links and devices are not followed.

A compressed one is first unpacked to a plain one, under the guard of `gunzip`; then entries are read where they lie.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from modelyard.core.errors import InvalidArgument
from modelyard.formats.archive import BARE, Entry, Limits, Places, RejectedEntry, clean_path, is_system_file

_CHUNK = 1024 * 1024
_BLOCK = 512


class Archive(Protocol):
    """What importers need of an archive; see formats.archive.SafeZip."""

    name: str
    ignored: int
    rejected: list[RejectedEntry]
    entries: list[Entry]

    def read(self, entry: Entry) -> bytes:
        """All bytes of an entry."""

    def copy(self, entry: Entry, to: Path, *, limit_bytes: int | None = None) -> Path:
        """Writes an entry to a file of the caller's choice."""

    def stream(self, entry: Entry, *, limit_bytes: int | None = None) -> Iterator[bytes]:
        """The bytes of an entry in chunks of at most 1 MiB."""

    def close(self) -> None:
        """Closes the file."""


class SafeTar:
    """A plain tar file opened for reading; see SafeZip. Not safe to use from several threads."""

    def __init__(self, path: Path, *, name: str = "archive", limits: Limits | None = None) -> None:
        self.name, self.path, self.whereabouts = name, path, str(path)
        self.limits = limits or Limits()
        self.ignored = 0
        self.rejected: list[RejectedEntry] = []
        self.entries: list[Entry] = []
        self._file = path.open("rb")
        self._size = path.stat().st_size
        self._total = 0
        self._offsets: list[int] = []
        try:
            self._list()
        except BaseException:
            self._file.close()
            raise

    def read(self, entry: Entry) -> bytes:
        """All bytes of an entry. InvalidArgument ENTRY_TOO_LARGE or CORRUPT_ENTRY for this entry alone, ARCHIVE_BOMB for all."""
        return b"".join(self.stream(entry))

    def copy(self, entry: Entry, to: Path, *, limit_bytes: int | None = None) -> Path:
        """Writes an entry to a file of the caller's choice; `limit_bytes` replaces the limit for one entry."""
        with to.open("wb") as out:
            for chunk in self.stream(entry, limit_bytes=limit_bytes):
                out.write(chunk)
        return to

    def stream(self, entry: Entry, *, limit_bytes: int | None = None) -> Iterator[bytes]:
        """The bytes of an entry in chunks of at most 1 MiB."""
        limit = limit_bytes or self.limits.entry_bytes
        if entry.claimed_bytes > limit:
            message = f"{entry.path} in {self.name} holds {entry.claimed_bytes} bytes; at most {limit} are read of one file"
            raise InvalidArgument("ENTRY_TOO_LARGE", message, file=entry.path, archive=self.name, limit_bytes=limit)
        at, left = self._offsets[entry.index], entry.claimed_bytes
        while left:
            self._file.seek(at)
            chunk = self._file.read(min(left, _CHUNK))
            if not chunk:
                message = f"{entry.path} in {self.name} is cut short: {left} of its {entry.claimed_bytes} bytes are missing"
                raise InvalidArgument("CORRUPT_ENTRY", message, file=entry.path, archive=self.name)
            at, left = at + len(chunk), left - len(chunk)
            self._total += len(chunk)
            if self._total > self.limits.total_bytes:
                raise _refused(self.name, f"more than {self.limits.total_bytes} bytes come out of it")
            yield chunk

    def locate_all(self, entries: Sequence[Entry]) -> Places:
        """Where many entries lie."""
        offsets = np.array([self._offsets[entry.index] for entry in entries], np.int64)
        sizes = np.array([entry.claimed_bytes for entry in entries], np.int64)
        return Places(offsets, sizes, sizes, np.full(len(entries), BARE, np.int64), np.zeros(len(entries), np.int64), {})

    def passed(self, size: int) -> None:
        """Counts bytes that another process has read. Raises InvalidArgument ARCHIVE_BOMB."""
        self._total += size
        if self._total > self.limits.total_bytes:
            raise _refused(self.name, f"more than {self.limits.total_bytes} bytes come out of it")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> SafeTar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _list(self) -> None:
        seen: set[str] = set()
        count = 0
        try:
            with tarfile.open(fileobj=self._file, mode="r:", errorlevel=1) as tar:
                while (member := tar.next()) is not None:
                    vars(tar)["members"] = []  # tarfile keeps every header otherwise
                    count += 1
                    if count > self.limits.entries:
                        raise _refused(self.name, f"it has more than {self.limits.entries} entries")
                    self._accept(member, seen)
        except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError) as error:
            if not count:
                raise InvalidArgument(
                    "NOT_A_TAR", f"{self.name} is not a tar file that can be read: {error}", file=self.name
                ) from error
            message = f"{self.name} is damaged after {count} entries: {error}; what follows was left out"
            self.rejected.append(RejectedEntry(self.name, "CORRUPT_ENTRY", message))

    def _accept(self, member: tarfile.TarInfo, seen: set[str]) -> None:
        name = member.name
        if member.isdir() or is_system_file(name):
            self.ignored += not member.isdir()
            return
        refusal = _refusal(member)
        path = clean_path(name) if refusal is None else name
        if refusal is None and path in seen:
            refusal = ("DUPLICATE_NAME", "the archive holds another file of the same name")
        if refusal is None and member.offset_data > self._size:
            refusal = ("CORRUPT_ENTRY", "it begins after the end of the archive")
        if refusal is not None:
            self.rejected.append(RejectedEntry(name, refusal[0], f"{name}: {refusal[1]}"))
            return
        seen.add(path)
        self.entries.append(Entry(path, member.size, len(self._offsets)))
        self._offsets.append(member.offset_data)


def is_tar(head: bytes) -> bool:
    """Whether a file's first 512 bytes are those of a tar (POSIX or GNU)."""
    return len(head) >= _BLOCK and head[257:262] == b"ustar"


def _refusal(member: tarfile.TarInfo) -> tuple[str, str] | None:
    name = member.name
    if "\\" in name or "\0" in name:
        return "UNSAFE_NAME", "the name holds a backslash or a zero byte"
    if name.startswith("/") or (len(name) > 1 and name[1] == ":" and name[0].isalpha()):
        return "UNSAFE_NAME", "the name is absolute; names inside an archive are relative"
    if ".." in name.split("/"):
        return "UNSAFE_NAME", 'the name leads out of the archive ("..")'
    if member.issym() or member.islnk():
        return "SYMBOLIC_LINK", "links are not followed"
    if not member.isreg() or member.issparse() or member.size < 0:
        return "NOT_A_FILE", "only plain files are read: no devices, pipes or sparse files"
    return None


def _refused(name: str, why: str) -> InvalidArgument:
    return InvalidArgument("ARCHIVE_BOMB", f"{name} is refused: {why}", file=name)
