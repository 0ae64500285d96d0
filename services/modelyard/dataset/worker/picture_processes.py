"""The processes that read an archive's pictures for an import, and what they are given to do."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import TracebackType
from typing import Protocol

from modelyard.core.errors import DataLoss
from modelyard.dataset.worker.picture_process import Part, Read
from modelyard.formats.archive import Entry, Limits, Located
from modelyard.formats.dataset_tar import Archive

LEAST_PICTURES = 2_000
"""From so many pictures on the start of processes pays."""

LARGEST_MEAN = 256 * 1024
"""Bytes of a picture up to which processes pay: of larger ones decoders do the work, which threads share as well."""

_PART_PICTURES = 2048
_PART_BYTES = 4 * 1024**2


class LocatedArchive(Archive, Protocol):
    """An archive whose entries other processes can read."""

    path: Path
    limits: Limits

    def locate(self, entry: Entry) -> Located | None:
        """Where an entry lies."""

    def passed(self, size: int) -> None:
        """Counts what was read elsewhere."""


def pays(entries: Sequence[Entry], processes: int) -> bool:
    """Whether these are many small pictures."""
    if processes < 2 or len(entries) < LEAST_PICTURES:
        return False
    return sum(entry.claimed_bytes for entry in entries) <= LARGEST_MEAN * len(entries)


def parts(archive: LocatedArchive, entries: Sequence[Entry]) -> Iterator[tuple[int, Sequence[Entry], Part]]:
    """The entries in parts of some thousand: how many bytes each announces, and what to ask for."""
    start = 0
    while start < len(entries):
        end, size = start, 0
        while end < len(entries) and end - start < _PART_PICTURES and (end == start or size < _PART_BYTES):
            size += max(0, entries[end].claimed_bytes)
            end += 1
        some = entries[start:end]
        yield size, some, Part([entry.path for entry in some], [archive.locate(entry) for entry in some])
        start = end


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    link: Connection

    def end(self) -> None:
        self.link.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class PictureProcesses:
    """`count` processes over one archive. `read` may be called from as many threads."""

    def __init__(self, archive: LocatedArchive, count: int) -> None:
        self._archive, self._count = archive, count
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(None)

    def read(self, part: Part) -> Read:
        """Has a process read a part; one that ends over it is started again once. Raises DataLoss DECODER_LOST."""
        child = self._idle.get()
        try:
            for _ in range(2):
                child = child or self._start()
                try:
                    child.link.send(part)
                    answer = child.link.recv()
                except (OSError, EOFError):
                    child.end()
                    child = None
                else:
                    if isinstance(answer, Read):
                        return answer
        finally:
            self._idle.put(child)
        message = (
            f"the process that reads pictures of {self._archive.name} ended over one, twice: memory ran out, or a damaged picture"
        )
        raise DataLoss("DECODER_LOST", message)

    def __enter__(self) -> PictureProcesses:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for _ in range(self._count):
            child = self._idle.get()
            if child is not None:
                child.end()
            self._idle.put(None)

    def _start(self) -> _Child:
        ours, theirs = Pipe()
        with theirs:
            module = "modelyard.dataset.worker.picture_process"
            command = [sys.executable, "-m", module, str(theirs.fileno()), str(self._archive.path)]
            alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, env=alone)
        ours.send(self._archive.limits)
        return _Child(process, ours)
