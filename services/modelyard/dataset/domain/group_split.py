"""Splits that respect what belongs together: whole groups on one side, or the past before the future."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import FailedPrecondition
from modelyard.dataset.domain.near import merge_groups
from modelyard.dataset.domain.split import TEST, TRAIN, VALIDATION, Split

Ints = npt.NDArray[np.int64]
Labels = npt.NDArray[np.bool_]
_USAGES = ("train", "validation", "test")


def split_by_groups(
    strata: Ints | Labels, groups: Ints, near_groups: Ints, ratio: Decimal, *, seed: int, field: str, with_test: bool = True
) -> Split:
    """Whole groups to train, validation and test, near the ratio and with classes as evenly as groups allow.

    int64 [N] each. strata: the class (or bool [N, classes]: those that each shows); groups: what belongs together; near_groups:
    equal for near duplicates. Without `with_test` nothing becomes test.
    Groups that share a duplicate are one. The largest group is dealt first, each to where it brings the shares of all classes
    nearest to what is wanted (as StratifiedGroupKFold of scikit-learn does for folds). Two groups: no test, and a note.
    Raises FailedPrecondition TOO_FEW_GROUPS.
    """
    joined = joined_groups(groups, near_groups)
    units, of = np.unique(joined, return_inverse=True)
    if len(units) < 2:
        message = f"split.group_by is {field!r}: all examples belong together (some by duplicates), so nothing can be held out"
        raise FailedPrecondition("TOO_FEW_GROUPS", message, field="split.group_by", groups=len(np.unique(groups)))
    counts = _counts(strata, of, len(units))
    shares = _shares(ratio, with_test=len(units) > 2 and with_test)
    choice = _deal(counts, shares, np.random.Generator(np.random.PCG64(seed & (2**64 - 1))))
    found, merged = len(np.unique(groups)), len(np.unique(groups)) - len(units)
    sizes = ", ".join(f"{name} {int((choice == number).sum())}" for number, name in enumerate(_USAGES))
    notes = [f'{found} groups by "{field}" were each kept on one side ({sizes}), seed {seed}.']
    if merged:
        notes.append(f"{merged} groups share duplicates with another one and were dealt with it.")
    if len(units) == 2 and with_test:
        notes.append("There are only two groups: one is trained on, the other is validation, and nothing is left for a test.")
    return Split(choice[of].astype(np.int8), tuple(notes))


def split_by_time(times: npt.NDArray[np.float64], ratio: Decimal, *, field: str, with_test: bool = True) -> Split:
    """The earliest share to train on, then validation, the latest test; equal times stay together. times float64 [N], no NaN.

    Of two different times the later is validation, and there is no test; also without `with_test`. Raises FailedPrecondition
    TOO_FEW_TIMES.
    """
    moments, of = np.unique(times, return_inverse=True)
    if len(moments) < 2:
        message = f"split.time_by is {field!r}: all rows have the same time, so there is no later part to hold out"
        raise FailedPrecondition("TOO_FEW_TIMES", message, field="split.time_by")
    until = np.cumsum(np.bincount(of)) / len(times) - 1e-9  # share of the rows up to each moment
    with_test = with_test and len(moments) > 2
    last = len(moments) - (1 if with_test else 0)  # the test begins here at the latest
    first = min(max(int(np.searchsorted(until, float(ratio))), 1), last - 1)
    second = min(max(int(np.searchsorted(until, float(ratio + (1 - ratio) / 2))), first + 1), last) if with_test else last
    place = np.arange(len(moments))
    usage = np.where(place < first, TRAIN, np.where(place < second, VALIDATION, TEST))
    note = f'Split by "{field}": the earliest {ratio} to train on, the latest as {"test" if with_test else "validation"}.'
    return Split(usage[of].astype(np.int8), (note,))


def joined_groups(groups: Ints, near_groups: Ints) -> Ints:
    """Equal for what is in the same group or near duplicates, also by way of others, int64 [N]."""
    _, first, of = np.unique(groups, return_index=True, return_inverse=True)
    _, near_first, near_of, sizes = np.unique(near_groups, return_index=True, return_inverse=True, return_counts=True)
    several = np.flatnonzero(sizes[near_of] > 1)
    return merge_groups(first[of].astype(np.int64), near_first[near_of[several]], several)


def _counts(strata: Ints | Labels, of: Ints, units: int) -> npt.NDArray[np.float64]:
    """Examples of each class in each unit: float64 [units, classes]."""
    if strata.ndim == 2:
        counts = np.zeros((units, strata.shape[1]))
        np.add.at(counts, of, strata.astype(np.float64))
        return counts
    counts = np.zeros((units, int(strata.max()) + 1))
    np.add.at(counts, (of, strata.astype(np.int64)), 1)
    return counts


def _shares(ratio: Decimal, *, with_test: bool) -> npt.NDArray[np.float64]:
    rest = float(1 - ratio)
    return np.array([float(ratio), rest / 2, rest / 2] if with_test else [float(ratio), rest, 0.0])


def _deal(counts: npt.NDArray[np.float64], shares: npt.NDArray[np.float64], rng: np.random.Generator) -> Ints:
    """Usage of each unit. counts float64 [units, classes]. Each usage with a share gets at least one unit."""
    wanted = shares[:, None] * counts.sum(axis=0)
    scale = np.maximum(counts.sum(axis=0), 1.0)
    sizes = counts.sum(axis=1)
    order = rng.permutation(len(counts))
    order = order[np.argsort(-sizes[order], kind="stable")]
    choice, have = np.full(len(counts), TRAIN, np.int64), np.zeros_like(wanted)
    usable = np.flatnonzero(shares > 0)
    for place, unit in enumerate(order):
        empty = [usage for usage in usable if not have[usage].any()]
        allowed = np.array(empty) if len(order) - place <= len(empty) else usable
        costs = [(((have + (np.arange(3) == usage)[:, None] * counts[unit] - wanted) / scale) ** 2).sum() for usage in allowed]
        usage = int(allowed[int(np.argmin(costs))])
        choice[unit] = usage
        have[usage] += counts[unit]
    return choice
