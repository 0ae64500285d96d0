"""The examples of a training: in memory where they fit, else read from the artifact store while they are needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from modelyard.core.errors import FailedPrecondition
from modelyard.formats.blocks import fitting_block_bytes
from modelyard.formats.dataset import TRAIN, VALIDATION, DatasetReader
from modelyard.formats.decoders import Decoders
from modelyard.formats.model import PictureInput
from modelyard.formats.streaming import PictureStream, Shape
from modelyard.trainer.worker.examples import Examples, HeldExamples
from modelyard.trainer.worker.order import Order, order_of
from modelyard.trainer.worker.processors import training_threads
from modelyard.trainer.worker.streamed import StreamedExamples, memory_for_data

HOLD_OUT, MOST_HELD_OUT = 0.1, 5000
"""Share (and most) of the training examples that validate when the dataset version has no validation examples."""

FEW = 2000
"""Pictures that threads have decoded before processes have started."""

_HELD_AT_ONCE = 512

ShouldStop = Callable[[], bool]
Integers = npt.NDArray[np.int64]


class Descriptor(Protocol):
    """What training needs of a dataset version's descriptor."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def digest(self) -> str: ...


class Pictures(Protocol):
    """What training needs of a dataset version; formats.dataset.DatasetReader has it, and can be streamed besides."""

    @property
    def descriptor(self) -> Descriptor: ...

    def pictures(
        self, usage: str, height: int, width: int, channels: int, *, should_stop: ShouldStop | None = None
    ) -> npt.NDArray[np.uint8]: ...

    def labels(self, usage: str) -> npt.NDArray[Any]: ...


class Targets(NamedTuple):
    """What is learned of each example [N, ...], and by which they are alike when some are held out: int64 [N]."""

    values: Tensor
    strata: Tensor


TargetsOf = Callable[[Pictures, str], Targets]
"""The targets of a usage."""


def class_targets(reader: Pictures, usage: str) -> Targets:
    """Class indices int64 [N]."""
    labels = torch.from_numpy(np.asarray(reader.labels(usage), np.int64))
    return Targets(labels, labels)


@dataclass(frozen=True)
class Usage:
    """The examples of a usage: positions in the manifest int64 [N], targets [N, ...], and the order of their epochs."""

    positions: Integers
    labels: Tensor
    order: Order


@contextmanager
def open_examples(
    reader: Pictures,
    picture: PictureInput,
    seed: int,
    *,
    memory_bytes: int = 0,
    should_stop: ShouldStop,
    targets: TargetsOf = class_targets,
) -> Iterator[tuple[Examples, Examples]]:
    """The training and validation examples; without any to validate, a tenth is held out for it.

    memory_bytes: most bytes of decoded pictures in memory; 0: a third of what there is. What they are, and in which order they
    come, does not depend on it. Raises FailedPrecondition NO_TRAINING_EXAMPLES, Cancelled, and what PictureStream.read raises.
    """
    if not isinstance(reader, DatasetReader):
        yield _all_held(reader, picture, seed, should_stop, targets)
        return
    shape = Shape(picture.height, picture.width, picture.channels)
    sizes = reader.spans()[2]
    count = len(reader.indices(TRAIN)) + len(reader.indices(VALIDATION))
    processes = 0 if count < FEW else decoding_processes()
    with ExitStack() as stack:
        decoders = Decoders(processes)
        stack.callback(decoders.close)
        block_bytes = fitting_block_bytes(max(1.0, float(sizes.mean())) if len(sizes) else 1.0, shape.size)
        stream = PictureStream(reader, shape, decoders, block_bytes=block_bytes, should_stop=should_stop)
        stack.callback(stream.close)
        training, validation = _usages(reader, stream, seed, targets)
        budget = memory_for_data(memory_bytes)
        keeps = [False, len(validation.positions) * shape.size <= budget // 4]
        keeps[0] = (len(training.positions) + keeps[1] * len(validation.positions)) * shape.size <= budget
        made = [_made(stream, usage, held) for usage, held in zip((training, validation), keeps, strict=True)]
        yield made[0], made[1]


def hold_out(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Positions of those that stay and of a tenth (at most MOST_HELD_OUT) that validates, of each class the same share; none from
    a class with fewer than 10. Rising int64."""
    generator = np.random.default_rng(seed)
    classes = labels.numpy()
    share = min(HOLD_OUT, MOST_HELD_OUT / len(classes))
    held = np.zeros(len(classes), bool)
    for name in np.unique(classes):
        members = generator.permutation(np.flatnonzero(classes == name))
        held[members[: int(len(members) * share)]] = True
    return torch.from_numpy(np.flatnonzero(~held)), torch.from_numpy(np.flatnonzero(held))


def decoding_processes() -> int:
    """How many processes decode: one for each processor that this process may use, at most 16."""
    return max(1, min(16, training_threads() // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))))


def _all_held(
    reader: Pictures, picture: PictureInput, seed: int, should_stop: ShouldStop, targets: TargetsOf
) -> tuple[HeldExamples, HeldExamples]:
    loaded, strata = [], []
    for usage in (TRAIN, VALIDATION):
        pictures = reader.pictures(usage, picture.height, picture.width, picture.channels, should_stop=should_stop)
        known = targets(reader, usage)
        loaded.append(HeldExamples(torch.from_numpy(pictures), known.values))
        strata.append(known.strata)
    training, validation = loaded
    _check(len(training))
    if len(validation):
        return training, validation
    stay, away = hold_out(strata[0], seed)
    return training.subset(stay, Order(len(stay))), training.subset(away, Order(len(away)))


def _usages(reader: DatasetReader, stream: PictureStream, seed: int, targets: TargetsOf) -> tuple[Usage, Usage]:
    positions = {usage: reader.indices(usage) for usage in (TRAIN, VALIDATION)}
    _check(len(positions[TRAIN]))
    known = {usage: targets(reader, usage) for usage in (TRAIN, VALIDATION)}
    labels = {usage: each.values for usage, each in known.items()}
    if not len(positions[VALIDATION]):
        stay, away = hold_out(known[TRAIN].strata, seed)
        positions = {usage: positions[TRAIN][which.numpy()] for usage, which in ((TRAIN, stay), (VALIDATION, away))}
        labels = {usage: labels[TRAIN][which] for usage, which in ((TRAIN, stay), (VALIDATION, away))}
    training, validation = (
        Usage(positions[usage], labels[usage], order_of(stream.blocks.of[positions[usage]], stream.shape.size))
        for usage in (TRAIN, VALIDATION)
    )
    return training, validation


def _check(examples: int) -> None:
    if not examples:
        raise FailedPrecondition("NO_TRAINING_EXAMPLES", "the dataset version has no examples with usage train")


def _made(stream: PictureStream, usage: Usage, held: bool) -> Examples:
    if not held:
        return StreamedExamples(stream, usage.positions, usage.labels, usage.order)
    shape, count = stream.shape, len(usage.positions)
    pictures = np.empty((count, shape.height, shape.width, shape.channels), np.uint8)
    starts = range(0, count, _HELD_AT_ONCE)
    reading = stream.read(usage.positions, [min(_HELD_AT_ONCE, count - start) for start in starts])
    for start, some in zip(starts, reading, strict=True):
        pictures[start : start + len(some)] = some
    return HeldExamples(torch.from_numpy(pictures), usage.labels, usage.order)
