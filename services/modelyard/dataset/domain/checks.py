"""Findings of a quality report that all kinds of data share: classes and duplicates. Most severe first is `ranked`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from modelyard.core.words import several
from modelyard.dataset.domain.findings import Names, about
from modelyard.dataset.domain.listing import unused_classes
from modelyard.dataset.domain.near import merge_groups
from modelyard.dataset.domain.records import LISTED_EXAMPLES, Finding, RejectedInput

SMALL_CLASS = 10
"""A class with fewer examples than this is reported."""

IMBALANCE = 3.0
"""The largest class to the smallest, from which imbalance is reported; ten times that is a warning."""

_PICTURES_DIFFER = ("pictures", "encoding, size or a little brightness")
_RANK = {"error": 0, "warning": 1, "info": 2}

Ints = npt.NDArray[np.int64]


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The most severe first; otherwise in their order."""
    return tuple(sorted(findings, key=lambda finding: _RANK[finding.severity]))


def class_findings(classes: Sequence[str], counts: Sequence[int]) -> list[Finding]:
    """Classes without an example, small classes, and classes of very different size."""
    there = [(name, count) for name, count in zip(classes, counts, strict=True) if count]
    findings = unused_classes(np.asarray(counts, dtype=np.int64), classes, "example")
    findings += [_small_class(name, count) for name, count in there if count < SMALL_CLASS]
    sizes = [count for _, count in there]
    if sizes and max(sizes) >= IMBALANCE * min(sizes):
        findings.append(_imbalance([name for name, _ in there], sizes))
    return findings


def duplicate_findings(
    groups: Ints, near_groups: Ints, labels: Sequence[str | None], usages: Ints, names: Names, *, sounds: bool = False
) -> list[Finding]:
    """Exact duplicates, near duplicates, equal content under two labels, and duplicates that cross the given usages.

    groups int64 [N]: equal for equal content. near_groups int64 [N]: equal for near duplicates too. usages: -1 where none.
    With ids of the examples, each finding brings the edit that mends it.
    """
    codes = label_codes(labels)
    exact, near = _extra(groups), _extra(near_groups)
    findings = []
    if len(conflicting := _members_with_several(groups, codes)):
        findings.append(_conflict(conflicting, groups, names))
    if len(exact):
        message = f"{several(len(exact), 'example repeats', 'examples repeat')} the content of another one."
        action = "Leave the copies out if they came by mistake; the split keeps them on one side either way."
        cost = "A copy teaches nothing new, and what is repeated counts more than the rest in training and in every score."
        findings.append(about("EXACT_DUPLICATES", "info", message, exact, names, cost=cost, action=action, drop=exact))
    if len(only_near := np.setdiff1d(near, exact)):
        what, by = ("sounds", "loudness, silence around, rate or bits") if sounds else _PICTURES_DIFFER
        many = several(len(only_near), f"{what[:-1]} differs", f"{what} differ")
        message = f"{many} from another one only by {by}."
        action = f"Leave the copies out; more variety would help more than more {what} of one kind."
        cost = f"{what.capitalize()} that are nearly alike add time, not knowledge; they make a test easier than the task."
        findings.append(about("NEAR_DUPLICATES", "info", message, only_near, names, cost=cost, action=action, drop=only_near))
    known = np.flatnonzero(usages >= 0)
    if len(crossing := known[_members_with_several(near_groups[known], usages[known])]):
        many = several(len(crossing), "example has", "examples have")
        message = f"{many} a duplicate under another of the usages that came with the data."
        action = "Leave them out of train, or split by the ratio instead, which keeps duplicates on one side."
        cost = "The model is tested on what it was trained on: its scores are better than what it will do in service."
        kind = "EXACT_DUPLICATES" if len(_members_with_several(groups[known], usages[known])) else "NEAR_DUPLICATES"
        in_train = crossing[usages[crossing] == 0]
        findings.append(about(kind, "warning", message, crossing, names, cost=cost, action=action, drop=in_train))
    return findings


