"""In which order an epoch sees the examples: a function of the data, the size of the model's input, the seed and the epoch.

Data of which a window holds all are drawn without any regard to where they lie. Larger ones are read block by block: the blocks
are drawn in random order, and each example then comes a random distance later, up to a window of blocks. So every batch mixes
examples of a whole window, while no more than a window has to be in memory (decisions/0028).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from modelyard.recipes import augment

WINDOW_BYTES = 512 << 20
"""Decoded bytes of a window. Half of it is in memory at a time, as blocks come one after the other."""

SAMPLE_BLOCKS = 64
"""Blocks that a sample of large data is taken from."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """Of `examples` examples. blocks: int64 [examples], the block of each, and window: blocks in a window; or neither of both.
    classes: int64 [examples], the class of each, of which all are to be drawn equally often; None: each example once an epoch."""

    examples: int
    blocks: Integers | None = None
    window: float = 0.0
    classes: Integers | None = None

    def epoch(self, seed: int, number: int) -> Tensor:
        """The order of an epoch (number 0, 1...): int64 [examples]."""
        if self.blocks is None and self.classes is None:
            return augment.epoch_order(seed, number, self.examples)
        generator = np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=(number,)))
        drawn = np.arange(self.examples) if self.classes is None else balanced(self.classes, generator)
        if self.blocks is None:
            return torch.from_numpy(generator.permutation(drawn))
        which, of = np.unique(self.blocks, return_inverse=True)
        at = generator.permutation(len(which))[of][drawn] + generator.random(self.examples) * self.window
        return torch.from_numpy(drawn[np.argsort(at, kind="stable")])

    def sample(self, about: int) -> Tensor:
        """All examples, or about as many, spread over the data, or over some blocks of them: rising int64."""
        members = np.arange(self.examples)
        if self.blocks is not None and self.examples > about:
            which = np.unique(self.blocks)
            some = which[np.linspace(0, len(which) - 1, min(len(which), SAMPLE_BLOCKS)).astype(np.int64)]
            members = np.flatnonzero(np.isin(self.blocks, some))
        return torch.from_numpy(members[:: max(1, len(members) // about)])


def balanced(classes: Integers, generator: np.random.Generator) -> Integers:
    """As many examples as there are, int64 [N] rising, each class as often as the others (or once more); within a class each
    example as often as the others (or once more)."""
    names = np.unique(classes)
    shares = np.full(len(names), len(classes) // len(names))
    shares[generator.permutation(len(names))[: len(classes) % len(names)]] += 1
    drawn = []
    for name, share in zip(names, shares, strict=True):
        members = np.flatnonzero(classes == name)
        rounds, rest = divmod(int(share), len(members))
        drawn += [np.repeat(members, rounds), generator.permutation(members)[:rest]]
    return np.sort(np.concatenate(drawn))


def order_of(blocks: Integers, decoded_bytes: int, window_bytes: int = WINDOW_BYTES) -> Order:
    """The order for examples of so many bytes each, decoded, that lie in these blocks: int64 [N]."""
    if len(blocks) * decoded_bytes <= window_bytes:
        return Order(len(blocks))
    per_block = len(blocks) / len(np.unique(blocks)) * decoded_bytes
    return Order(len(blocks), blocks, max(1.0, window_bytes / per_block))
