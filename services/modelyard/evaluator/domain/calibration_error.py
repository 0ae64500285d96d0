"""Whether "90 percent sure" is right nine times in ten.

The expected calibration error over bins of equal mass (adaptive bins: Nguyen and O'Connor 2015; Nixon et al. 2019): examples are
sorted by how sure the model is of its answer and cut into at most 15 bins of about as many examples each; the error is the mean,
weighted by examples, of |share of right answers - mean sureness| over the bins. 0 is perfect, 1 the most.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelyard.evaluator.domain.scores import Metric
from modelyard.statistics import intervals
from modelyard.statistics.intervals import Floats, Ints

BINS: Final = 15
EXAMPLES_A_BIN: Final = 15
"""Fewer in a bin and the error shows chance, not the model."""


def calibration_error(sureness: Floats, right: NDArray[np.bool_]) -> Metric:
    """The error of answers with probability `sureness` [N] (0 to 1) that are right or not [N]; N of 1 or more.

    On a finite sample the error comes out too large, and in a resample of it larger still: the interval is the bootstrap's
    percentiles less twice that excess, so that it lies about where the true error may be.
    """
    gaps = _gaps(sureness, right)
    value = float(np.abs(gaps.mean(axis=0)).sum())
    samples = np.abs(intervals.bootstrap_means(gaps)).sum(axis=1)
    lower, upper = intervals.percentiles(np.maximum(samples - 2 * (samples.mean() - value), 0.0), value)
    return Metric("calibration_error", value, lower, min(upper, 1.0))


def _gaps(sureness: Floats, right: NDArray[np.bool_]) -> Floats:
    """Right (1 or 0) less sureness of each example, in the column of its bin: [N, bins]."""
    bins = equal_mass_bins(sureness)
    out = np.zeros((len(sureness), int(bins.max()) + 1))
    out[np.arange(len(sureness)), bins] = right - sureness
    return out


def equal_mass_bins(sureness: Floats) -> Ints:
    """Number of each example's bin [N]: as many examples in each as can be; equals are never parted."""
    count = len(sureness)
    bins = int(np.clip(count // EXAMPLES_A_BIN, 1, BINS))
    below = np.searchsorted(np.sort(sureness), sureness, "left")
    return np.asarray(below * bins // count, dtype=np.int64)
