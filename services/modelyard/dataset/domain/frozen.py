"""A frozen test set: examples that stay in test in every later version, or are absent, and of which nothing alike is trained on.

It is known by the contents of its examples (sha256), so it holds whatever the source calls its files, and for an example that
left the dataset and comes back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain.near import Thumbnails, near_pairs

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
_TEST = 2


@dataclass(frozen=True)
class Bound:
    """What a frozen test set makes of N examples: those it holds (`test`), those that are left out because they are like one of
    them (`alike`), and those that are left out because they were test and are not of it (`other_test`); bool [N] each."""

    test: Flags
    alike: Flags
    other_test: Flags

    @property
    def left_out(self) -> Flags:
        """Whatever takes no part."""
        return self.alike | self.other_test

    def notes(self) -> tuple[str, ...]:
        """What was decided, in sentences."""
        notes = [f"The test set is frozen: {int(self.test.sum())} of its examples are here and stay test."]
        if alike := int(self.alike.sum()):
            notes.append(
                f"{alike} examples were left out: they have the content of frozen test examples, nearly so, or share a group."
            )
        if other := int(self.other_test.sum()):
            notes.append(f"{other} examples that would be test were left out: they are not of the frozen test set.")
        return tuple(notes)


def bind(contents: Sequence[str], groups: Ints, usages: Ints, frozen: Collection[str]) -> Bound:
    """Holds N examples against a frozen test set. contents: their sha256; groups int64 [N]: equal for what is alike or belongs
    together; usages int64 [N]: 2 is test. Whoever shares a group with a frozen example, and is none, is left out."""
    known = set(frozen)
    test = np.fromiter((content in known for content in contents), np.bool_, len(contents))
    tainted = np.isin(groups, np.unique(groups[test])) & ~test
    return Bound(test, tainted, (usages == _TEST) & ~test & ~tainted)


def freeze(groups: Ints, usages: Ints) -> Bound:
    """The test examples of a version as a frozen test set: what is like one of them, and is trained on, is left out."""
    test = usages == _TEST
    return Bound(test, np.isin(groups, np.unique(groups[test])) & ~test, np.zeros_like(test))


def like_absent(thumbnails: Thumbnails, groups: Ints, absent: Thumbnails) -> Flags:
    """Which of N pictures are near duplicates of frozen ones that are not among them, or share a group with such a one: bool [N].

    thumbnails uint8 [N, 16, 16]; absent uint8 [M, 16, 16].
    """
    if not len(absent) or not len(thumbnails):
        return np.zeros(len(groups), np.bool_)
    left, right = near_pairs(np.concatenate([thumbnails, absent]))
    near = np.unique(left[(left < len(thumbnails)) & (right >= len(thumbnails))])
    return np.isin(groups, groups[near])


def contents_digest(contents: Sequence[str]) -> str:
    """SHA-256 over a test set's contents, whatever their order: 64 hexadecimal digits."""
    return hashlib.sha256("\n".join(sorted(contents)).encode()).hexdigest()
