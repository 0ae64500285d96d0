"""Which object of one person is which of another's: overlap of boxes and pixels, and the best assignment of the one to the
other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def box_overlaps(one: Floats, other: Floats) -> Floats:
    """Intersection over union of boxes [N, 4] and [M, 4] (left, top, right, bottom): [N, M], 0 to 1; 0 for boxes without area."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0), dtype=np.float64)


def mask_overlap(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Intersection over union of two masks of one size; two empty ones are the same: 1."""
    union = int(np.count_nonzero(one | other))
    return int(np.count_nonzero(one & other)) / union if union else 1.0


def assign(gain: Floats) -> tuple[Ints, Ints]:
    """Rows and columns of [N, M] paired so that the sum of their gains is largest; min(N, M) pairs, rows rising.

    The Hungarian method (Kuhn 1955) by shortest augmenting paths with potentials (Jonker and Volgenant 1987).
    """
    if not gain.size:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    if gain.shape[0] > gain.shape[1]:
        columns, rows = assign(gain.T)
        order = np.argsort(rows, kind="stable")
        return rows[order], columns[order]
    cost = float(gain.max()) - gain
    count, width = cost.shape
    of_row, of_column = np.zeros(count + 1), np.zeros(width + 1)
    row_of = np.zeros(width + 1, np.int64)  # row (from 1) that a column (from 1) has; column 0 is the start of each path
    for row in range(1, count + 1):
        row_of[0] = row
        least = np.full(width + 1, np.inf)
        came_from, done = np.zeros(width + 1, np.int64), np.zeros(width + 1, np.bool_)
        column = 0
        while row_of[column]:
            done[column] = True
            at = row_of[column]
            slack = cost[at - 1] - of_row[at] - of_column[1:]
            better = ~done[1:] & (slack < least[1:])
            least[1:][better] = slack[better]
            came_from[1:][better] = column
            nearest = int(np.argmin(np.where(done[1:], np.inf, least[1:]))) + 1
            step = least[nearest]
            of_row[row_of[done]] += step
            of_column[done] -= step
            least[~done] -= step
            column = nearest
        while column:
            before = int(came_from[column])
            row_of[column] = row_of[before]
            column = before
    columns = np.flatnonzero(row_of[1:])
    rows = row_of[1:][columns] - 1
    order = np.argsort(rows)
    return rows[order], columns[order].astype(np.int64)


def matched(overlaps: Floats, least: float) -> list[tuple[int, int]]:
    """The best assignment, without pairs that overlap less than `least`."""
    rows, columns = assign(overlaps)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if overlaps[row, column] >= least]
