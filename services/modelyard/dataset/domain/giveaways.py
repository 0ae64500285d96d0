"""What gives a picture's class away without showing it: its size, its light, its sharpness, that it has colour.

A model learns such a sign before anything else, and fails where the sign is missing (Geirhos et al. 2020, shortcut learning).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain.records import Finding

LEAST_SKILL: Final = 0.85
"""A number is reported when its bins alone find this share more of a class than of what is not of it (Youden 1950; chance: 0)."""

LEAST_EXAMPLES: Final = 100
"""Examples below which nothing is said: bins of a handful tell anything."""

_BINS, _FOLDS = 12, 5

Ints = npt.NDArray[np.int64]


def giveaway_findings(numbers: Mapping[str, npt.NDArray[np.floating]], labels: Ints, classes: Sequence[str]) -> list[Finding]:
    """A finding for each number that tells the class alone. numbers: [N] by what they are called; labels int64 [N], all known."""
    if len(labels) < LEAST_EXAMPLES or len(np.unique(labels)) < 2:
        return []
    found = [(name, *_skill(values, labels, len(classes))) for name, values in numbers.items()]
    return [_finding(name, skill, label, classes) for name, skill, label in found if skill >= LEAST_SKILL]


def _skill(values: npt.NDArray[np.floating], labels: Ints, classes: int) -> tuple[float, int]:
    """How well the bins of a number tell the class that they tell best, out of fold, and which that is."""
    filled = np.nan_to_num(values.astype(np.float64), nan=-1.0)
    edges = np.unique(np.quantile(filled, np.linspace(0, 1, _BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, filled, side="right")
    folds = np.random.default_rng(0).permutation(len(labels)) % _FOLDS
    carried = np.bincount(labels, minlength=classes)
    told = np.empty(len(labels), np.int64)
    for fold in range(_FOLDS):
        held = folds == fold
        seen = np.bincount(bins[~held] * classes + labels[~held], minlength=(len(edges) + 1) * classes)
        shares = seen.reshape(-1, classes) / np.maximum(carried, 1)
        told[held] = shares.argmax(axis=1)[bins[held]]
    recalls = np.bincount(labels, weights=told == labels, minlength=classes) / np.maximum(carried, 1)
    accused = np.bincount(told, weights=told != labels, minlength=classes) / np.maximum(len(labels) - carried, 1)
    skills = np.where(carried > 0, recalls - accused, -1)
    return float(skills.max()), int(skills.argmax())


def _finding(name: str, skill: float, label: int, classes: Sequence[str]) -> Finding:
    message = f'The {name} of a picture alone tells whether it is of class "{classes[label]}": '
    message += f"{skill:.0%} of the way from chance to always."
    cost = "The model learns this sign instead of what the pictures show: its scores are good, and it fails without the sign."
    action = f"Take or choose pictures of every class with every {name}, or make it alike beforehand; then check again."
    return Finding("SPURIOUS_CORRELATION", "warning", message, column=name, action=action, cost=cost)
