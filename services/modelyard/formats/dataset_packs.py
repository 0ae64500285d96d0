"""Packs: files that hold examples one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from modelyard.core.artifacts import ArtifactStore, Blob

PACK_BYTES = 64 * 1024 * 1024
"""A pack is closed once it holds this many bytes."""


@dataclass(frozen=True)
class PackSpan:
    """Where an example's bytes lie: number of the pack, first byte, length in bytes."""

    pack: int
    offset: int
    length: int


class PackWriter:
    """Appends examples to pack files in a folder; holds nothing in memory. Nothing reaches a store before `put_all`."""

    def __init__(self, folder: Path, *, pack_bytes: int = PACK_BYTES) -> None:
        self._folder = folder
        self._pack_bytes = pack_bytes
        self._file: BinaryIO | None = None
        self._offset = 0
        self.paths: list[Path] = []

    def append(self, data: bytes) -> PackSpan:
        """Adds an example and says where it lies."""
        if self._file is None or (self._offset and self._offset + len(data) > self._pack_bytes):
            self._next_pack()
        if self._file is None:
            raise AssertionError("a pack is open here")
        span = PackSpan(len(self.paths) - 1, self._offset, len(data))
        self._file.write(data)
        self._offset += len(data)
        return span

    def close(self) -> list[Path]:
        """Finishes the last pack; the paths of all of them, in the order of their numbers."""
        if self._file is not None:
            self._file.close()
            self._file = None
        return self.paths

    def put_all(self, store: ArtifactStore) -> tuple[Blob, ...]:
        """Stores the packs, in the order of their numbers."""
        return tuple(store.put_file(path) for path in self.close())

    def _next_pack(self) -> None:
        self.close()
        self.paths.append(self._folder / f"pack-{len(self.paths):05d}")
        self._file = self.paths[-1].open("wb")
        self._offset = 0
