"""Iterative stratification: shares examples of several classes each out so that every class is spread as was asked.

After K. Sechidis, G. Tsoumakas and I. Vlahavas, "On the Stratification of Multi-Label Data" (ECML PKDD 2011): the class with the
fewest examples left is dealt first, because a later choice can no longer mend it; each of its examples goes to the part that
still lacks most of that class. Examples that show none fill up the sizes at last. Here what is dealt are groups of examples that
stay together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Labels = npt.NDArray[np.bool_]


def deal_labels(labels: Labels, unit_of: Ints, shares: Sequence[float], rng: np.random.Generator) -> Ints:
    """The part of each example: int64 [N], 0 to len(shares) - 1.

    labels bool [N, classes]; unit_of int64 [N]: 0 to units - 1, equal for what stays together; shares: of the examples, adding up
    to 1; a part with share 0 gets none. Every other part gets at least one unit where there are enough.
    """
    units = int(unit_of.max()) + 1 if len(unit_of) else 0
    counts = np.zeros((units, labels.shape[1]), np.int64)
    np.add.at(counts, unit_of, labels)
    sizes = np.bincount(unit_of, minlength=units).astype(np.int64)
    return _deal_units(counts, sizes, np.asarray(shares, np.float64), rng)[unit_of]


def _deal_units(counts: Ints, sizes: Ints, shares: npt.NDArray[np.float64], rng: np.random.Generator) -> Ints:
    """counts int64 [units, classes]: examples of each class in each unit."""
    usable = np.flatnonzero(shares > 0)
    lacking = shares[usable, None] * counts.sum(axis=0)  # examples of each class that each part still lacks
    room = shares[usable] * sizes.sum()
    part = np.full(len(sizes), -1, np.int64)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    members = [order[counts[order, label] > 0] for label in range(counts.shape[1])]
    left = np.array([len(each) for each in members], np.int64)
    empty = set(range(len(usable)))
    open_units = len(sizes)

    def deal(unit: int, wanting: npt.NDArray[np.float64]) -> None:
        """Gives a unit to the part that wants it most, of those the one with most room, of those one by chance."""
        nonlocal open_units
        if open_units <= len(empty):
            wanting = np.where(np.isin(np.arange(len(usable)), list(empty)), wanting, -np.inf)
        best = np.flatnonzero(wanting >= wanting.max() - 1e-9)
        if len(best) > 1:
            best = best[room[best] >= room[best].max() - 1e-9]
        chosen = int(best[0]) if len(best) == 1 else int(rng.choice(best))
        part[unit] = usable[chosen]
        empty.discard(chosen)
        open_units -= 1
        lacking[chosen] -= counts[unit]
        room[chosen] -= sizes[unit]
        left[counts[unit] > 0] -= 1

    while (left > 0).any():
        label = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
        for unit in members[label].tolist():
            if part[unit] < 0:
                deal(unit, lacking[:, label])
    for unit in order.tolist():
        if part[unit] < 0:
            deal(unit, room)
    return part
