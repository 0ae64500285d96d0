"""How far people agree beyond chance, with 95 percent bootstrap intervals over examples (Efron 1979).

Cohen 1960 (Educational and Psychological Measurement 20) for two people; Fleiss 1971 (Psychological Bulletin 76) for several,
as it stands where every example has as many answers, else with each example weighing the same; Krippendorff 2011 (Computing
Krippendorff's Alpha-Reliability), nominal, any number of answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelyard.statistics.intervals import bootstrap_counts, bootstrap_means, bootstrap_weights, percentiles

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Figure:
    """A figure of agreement, its 95 percent interval, the tasks behind it, and for a pair the two people."""

    name: str
    value: float
    lower: float
    upper: float
    tasks: int
    annotators: tuple[str, ...] = ()


def cohen_kappa(one: Ints, other: Ints, classes: int) -> tuple[float, float, float]:
    """Cohen's kappa of two people's classes, int64 [N] each, N of 1 or more, and its interval.

    Where both always say one and the same class chance explains all: 0, unless there is nothing to disagree on; then it is 1.
    """
    cells = np.bincount(one * classes + other, minlength=classes * classes)
    value = float(_cohen(cells[None].astype(np.float64), classes)[0])
    lower, upper = percentiles(_cohen(bootstrap_counts(cells).astype(np.float64), classes), value)
    return value, lower, upper


def _cohen(cells: Floats, classes: int) -> Floats:
    tables = cells.reshape(-1, classes, classes) / cells.sum(axis=1)[:, None, None]
    observed = np.trace(tables, axis1=1, axis2=2)
    expected = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1)
    return _beyond_chance(observed, expected)


def fleiss_kappa(counts: Ints) -> tuple[float, float, float]:
    """Fleiss' kappa of counts [N, C]: how many people put each example into each class; rows of at least two. And its
    interval."""
    answers = counts.sum(axis=1).astype(np.float64)
    agreeing = (np.square(counts).sum(axis=1) - answers) / (answers * (answers - 1))
    shares = counts / answers[:, None]

    def of(weights: Floats) -> Floats:
        sums = weights.sum(axis=1)
        expected = np.square(weights @ shares / sums[:, None]).sum(axis=1)
        return _beyond_chance(weights @ agreeing / sums, expected)

    return _with_interval(of, len(counts))


def krippendorff_alpha(counts: Ints) -> tuple[float, float, float]:
    """Krippendorff's alpha for classes, of counts [N, C] with rows of at least two answers, and its interval."""
    answers = counts.sum(axis=1).astype(np.float64)
    disagreeing = (np.square(answers) - np.square(counts).sum(axis=1)) / (answers - 1)

    def of(weights: Floats) -> Floats:
        totals = weights @ counts
        values = totals.sum(axis=1)
        expected = (np.square(values) - np.square(totals).sum(axis=1)) / (values - 1)
        observed = weights @ disagreeing
        return 1 - np.where(expected > 0, observed / np.where(expected > 0, expected, 1), 0.0)

    return _with_interval(of, len(counts))


def mean_with_interval(values: Floats) -> tuple[float, float, float]:
    """The mean of [N], N of 1 or more, and its interval."""
    value = float(values.mean())
    lower, upper = percentiles(bootstrap_means(values[:, None])[:, 0], value)
    return value, lower, upper


def class_figures(examples: Ints, people: Ints, classes: Ints, names: Sequence[str], width: int) -> list[Figure]:
    """The figures of classes: int64 [V] each says which person (by index of `names`) put which example into which of `width`
    classes; once for each example and person. Empty where no example has two answers."""
    counts = np.zeros((int(examples.max(initial=-1)) + 1, width), np.int64)
    np.add.at(counts, (examples, classes), 1)
    compared = counts[counts.sum(axis=1) > 1]
    if not len(compared):
        return []
    answers = compared.sum(axis=1).astype(np.float64)
    same = (np.square(compared).sum(axis=1) - answers) / (answers * (answers - 1))
    figures = [
        Figure("percent_agreement", *mean_with_interval(same), len(compared)),
        Figure("fleiss_kappa", *fleiss_kappa(compared), len(compared)),
        Figure("krippendorff_alpha", *krippendorff_alpha(compared), len(compared)),
    ]
    said = np.full((len(names), len(counts)), -1, np.int64)
    said[people, examples] = classes
    for one in range(len(names)):
        for other in range(one + 1, len(names)):
            both = np.flatnonzero((said[one] >= 0) & (said[other] >= 0))
            if len(both):
                value = cohen_kappa(said[one][both], said[other][both], width)
                figures.append(Figure("cohen_kappa", *value, len(both), (names[one], names[other])))
    return figures


def _with_interval(of: object, count: int) -> tuple[float, float, float]:
    assert callable(of)
    value = float(of(np.ones((1, count)))[0])
    lower, upper = percentiles(np.concatenate([of(weights) for weights in bootstrap_weights(count)]), value)
    return value, lower, upper


def _beyond_chance(observed: Floats, expected: Floats) -> Floats:
    room = 1 - expected
    sure = room <= 1e-12
    return np.where(sure, np.where(observed >= 1 - 1e-12, 1.0, 0.0), (observed - expected) / np.where(sure, 1.0, room))
