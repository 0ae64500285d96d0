"""Examples that are read while they are needed, and how a training chooses between these and examples in memory."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from modelyard.formats.streaming import PictureStream
from modelyard.trainer.worker.examples import Batch, global_batches, part
from modelyard.trainer.worker.order import Order

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StreamedExamples:
    """Examples at positions of a dataset version's manifest: int64 [N]; class indices int64 [N]. See Examples."""

    stream: PictureStream
    positions: Integers
    labels: Tensor
    order: Order

    def __len__(self) -> int:
        return len(self.labels)

    def epoch(
        self, seed: int, number: int, *, batch_size: int, position: int = 0, rank: int = 0, world_size: int = 1
    ) -> Generator[Batch]:
        """See Examples."""
        order = self.order.epoch(seed, number)
        starts = range(position, len(self), batch_size)[: global_batches(len(self), batch_size, position)]
        yield from self._read([part(order[start : start + batch_size], rank, world_size) for start in starts])

    def in_order(self, batch_size: int, *, rank: int = 0, world_size: int = 1) -> Generator[Batch]:
        """See Examples."""
        each = torch.split(torch.arange(len(self)), batch_size) if len(self) else ()
        yield from self._read([part(batch, rank, world_size) for batch in each])

    def sample(self, about: int) -> Batch:
        """See Examples."""
        return next(self._read([self.order.sample(about)]))

    def subset(self, which: Tensor, order: Order) -> StreamedExamples:
        """Some of these examples, at rising int64 positions among them."""
        return StreamedExamples(self.stream, self.positions[which.numpy()], self.labels[which], order)

    def _read(self, batches: Sequence[Tensor]) -> Generator[Batch]:
        wanted = torch.cat(list(batches)) if batches else torch.empty(0, dtype=torch.int64)
        reading = self.stream.read(self.positions[wanted.numpy()], [len(each) for each in batches])
        try:
            for which in batches:
                yield Batch(torch.from_numpy(next(reading)), self.labels[which])
        finally:
            reading.close()


def memory_for_data(setting: int, root: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that decoded pictures may take in this process: the setting, or (0) a third of the memory that is there, which the
    processes of a node share among them (LOCAL_WORLD_SIZE, as torchrun sets it)."""
    if setting:
        return setting
    return available_memory(root) // 3 // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def available_memory(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory: the machine's, or what the cgroup (version 2 or 1) grants where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            total = min(total, int((root / name).read_text()))
        except (OSError, ValueError):
            continue
    return total
