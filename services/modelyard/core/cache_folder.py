"""A folder of copies that may be fetched again, kept below a size: what was used longest ago goes first, never what is in use.

Processes may share the folder. A file's time of modification is when it was last used (to ten minutes); a shared lock on it says
that a process uses it. What others add is seen at the next count, so the folder may be over its size for a moment.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

COUNT_EVERY_S = 30.0
"""Seconds after which the folder is counted again, since other processes write to it too."""

TOUCH_AFTER_S = 600.0
"""A use is noted when the last one is longer ago than this: a note makes others verify the file again."""

ROOM_LEFT = 0.9
"""Once the folder is full, it is trimmed to this share of its size: one count serves many files."""


@dataclass(frozen=True)
class _Entry:
    used: float
    size_bytes: int
    path: str


class CacheFolder:
    """Keeps the files below `folder` (but those in hidden folders) within `most_bytes`. Safe with threads and processes."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder, self.most_bytes = folder, most_bytes
        self._lock = threading.Lock()
        self._total = 0
        self._counted_at = -COUNT_EVERY_S
        self._began = time.time()
        self._leases: dict[Path, int] = {}

    def make_room(self, size_bytes: int, *, for_older: bool = True) -> bool:
        """Deletes until `size_bytes` more fit, and counts them in; False when they do not, which is then not counted.

        for_older False: only what was not used since this object was made may go. Whoever reads more than fits, again and again,
        keeps what fits so; the oldest of them would always be the one that is needed next.
        """
        with self._lock:
            if time.monotonic() - self._counted_at > COUNT_EVERY_S:
                self._count()
            if self._total + size_bytes > self.most_bytes:
                self._trim(size_bytes, until=time.time() + 1 if for_older else self._began)
            fits = self._total + size_bytes <= self.most_bytes
            if fits:
                self._total += size_bytes
            return fits

    def used(self, path: Path) -> None:
        """Notes that a file is used now; fine when it is gone."""
        with suppress(FileNotFoundError):
            found = path.stat()
            if time.time() - found.st_mtime > TOUCH_AFTER_S:
                os.utime(path)

    def lease(self, path: Path) -> bool:
        """Keeps a file in the folder for as long as this process runs. False: it is gone already."""
        with self._lock:
            if path in self._leases and path.exists():
                return True
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                return False
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if not _is(path, descriptor):
                os.close(descriptor)
                return False
            self._leases[path] = descriptor
            return True

    def _count(self) -> None:
        self._total = sum(entry.size_bytes for entry in self._entries())
        self._counted_at = time.monotonic()

    def _trim(self, size_bytes: int, until: float) -> None:
        """Deletes the longest unused of those last used before `until`, till there is room for `size_bytes` and some more."""
        entries = sorted(self._entries(), key=lambda entry: entry.used)
        self._total = sum(entry.size_bytes for entry in entries)
        self._counted_at = time.monotonic()
        if self._total + size_bytes <= self.most_bytes:
            return
        for entry in entries:
            if entry.used >= until or self._total + size_bytes <= ROOM_LEFT * self.most_bytes:
                return
            if _delete_unused(entry.path):
                self._total -= entry.size_bytes

    def _entries(self) -> Iterator[_Entry]:
        folders = [str(self.folder)]
        while folders:
            with suppress(FileNotFoundError), os.scandir(folders.pop()) as found:
                for each in found:
                    if each.is_dir(follow_symlinks=False):
                        if not each.name.startswith("."):
                            folders.append(each.path)
                        continue
                    with suppress(FileNotFoundError):
                        known = each.stat(follow_symlinks=False)
                        yield _Entry(known.st_mtime, known.st_size, each.path)


def _delete_unused(path: str) -> bool:
    """Whether it is gone: not when a process has a lock on it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    except PermissionError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        Path(path).unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _is(path: Path, descriptor: int) -> bool:
    """Whether the path still leads to the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
