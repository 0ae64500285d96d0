"""Bytes of examples, out of the packs in which an import left them."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path


class Packs:
    """Files of examples, mapped when they are first read. Not safe to use from several threads."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._maps: dict[int, mmap.mmap] = {}

    def read(self, pack: int, offset: int, length: int) -> bytes:
        """Bytes of an example."""
        if pack not in self._maps:
            with self._paths[pack].open("rb") as file:
                self._maps[pack] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[pack][offset : offset + length]
