"""Folds for cross-validation: examples shared out to k parts, several times, with classes spread evenly and groups whole.

Pure functions of their arguments: the same ones give the same folds on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.dataset.domain.stratify import deal_labels

Ints = npt.NDArray[np.int64]
Labels = npt.NDArray[np.bool_]

LEAST_FOLDS, MOST_FOLDS = 2, 20
MOST_REPEATS = 100
MOST_DRAWS = 200
"""Folds of all repeats together."""

NO_FOLD = -1
"""The fold of an example that takes no part."""

_NAMED = 20


@dataclass(frozen=True)
class FoldPlan:
    """What is wanted: k parts, drawn `repeats` times, from a seed."""

    k: int
    repeats: int = 1
    seed: int = 0


def check_plan(plan: FoldPlan) -> None:
    """Raises InvalidArgument BAD_FOLDS, naming the field."""
    for field, value, least, most in (
        ("folds.k", plan.k, LEAST_FOLDS, MOST_FOLDS),
        ("folds.repeats", plan.repeats, 1, MOST_REPEATS),
        ("folds.seed", plan.seed, -(2**53), 2**53),
    ):
        if not least <= value <= most:
            raise InvalidArgument("BAD_FOLDS", f"{field} is {value}; it is {least} to {most}", field=field, value=value)
    if plan.k * plan.repeats > MOST_DRAWS:
        message = f"folds.k times folds.repeats is {plan.k * plan.repeats}; at most {MOST_DRAWS} trainings are planned at once"
        raise InvalidArgument("BAD_FOLDS", message, field="folds.repeats", value=plan.repeats)


def draw_folds(strata: Ints | Labels, groups: Ints, plan: FoldPlan) -> npt.NDArray[np.int16]:
    """The fold of each example in each repeat: int16 [repeats, N], 0 to k-1.

    strata: the class (or bin of the target) of each example, int64 [N]; or the classes that it shows, bool [N, classes]. groups
    int64
    [N]: equal for what stays together. Whole groups are dealt first, the largest first, each to the fold that lacks its classes
    most; single examples then fill every class up to within one of an equal share. Several classes an example: iterative
    stratification (see stratify). Raises FailedPrecondition TOO_FEW_EXAMPLES, TOO_FEW_GROUPS.
    """
    check_plan(plan)
    if len(groups) < plan.k:
        message = f"folds.k is {plan.k}, but there are {len(groups)} examples to share out; take fewer folds"
        raise FailedPrecondition("TOO_FEW_EXAMPLES", message, field="folds.k", examples=len(groups))
    _, unit_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < plan.k:
        message = f"folds.k is {plan.k}, but the examples make {len(sizes)} groups that stay whole; take fewer folds"
        raise FailedPrecondition("TOO_FEW_GROUPS", message, field="folds.k", groups=len(sizes))
    out = np.empty((plan.repeats, len(groups)), np.int16)
    for repeat in range(plan.repeats):
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([plan.seed & (2**64 - 1), repeat])))
        if strata.ndim == 2:
            out[repeat] = deal_labels(strata.astype(np.bool_), unit_of, [1 / plan.k] * plan.k, rng)
        else:
            out[repeat] = _deal(strata.astype(np.int64), unit_of, sizes, plan.k, rng)
    return out


def fold_notes(counts: Ints, names: tuple[str, ...], k: int) -> list[str]:
    """Sentences on classes with fewer examples than folds: some folds cannot measure them. counts int64 [classes]."""
    few = [f'"{name}" ({count})' for name, count in zip(names, counts.tolist(), strict=False) if 0 < count < k]
    if not few:
        return []
    more = f" and {len(few) - _NAMED} more" if len(few) > _NAMED else ""
    return [f"Classes with fewer examples than the {k} folds are missing from some of them: {', '.join(few[:_NAMED])}{more}."]


def _deal(strata: Ints, unit_of: Ints, sizes: Ints, k: int, rng: np.random.Generator) -> Ints:
    """Fold of each example. Each fold gets at least one unit."""
    _, strata = np.unique(strata, return_inverse=True)
    classes = int(strata.max()) + 1
    have = np.zeros((k, classes), np.int64)
    fold = np.full(len(sizes), NO_FOLD, np.int64)
    _deal_groups(strata, unit_of, sizes, fold, have, rng)
    alone = np.flatnonzero(fold[unit_of] == NO_FOLD)
    shuffled = alone[rng.permutation(len(alone))]
    by_stratum = shuffled[np.argsort(strata[shuffled], kind="stable")]
    starts = np.searchsorted(strata[by_stratum], np.arange(classes + 1))
    rarest = np.argsort(np.diff(starts), kind="stable")
    for stratum in rarest.tolist():
        members = by_stratum[starts[stratum] : starts[stratum + 1]]
        if len(members):
            share = _level(have[:, stratum], have.sum(axis=1), len(members), rng)
            fold[unit_of[members]] = np.repeat(np.arange(k), share)
            have[:, stratum] += share
    return fold[unit_of]


def _deal_groups(strata: Ints, unit_of: Ints, sizes: Ints, fold: Ints, have: Ints, rng: np.random.Generator) -> None:
    """Deals the units of several examples in place, the largest first, to where they bring all classes nearest to equal
    shares."""
    large = np.flatnonzero(sizes > 1)
    if not len(large):
        return
    k, classes = have.shape
    place = np.full(len(sizes), -1, np.int64)
    place[large] = np.arange(len(large))
    grouped = np.flatnonzero(place[unit_of] >= 0)
    total = np.bincount(strata, minlength=classes)
    wanted, scale = total / k, np.maximum(total, 1)
    order = rng.permutation(len(large))
    order = order[np.argsort(-sizes[large][order], kind="stable")]
    by_unit = grouped[np.argsort(place[unit_of[grouped]], kind="stable")]
    starts = np.searchsorted(place[unit_of[by_unit]], np.arange(len(large) + 1))
    only_groups = len(large) == len(sizes)
    for number, unit in enumerate(order.tolist()):
        shown, counts = np.unique(strata[by_unit[starts[unit] : starts[unit + 1]]], return_counts=True)
        before = (have[:, shown] - wanted[shown]) / scale[shown]
        cost = ((before + counts / scale[shown]) ** 2 - before**2).sum(axis=1)
        empty = have.sum(axis=1) == 0
        if only_groups and len(order) - number <= int(empty.sum()):
            cost = np.where(empty, cost, np.inf)
        best = np.flatnonzero(cost <= cost.min() + 1e-12)
        chosen = int(best[np.argmin(have[best].sum(axis=1))])
        fold[large[unit]] = chosen
        have[chosen, shown] += counts


def _level(have: Ints, sizes: Ints, count: int, rng: np.random.Generator) -> Ints:
    """How many of `count` examples of a class each fold gets, so that what all have of it comes as near to equal as can be.

    What is left over goes to the smallest folds, and among equal ones to those that chance names. int64 [k].
    """
    k = len(have)
    chance = rng.permutation(k)
    level = have.copy()
    order = np.argsort(have, kind="stable")
    filled = 0
    for step in range(k):  # raise the lowest folds to the next one's level, as far as it goes
        low = order[: step + 1]
        top = have[order[step + 1]] if step + 1 < k else np.iinfo(np.int64).max
        room = (int(top) - int(level[low[0]])) * len(low) if step + 1 < k else count
        if filled + room >= count:
            each, rest = divmod(count - filled, len(low))
            level[low] += each
            first = low[np.lexsort((chance[low], sizes[low] + level[low]))]
            level[first[:rest]] += 1
            break
        level[low] = top
        filled += room
    return level - have
