"""Recordings of sensors as a detector of anomalies sees them: windows that end at a reading, and what the machine did before.

A window is the latest readings, which are judged. A reference is readings of the same machine from before, against whose level
and spread the window is held: machines differ from each other, and from themselves a month ago, by more than what is the matter
with one. A recording's reference begins twice its own length before the window's end, or at the beginning of the recording: what
has been otherwise for longer than that is the new normal. What comes first in a recording, as long as a reference, is taken as
normal and is not judged. The same rule holds in training, evaluation and `modelyard predict`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import InvalidArgument
from modelyard.formats.series import SERIES as SERIES

if TYPE_CHECKING:
    from modelyard.formats.dataset import DatasetReader

REFERENCE: Final = "reference"
SCORE: Final = "score"
ALARM: Final = 1.0
"""A reading is called anomalous from this score on: models divide by their threshold."""
CHANGEPOINT: Final = "changepoint"
"""A label of moments, not of states: it counts only where there is no other."""
LARGEST_WINDOW: Final = 64
LARGEST_REFERENCE: Final = 512
LEAST_WINDOW: Final = 8

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Inputs = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Watch:
    """How a recording is looked at, in readings: the window (8 or more), and the reference (0: none; else the window or more)."""

    window: int
    reference: int = 0

    @property
    def stride(self) -> int:
        """Readings from one window's end to the next's."""
        return max(1, self.window // 8)

    @property
    def first(self) -> int:
        """The first reading that is judged."""
        return self.reference

    def ends(self, steps: int) -> Ints:
        """One past the last reading of each window of a recording, the recording's end among them; none where it is too short."""
        least = self.reference + self.stride if self.reference else self.window
        if steps < self.window or steps <= self.reference:
            return np.empty(0, np.int64)
        found = np.arange(least, steps + 1, self.stride, dtype=np.int64)
        return found if len(found) and found[-1] == steps else np.append(found, steps)

    def judged(self, steps: int) -> int:
        """Readings that windows say something of."""
        return steps - self.first if len(self.ends(steps)) else 0

    def by_reading(self, scores: npt.NDArray[Any], steps: int) -> Floats:
        """Scores of windows [M] as scores of the readings from `first` on, float64 [judged]: each has that of the first window
        that ends at it or after it."""
        ends = self.ends(steps)
        spans = np.diff(np.concatenate([[self.first], ends])) if len(ends) else np.empty(0, np.int64)
        return np.repeat(np.asarray(scores, np.float64), spans)

    def inputs(self, values: npt.NDArray[Any], ends: Ints) -> Inputs:
        """The windows of a recording [steps, channels] with those ends, as a model takes them: float32 [M, ...], NaN missing."""
        known = np.asarray(values, np.float32)
        made = {SERIES: _cut(known, ends - self.window, self.window)}
        if self.reference:
            made[REFERENCE] = _cut(known, np.maximum(0, ends - 2 * self.reference), self.reference)
        return made


def _cut(values: npt.NDArray[np.float32], starts: Ints, length: int) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(values[starts[:, None] + np.arange(length)])


def watch_of(shapes: dict[str, tuple[int, ...]]) -> Watch:
    """How the model with inputs of these shapes looks at recordings. Raises InvalidArgument NOT_A_DETECTOR."""
    if SERIES not in shapes or len(shapes[SERIES]) != 3:
        message = f"the model takes {', '.join(shapes) or 'nothing'}; a detector of anomalies takes {SERIES} [N, steps, channels]"
        raise InvalidArgument("NOT_A_DETECTOR", message, inputs=", ".join(shapes))
    reference = shapes.get(REFERENCE, (0, 0))
    return Watch(shapes[SERIES][1], reference[1])


def usual_watch(lengths: npt.NDArray[np.int64], *, referenced: bool) -> Watch | None:
    """The watch for recordings of those lengths: the reference a third of the median one (at most 512 readings), the window a
    fifth of that, or an eighth of the median recording, 8 to 64 and a power of two. None where they are too short for it."""
    median = int(np.median(lengths)) if len(lengths) else 0
    reference = min(LARGEST_REFERENCE, median // 3) if referenced else 0
    room = reference // 5 if referenced else median // 8
    if median < 2 * LEAST_WINDOW or room < LEAST_WINDOW // 2:
        return None if referenced or median < LEAST_WINDOW else Watch(LEAST_WINDOW)
    window = 2 ** int(np.log2(max(LEAST_WINDOW, min(LARGEST_WINDOW, room))))
    return Watch(window, max(reference, window) if referenced else 0)


@dataclass(frozen=True)
class Recording:
    """A recording: values float64 [steps, channels], which readings are anomalous [steps], and its example's id."""

    example_id: str
    values: Floats
    anomalous: Bools

    @property
    def steps(self) -> int:
        """Its readings."""
        return len(self.values)


def recordings(reader: DatasetReader, usage: str, positions: Ints | None = None) -> Iterator[Recording]:
    """The recordings of a usage in its own order, or those at positions."""
    annotated, ids = reader.annotations(usage), reader.example_ids(usage)
    wanted = range(len(ids)) if positions is None else positions.tolist()
    for position in wanted:
        yield Recording(ids[position], annotated.series(position), anomalous(reader, usage, position))


def anomalous(reader: DatasetReader, usage: str, position: int) -> Bools:
    """Which readings of a recording have any label but `changepoint` (of moments), or that where there is no other."""
    annotated, classes = reader.annotations(usage), reader.descriptor.classes
    counted = [place for place, name in enumerate(classes) if name.lower() != CHANGEPOINT] or list(range(len(classes)))
    values = annotated.series(position)
    out = np.zeros(len(values), np.bool_)
    for place in counted:
        out |= annotated.step_labels(position, place)
    return out
