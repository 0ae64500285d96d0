"""What a runtime adds to a model's own answers, so that evaluation and every server say the same: names for numbers.

A bundle's card says which output that is (BundleCard.derived).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.formats.bundle import BundleCard
from modelyard.formats.dataset_descriptor import ANOMALY_DETECTION, IMAGE_MULTILABEL, OBJECT_DETECTION
from modelyard.formats.sensors import ALARM

Array = NDArray[Any]
Derive = Callable[[Mapping[str, Array]], Array]
"""The derived output, dtype object holding str, of a model's own outputs."""

PROBABILITIES: Final = "probabilities"
CLASSES: Final = "classes"
STATES: Final = ("normal", "anomaly")
USUAL_THRESHOLD: Final = 0.5
"""Of several labels, where the bundle has no thresholds of its own."""


def derive(card: BundleCard) -> Derive | None:
    """How the card's derived output is made; None where it has none."""
    if card.derived is None:
        return None
    if card.task == ANOMALY_DETECTION:
        return _states(card.outputs[0].name)
    if card.task == OBJECT_DETECTION:
        return _names_of_boxes(card.classes)
    if card.task == IMAGE_MULTILABEL:
        return _names_found(card)
    return _most_probable(card.classes)


def _states(output: str) -> Derive:
    names = np.array(STATES, dtype=object)

    def state(answers: Mapping[str, Array]) -> Array:
        named: Array = names[(answers[output].reshape(len(answers[output]), -1)[:, 0] >= ALARM).astype(np.int64)]
        return named

    return state


def _most_probable(classes: tuple[str, ...]) -> Derive:
    names = np.array(classes, dtype=object)

    def label(answers: Mapping[str, Array]) -> Array:
        named: Array = names[np.argmax(answers[PROBABILITIES], axis=1)]  # the first of equals
        return named

    return label


def _names_of_boxes(classes: tuple[str, ...]) -> Derive:
    names = np.array([*classes, ""], dtype=object)

    def labels(answers: Mapping[str, Array]) -> Array:
        which = answers[CLASSES]
        named: Array = names[np.where((which >= 0) & (which < len(classes)), which, len(classes))]
        return named

    return labels


def _names_found(card: BundleCard) -> Derive:
    least = np.array(card.thresholds or (USUAL_THRESHOLD,) * len(card.classes))

    def labels(answers: Mapping[str, Array]) -> Array:
        found = answers[PROBABILITIES] >= least
        out = np.empty(len(found), dtype=object)
        out[:] = [json.dumps([card.classes[i] for i in np.flatnonzero(row).tolist()], ensure_ascii=False) for row in found]
        return out

    return labels
