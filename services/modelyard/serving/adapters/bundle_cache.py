"""Bundles on this machine's disk: {folder}/bundles/{sha256}, and {folder}/partial/{sha256} for what is on its way.

What breaks off is gone on with where it was. A file gets its name only when all its bytes are there, on the disk and with the
right sha256, so a power cut leaves either the whole bundle or a part that is gone on with.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from modelyard.core.artifacts import disk_full, file_sha256
from modelyard.core.errors import DataLoss, ModelyardError, NotFound, ResourceExhausted, Unavailable
from modelyard.serving.domain.desired_state import DesiredVersion
from modelyard.serving.follower_ports import BundleSource, Progress

RESERVE_BYTES: Final = 16 << 20
"""What is left free on the disk, for the state file, logs and whatever else runs there."""
SYNC_BYTES: Final = 8 << 20
"""How much is written between two syncs: what a power cut may cost of a download."""


@dataclass(frozen=True)
class FileBundleCache:
    """`sources`: asked in their order; the next one where one cannot be reached or does not have it.

    `most_bytes`: what the cache may hold beside what is needed; 0: nothing. `bytes_per_s`: most of a download; 0: no limit.
    """

    folder: Path
    sources: Sequence[BundleSource]
    most_bytes: int = 0
    bytes_per_s: int = 0
    _turn: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        for name in ("bundles", "partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def held(self, sha256: str) -> Path | None:
        """See follower_ports.BundleCache."""
        path = self.folder / "bundles" / sha256
        return path if path.is_file() else None

    def fetch(self, version: DesiredVersion, progress: Progress) -> Path:
        """See follower_ports.BundleCache."""
        with self._turn:
            path = self.folder / "bundles" / version.sha256
            if path.is_file():
                if _is(path, version.sha256):
                    os.utime(path)
                    progress(version.size_bytes)
                    return path
                path.unlink()  # the disk has changed it
            self._download(version, progress)
            return path

    def keep(self, needed: set[str]) -> None:
        """See follower_ports.BundleCache."""
        with self._turn:
            spare = [path for path in (self.folder / "bundles").iterdir() if path.name not in needed]
            newest_first = sorted(spare, key=lambda path: path.stat().st_mtime, reverse=True)
            held = 0
            for path in newest_first:
                held += path.stat().st_size
                if held > self.most_bytes:
                    path.unlink(missing_ok=True)
            for path in (self.folder / "partial").iterdir():
                if path.name not in needed:
                    path.unlink(missing_ok=True)

    def _download(self, version: DesiredVersion, progress: Progress) -> None:
        partial = self.folder / "partial" / version.sha256
        with partial.open("ab") as file:
            size = file.tell()
            if size > version.size_bytes:
                file.truncate(0)
                size = file.seek(0)
            self._check_space(version, size)
            progress(size)
            try:
                self._receive(version, file, progress)
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                raise disk_full(str(self.folder)) from error
        if not _is(partial, version.sha256):
            partial.unlink()
            message = f"what came as the bundle {version.sha256} are other bytes; nothing of it was kept"
            raise DataLoss("BUNDLE_CORRUPT", message, sha256=version.sha256)
        os.replace(partial, self.folder / "bundles" / version.sha256)
        sync_folder(self.folder / "bundles")

    def _receive(self, version: DesiredVersion, file: BinaryIO, progress: Progress) -> None:
        failed: ModelyardError | None = None
        for source in self.sources:
            try:
                self._receive_from(source, version, file, progress)
            except (Unavailable, NotFound) as error:
                failed = error
                continue
            return
        raise failed or Unavailable("NO_CONNECTION", "there is nowhere to fetch bundles from")

    def _receive_from(self, source: BundleSource, version: DesiredVersion, file: BinaryIO, progress: Progress) -> None:
        size, begun, received, synced = file.tell(), time.monotonic(), 0, 0
        if size == version.size_bytes:
            return
        for chunk in source.download(version.sha256, size):
            if size + len(chunk) > version.size_bytes:
                message = f"the bundle {version.sha256} has {version.size_bytes} bytes; more came"
                file.truncate(0)
                raise DataLoss("BUNDLE_CORRUPT", message, sha256=version.sha256)
            file.write(chunk)
            size, received, synced = size + len(chunk), received + len(chunk), synced + len(chunk)
            if synced >= SYNC_BYTES:
                file.flush()
                os.fsync(file.fileno())
                synced = 0
            progress(size)
            if self.bytes_per_s:
                time.sleep(max(0.0, received / self.bytes_per_s - (time.monotonic() - begun)))
        if size < version.size_bytes:
            message = f"the download of {version.sha256} ended after {size} of {version.size_bytes} bytes"
            raise Unavailable("DOWNLOAD_BROKEN", message, sha256=version.sha256)

    def _check_space(self, version: DesiredVersion, here: int) -> None:
        free = shutil.disk_usage(self.folder).free
        missing = version.size_bytes - here
        if free < missing + RESERVE_BYTES:
            message = (
                f"{self.folder} has {free} bytes free; the bundle needs {missing} more, and {RESERVE_BYTES} are left for others"
            )
            raise ResourceExhausted("DISK_FULL", message, place=str(self.folder), free=free, needed=missing)


def sync_folder(folder: Path) -> None:
    """Makes names in a folder last through a power cut."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is(path: Path, sha256: str) -> bool:
    with path.open("rb") as file:
        return file_sha256(file) == sha256
