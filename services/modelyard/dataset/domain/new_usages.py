"""Usages of the examples that join a version: those it has already stay where they are."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain import split as splitting

Ints = npt.NDArray[np.int64]


def place_new(
    strata: Ints | npt.NDArray[np.bool_], groups: Ints, usages: Ints, ratio: Decimal, *, seed: int, with_test: bool = True
) -> splitting.Split:
    """Usages of all examples: strata (see split.split), groups and usages int64 [N], usage -1 for the new ones. `with_test`
    False: new ones never go to the test (it is frozen).

    A new example goes where a duplicate of it is (to the test if one is there). The others are shared out by the ratio between
    train and validation: a test that stays the same is what versions of a model are compared on, and examples chosen because a
    model is unsure of them are no fair test. Only where there is no test yet they are shared out to it too.
    """
    usage = usages.copy()
    new = np.flatnonzero(usages == splitting.NONE)
    known = np.flatnonzero(usages != splitting.NONE)
    strictest = {int(group): -1 for group in groups[new]}
    for place in known:
        group = int(groups[place])
        if group in strictest:
            strictest[group] = max(strictest[group], int(usages[place]))
    beside = np.asarray([strictest[int(group)] for group in groups[new]], np.int64)
    usage[new] = beside
    free = new[beside < 0]
    if len(free):
        has_test = bool((usages == splitting.TEST).any()) or not with_test
        given = np.full(len(free), splitting.NONE)
        usage[free] = splitting.split(strata[free], groups[free], given, ratio, seed=seed, with_test=not has_test).usage
    notes = [f"{len(new)} new examples joined; those of the base version kept their usages."] if len(new) else []
    if len(new) and (usages == splitting.TEST).any():
        notes.append("The test set stayed as it was: new examples went to train and validation.")
    if len(new) > len(free):
        notes.append(f"{len(new) - len(free)} new examples went where a duplicate of them was.")
    return splitting.Split(usage.astype(np.int8), tuple(notes))
