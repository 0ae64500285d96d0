"""What a training loop sees of its data: labelled pictures, asked for in batches whose order is known ahead.

An epoch is one global sequence, a function of the data, the seed and the epoch's number. A global batch is `batch_size` examples
in a row, of which each rank gets a part (`places_of`). So which examples a step trains on depends neither on how many
processes share the work nor on how the data are held, and a run that stopped goes on at an exact position.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from modelyard.core.errors import InvalidArgument
from modelyard.trainer.worker.order import Order


class Batch(NamedTuple):
    """Pictures uint8 [n, H, W, C] and class indices int64 [n], in CPU memory that nobody else writes to."""

    pictures: Tensor
    labels: Tensor


class Examples(Protocol):
    """Labelled pictures of one usage, wherever they are. Generators may read ahead in threads; closing them ends that."""

    @property
    def labels(self) -> Tensor:
        """Class indices of all of them, int64 [N], in memory."""

    def __len__(self) -> int:
        """N."""

    def epoch(
        self, seed: int, number: int, *, batch_size: int, position: int = 0, rank: int = 0, world_size: int = 1
    ) -> Generator[Batch]:
        """This rank's parts of the global batches of epoch `number` (0, 1...) from a global `position` on (0 to N; what all
        ranks together have behind them).

        Whole global batches only, except that an epoch of fewer than `batch_size` examples is one short batch: as many batches
        as `global_batches` says. Parts are those of `part`: they may differ by two examples, and be empty where a batch has fewer
        than two for each rank.
        What comes before the position is not read. Raises DataLoss, Unavailable, Cancelled from next().
        """

    def in_order(self, batch_size: int, *, rank: int = 0, world_size: int = 1) -> Generator[Batch]:
        """This rank's parts of all examples in the order of the data, the last incomplete batch too (for validation)."""

    def sample(self, about: int) -> Batch:
        """All examples, or `about` to twice as many of them, spread over the data: to measure it before training. The same at
        each call."""


def global_batches(examples: int, batch_size: int, position: int = 0) -> int:
    """How many batches `Examples.epoch` gives from a position on."""
    return 1 if position == 0 and 0 < examples < batch_size else (examples - position) // batch_size


def places_of(count: int, rank: int, world_size: int) -> Tensor:
    """The places, int64 [n], in a global batch of `count` that are a rank's part.

    Every w-th pair of a place and its opposite (i and count - 1 - i), from the r-th on: so pictures that are mixed with their
    opposites (recipes.augment.mix) are together, and reversing the part pairs them as reversing the batch does.
    """
    pairs = (count + 1) // 2
    first = torch.arange(min(rank, pairs), pairs, world_size)
    opposite = count - 1 - first.flip(0)
    return torch.cat([first, opposite[opposite != first.flip(0)]])


def part(batch: Tensor, rank: int, world_size: int) -> Tensor:
    """A rank's part of what belongs to a global batch."""
    return batch if world_size == 1 else batch[places_of(len(batch), rank, world_size)]


def with_balance(training: Examples) -> Examples:
    """The same examples, each class of which is drawn equally often. Raises InvalidArgument HYPERPARAMETER_NOT_USED where they
    have no class each."""
    labels = training.labels
    if labels.ndim != 1 or labels.is_floating_point():
        message = "hyperparameters.balanced_sampling is true; it is for tasks with one class an example"
        raise InvalidArgument("HYPERPARAMETER_NOT_USED", message, field="hyperparameters.balanced_sampling")
    order = getattr(training, "order", None) or Order(len(training))
    made: Examples = replace(training, order=replace(order, classes=labels.numpy()))  # type: ignore[type-var]
    return made


@dataclass(frozen=True)
class HeldExamples:
    """Examples in memory: pictures uint8 [N, H, W, C] and class indices int64 [N]. order: a permutation of all unless given."""

    pictures: Tensor
    labels: Tensor
    order: Order | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def epoch(
        self, seed: int, number: int, *, batch_size: int, position: int = 0, rank: int = 0, world_size: int = 1
    ) -> Generator[Batch]:
        """See Examples."""
        order = self._order.epoch(seed, number)
        for _ in range(global_batches(len(self), batch_size, position)):
            which = part(order[position : position + batch_size], rank, world_size)
            yield Batch(self.pictures[which], self.labels[which])
            position += batch_size

    def in_order(self, batch_size: int, *, rank: int = 0, world_size: int = 1) -> Generator[Batch]:
        """See Examples."""
        for start in range(0, len(self), batch_size):
            each = slice(start, start + batch_size)
            yield Batch(part(self.pictures[each], rank, world_size), part(self.labels[each], rank, world_size))

    def sample(self, about: int) -> Batch:
        """See Examples."""
        which = self._order.sample(about)
        return Batch(self.pictures[which], self.labels[which])

    def subset(self, which: Tensor, order: Order) -> HeldExamples:
        """Some of these examples, at rising int64 positions among them."""
        return HeldExamples(self.pictures[which], self.labels[which], order)

    @property
    def _order(self) -> Order:
        return self.order or Order(len(self))
