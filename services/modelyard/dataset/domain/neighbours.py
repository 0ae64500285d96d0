"""Who lies near whom among examples as vectors: what has no neighbours is an outlier, what lies far closer than neighbours do
is a near duplicate. Numpy only.

Vectors are first turned to their principal axes and shortened. Distances are computed in blocks, so memory does not grow with the
square of the number of examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain.work import Work

NEIGHBOURS = 10
"""How many neighbours are looked for."""

MOST_REFERENCES = 20_000
"""With more examples than COMPARED_WITH_ALL, neighbours are looked for among so many of them, drawn at random."""

COMPARED_WITH_ALL = 60_000

FAR_SHARE, FAR_MOST = 0.06, 100
APART, TIGHT, TOGETHER = 1.5, 4.0, 5
"""A group apart: so many robust deviations farther than usual from the others, and so many more so beside the distance within the
group, as are TOGETHER or more of the NEIGHBOURS of each. Chosen where none of seven sets of photographs, garments, digits and
cells has such a group (docs/quality.md)."""

CLOSE = 0.43
"""Two pictures show the same when they lie closer than this share of what is usual around them."""

_AXES = 64
_BLOCK = 512
_TIES = 8

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """The nearest of each example: distances float32 [N, K] and who they are int64 [N, K], nearest first; K at most NEIGHBOURS.

    `far` float32 [N]: the distance of the one as many ranks away as a strange group may be large (FAR_SHARE of those looked
    among, 10 to FAR_MOST). `complete`: whether they were looked for among all examples."""

    distances: Floats
    ids: Ints
    complete: bool
    far: Floats


def principal_axes(sample: Floats, most: int = _AXES) -> tuple[Floats, Floats]:
    """Mean [D] and axes [D, A] of vectors float32 [n, D], those of most variance first; A is `most` or less."""
    mean = sample.mean(axis=0)
    centred = (sample - mean).astype(np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(sample))
    order = np.argsort(-values)[: min(most, len(sample) - 1)]
    kept = order[values[order] > 1e-9 * max(values.max(), 1e-12)]
    return mean, vectors[:, kept].astype(np.float32)


def nearest(vectors: Floats, groups: Ints, work: Work, span: tuple[float, float]) -> Neighbours:
    """Neighbours of each of float32 [N, A]; members of the same group (duplicates, int64 [N]) are not each other's neighbours.

    Raises Cancelled.
    """
    count = len(vectors)
    complete = count <= COMPARED_WITH_ALL
    among = np.arange(count) if complete else np.sort(np.random.default_rng(0).choice(count, MOST_REFERENCES, replace=False))
    others, of = vectors[among], groups[among]
    by_group = np.argsort(of, kind="stable")
    first, past = (np.searchsorted(of[by_group], groups, side=side) for side in ("left", "right"))
    # One product gives squared distances less the block's own: (x, 1) . (-2 y, |y|^2).
    turned = np.concatenate([-2 * others, np.square(others).sum(axis=1)[:, None]], axis=1).T
    k = min(NEIGHBOURS, len(among) - 1)
    rank = min(max(NEIGHBOURS, int(FAR_SHARE * len(among))), FAR_MOST, len(among) - 1)
    far = np.zeros(count, np.float32)
    distances = np.full((count, k), np.inf, np.float32)
    ids = np.full((count, k), -1, np.int64)
    for start in range(0, count, _BLOCK):
        if start % (16 * _BLOCK) == 0:
            work.stage("find neighbours", start, count, "examples", *span)
        if k < 1:
            continue
        block = vectors[start : start + _BLOCK]
        squared = np.concatenate([block, np.ones((len(block), 1), np.float32)], axis=1) @ turned
        for row in range(len(block)):
            squared[row, by_group[first[start + row] : past[start + row]]] = np.inf
        own = np.square(block).sum(axis=1)
        # Values alone are parted several times faster than places; who is no farther than the last is found by comparing.
        nearer = np.partition(squared, rank - 1, axis=1)[:, :rank]
        far[start : start + _BLOCK] = np.sqrt(np.maximum(nearer[:, -1] + own, 0))
        found, best = _least(squared, np.partition(nearer, k - 1, axis=1)[:, k - 1], k)
        distances[start : start + _BLOCK] = np.sqrt(np.maximum(found + own[:, None], 0))
        ids[start : start + _BLOCK] = among[best]
    return Neighbours(distances, ids, complete, far)


def _least(values: Floats, limits: Floats, k: int) -> tuple[Floats, Ints]:
    """The k least of each row of float32 [n, N] and their places, least first; `limits` [n]: the k-th least of each."""
    near = values <= limits[:, None]
    if np.count_nonzero(near) > _TIES * k * len(values):  # copies without end: comparing finds all of them
        best = np.argpartition(values, k - 1, axis=1)[:, :k]
        held = np.take_along_axis(values, best, axis=1)
        order = np.argsort(held, axis=1, kind="stable")
        return np.take_along_axis(held, order, axis=1), np.take_along_axis(best, order, axis=1)
    rows, places = np.divmod(np.flatnonzero(near), values.shape[1])
    held = values[rows, places]
    order = np.lexsort((held, rows))  # places of equal values stay in order
    places, held = places[order], held[order]
    starts = np.searchsorted(rows, np.arange(len(values)))
    chosen = starts[:, None] + np.arange(k)
    return held[chosen], places[chosen]


def far_out(neighbours: Neighbours) -> tuple[npt.NDArray[np.float64], float]:
    """How far each example lies from its neighbours, in robust standard deviations of the logarithm of that distance above the
    median: float64 [N]; and the share of the median that one such deviation is. 0 where distances are not spread."""
    mean = neighbours.distances.mean(axis=1, dtype=np.float64)
    logs = np.log(np.maximum(np.where(np.isfinite(mean), mean, 0), 1e-9))
    median = float(np.median(logs))
    spread = 1.4826 * float(np.median(np.abs(logs - median)))
    return (logs - median) / spread if spread > 0 else np.zeros(len(logs)), spread


def apart(neighbours: Neighbours) -> npt.NDArray[np.bool_]:
    """Who belongs to a small group that lies apart from everything else: bool [N].

    Its members are each other's neighbours, so the distance to these says nothing; that to as many others as such a group may be
    large does, most beside the distance within the group.
    """
    within = neighbours.distances[:, :TOGETHER].mean(axis=1, dtype=np.float64)
    usable = np.isfinite(within) & np.isfinite(neighbours.far) & (within > 0)
    if usable.sum() <= 2 * NEIGHBOURS:
        return np.zeros(len(within), np.bool_)
    away, more = np.zeros(len(within)), np.zeros(len(within))
    away[usable] = _deviations(np.log(neighbours.far[usable].astype(np.float64)))
    more[usable] = _deviations(np.log(neighbours.far[usable] / within[usable]))
    strange = (away > APART) & (more > TIGHT)
    beside = np.where(neighbours.ids >= 0, strange[np.maximum(neighbours.ids, 0)], False).sum(axis=1)
    return np.asarray(strange & (beside >= TOGETHER), dtype=np.bool_)


def _deviations(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Robust standard deviations above the median."""
    median = np.median(values)
    spread = 1.4826 * float(np.median(np.abs(values - median)))
    return (values - median) / spread if spread > 0 else np.zeros(len(values))


def close_pairs(neighbours: Neighbours, ratio: float) -> tuple[Ints, Ints]:
    """Pairs (i < j) that are nearest to each other and closer than `ratio` times what is usual around both: the distance of the
    last of their neighbours (as Lowe 2004 tells matches from chance by the next best). int64 [P] each."""
    count = len(neighbours.distances)
    usual = neighbours.distances[:, -1]
    first, second = [], []
    for rank in range(min(3, neighbours.distances.shape[1] - 1)):
        other, distance = neighbours.ids[:, rank], neighbours.distances[:, rank]
        here = np.flatnonzero((other >= 0) & np.isfinite(distance))
        there = other[here]
        close = distance[here] < ratio * np.minimum(usual[here], usual[there])
        first.append(np.minimum(here, there)[close])
        second.append(np.maximum(here, there)[close])
    keys = np.unique(np.concatenate(first) * count + np.concatenate(second)) if first else np.empty(0, np.int64)
    return keys // max(count, 1), keys % max(count, 1)
