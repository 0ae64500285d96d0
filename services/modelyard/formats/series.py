"""Series as a model takes them: of one length, float32, the same in training, evaluation and export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from modelyard.formats.dataset import DatasetReader

SERIES = "series"
"""Name of the input."""


def of_length(values: npt.NDArray[Any], steps: int) -> npt.NDArray[np.float32]:
    """A series [any, channels] with `steps` steps: the first of a longer one; of a shorter one the end is NaN (missing)."""
    out = np.full((steps, values.shape[1]), np.nan, np.float32)
    kept = min(steps, len(values))
    out[:kept] = values[:kept]
    return out


def usual_steps(reader: DatasetReader) -> int:
    """The median length of the training series, 9 at least: a model's length; others are cut or filled up."""
    from modelyard.formats.dataset import TRAIN

    lengths = [int(steps) for (steps,) in reader.annotations(TRAIN).columns(["steps"])]
    return max(9, int(np.median(lengths))) if lengths else 9


def fitted_series(reader: DatasetReader, usage: str, positions: npt.NDArray[np.int64], steps: int) -> npt.NDArray[np.float32]:
    """The series at positions of a usage: float32 [N, steps, channels], NaN where a value is missing."""
    annotated = reader.annotations(usage)
    channels = max(1, len(reader.descriptor.channels))
    found = [of_length(annotated.series(int(place)), steps) for place in positions]
    return np.stack(found) if found else np.empty((0, steps, channels), np.float32)