def alike_findings(left: Ints, right: Ints, near_groups: Ints, what: str, names: Names) -> list[Finding]:
    """Pictures that repeat another one in a way that comparing them pixel by pixel does not see: pairs (i < j) int64 [P] each.

    near_groups int64 [N]: what is alike pixel by pixel is told already. `what`: how they repeat it, after their number.
    """
    new = near_groups[left] != near_groups[right]
    groups = merge_groups(near_groups, near_groups[left[new]], near_groups[right[new]])
    members = np.setdiff1d(_extra(groups), _extra(near_groups))
    if not len(members):
        return []
    verb, _, rest = what.partition(" ")
    one = {"are": "is", "show": "shows"}.get(verb, verb)
    message = f"{several(len(members), f'picture {one}', f'pictures {verb}')} {rest}."
    cost = "They add little that is new, and the split does not know that they belong together: a test with them is too easy."
    action = "Leave them out, or split by what they have in common (publish --group-by), such as the video or the place."
    return [about("NEAR_DUPLICATES", "info", message, members, names, cost=cost, action=action, drop=members)]


def rejected_findings(rejected: Sequence[RejectedInput], count: int) -> list[Finding]:
    """What the import left out."""
    if not count:
        return []
    reasons = ", ".join(sorted({item.reason for item in rejected}))
    message = f"{several(count, 'file or row was', 'files or rows were')} left out by the import: {reasons}."
    paths = tuple(item.path for item in rejected[:LISTED_EXAMPLES])
    cost = "The model learns without them; if they are of one kind (one camera, one day), it will not know that kind."
    action = "Replace them at the source and import again, or leave them out for good."
    return [Finding("UNREADABLE_INPUT", "warning", message, paths, count, action=action, cost=cost)]


def label_codes(labels: Sequence[str | None]) -> Ints:
    """A number for each different label."""
    seen: dict[str | None, int] = {}
    return np.fromiter((seen.setdefault(label, len(seen)) for label in labels), np.int64, len(labels))


def _small_class(name: str, count: int) -> Finding:
    message = f'Class "{name}" has {several(count, "example")}.'
    action = "Add examples of it, or merge it with a class that it resembles (modelyard dataset edit --merge)."
    cost = "It stays in train, so nobody can say how well it is recognised." if count == 1 else ""
    cost = cost or "So few teach little, and its scores rest on one or two test examples: they say next to nothing."
    return Finding("SMALL_CLASS", "warning", message, example_count=count, action=action, cost=cost)


def _imbalance(classes: Sequence[str], counts: Sequence[int]) -> Finding:
    large, small = int(np.argmax(counts)), int(np.argmin(counts))
    times = counts[large] / max(counts[small], 1)
    much = f"{counts[large]} examples, {times:.1f} times as many"
    message = f'Class "{classes[large]}" has {much} as class "{classes[small]}" ({counts[small]}).'
    severity = "warning" if times >= 10 * IMBALANCE else "info"
    action = "Add examples of the small classes, and look at the scores per class, not at accuracy alone."
    share = counts[large] / max(sum(counts), 1)
    cost = f'A model that only ever says "{classes[large]}" is right in {share:.0%} of the cases; small classes are missed first.'
    return Finding("CLASS_IMBALANCE", severity, message, example_count=int(sum(counts)), action=action, cost=cost)


def _conflict(members: Ints, groups: Ints, names: Names) -> Finding:
    contents = len(np.unique(groups[members]))
    message = f"{several(contents, 'content comes', 'contents come')} under more than one label ({len(members)} examples)."
    action = "At most one of the labels is right: correct these examples, or leave them out."
    cost = "The model is taught two answers to one question, and is marked wrong for at least one of them."
    ordered = members[np.argsort(groups[members], kind="stable")]
    return about("CONFLICTING_LABELS", "error", message, ordered, names, cost=cost, action=action, drop=ordered)


def _extra(groups: Ints) -> Ints:
    """Positions of the members of groups but the first of each."""
    first = np.unique(groups, return_index=True)[1]
    return np.setdiff1d(np.arange(len(groups)), first)


def _members_with_several(groups: Ints, values: Ints) -> Ints:
    """Positions of the members of groups whose members do not all have the same value."""
    if not len(groups):
        return np.empty(0, np.int64)
    pairs = np.unique(np.stack([groups, values]), axis=1)[0]
    names, counts = np.unique(pairs, return_counts=True)
    return np.flatnonzero(np.isin(groups, names[counts > 1])).astype(np.int64)
