"""The examples that ranges of activations are measured on: drawn from the training usage with a seed, each class its share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition
from modelyard.formats.bundle import CalibrationCard
from modelyard.formats.dataset import TRAIN, DatasetReader
from modelyard.formats.model import PictureInput
from modelyard.formats.series import fitted_series
from modelyard.formats.tasks import task_of

Array = NDArray[Any]

DEFAULT_COUNT: Final = 256


@dataclass(frozen=True)
class CalibrationSet:
    """The drawn examples, in the order of the draw. positions: in the manifest; inputs: pictures uint8 [N, H, W, C], series
    float32 [N, steps, channels]."""

    positions: NDArray[np.int64]
    example_ids: tuple[str, ...]
    digest: str
    inputs: Array
    seed: int = 0

    @property
    def text(self) -> bytes:
        """calibration.txt: the ids, one a line."""
        return ids_text(self.example_ids)

    @property
    def card(self) -> CalibrationCard:
        """What a bundle says of it."""
        return CalibrationCard(len(self.example_ids), self.seed, self.digest)


def ids_text(ids: Sequence[str]) -> bytes:
    """Ids, one a line, in the order of the draw: what the digest is taken over."""
    return "".join(f"{each}\n" for each in ids).encode()


def draw(reader: DatasetReader, picture: PictureInput, count: int = DEFAULT_COUNT, seed: int = 0) -> CalibrationSet:
    """Draws `count` training pictures (all, where there are fewer), of each class the same share of what it has
    (of examples without one class just so many).

    The same seed on the same dataset version draws the same examples. Raises FailedPrecondition CALIBRATION_ONE_CLASS when the
    training examples are of one class: what other classes make of the activations would not be seen.
    """
    rows = _rows(reader, count, seed)
    positions = reader.indices(TRAIN)[rows]
    return _set(reader, rows, reader.decode(positions, picture.height, picture.width, picture.channels), seed)


def draw_series(reader: DatasetReader, steps: int, count: int = DEFAULT_COUNT, seed: int = 0) -> CalibrationSet:
    """The same of training series, of that length."""
    rows = _rows(reader, count, seed)
    return _set(reader, rows, fitted_series(reader, TRAIN, rows, steps), seed)


def _rows(reader: DatasetReader, count: int, seed: int) -> NDArray[np.int64]:
    labels = np.zeros(len(reader.indices(TRAIN)), np.int64)
    if task_of(reader.descriptor.task).one_label:
        labels = reader.labels(TRAIN)
        _check_classes(reader, labels)
    return drawn_rows(labels, count, seed)


def _set(reader: DatasetReader, rows: NDArray[np.int64], inputs: Array, seed: int) -> CalibrationSet:
    every = reader.example_ids(TRAIN)
    ids = tuple(every[row] for row in rows)
    return CalibrationSet(reader.indices(TRAIN)[rows], ids, hashlib.sha256(ids_text(ids)).hexdigest(), inputs, seed)


def drawn_rows(labels: Array, count: int, seed: int) -> NDArray[np.int64]:
    """Which of the examples are drawn: of each class its share of `count`, at least one; at most all."""
    random = np.random.default_rng(seed)
    shares = [_share(np.flatnonzero(labels == each), count, len(labels), random) for each in np.unique(labels)]
    drawn = np.concatenate(shares)
    return random.permutation(drawn)


def _share(rows: NDArray[np.int64], count: int, total: int, random: np.random.Generator) -> NDArray[np.int64]:
    wanted = max(1, round(count * len(rows) / total))
    return random.permutation(rows)[: min(wanted, len(rows))]


def _check_classes(reader: DatasetReader, labels: Array) -> None:
    found = np.unique(labels)
    if len(found) < 2:
        named = reader.descriptor.classes[int(found[0])] if len(found) else "none"
        message = (
            f"the {len(labels)} training examples are all of one class ({named}); ranges for int8 are measured on examples of at "
            "least two classes"
        )
        raise FailedPrecondition("CALIBRATION_ONE_CLASS", message, examples=len(labels), label=named)
