"""Sharing examples out between train, validation and test: stratified, seeded, duplicates together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.core.words import several
from modelyard.dataset.domain.stratify import deal_labels

TRAIN, VALIDATION, TEST = 0, 1, 2
NONE = -1
"""No usage given."""

AUTO, RATIO, GIVEN = "auto", "ratio", "given"
FEW = 20
"""Fewer examples than these, drawn for validation, are said to be few."""

_RATIO = re.compile(r"0?\.[0-9]{1,5}", re.ASCII)
_STRATA = 10

Ints = npt.NDArray[np.int64]
Labels = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """Usage of each example (0 train, 1 validation, 2 test), int8 [N], and what was decided, in sentences."""

    usage: npt.NDArray[np.int8]
    notes: tuple[str, ...]


def parse_ratio(text: str) -> Decimal:
    """The share to train on, from decimal text with one to five decimals, above 0 and below 1; "" is 0.8.

    Raises InvalidArgument BAD_TRAIN_RATIO naming split.train_ratio.
    """
    if not text:
        return Decimal("0.8")
    if _RATIO.fullmatch(text) and (ratio := Decimal(text)) > 0:
        return ratio
    shown = text[:40]
    message = f'split.train_ratio is {shown!r}; it is decimal text above 0 and below 1 with one to five decimals, such as "0.8"'
    raise InvalidArgument("BAD_TRAIN_RATIO", message, field="split.train_ratio", value=shown)


def strata_of(targets: npt.NDArray[np.float64]) -> Ints:
    """Strata for numbers: ten bins of equal counts by rank (fewer for few examples), int64 [N]."""
    bins = max(1, min(_STRATA, len(targets) // 10))
    ranks = np.argsort(np.argsort(targets, kind="stable"), kind="stable")
    return ranks.astype(np.int64) * bins // max(len(targets), 1)


def split(
    strata: Ints | Labels, groups: Ints, given: Ints, ratio: Decimal, *, seed: int, source: str = AUTO, with_test: bool = True
) -> Split:
    """Shares examples out.

    strata: the class (or bin of the target) of each, int64 [N]; or the classes that each shows, bool [N, classes], which are then
    spread by iterative stratification (see stratify). groups int64 [N]: equal for duplicates, which stay together. `with_test`:
    whether any of them may become test; a dataset whose test set is frozen has one already.
    given int64 [N]: the usage that came with the data, NONE where none. In each stratum the number to train on is the ratio of
    its examples to within one (or one group of duplicates); a stratum of one stays in train. Same arguments, same split.
    Raises FailedPrecondition NO_GIVEN_USAGE or NO_TRAIN_EXAMPLES.
    """
    usable = _given(given, source)
    rng = np.random.Generator(np.random.PCG64(seed & (2**64 - 1)))
    usage = usable.copy()
    notes: list[str] = []
    if np.all(usable == NONE):
        _share(usage, np.arange(len(strata)), strata, groups, _Shares(ratio, with_test=with_test), rng)
        rest = "half validation, half test" if with_test else "validation"
        notes.append(f"Split by the ratio {ratio}: the rest is {rest}; stratified, seed {seed}.")
    else:
        notes += _complete(usage, strata, groups, ratio, rng, with_test)
    drawn = int(((usage == VALIDATION) & (usable != VALIDATION)).sum())
    if notes and 0 < drawn == (usage == VALIDATION).sum() < FEW:
        few = f"Only {several(drawn, 'example validates', 'examples validate')}, which says little, and training goes without: "
        notes.append(f"{few}cross-validation (modelyard train --folds 5) learns from all and judges by all.")
    return Split(usage.astype(np.int8), (*notes, *_group_notes(usage, groups, usable)))


def _given(given: Ints, source: str) -> Ints:
    if source == RATIO:
        return np.full_like(given, NONE)
    present = given != NONE
    if source == GIVEN and not present.all():
        missing = int((~present).sum())
        message = f"split.source is GIVEN, but {missing} of {len(given)} examples came without a usage (train, validation, test)"
        raise FailedPrecondition("NO_GIVEN_USAGE", message, field="split.source", without_usage=missing, examples=len(given))
    if present.any() and not (given == TRAIN).any() and present.all():
        raise FailedPrecondition("NO_TRAIN_EXAMPLES", "the data bring usages, but no example of usage train", examples=len(given))
    return given


def _complete(
    usage: Ints, strata: Ints | Labels, groups: Ints, ratio: Decimal, rng: np.random.Generator, with_test: bool
) -> list[str]:
    """Fills in what the given usages leave open: examples without one, then a missing validation, then a missing test."""
    has_validation, has_test = bool((usage == VALIDATION).any()), bool((usage == TEST).any()) or not with_test
    open_ = np.flatnonzero(usage == NONE)
    if not has_validation and not has_test:
        _share(usage, np.arange(len(usage)), strata, groups, _Shares(ratio, with_test=True), rng)
        return [f"The data bring no validation or test: split by the ratio {ratio}, the rest half validation, half test."]
    notes = ["Usages that came with the data were kept."]
    if len(open_):
        usage[open_] = TRAIN
        notes.append(f"{several(len(open_), 'example')} without a usage, shared out by the ratio {ratio}.")
    if len(open_) and has_validation:
        _share(usage, open_, strata, groups, _Shares(ratio, with_test=has_test and with_test), rng)
    if not has_validation:
        _share(usage, np.flatnonzero(usage == TRAIN), strata, groups, _Shares(ratio, with_test=False), rng)
        notes.append(f"The data bring no validation: it was drawn from train, of which the share {ratio} stays.")
    if not has_test:
        _halve_validation(usage, strata, groups, rng)
        notes.append("The data bring no test: half of validation became test.")
    return notes


def _halve_validation(usage: Ints, strata: Ints | Labels, groups: Ints, rng: np.random.Generator) -> None:
    pool = np.flatnonzero(usage == VALIDATION)
    half = usage.copy()
    _share(half, pool, strata, groups, _Shares(Decimal("0.5"), with_test=False), rng)
    usage[pool] = np.where(half[pool] == TRAIN, VALIDATION, TEST)


@dataclass(frozen=True)
class _Shares:
    ratio: Decimal
    with_test: bool

    @property
    def parts(self) -> tuple[float, float, float]:
        """Of train, validation and test."""
        rest = float(1 - self.ratio)
        return (float(self.ratio), rest / 2, rest / 2) if self.with_test else (float(self.ratio), rest, 0.0)

    def counts(self, n: int, carry: Decimal, turn: int, alone: bool) -> tuple[int, int, int, Decimal]:
        """Examples for train, validation and test of a stratum of n, and the rounding to carry on to the next stratum.

        `turn` alternates what the odd held-out example becomes; a stratum that is `alone` holds out for both where it can.
        """
        if n < 2:
            return n, 0, 0, carry
        exact = n * (1 - self.ratio)
        least = 2 if alone and self.with_test and n > 2 else 1
        low, high = max(least, int(exact)), max(least, min(n - 1, int(exact.to_integral_value(ROUND_CEILING))))
        held = min(max(int((exact + carry).to_integral_value()), low), high)
        test = (held + (turn + 1) % 2) // 2 if self.with_test else 0
        return n - held, held - test, test, carry + exact - held


def _share(usage: Ints, pool: Ints, strata: Ints | Labels, groups: Ints, shares: _Shares, rng: np.random.Generator) -> None:
    """Assigns the examples at `pool` (positions) in place. A group belongs to the stratum of its first example."""
    if not len(pool):
        return
    if strata.ndim == 2:
        units = np.unique(groups[pool], return_inverse=True)[1]
        usage[pool] = deal_labels(strata[pool].astype(np.bool_), units, shares.parts, rng)
        return
    shuffled = rng.permutation(pool)
    first, unit_of, sizes = _units(groups[shuffled])
    stratum = strata[shuffled][first]
    choice = np.full(len(sizes), TRAIN, np.int64)
    carry, turn = Decimal(0), 0
    by_stratum = [np.flatnonzero(stratum == value) for value in np.unique(stratum)]
    for members in by_stratum:
        if len(members) == 1:
            continue
        total = int(sizes[members].sum())
        train, validation, test, carry = shares.counts(total, carry, turn, len(by_stratum) == 1)
        turn += (validation + test) % 2
        choice[members] = _fill(sizes[members], (train, validation, test))
    usage[shuffled] = choice[unit_of]


def _units(groups: Ints) -> tuple[Ints, Ints, Ints]:
    """Groups in the order of their first example: that example, the unit of each example, and sizes."""
    _, first, inverse, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse], sizes[order]


def _fill(sizes: Ints, wanted: tuple[int, int, int]) -> Ints:
    """Usage of each group of one stratum: the larger groups go where most is wanting, then single examples fill up exactly."""
    choice = np.full(len(sizes), NONE, np.int64)
    left = np.array(wanted, np.int64)
    large = np.flatnonzero(sizes > 1)
    for unit in large[np.argsort(-sizes[large], kind="stable")]:
        usage = int(np.argmax(left))
        choice[unit] = usage
        left[usage] -= sizes[unit]
    left = _settle(left)
    choice[choice == NONE] = np.repeat(np.array([TEST, VALIDATION, TRAIN]), left[::-1])
    return choice


def _settle(left: Ints) -> Ints:
    """Wants after the large groups overshot: no want below 0, the sum kept (what one usage has too much, the neediest lacks)."""
    settled = left.copy()
    while (settled < 0).any():
        over = int(np.argmin(settled))
        need = int(np.argmax(settled))
        settled[need] += settled[over]
        settled[over] = 0
    return settled


def _group_notes(usage: Ints, groups: Ints, given: Ints) -> list[str]:
    counts = np.bincount(np.unique(groups, return_inverse=True)[1])
    repeated = int((counts > 1).sum())
    if not repeated:
        return []
    crossing = _crossing(usage, groups)
    if not crossing:
        return [f"{repeated} groups of duplicates were each kept on one side."]
    if (given == NONE).all():
        return []
    return [f"{crossing} groups of duplicates lie on more than one side because the usages that came with the data say so."]


def _crossing(usage: Ints, groups: Ints) -> int:
    pairs = np.unique(np.stack([groups, usage]), axis=1)[0]
    return int((np.unique(pairs, return_counts=True)[1] > 1).sum())
