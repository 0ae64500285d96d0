"""Scores of semantic segmentation.

Intersection over union (Jaccard index) and Dice coefficient of a class are over the pixels of all pictures together, as in PASCAL
VOC (Everingham et al. 2010); their means are over the classes that occur or are predicted. Boundary F1 (Csurka et al. 2013): of a
picture and class, the harmonic mean of the shares of the predicted boundary that lies near the true one and of the true one that
lies near the predicted; near is within 0.75 percent of the picture's diagonal. Of a class it is the mean over the pictures in
which the class occurs or is predicted.

Intervals: percentile bootstrap over pictures (Efron 1979). Only a few numbers a picture are kept, so any number can be scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.evaluator.domain.scores import Metric
from modelyard.statistics import intervals
from modelyard.statistics.intervals import Floats

Bools = NDArray[np.bool_]
ClassMap = NDArray[np.integer[Any]]

IGNORED: Final = 255
"""The usual class of pixels that nobody labelled: they count neither for nor against."""
NEAR: Final = 0.0075
_ROUNDS: Final = 1000


@dataclass(frozen=True)
class Tally:
    """What is kept of a picture, by class [K]: pixels right, truly there, predicted; boundary F1, NaN where there is none."""

    right: Floats
    there: Floats
    predicted: Floats
    boundary: Floats


@dataclass(frozen=True)
class SegmentationClass:
    """Figures of one class. `support` is the number of its true pixels."""

    label: str
    support: int
    iou: Metric
    dice: Metric
    boundary_f1: Metric


@dataclass(frozen=True)
class SegmentationScore:
    """`metrics`: mean_iou, dice, boundary_f1, pixel_accuracy. `classes` are those that occur or are predicted."""

    picture_count: int
    metrics: tuple[Metric, ...]
    classes: tuple[SegmentationClass, ...]


def tally(truth: ClassMap, predicted: ClassMap, classes: int, ignored: int = IGNORED) -> Tally:
    """Counts one picture: class indices [H, W], true and predicted, from 0 to `classes` - 1; the truth may also be `ignored`.

    Raises InvalidArgument BAD_CLASS_MAP where shapes differ or a class does not exist.
    """
    counted = truth != ignored
    _check(truth, predicted, counted, classes)
    ours, theirs = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    right = np.bincount(ours[ours == theirs], minlength=classes)
    there, said = np.bincount(ours, minlength=classes), np.bincount(theirs, minlength=classes)
    near = NEAR * float(np.hypot(*truth.shape))
    edges = np.full(classes, np.nan)
    for index in np.flatnonzero(there + said):
        edges[index] = _boundary_f1((truth == index) & counted, (predicted == index) & counted, counted, near)
    return Tally(right.astype(np.float64), there.astype(np.float64), said.astype(np.float64), edges)


def _boundary_f1(truth: Bools, predicted: Bools, counted: Bools, near: float) -> float:
    """F1 of two masks' boundaries; NaN where neither has one, 0 where one has none."""
    true_edge, said_edge = boundary(truth, counted), boundary(predicted, counted)
    if not true_edge.any() and not said_edge.any():
        return float("nan")
    precision, recall = _share_near(said_edge, true_edge, near), _share_near(true_edge, said_edge, near)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: Bools, counted: Bools) -> Bools:
    """Pixels of a mask [H, W] with a counted pixel outside it above, below, left or right. The picture's rim is no boundary."""
    outside = np.pad(~mask & counted, 1)
    touched = outside[:-2, 1:-1] | outside[2:, 1:-1] | outside[1:-1, :-2] | outside[1:-1, 2:]
    return np.asarray(mask & touched)


def _share_near(edge: Bools, other: Bools, near: float) -> float:
    """Share of the edge's pixels within `near` pixels of the other edge; 0 where either is empty."""
    if not edge.any() or not other.any():
        return 0.0
    return float(widened(other, near)[edge].mean())


def widened(edge: Bools, near: float) -> Bools:
    """All pixels [H, W] within `near` pixels (Euclidean, 0 or more) of the edge's."""
    reach = int(near)
    down, across = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = down**2 + across**2 <= near**2
    rows, columns = np.nonzero(edge)
    out = np.zeros((edge.shape[0] + 2 * reach, edge.shape[1] + 2 * reach), np.bool_)
    out[rows[:, None] + reach + down[disk], columns[:, None] + reach + across[disk]] = True
    return out[reach : reach + edge.shape[0], reach : reach + edge.shape[1]]


def segmentation(tallies: Sequence[Tally], classes: Sequence[str]) -> SegmentationScore:
    """Scores one usage from the tallies of its pictures. Raises InvalidArgument BAD_CLASS_MAP where there is none."""
    if not tallies:
        raise InvalidArgument("BAD_CLASS_MAP", "there are no pictures to score")
    pictures = len(tallies)
    rng = np.random.default_rng(intervals.SEED)
    drawn = rng.multinomial(pictures, np.full(pictures, 1 / pictures), size=_ROUNDS)
    weights = np.concatenate([np.ones((1, pictures)), drawn])
    right, there, said = (weights @ np.stack([getattr(one, name) for one in tallies]) for name in ("right", "there", "predicted"))
    edges = np.stack([one.boundary for one in tallies])
    figures = {
        "iou": _share(right, there + said - right),
        "dice": _share(2 * right, there + said),
        "boundary_f1": _share(weights @ np.nan_to_num(edges), weights @ (~np.isnan(edges)).astype(np.float64)),
    }
    metrics = {"mean_iou": "iou", "dice": "dice", "boundary_f1": "boundary_f1"}
    overall = [_metric(name, _mean(figures[of])) for name, of in metrics.items() if np.isfinite(_mean(figures[of])[0])]
    accuracy = _metric("pixel_accuracy", _share(right.sum(axis=1), there.sum(axis=1)))
    scores = [
        SegmentationClass(name, int(there[0, i]), *(_metric(of, values[:, i]) for of, values in figures.items()))
        for i, name in enumerate(classes)
        if there[0, i] + said[0, i]
    ]
    return SegmentationScore(pictures, (*overall, accuracy), tuple(scores))


def _share(part: Floats, whole: Floats) -> Floats:
    """Part of the whole; NaN where there is no whole."""
    return np.asarray(np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0), dtype=np.float64)


def _mean(by_class: Floats) -> Floats:
    """Mean over the classes that are not NaN: [W, K] to [W]."""
    here = ~np.isnan(by_class)
    return _share(np.where(here, by_class, 0.0).sum(axis=1), here.sum(axis=1).astype(np.float64))


def _metric(name: str, samples: Floats) -> Metric:
    """The first of the samples [1 + B] is the value, the rest its bootstrap. A class without any boundary has 0 for its F1."""
    value = float(np.nan_to_num(samples[0]))
    return Metric(name, value, *intervals.percentiles(samples[1:], value))


def _check(truth: ClassMap, predicted: ClassMap, counted: Bools, classes: int) -> None:
    if truth.shape != predicted.shape or truth.ndim != 2:
        message = f"the true classes are {list(truth.shape)}, the predicted ones {list(predicted.shape)}; both must be [H, W]"
        raise InvalidArgument("BAD_CLASS_MAP", message)
    for what, values in (("true", truth[counted]), ("predicted", predicted[counted])):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            message = f"the {what} classes are from {values.min()} to {values.max()}; there are {classes}"
            raise InvalidArgument("BAD_CLASS_MAP", message)
