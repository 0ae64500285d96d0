"""A folder of this machine that is read where it lies, under the rules of formats/archive.py.

It is known by device and inode, held open, and what lies in it is reached from there, one name after the other. No link is
followed on the way, so nothing outside is ever read, also when somebody changes the folder meanwhile. A link to a file inside is
read as that file, as the client does that packs a folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, repeat
from pathlib import Path
from types import TracebackType

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.formats.archive import Entry, Limits, RejectedEntry, are_plain_names, is_plain_name, is_system_file, refusal

_CHUNK = 1024 * 1024
_AT_FIRST = 64 * 1024
_LOOKED_AT = 64
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Not to wait where somebody has put a pipe, nor to be given a terminal.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True)
class FolderPlace:
    """Where a folder is, and which one it must be."""

    path: str
    device: int
    inode: int


class OpenFolder:
    """A folder held open. Not safe to use from several threads."""

    def __init__(self, place: FolderPlace) -> None:
        """Raises FailedPrecondition FOLDER_CHANGED where another one, or none, is there now."""
        try:
            self._root = os.open(place.path, _FOLDER)
        except OSError as error:
            raise _changed(place.path, error.strerror or "it cannot be opened") from error
        self._at, self._descriptor = "", self._root
        found = os.fstat(self._root)
        if (found.st_dev, found.st_ino) != (place.device, place.inode):
            self.close()
            raise _changed(place.path, "another folder has its name now")

    def folder(self, path: str) -> int:
        """A descriptor of a folder in it, for as long as no other is asked for. Raises OSError."""
        if path != self._at:
            descriptor = self._walk(path) if path else self._root
            self._leave()
            self._at, self._descriptor = path, descriptor
        return self._descriptor

    def open(self, path: str) -> int:
        """A descriptor of a file in it, which is the caller's. Raises OSError."""
        folder, _, name = path.rpartition("/")
        return os.open(name, _FILE, dir_fd=self.folder(folder))

    def read_all(self, paths: Sequence[str], most: int) -> list[bytes | None]:
        """The bytes of files; None where one cannot be read, or holds more than `most` bytes. There may be very many."""
        open_, read, close = os.open, os.read, os.close
        found: list[bytes | None] = []
        for folder, some in groupby(paths, key=_folder_of):
            try:
                at = self.folder(folder)
            except OSError:
                found += [None for _ in some]
                continue
            start = len(folder) + 1 if folder else 0
            for path in some:
                data: bytes | None
                try:
                    descriptor = open_(path[start:], _FILE, dir_fd=at)
                except OSError:
                    found.append(None)
                    continue
                try:
                    data = read(descriptor, _AT_FIRST)
                    if len(data) == _AT_FIRST:
                        data = _rest(descriptor, data, most)
                except OSError:
                    data = None
                finally:
                    close(descriptor)
                found.append(data if data is not None and len(data) <= most else None)
        return found

    def close(self) -> None:
        """Lets go of it."""
        self._leave()
        os.close(self._root)

    def _leave(self) -> None:
        if self._descriptor != self._root:
            os.close(self._descriptor)
        self._at, self._descriptor = "", self._root

    def _walk(self, path: str) -> int:
        descriptor = self._root
        for name in path.split("/"):
            try:
                below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            finally:
                if descriptor != self._root:
                    os.close(descriptor)
            descriptor = below
        return descriptor


