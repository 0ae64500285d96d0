"""Findings of a quality report that pictures and tables share: classes and duplicates. Most severe first is `ranked`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain.edits import DROP
from modelyard.dataset.domain.records import LISTED_EXAMPLES, Edit, Finding, RejectedInput

SMALL_CLASS = 10
"""A class with fewer examples than this is reported."""

IMBALANCE = 3.0
"""The largest class to the smallest, from which imbalance is reported; ten times that is a warning."""

_RANK = {"error": 0, "warning": 1, "info": 2}

Ints = npt.NDArray[np.int64]


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The most severe first; otherwise in their order."""
    return tuple(sorted(findings, key=lambda finding: _RANK[finding.severity]))


def class_findings(classes: Sequence[str], counts: Sequence[int]) -> list[Finding]:
    """Small classes, and classes of very different size."""
    findings = [_small_class(name, count) for name, count in zip(classes, counts, strict=True) if count < SMALL_CLASS]
    if classes and max(counts) >= IMBALANCE * min(counts):
        findings.append(_imbalance(classes, counts))
    return findings


def duplicate_findings(
    groups: Ints,
    near_groups: Ints,
    labels: Sequence[str | None],
    usages: Ints,
    paths: Sequence[str],
    ids: Sequence[str] = (),
) -> list[Finding]:
    """Exact duplicates, near duplicates, equal content under two labels, and duplicates that cross the given usages.

    groups int64 [N]: equal for equal content. near_groups int64 [N]: equal for near duplicates too. usages: -1 where none.
    With `ids` of the examples, each finding brings the edit that mends it.
    """
    codes = label_codes(labels)
    exact, near = _extra(groups), _extra(near_groups)
    findings = []
    if len(conflicting := _members_with_several(groups, codes)):
        findings.append(_mended(_conflict(conflicting, paths, groups), conflicting, ids))
    if len(exact):
        message = f"{len(exact)} examples repeat the content of another one."
        action = "Duplicates stay on one side of the split; remove them if they came by mistake."
        findings.append(_mended(_finding("EXACT_DUPLICATES", "info", message, exact, paths, action), exact, ids))
    if len(only_near := np.setdiff1d(near, exact)):
        message = f"{len(only_near)} pictures differ from another one only by encoding, size or a little brightness."
        action = "Near duplicates stay on one side of the split; fewer of them and more variety would help more."
        findings.append(_mended(_finding("NEAR_DUPLICATES", "info", message, only_near, paths, action), only_near, ids))
    known = np.flatnonzero(usages >= 0)
    if len(crossing := known[_members_with_several(near_groups[known], usages[known])]):
        message = f"{len(crossing)} examples have a duplicate under another of the usages that came with the data."
        action = "Scores on such examples are too good. Split by the ratio instead, or remove them from train."
        kind = "EXACT_DUPLICATES" if len(_members_with_several(groups[known], usages[known])) else "NEAR_DUPLICATES"
        in_train = crossing[usages[crossing] == 0]
        findings.append(_mended(_finding(kind, "warning", message, crossing, paths, action), in_train, ids))
    return findings


def rejected_findings(rejected: Sequence[RejectedInput], count: int) -> list[Finding]:
    """What the import left out."""
    if not count:
        return []
    reasons = ", ".join(sorted({item.reason for item in rejected}))
    message = f"{count} files or rows were left out by the import: {reasons}."
    paths = tuple(item.path for item in rejected[:LISTED_EXAMPLES])
    return [Finding("UNREADABLE_INPUT", "warning", message, paths, count, action="Replace them, or leave them out for good.")]


def label_codes(labels: Sequence[str | None]) -> Ints:
    """A number for each different label."""
    seen: dict[str | None, int] = {}
    return np.fromiter((seen.setdefault(label, len(seen)) for label in labels), np.int64, len(labels))


def _small_class(name: str, count: int) -> Finding:
    examples = "example" if count == 1 else "examples"
    message = f'Class "{name}" has {count} {examples}.'
    action = "It stays in train, so its quality cannot be measured; add examples." if count == 1 else "Add examples of it."
    return Finding("SMALL_CLASS", "warning", message, example_count=count, action=action)


def _imbalance(classes: Sequence[str], counts: Sequence[int]) -> Finding:
    large, small = int(np.argmax(counts)), int(np.argmin(counts))
    times = counts[large] / max(counts[small], 1)
    much = f"{counts[large]} examples, {times:.1f} times as many"
    message = f'Class "{classes[large]}" has {much} as class "{classes[small]}" ({counts[small]}).'
    severity = "warning" if times >= 10 * IMBALANCE else "info"
    action = "Look at the scores per class, not at accuracy alone; add examples of the small classes."
    return Finding("CLASS_IMBALANCE", severity, message, example_count=int(sum(counts)), action=action)


def _conflict(members: Ints, paths: Sequence[str], groups: Ints) -> Finding:
    contents = len(np.unique(groups[members]))
    message = f"{contents} contents come under more than one label ({len(members)} examples)."
    action = "At most one of the labels is right: correct or remove these examples."
    ordered = members[np.argsort(groups[members], kind="stable")]
    return _finding("CONFLICTING_LABELS", "error", message, ordered, paths, action)


def _finding(kind: str, severity: str, message: str, members: Ints, paths: Sequence[str], action: str) -> Finding:
    listed = tuple(paths[int(i)] for i in members[:LISTED_EXAMPLES])
    return Finding(kind, severity, message, listed, len(members), action=action)


def _mended(finding: Finding, members: Ints, ids: Sequence[str]) -> Finding:
    """With the edit that leaves the members out."""
    if not ids or not len(members):
        return finding
    return replace(finding, fix=Edit(DROP, tuple(ids[int(i)] for i in members), reason=finding.kind))


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
