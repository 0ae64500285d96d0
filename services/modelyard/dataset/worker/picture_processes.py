"""The processes that read an archive's pictures for an import, and what they are given to do."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from operator import itemgetter
from types import TracebackType
from typing import Protocol

import numpy as np

from modelyard.core.errors import DataLoss
from modelyard.dataset.worker import picture_process
from modelyard.dataset.worker.picture_process import Part, Read
from modelyard.formats.archive import Entry, Limits, Places
from modelyard.formats.dataset_tar import Archive
from modelyard.formats.folder import FolderPlace

LEAST_PICTURES = 2_000
"""From so many pictures on the start of processes pays."""

LARGEST_MEAN = 256 * 1024
"""Bytes of a picture up to which processes pay: of larger ones decoders do the work, which threads share as well."""

_PART_PICTURES = 2048
_PART_BYTES = 8 * 1024**2


class LocatedArchive(Archive, Protocol):
    """An archive whose entries other processes can read. `whereabouts`: its path, or a folder."""

    limits: Limits

    @property
    def whereabouts(self) -> str | FolderPlace:
        """Its path, or the folder that it is."""

    def locate_all(self, entries: Sequence[Entry]) -> Places | list[str]:
        """Where entries lie: in the archive, or in which files of the folder."""

    def passed(self, size: int) -> None:
        """Counts what was read elsewhere."""


def pays(entries: Sequence[Entry], processes: int) -> bool:
    """Whether these are many small pictures."""
    if processes < 2 or len(entries) < LEAST_PICTURES:
        return False
    return bool(sum(map(_CLAIMED, entries)) <= LARGEST_MEAN * len(entries))


_CLAIMED = itemgetter(1)


def parts(archive: LocatedArchive, entries: Sequence[Entry]) -> Iterator[tuple[Sequence[Entry], Part]]:
    """The entries in parts of some thousand, and what to ask for."""
    places = archive.locate_all(entries)
    paths = [entry[0] for entry in entries]
    ends = np.cumsum(np.maximum(np.fromiter(map(_CLAIMED, entries), np.int64, len(entries)), 0))
    start = 0
    while start < len(entries):
        before = int(ends[start - 1]) if start else 0
        end = int(np.searchsorted(ends, before + _PART_BYTES, side="right"))
        end = min(max(end, start + 1), start + _PART_PICTURES, len(entries))
        here = places.part(start, end) if isinstance(places, Places) else places[start:end]
        yield entries[start:end], Part(paths[start:end], here)
        start = end


_ahead: list[_Child] = []
"""Processes of this one that wait to be told which archive is theirs."""


def fork_ahead(count: int) -> None:
    """Forks processes that read pictures: while this process has no thread and no connection, its fork shares all it has
    imported, and begins in no time. They end with this one."""
    from threadpoolctl import threadpool_limits

    for _ in range(count):
        ours, theirs = Pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                ours.close()
                for other in _ahead:
                    other.link.close()
                threadpool_limits(1)  # there is one of these for each CPU
                picture_process.wait(theirs)
                status = 0
            finally:
                os._exit(status)
        theirs.close()
        _ahead.append(_Child(pid, ours))


@dataclass
class _Child:
    process: subprocess.Popen[bytes] | int
    link: Connection

    def end(self) -> None:
        """A process ends when its link is closed, once it has done what it does."""
        self.link.close()
        if isinstance(self.process, int):
            os.waitpid(self.process, 0)
            return
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
        with contextlib.suppress(IndexError, OSError):
            child = _ahead.pop()
            child.link.send((self._archive.whereabouts, self._archive.limits))
            return child
        ours, theirs = Pipe()
        with theirs:
            module = "modelyard.dataset.worker.picture_process"
            command = [sys.executable, "-m", module, str(theirs.fileno())]
            alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, env=alone)
        with contextlib.suppress(OSError):  # it has ended already: the first question finds that out
            ours.send((self._archive.whereabouts, self._archive.limits))
        return _Child(process, ours)
