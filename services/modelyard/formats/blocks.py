"""Blocks: parts of packs that are read at once. A block holds the examples whose first byte lies in one cell of a pack's grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

MOST_BLOCK_BYTES, LEAST_BLOCK_BYTES = 1 << 20, 1 << 14
"""Width of a grid's cells in bytes: decisions/0028 has the measurements. A block of one large example may be longer."""

DECODED_BLOCK_BYTES = 4 << 20
"""What a block should hold at most, decoded: many small blocks mix better than few large ones."""


@dataclass(frozen=True)
class Blocks:
    """Where the blocks of a dataset version lie, and in which of them each example. B blocks, N examples in the manifest's order.

    pack, offset, length: int64 [B], in the order of packs and offsets. of: int64 [N], the block of each example; start: int64
    [N], first byte of each example in its block; size: int64 [N], bytes of each example.
    """

    pack: Integers
    offset: Integers
    length: Integers
    of: Integers
    start: Integers
    size: Integers

    def __len__(self) -> int:
        return len(self.pack)


def cut(pack: Integers, offset: Integers, length: Integers, block_bytes: int) -> Blocks:
    """Blocks of about `block_bytes` (1 or more) from where examples lie: int64 [N] each."""
    cells = offset // block_bytes
    most = int(cells.max(initial=0)) + 1
    _, of = np.unique(pack * most + cells, return_inverse=True)
    count = int(of.max(initial=-1)) + 1
    first = np.full(count, np.iinfo(np.int64).max)
    end = np.zeros(count, np.int64)
    packs = np.zeros(count, np.int64)
    np.minimum.at(first, of, offset)
    np.maximum.at(end, of, offset + length)
    packs[of] = pack
    return Blocks(packs, first, end - first, of, offset - first[of], length)


def fitting_block_bytes(example_bytes: float, decoded_bytes: int) -> int:
    """Width of cells for examples of so many bytes, as they are stored (a mean, above 0) and decoded: a power of two."""
    wanted = DECODED_BLOCK_BYTES * example_bytes / decoded_bytes
    width = MOST_BLOCK_BYTES
    while width > LEAST_BLOCK_BYTES and width > wanted:
        width //= 2
    return width
