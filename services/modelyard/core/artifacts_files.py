"""Artifacts in a folder: {root}/{namespace}/{first two digits}/{sha256}. For one machine, or a file system that several share.

A put writes to {root}/{namespace}/.incoming under a lock, syncs, then renames, so a reader never sees half a blob. What a killed
process left in .incoming is removed by the next store that opens the namespace.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from modelyard.core.artifacts import (
    Blob,
    StoredBlob,
    Tally,
    build_uri,
    check_namespace,
    check_offset,
    check_own,
    chunks,
    corrupt,
    cut_short,
    disk_full,
    file_sha256,
    missing,
    parse_uri,
    uri_of,
)

_ABANDONED_S = 60.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SHARD = re.compile(r"[0-9a-f]{2}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class FileArtifactStore:
    """An ArtifactStore in a folder. Threads and processes may share the folder."""

    def __init__(self, root: Path, namespace: str) -> None:
        self.namespace = check_namespace(namespace)
        self._root = root
        self._own = root / namespace
        self._incoming = self._own / ".incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._verified: dict[str, tuple[int, ...]] = {}
        self._lock = threading.Lock()
        _remove_abandoned(self._incoming)

    def put(self, stream: BinaryIO | Iterable[bytes], *, sha256: str | None = None, size_bytes: int | None = None) -> Blob:
        """See ArtifactStore. A content that is there is written again: that renews its time, and heals it if it was damaged."""
        tally = Tally(sha256, size_bytes)
        with full_disk_named(str(self._own)), self._new_file() as (file, temporary):
            for chunk in tally.through(chunks(stream)):
                file.write(chunk)
            actual = tally.finish()
            file.flush()
            os.fchmod(file.fileno(), 0o444)
            os.fsync(file.fileno())
            self._publish(temporary, actual)
        return Blob(build_uri(self.namespace, actual), actual, tally.size_bytes)

    def put_bytes(self, data: bytes) -> Blob:
        """See ArtifactStore."""
        return self.put([data])

    def put_file(self, path: Path) -> Blob:
        """See ArtifactStore."""
        with path.open("rb") as file:
            return self.put(file)

    def adopt(self, path: Path, *, sha256: str = "") -> Blob:
        """See ArtifactStore."""
        with path.open("rb") as file:
            actual = sha256 or file_sha256(file)
            found = os.fstat(file.fileno())
            if found.st_dev == os.stat(self._incoming).st_dev and stat.S_ISREG(found.st_mode) and not path.is_symlink():
                with full_disk_named(str(self._own)):
                    os.fchmod(file.fileno(), 0o444)
                    os.utime(file.fileno())  # as young as any other put
                    os.fsync(file.fileno())
                    self._publish(path, actual)
                return Blob(build_uri(self.namespace, actual), actual, found.st_size)
            file.seek(0)
            blob = self.put(file)
        path.unlink(missing_ok=True)
        return blob

    def open(self, blob: Blob | str, offset: int = 0) -> BinaryIO:
        """See ArtifactStore."""
        uri = uri_of(blob)
        file = self._open_verified(uri)
        try:
            check_offset(offset, os.fstat(file.fileno()).st_size, uri)
            file.seek(offset)
        except BaseException:
            file.close()
            raise
        return file

    def read_bytes(self, blob: Blob | str) -> bytes:
        """See ArtifactStore."""
        with self.open(blob) as file:
            return file.read()

    def read_part(self, blob: Blob | str, offset: int, length: int, *, fresh: bool = False) -> bytes:
        """See ArtifactStore. Files have no copies: `fresh` changes nothing."""
        uri = uri_of(blob)
        with _missing_named(uri), self._place(*parse_uri(uri)).open("rb", buffering=0) as file:
            data = os.pread(file.fileno(), length, offset)
        if len(data) < length:
            raise cut_short(uri, offset + length)
        return data

    def path(self, blob: Blob | str) -> Path:
        """See ArtifactStore: the stored file itself. Do not change it."""
        self._open_verified(uri_of(blob)).close()
        return self._place(*parse_uri(uri_of(blob)))

    def exists(self, blob: Blob | str) -> bool:
        """See ArtifactStore."""
        return self._place(*parse_uri(uri_of(blob))).is_file()

    def stat(self, blob: Blob | str) -> Blob:
        """See ArtifactStore."""
        uri = uri_of(blob)
        namespace, sha256 = parse_uri(uri)
        with _missing_named(uri):
            return Blob(uri, sha256, self._place(namespace, sha256).stat().st_size)

    def delete(self, blob: Blob | str) -> None:
        """See ArtifactStore."""
        sha256 = check_own(uri_of(blob), self.namespace)
        self._place(self.namespace, sha256).unlink(missing_ok=True)

    def list(self) -> Iterator[StoredBlob]:
        """See ArtifactStore."""
        for shard in sorted(self._own.iterdir()):
            if _SHARD.fullmatch(shard.name):
                with os.scandir(shard) as entries:
                    for entry in entries:
                        yield from self._listed(entry)

    def presigned_url(self, blob: Blob | str, expires_s: int = 3600) -> str | None:
        """None: files have no address of their own."""
        parse_uri(uri_of(blob))
        return None

    def place(self, uri: str) -> Path:
        """Where a blob's file is, or would be. Raises InvalidArgument BAD_ARTIFACT_URI."""
        return self._place(*parse_uri(uri))

    def _listed(self, entry: os.DirEntry[str]) -> Iterator[StoredBlob]:
        if not _SHA256.fullmatch(entry.name):
            return
        with suppress(FileNotFoundError):  # deleted since the folder was read
            found = entry.stat()
            modified = datetime.fromtimestamp(found.st_mtime, UTC)
            yield StoredBlob(build_uri(self.namespace, entry.name), entry.name, found.st_size, modified)

    def _place(self, namespace: str, sha256: str) -> Path:
        return self._root / namespace / sha256[:2] / sha256

    @contextmanager
    def _new_file(self) -> Iterator[tuple[BinaryIO, Path]]:
        path = self._incoming / secrets.token_hex(16)
        with path.open("xb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)  # says that its writer lives
                yield file, path
            finally:
                path.unlink(missing_ok=True)

    def _publish(self, temporary: Path, sha256: str) -> None:
        place = self._place(self.namespace, sha256)
        if not place.parent.exists():
            place.parent.mkdir(exist_ok=True)
            _sync_folder(self._own)
        temporary.replace(place)
        _sync_folder(place.parent)

    def _open_verified(self, uri: str) -> BufferedReader:
        place = self._place(*parse_uri(uri))
        with _missing_named(uri):
            file = place.open("rb")
        try:
            self._verify(file, uri)
        except BaseException:
            file.close()
            raise
        return file

    def _verify(self, file: BufferedReader, uri: str) -> None:
        """Hash the file, once for as long as the file system says that nobody has touched it."""
        identity = _identity(file)
        with self._lock:
            if self._verified.get(uri) == identity:
                return
        actual = file_sha256(file)
        if actual != parse_uri(uri)[1]:
            raise corrupt(uri, actual)
        with self._lock:
            self._verified[uri] = identity


@contextmanager
def full_disk_named(place: str) -> Iterator[None]:
    """Turns the operating system's "no space left" (also: quota, file size limit) into ResourceExhausted DISK_FULL."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(place) from error
        raise


@contextmanager
def _missing_named(uri: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise missing(uri) from error


def _identity(file: BufferedReader) -> tuple[int, ...]:
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(incoming: Path) -> None:
    """A minute of age spares the file whose writer has not locked it yet."""
    for path in incoming.iterdir():
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                _remove_unlocked(path)


def _remove_unlocked(path: Path) -> None:
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
