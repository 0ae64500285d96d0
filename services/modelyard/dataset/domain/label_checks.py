"""Labels that are probably wrong, by what a model says of examples that it did not learn from (domain.label_noise)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from modelyard.core.words import several
from modelyard.dataset.domain.findings import Names, about
from modelyard.dataset.domain.label_noise import LabelNoise
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.target_noise import TargetNoise

LEAST_EXAMPLES: Final = 10
"""Labels of classes with fewer examples are not judged: a model cannot learn a class from a handful."""

LEAST_JUDGED: Final = 40
"""Examples whose labels can be judged; with fewer a model learns nothing to speak of."""

LEAST_SKILL: Final = 0.25
"""A model that is not this far from chance (0) to always right (1) accuses nobody; measured as the mean recall of the classes."""

LEAST_SCORE: Final = 0.5
"""A label is reported when it is at least this probable that it is wrong. docs/quality.md has what that gives."""

WARNING_SHARE: Final = 0.01
"""Share of suspected labels from which it is a warning."""

LEAST_EXPLAINED: Final = 0.75
"""Share of the spread of a number to predict that a model explains (by medians) before it accuses a row's number."""

MOST_WRONG: Final = 0.15
"""A larger share of numbers that seem wrong says that the model's errors are of another shape than is thought."""

_PAIRS = 3

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def skill(balanced: float, classes: int) -> float:
    """How far a mean recall is from chance (0) to always right (1)."""
    return (balanced - 1 / classes) / (1 - 1 / classes) if classes > 1 else 0.0


def judged(labels: Ints, classes: int) -> Ints:
    """Positions of the examples whose labels can be judged: int64 [M], of labels int64 [N] (-1: none)."""
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    return np.flatnonzero((labels >= 0) & (counts[labels] >= LEAST_EXAMPLES)).astype(np.int64)


def label_findings(labels: Ints, noise: LabelNoise, members: Ints, classes: Sequence[str], names: Names) -> list[Finding]:
    """A finding with the suspected labels, or none. labels int64 [M], and what is known of them, of the examples at `members`
    int64 [M]. The score of an example is the probability that its label is wrong; suggested is the most probable other class.
    """
    at = np.flatnonzero(noise.wrong >= LEAST_SCORE)
    if not len(at):
        return []
    others = noise.probabilities[at].copy()
    others[np.arange(len(at)), labels[at]] = -1
    suggested, scores = others.argmax(axis=1), noise.wrong[at]
    share, sure = len(at) / len(labels), float(scores.mean())
    message = f"{len(at)} labels ({share:.1%}) are probably wrong, by models that did not learn from these examples; "
    message += f"{sure:.0%} of them if the models are right about how sure they are. "
    message += f"Most often: {_most_often(labels[at], suggested, classes)}."
    cost = f"About {sure * share:.1%} of what the model is taught is wrong, and it is marked wrong as often where it is right: "
    cost += "small differences between models cannot be seen in such scores."
    action = "Look at them, the surest first, and take over the suggested classes (modelyard dataset fix --min-score 0.9)."
    right = [classes[int(label)] for label in suggested]
    severity = "warning" if share >= WARNING_SHARE else "info"
    return [about("LABEL_ERRORS", severity, message, members[at], names, cost=cost, action=action, scores=scores, relabel=right)]


def _most_often(given: Ints, suggested: Ints, classes: Sequence[str]) -> str:
    pairs = Counter(zip(given.tolist(), suggested.tolist(), strict=True)).most_common(_PAIRS)
    return ", ".join(f'"{classes[label]}" that looks like "{classes[other]}" ({count})' for (label, other), count in pairs)


def object_findings(labels: Ints, noise: LabelNoise, pictures: Ints, classes: Sequence[str], names: Names) -> list[Finding]:
    """A finding with the pictures that hold objects whose class is probably wrong, or none. labels int64 [M] of the objects,
    pictures int64 [M]: where each is, rising. The score of a picture is that of its worst object."""
    at = np.flatnonzero(noise.wrong >= LEAST_SCORE)
    if not len(at):
        return []
    others = noise.probabilities[at].copy()
    others[np.arange(len(at)), labels[at]] = -1
    suggested = others.argmax(axis=1)
    members = np.unique(pictures[at])
    scores = np.array([noise.wrong[at][pictures[at] == member].max() for member in members.tolist()])
    first = np.searchsorted(pictures, pictures[at])
    worst = np.argsort(-noise.wrong[at], kind="stable")[:_PAIRS]
    told = [(names.paths[int(pictures[at[k]])], int(at[k] - first[k]) + 1, labels[at[k]], suggested[k]) for k in worst]
    shown = "; ".join(f'{path}: box {n}, "{classes[label]}" that looks like "{classes[other]}"' for path, n, label, other in told)
    share = len(at) / len(labels)
    message = f"{several(len(at), 'marked object')} ({share:.1%}) in {several(len(members), 'picture')} "
    message += f"{'is' if len(at) == 1 else 'are'} probably of another class than is said, by "
    message += f"models that did not learn from their pictures. Most often: {_most_often(labels[at], suggested, classes)}. "
    message += f"The surest: {shown}."
    cost = "A detector is taught to mix these classes up, and is marked wrong where it is right."
    action = "Look at them, the surest first, and give them the right class where you annotate, or by an edit that reclasses."
    severity = "warning" if share >= WARNING_SHARE else "info"
    return [about("BOX_CLASS_ERRORS", severity, message, members, names, cost=cost, action=action, scores=scores)]


def target_findings(target: str, noise: TargetNoise, predicted: Floats, given: Floats, names: Names) -> list[Finding]:
    """A finding with the rows whose number to predict is probably wrong, or none. predicted, given float64 [N]: what models
    say that did not learn from the row, and what it says. The score of a row is the probability that its number is wrong."""
    at = np.flatnonzero(noise.wrong >= LEAST_SCORE).astype(np.int64)
    if not len(at) or not accuses(noise):
        return []
    scores, share = noise.wrong[at], len(at) / len(given)
    worst = at[np.argsort(-scores, kind="stable")[:_PAIRS]]
    shown = ", ".join(f"{names.paths[int(row)]} says {given[row]:.6g}, the models {predicted[row]:.6g}" for row in worst)
    message = (
        f'{several(len(at), "row")} ({share:.1%}) with a "{target}" that is probably wrong, by models that learned from others: '
    )
    message += f"their errors there are larger than they ever are. The surest: {shown}."
    cost = "A model bends to such rows, most where they are far off, and its score on test rows that are wrong says nothing."
    action = "Look at them, the surest first: mend them in the source, or leave them out (modelyard dataset fix --min-score 0.9)."
    severity = "warning" if share >= WARNING_SHARE else "info"
    return [about("LABEL_ERRORS", severity, message, at, names, cost=cost, action=action, scores=scores, drop=at, column=target)]


def accuses(noise: TargetNoise) -> bool:
    """Whether a model of a number knows enough to say that one is wrong."""
    return noise.explained >= LEAST_EXPLAINED and noise.rate <= MOST_WRONG
