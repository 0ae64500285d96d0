"""Which labels are probably wrong: confident learning (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068), in our own code.

A model is, over the examples labelled as a class, on average so and so sure of that class: that mean is the class's threshold.
An example that carries another label, and of which the model is at least that sure that it is of this class, is suspected: it
would stand off the diagonal of the paper's confident joint. So that a weak model does not suspect half the data, its answer
(the most probable class) must differ from the label too, as the authors' own library asks. Ranked by the margin: probability
of the suspected class less that of the label.

The probabilities must come from a model that did not learn from the examples (validation, test). Of training examples a model
has seen the label it is asked about: what it still contradicts is worth a look, but most wrong labels stay hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.statistics.intervals import Floats, Ints

_ROUNDING: Final = 1e-6
"""Probabilities are float32: equal ones reach their own mean."""


@dataclass(frozen=True)
class Suspects:
    """Positions of suspected examples [S], the surest first; the class each probably is of; the margin (above -1, to 1)."""

    positions: Ints
    classes: Ints
    margins: NDArray[np.floating[Any]]


def label_suspects(labels: Ints, probabilities: NDArray[np.floating[Any]], known: int) -> Suspects:
    """Suspects among examples with labels [N] and probabilities [N, K], K of 1 or more.

    Only the first `known` classes take part, those that the model can answer: of a label it has never met it cannot judge.
    """
    rows = np.flatnonzero(labels < known)
    given, answers = labels[rows], probabilities[rows, :known]
    confident = np.where(answers >= class_thresholds(given, answers) - _ROUNDING, answers, -1)
    suspected, place = confident.argmax(axis=1), np.arange(len(rows))
    margins = answers[place, suspected] - answers[place, given]
    wrong = (confident[place, suspected] >= 0) & (suspected != given) & (answers.argmax(axis=1) != given)
    order = np.flatnonzero(wrong)[np.argsort(-margins[wrong], kind="stable")]
    return Suspects(rows[order], suspected[order].astype(np.int64), margins[order])


def class_thresholds(labels: Ints, probabilities: NDArray[np.floating[Any]]) -> Floats:
    """Mean probability of each class over the examples that carry it [K]; above 1, so out of reach, where none does."""
    count = probabilities.shape[1]
    sums = np.bincount(labels, weights=probabilities[np.arange(len(labels)), labels], minlength=count)
    carried = np.bincount(labels, minlength=count)
    return np.asarray(np.divide(sums, carried, out=np.full(count, 2.0), where=carried > 0), dtype=np.float64)
