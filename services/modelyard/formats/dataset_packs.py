"""Packs: files that hold examples one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from modelyard.core.artifacts import ArtifactStore, Blob

PACK_BYTES = 64 * 1024 * 1024
"""A pack is closed once it holds this many bytes."""


@dataclass(frozen=True)
class PackSpan:
    """Where an example's bytes lie: number of the pack, first byte, length in bytes."""

    pack: int
    offset: int
    length: int


class _Lane:
    """The pack that is being written, of those for one kind of examples."""

    def __init__(self) -> None:
        self.file: BinaryIO | None = None
        self.number = -1
        self.offset = 0


class PackWriter:
    """Appends examples to pack files in a folder; holds nothing in memory. Nothing reaches a store before `put_all`.

    Examples of different lanes never share a pack: test examples have one of their own, so that it can be left out as a whole.
    """

    def __init__(self, folder: Path, *, pack_bytes: int = PACK_BYTES) -> None:
        self._folder = folder
        self._pack_bytes = pack_bytes
        self._lanes: dict[str, _Lane] = {}
        self.paths: list[Path] = []

    def append(self, data: bytes, lane: str = "") -> PackSpan:
        """Adds an example and says where it lies."""
        file, pack = self._room(len(data), lane)
        span = PackSpan(pack.number, pack.offset, len(data))
        file.write(data)
        pack.offset += len(data)
        return span

    def append_all(
        self, data: bytes, lengths: npt.NDArray[np.int64], lane: str = ""
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Adds examples that lie one after the other in `data`, as `append` would one by one: their packs, and offsets in
        them."""
        ends = np.cumsum(lengths)
        starts = ends - lengths
        if len(lengths):
            file, pack = self._room(int(lengths[0]), lane)
            if pack.offset + len(data) <= self._pack_bytes:
                offsets = pack.offset + starts
                file.write(data)
                pack.offset += len(data)
                return np.full(len(lengths), pack.number, np.int32), offsets
        spans = [self.append(data[start:end], lane) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        return np.array([span.pack for span in spans], np.int32), np.array([span.offset for span in spans], np.int64)

    def close(self) -> list[Path]:
        """Finishes the open packs; the paths of all of them, in the order of their numbers. What is appended later begins new
        ones."""
        for pack in self._lanes.values():
            if pack.file is not None:
                pack.file.close()
        self._lanes = {}
        return self.paths

    def put_all(self, store: ArtifactStore) -> tuple[Blob, ...]:
        """Stores the packs, in the order of their numbers."""
        return tuple(store.put_file(path) for path in self.close())

    def _room(self, size: int, lane: str) -> tuple[BinaryIO, _Lane]:
        """The open pack of a lane, or a new one where that has no room."""
        pack = self._lanes.setdefault(lane, _Lane())
        if pack.file is not None and pack.offset and pack.offset + size > self._pack_bytes:
            pack.file.close()
            pack.file = None
        if pack.file is None:
            self.paths.append(self._folder / f"pack-{len(self.paths):05d}")
            pack.file, pack.number, pack.offset = self.paths[-1].open("wb"), len(self.paths) - 1, 0
        return pack.file, pack