class SafeFolder:
    """A folder opened for reading as an archive is; see SafeZip. `entries` are sorted by their paths, and their claimed sizes are
    an estimate: a look at each would cost as much as the reading of it. Not safe to use from several threads."""

    def __init__(self, place: FolderPlace, *, name: str = "folder", limits: Limits | None = None) -> None:
        self.name, self.whereabouts = name, place
        self.limits = limits or Limits()
        self.ignored = 0
        self.rejected: list[RejectedEntry] = []
        self._total = 0
        self._targets: dict[str, str] = {}
        self._opened = OpenFolder(place)
        try:
            paths = sorted(self._list())
            self.entries = list(map(Entry, paths, repeat(self._mean_bytes(paths)), range(len(paths))))
        except BaseException:
            self.close()
            raise

    def read(self, entry: Entry) -> bytes:
        """All bytes of a file. InvalidArgument NOT_READABLE or ENTRY_TOO_LARGE for this one alone, ARCHIVE_BOMB for all."""
        return b"".join(self.stream(entry))

    def copy(self, entry: Entry, to: Path, *, limit_bytes: int | None = None) -> Path:
        """Writes a file to another of the caller's choice; `limit_bytes` replaces the limit for one."""
        with to.open("wb") as out:
            for chunk in self.stream(entry, limit_bytes=limit_bytes):
                out.write(chunk)
        return to

    def stream(self, entry: Entry, *, limit_bytes: int | None = None) -> Iterator[bytes]:
        """The bytes of a file in chunks of at most 1 MiB."""
        limit, size = limit_bytes or self.limits.entry_bytes, 0
        try:
            descriptor = self._opened.open(self._targets.get(entry.path, entry.path))
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise OSError("it is no longer a plain file")
                while chunk := os.read(descriptor, _CHUNK):
                    size += len(chunk)
                    self.passed(len(chunk))
                    if size > limit:
                        message = f"{entry.path} in {self.name} holds more than {limit} bytes, the most for one file"
                        raise InvalidArgument("ENTRY_TOO_LARGE", message, file=entry.path, archive=self.name, limit_bytes=limit)
                    yield chunk
            finally:
                os.close(descriptor)
        except OSError as error:
            message = f"{entry.path} in {self.name} cannot be read: {error.strerror or error}"
            raise InvalidArgument("NOT_READABLE", message, file=entry.path, archive=self.name) from error

    def locate_all(self, entries: Sequence[Entry]) -> list[str]:
        """The files in which many entries are."""
        targets = self._targets
        return [targets.get(entry[0], entry[0]) for entry in entries] if targets else [entry[0] for entry in entries]

    def passed(self, size: int) -> None:
        """Counts bytes that another process has read. Raises InvalidArgument ARCHIVE_BOMB."""
        self._total += size
        if self._total > self.limits.total_bytes:
            raise _refused(self.name, f"it holds more than {self.limits.total_bytes} bytes")

    def close(self) -> None:
        """Lets go of the folder."""
        self._opened.close()

    def __enter__(self) -> SafeFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _list(self) -> list[str]:
        found: list[str] = []
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(self._opened.folder(folder)) as items:
                    inside = list(items)
            except OSError as error:
                self._reject(folder or self.name, "NOT_READABLE", error.strerror or "it cannot be read")
                continue
            names = [item.name for item in inside if item.is_file(follow_symlinks=False)]
            if len(names) == len(inside) and are_plain_names(folder, names):  # as in most folders
                found += [f"{folder}/{name}" for name in names] if folder else names
                inside = []
            for item in inside:
                path = f"{folder}/{item.name}" if folder else item.name
                if item.is_file(follow_symlinks=False):
                    if is_plain_name(path) or self._accepts(path):
                        found.append(path)
                elif item.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif self._accepts(path) and self._is_file_inside(path, item):
                    found.append(path)
            if len(found) > self.limits.entries:
                raise _refused(self.name, f"it holds more than {self.limits.entries} files")
        return found

    def _accepts(self, path: str) -> bool:
        if is_system_file(path):
            self.ignored += 1
            return False
        try:
            path.encode()
            refused = refusal(path)
        except UnicodeEncodeError:
            path, refused = path.encode("utf-8", "replace").decode(), ("UNSAFE_NAME", "the name is not Unicode")
        if refused is not None:
            self._reject(path, *refused)
        return refused is None

    def _is_file_inside(self, path: str, item: os.DirEntry[str]) -> bool:
        """Whether what is neither file nor folder is a link to a file in here; where not, it is listed."""
        if not item.is_symlink():
            self._reject(path, "NOT_A_FILE", "only plain files are read: no devices, pipes or sockets")
            return False
        root = os.path.realpath(self.whereabouts.path)
        target = os.path.relpath(os.path.realpath(os.path.join(root, path)), root)
        if target == os.pardir or target.startswith(os.pardir + os.sep):
            self._reject(path, "SYMBOLIC_LINK", "the link leads out of the folder")
            return False
        try:
            descriptor = self._opened.open(target)
        except OSError as error:
            self._reject(path, "SYMBOLIC_LINK", f"the link leads to what cannot be read: {error.strerror}")
            return False
        mode = os.fstat(descriptor).st_mode
        os.close(descriptor)
        if not stat.S_ISREG(mode):
            self._reject(path, "SYMBOLIC_LINK", "the link does not lead to a file")
            return False
        self._targets[path] = target
        return True

    def _reject(self, path: str, reason: str, why: str) -> None:
        self.rejected.append(RejectedEntry(path, reason, f"{path}: {why}"))

    def _mean_bytes(self, paths: Sequence[str]) -> int:
        sizes = []
        for path in paths[:: max(1, len(paths) // _LOOKED_AT)]:
            folder, _, name = path.rpartition("/")
            try:
                sizes.append(os.stat(name, dir_fd=self._opened.folder(folder)).st_size)
            except OSError:
                continue
        return sum(sizes) // max(1, len(sizes))


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0]


def _rest(descriptor: int, data: bytes, most: int) -> bytes:
    parts, size = [data], len(data)
    while size <= most and (more := os.read(descriptor, min(_CHUNK, most + 1 - size))):
        parts.append(more)
        size += len(more)
    return b"".join(parts)


def _changed(path: str, why: str) -> FailedPrecondition:
    message = f"{path} is not the folder that was to be imported: {why}; start the import again"
    return FailedPrecondition("FOLDER_CHANGED", message, field="dataset_import.local_folder", path=path)


def _refused(name: str, why: str) -> InvalidArgument:
    return InvalidArgument("ARCHIVE_BOMB", f"{name} is refused: {why}", file=name)
