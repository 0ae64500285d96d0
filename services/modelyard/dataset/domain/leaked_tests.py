"""Test sets that leak: near duplicates, one group (a speaker, a device) or the future on both sides of the usages.

Whether an attribute or a part of the file names makes a group is decided by its name, or by what the examples look like:
where the
nearest other example of the same class shares the value far more often than chance lets it, a model can recognize the group. That
is the test of Schilling (1986) for two samples, by nearest neighbours, applied to each value against the rest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from modelyard.core.words import several
from modelyard.dataset.domain.edits import DROP
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.listing import Text, of_examples, quoted
from modelyard.dataset.domain.records import Edit, Finding
from modelyard.dataset.domain.split import NONE, TEST, TRAIN, VALIDATION

KNOWN_GROUPS = re.compile(
    r"^(speaker|patient|subject|person|user|customer|client|household|family|device|machine|sensor|station|camera|cam|video|clip|"
    r"session|recording|site|location|plant|batch|lot|group|donor|animal|slide|scan|case|store|vehicle|episode|trip|run)"
    r"([_ -]?(id|no|nr|number|name|key))?$",
    re.IGNORECASE,
)
"""Names of attributes and columns that make groups whatever the examples look like."""

LEAST_EXCESS = 0.1
"""Share of examples whose nearest neighbour is of their group, above what chance gives, from which a value makes groups..."""

LEAST_SIGMA = 5.0
"""...and how many standard deviations above it."""

FEW = 0.2
"""Up to this share of train may be dropped to free the test of a leak; beyond it only another split helps."""

LATE_SHARE = 0.05
"""Share of train that is later than the middle of the test, from which the future is in train."""

_SAMPLE = 4000
_BLOCK = 512

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_SIDES = {VALIDATION: "validation", TEST: "test"}


@dataclass(frozen=True)
class Grouping:
    """A way to say what belongs together: what it is called, the argument of --group-by, and int64 [N], -1 where it says
    nothing."""

    name: str
    group_by: str
    of: Ints
    values: Sequence[str]

    @property
    def usable(self) -> bool:
        """Whether there are several groups, with two or more examples each on average."""
        present = self.of[self.of >= 0]
        count = len(np.unique(present))
        return 2 <= count <= len(present) / 2


def group_findings(
    groupings: Sequence[Grouping], usages: Ints, strata: Ints, looks: Floats | None, names: Names
) -> list[Finding]:
    """Groups that lie on both sides. usages int64 [N] (-1: none); strata int64 [N]: the class; looks float64 [N, D] or None."""
    found = []
    for each in groupings:
        if not each.usable:
            continue
        by_name = bool(KNOWN_GROUPS.match(each.name))
        if not by_name and (looks is None or not makes_groups(each.of, strata, looks)):
            continue
        held = [usage for usage in (VALIDATION, TEST) if (usages == usage).any()]
        finding = _crossing(each, usages, held, names, by_name=by_name)
        if finding is not None:
            found.append(finding)
    return found


def makes_groups(of: Ints, strata: Ints, looks: Floats) -> bool:
    """Whether examples of one group look alike beyond what their class explains. of, strata int64 [N]; looks float64 [N, D].

    Looks at 4,000 examples at most, drawn with a fixed seed.
    """
    known = np.flatnonzero(of >= 0)
    rows = known[np.random.Generator(np.random.PCG64(0)).permutation(len(known))[:_SAMPLE]]
    groups, classes, features = of[rows], strata[rows], _standard(looks[rows])
    expected, same = np.zeros(len(rows)), np.zeros(len(rows), np.bool_)
    squares = (features**2).sum(axis=1)
    for stratum in np.unique(classes):
        members = np.flatnonzero(classes == stratum)
        if len(members) < 3:
            continue
        sizes = np.bincount(np.unique(groups[members], return_inverse=True)[1])
        own = sizes[np.unique(groups[members], return_inverse=True)[1]]
        expected[members] = (own - 1) / (len(members) - 1)
        for start in range(0, len(members), _BLOCK):
            block = members[start : start + _BLOCK]
            distances = squares[members] - 2 * features[block] @ features[members].T
            distances[np.arange(len(block)), start + np.arange(len(block))] = np.inf
            nearest = members[distances.argmin(axis=1)]
            same[block] = groups[nearest] == groups[block]
    judged = (expected > 0) & (expected < 1)
    if not judged.any():
        return False
    excess = float(same[judged].mean() - expected[judged].mean())
    deviation = float(np.sqrt((expected[judged] * (1 - expected[judged])).sum()))
    surplus = float(same[judged].sum() - expected[judged].sum())
    return excess >= LEAST_EXCESS and surplus >= LEAST_SIGMA * deviation


def time_findings(starts: Floats, usages: Ints, name: str, names: Names, *, advice: str) -> list[Finding]:
    """The future in train: examples to train on that are later than those of the test. starts float64 [N], NaN where unknown."""
    found = []
    for usage, side in _SIDES.items():
        train = np.flatnonzero((usages == TRAIN) & ~np.isnan(starts))
        held = np.flatnonzero((usages == usage) & ~np.isnan(starts))
        if not len(train) or not len(held) or starts[train].min() == starts[train].max():
            continue
        middle = float(np.median(starts[held]))
        late = train[starts[train] > middle]
        if len(late) < LATE_SHARE * len(train):
            continue
        text = Text(
            "FUTURE_IN_TRAIN",
            "warning",
            f'By "{name}", {several(len(late), "example")} of train ({len(late) / len(train):.0%}) are later than '
            f"half of the {side}.",
            "The model is asked about a past whose future it has seen; in use it never has, so its score on the "
            f"{side} is too good.",
            advice,
        )
        found.append(of_examples(text, names, late))
        break
    return found


def same_as_train(groups: Ints, usages: Ints) -> Ints:
    """Positions of the held-out examples that have a duplicate (equal number in `groups` int64 [N]) in train."""
    trained = np.unique(groups[usages == TRAIN])
    held = (usages != TRAIN) & (usages != NONE)
    return np.flatnonzero(held & np.isin(groups, trained)).astype(np.int64)


def _crossing(each: Grouping, usages: Ints, held: Sequence[int], names: Names, *, by_name: bool) -> Finding | None:
    known = each.of >= 0
    trained = np.unique(each.of[known & (usages == TRAIN)])
    for usage in reversed(held):
        tested = np.unique(each.of[known & (usages == usage)])
        both = np.intersect1d(trained, tested)
        if not len(both):
            continue
        leaked = np.flatnonzero(known & (usages == usage) & np.isin(each.of, both))
        in_train = np.flatnonzero(known & (usages == TRAIN) & np.isin(each.of, both))
        share = len(leaked) / max(int((usages == usage).sum()), 1)
        why = "" if by_name else " Examples of one value look alike beyond their class, so a model can recognize it."
        text = Text(
            "GROUP_ON_BOTH_SIDES",
            "warning",
            f'{len(both)} of {len(np.union1d(trained, tested))} values of "{each.name}" are in train and in {_SIDES[usage]}: '
            f"{quoted([each.values[int(value)] for value in both], 4)}; they hold {share:.0%} of the {_SIDES[usage]}.{why}",
            "The score says how well known ones are recognized; for a new one it will be worse.",
            f'Publish with --group-by "{each.group_by}", so that each is on one side.',
        )
        finding = of_examples(text, names, leaked)
        if len(in_train) <= FEW * int((usages == TRAIN).sum()):
            ids = tuple(names.ids[place] for place in in_train.tolist())
            return replace(finding, fix=Edit(DROP, ids, reason=text.kind))
        return finding
    return None


def _standard(looks: Floats) -> Floats:
    """Each feature with mean 0 and deviation 1; NaN and constant ones 0."""
    filled = np.nan_to_num(looks - np.nanmean(looks, axis=0), nan=0.0)
    spread = filled.std(axis=0)
    return np.asarray(filled[:, spread > 0] / spread[spread > 0], dtype=np.float64)


def name_grouping(stems: Sequence[str]) -> Grouping | None:
    """The grouping by what names of files start with, up to their last number: cam3_0017 and cam3_0018 are of cam3."""
    form = re.compile(r"^(.*?[^0-9])[0-9]+$")
    found = [form.match(stem) for stem in stems]
    prefixes = [match.group(1).rstrip("_-. ") if match else None for match in found]
    if sum(prefix is not None for prefix in prefixes) < 0.9 * len(stems):
        return None
    separators = {match.group(1)[-1] for match in found if match is not None}
    separator = separators.pop() if len(separators) == 1 else ""
    pattern = f"{{group}}{separator}{{number}}" if separator and not separator.isalnum() else "{group}_{number}"
    return grouping("start of the name", pattern, prefixes)


def grouping(name: str, group_by: str, values: Sequence[str | None]) -> Grouping:
    """The grouping by a value [N] of each example, None where it has none."""
    known: dict[str, int] = {}
    of = np.fromiter((-1 if value is None else known.setdefault(value, len(known)) for value in values), np.int64, len(values))
    return Grouping(name, group_by, of, list(known))
