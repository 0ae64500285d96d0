"""Labels that are probably wrong, by what a model says of examples that it did not learn from (statistics.confident_learning)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain.findings import Names, about
from modelyard.dataset.domain.records import Finding
from modelyard.statistics.confident_learning import label_suspects

LEAST_EXAMPLES: Final = 10
"""Labels of classes with fewer examples are not judged: a model cannot learn a class from a handful."""

LEAST_JUDGED: Final = 40
"""Examples whose labels can be judged; with fewer a model learns nothing to speak of."""

LEAST_SKILL: Final = 0.4
"""A model that is not this far from chance (0) to always right (1) accuses nobody; measured as the mean recall of the classes."""

LEAST_MARGIN: Final = 0.3
"""A label is reported when another class is this much more probable than it (0 to 1). docs/quality.md has what that gives."""

WARNING_SHARE: Final = 0.01
"""Share of suspected labels from which it is a warning."""

_PAIRS = 3

Ints = npt.NDArray[np.int64]


def skill(balanced: float, classes: int) -> float:
    """How far a mean recall is from chance (0) to always right (1)."""
    return (balanced - 1 / classes) / (1 - 1 / classes) if classes > 1 else 0.0


def judged(labels: Ints, classes: int) -> Ints:
    """Positions of the examples whose labels can be judged: int64 [M], of labels int64 [N] (-1: none)."""
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    return np.flatnonzero((labels >= 0) & (counts[labels] >= LEAST_EXAMPLES)).astype(np.int64)


def label_findings(
    labels: Ints, probabilities: npt.NDArray[np.float32], members: Ints, classes: Sequence[str], names: Names
) -> list[Finding]:
    """A finding with the suspected labels, or none.

    labels int64 [M] and probabilities float32 [M, K] of the examples at `members` int64 [M]. The score of an example is the
    margin: how much more probable the suggested class is than the label.
    """
    suspects = label_suspects(labels, probabilities, len(classes))
    sure = np.flatnonzero(suspects.margins >= LEAST_MARGIN)
    if not len(sure):
        return []
    at, suggested = suspects.positions[sure], suspects.classes[sure]
    share = len(sure) / len(labels)
    message = f"{len(sure)} labels ({share:.1%}) are probably wrong: models that did not learn from these examples say another "
    message += f"class, by a margin of {LEAST_MARGIN:g} or more; most often {_most_often(labels[at], suggested, classes)}."
    cost = f"Up to {share:.1%} of what the model is taught is wrong, and it is marked wrong about as often where it is right: "
    cost += "small differences between models cannot be seen in such scores."
    action = "Look at them, the surest first, and take over the suggested classes (modelyard dataset fix --min-score 0.8)."
    right = [classes[int(label)] for label in suggested]
    scores = np.clip(suspects.margins[sure].astype(np.float64), 0, 1)
    severity = "warning" if share >= WARNING_SHARE else "info"
    return [about("LABEL_ERRORS", severity, message, members[at], names, cost=cost, action=action, scores=scores, relabel=right)]


def _most_often(given: Ints, suggested: Ints, classes: Sequence[str]) -> str:
    pairs = Counter(zip(given.tolist(), suggested.tolist(), strict=True)).most_common(_PAIRS)
    return ", ".join(f'"{classes[label]}" that looks like "{classes[other]}" ({count})' for (label, other), count in pairs)
