"""Pictures of a dataset version in any order that is known ahead, read from the artifact store while they are needed.

The order is cut into batches. Threads fetch the blocks (formats/blocks.py) that come next, processes decode what is wanted of
them into a memory of rows, and a batch is gathered when all its pictures are there. A row is free again once it was given. So the
memory holds what is between a block's first and last use, and what is read ahead: nothing grows with the dataset but its index.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import Cancelled, DataLoss, Unavailable
from modelyard.formats.blocks import Blocks, cut
from modelyard.formats.dataset import DatasetReader
from modelyard.formats.decoders import Decoders, Memory
from modelyard.formats.decoding import Fault, Places

AHEAD_BYTES = 64 << 20
"""Decoded pictures that are read ahead of the batch that is given."""

PATIENCE_S = 300.0
"""How long a store that does not answer is asked again; as long as a worker waits for its service."""

FETCHERS = 8
"""Blocks that are fetched while others are decoded: hides the delay of an S3 (decisions/0028)."""

Integers = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Shape:
    """What pictures are decoded to: pixels, and channels (1 or 3)."""

    height: int
    width: int
    channels: int

    @property
    def size(self) -> int:
        """Bytes of a picture."""
        return self.height * self.width * self.channels


@dataclass(frozen=True)
class _Task:
    """A block, from which place of the order on it is needed, and all places of the order that it fills (rising)."""

    block: int
    first: int
    slots: Integers


class PictureStream:
    """Reads pictures of one dataset version. Readings may overlap; each is for one thread."""

    def __init__(
        self,
        reader: DatasetReader,
        shape: Shape,
        decoders: Decoders,
        *,
        block_bytes: int,
        ahead_bytes: int = AHEAD_BYTES,
        patience_s: float = PATIENCE_S,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.shape = shape
        self.blocks: Blocks = cut(*reader.spans(), block_bytes)
        self._reader = reader
        self._hashes = reader.hashes()
        self._decoders = decoders
        self._ahead = max(1, ahead_bytes // shape.size)
        self._patience_s = patience_s
        self._should_stop = should_stop or (lambda: False)
        self._threads = ThreadPoolExecutor(FETCHERS + decoders.count, "modelyard-blocks")
        self._closed = threading.Event()

    def read(self, positions: Integers, sizes: Sequence[int]) -> Generator[Pixels]:
        """The pictures at positions of the manifest, in that order, cut into batches of these sizes (they add up to all of them):
        uint8 [size, H, W, C].

        Raises DataLoss (EXAMPLE_CORRUPT, DECODER_LOST and the store's reasons), NotFound, Unavailable after `patience_s`, and
        Cancelled when asked to stop while a batch is waited for.
        """
        ends = np.cumsum(np.asarray(sizes, np.int64))
        tasks = self._tasks(positions)
        reading = _Reading(self, positions, tasks, _most_rows(tasks, ends, self._ahead))
        try:
            start = 0
            for end in ends.tolist():
                reading.order(end + self._ahead)
                reading.wait(end, self._should_stop)
                yield reading.take(start, end)
                start = end
        finally:
            reading.close()

    def close(self) -> None:
        """Ends the threads. The decoders are the caller's."""
        self._closed.set()
        self._threads.shutdown(cancel_futures=True)

    def _tasks(self, positions: Integers) -> list[_Task]:
        blocks = self.blocks.of[positions]
        by_block = np.argsort(blocks, kind="stable")
        starts = np.flatnonzero(np.diff(blocks[by_block], prepend=-1))
        places = np.split(by_block, starts[1:]) if len(by_block) else []
        tasks = [_Task(int(blocks[slots[0]]), int(slots[0]), slots) for slots in places]
        return sorted(tasks, key=lambda task: task.first)

    def submit(self, positions: Integers, task: _Task, rows: Integers, memory: Memory, ended: threading.Event) -> Future[None]:
        """Starts to fetch and decode what is wanted of a block."""
        wanted = positions[task.slots]
        places = Places(self.blocks.start[wanted], self.blocks.size[wanted], rows, self._hashes[wanted])
        return self._threads.submit(self._load, task.block, wanted, places, memory, ended)

    def _load(self, block: int, wanted: Integers, places: Places, memory: Memory, ended: threading.Event) -> None:
        fault = self._decoders.decode(self._fetch(block, ended), places, memory)
        if fault is not None and not ended.is_set():  # a local copy may be damaged: once more, from the store itself
            fault = self._decoders.decode(self._fetch(block, ended, fresh=True), places, memory)
        if fault is not None and not ended.is_set():
            raise self._named(fault, block, int(wanted[fault.index]))

    def _fetch(self, block: int, ended: threading.Event, *, fresh: bool = False) -> bytes:
        """A block's bytes; asks a store that does not answer again and again, for some minutes."""
        blocks, until, pause_s = self.blocks, time.monotonic() + self._patience_s, 0.2
        where = int(blocks.pack[block]), int(blocks.offset[block]), int(blocks.length[block])
        while True:
            try:
                return self._reader.part(*where, fresh=fresh)
            except Unavailable:
                if ended.wait(pause_s) or self._closed.is_set() or time.monotonic() > until:
                    raise
                pause_s = min(5.0, 2 * pause_s)

    def _named(self, fault: Fault, block: int, position: int) -> DataLoss:
        pack = self._reader.descriptor.packs[int(self.blocks.pack[block])].uri
        path = self._reader.path_of(position)
        why = fault.message or "its bytes are not those that were published"
        message = (
            f"the example {path!r} cannot be read from {pack}: {why}. Restore the file from a copy, or import the data again."
        )
        return DataLoss("EXAMPLE_CORRUPT", message, path=path, uri=pack, why=fault.reason or "SHA256_MISMATCH")


class _Reading:
    """One order that is being read: what was begun, what is there, which rows are free."""

    def __init__(self, stream: PictureStream, positions: Integers, tasks: list[_Task], rows: int) -> None:
        shape = stream.shape
        self._stream, self._positions = stream, positions
        self._waiting = deque(tasks)
        self._begun: deque[tuple[_Task, Future[None]]] = deque()
        self._memory = Memory(rows, shape.height, shape.width, shape.channels)
        self._free = np.arange(rows)
        self._free_count = rows
        self._row_of = np.empty(len(positions), np.int64)
        self._ended = threading.Event()

    def order(self, end: int) -> None:
        """Begins to read every block that is needed before place `end`."""
        while self._waiting and self._waiting[0].first < end:
            task = self._waiting.popleft()
            self._free_count -= len(task.slots)
            rows = self._free[self._free_count : self._free_count + len(task.slots)].copy()
            self._row_of[task.slots] = rows
            self._begun.append((task, self._stream.submit(self._positions, task, rows, self._memory, self._ended)))

    def wait(self, end: int, should_stop: Callable[[], bool]) -> None:
        """Waits until everything before place `end` is there."""
        while self._begun and self._begun[0][0].first < end:
            try:
                self._begun[0][1].result(0.5)
            except NotYet:
                if should_stop():
                    raise Cancelled("CANCELLED", "reading the data was cancelled") from None
                continue
            self._begun.popleft()

    def take(self, start: int, end: int) -> Pixels:
        """A copy of what is at these places; their rows are free from now on."""
        rows = self._row_of[start:end]
        taken = self._memory.rows[rows]
        self._free[self._free_count : self._free_count + len(rows)] = rows
        self._free_count += len(rows)
        return taken

    def close(self) -> None:
        """Drops what was begun."""
        self._ended.set()
        for _, future in self._begun:
            future.cancel()
        for _, future in self._begun:
            if not future.cancelled():
                future.exception()  # waits: the memory is written to until then
        self._memory.close()


def _most_rows(tasks: list[_Task], ends: Integers, ahead: int) -> int:
    """How many pictures are in memory at most, when each batch is given up to its end and blocks are begun `ahead` of it."""
    if not len(ends):
        return 0
    firsts = np.array([task.first for task in tasks], np.int64)
    counts = np.concatenate([[0], np.cumsum([len(task.slots) for task in tasks])])
    begun = counts[np.searchsorted(firsts, ends + ahead, side="left")]
    starts = np.concatenate([[0], ends[:-1]])
    return int((begun - starts).max())
