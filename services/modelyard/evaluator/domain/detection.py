"""Scores of object detection by COCO's definitions (Lin et al. 2014; the tests compare with pycocotools).

Per class and overlap (intersection over union, 0.50 to 0.95 by 0.05): the detections of a picture, at most 100 a class, take in
the order of their scores the free true box that they overlap most; precision over recall is made falling and read at 101 recalls.
mAP50-95 is the mean over overlaps and classes that occur, mAP50 that at an overlap of 0.5. By size of the true box in square
pixels: small below 32^2, medium to 96^2, large above; boxes of other sizes count neither for nor against.
A crowd (a region of many objects nobody parted) may be hit any number of times, and counts neither for nor against.

Intervals: percentile bootstrap over pictures (Efron 1979), for a picture is what was drawn, not a box.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.evaluator.domain.scores import Metric
from modelyard.statistics import intervals
from modelyard.statistics.intervals import Floats, Ints

Bools = NDArray[np.bool_]

OVERLAPS: Final = np.linspace(0.5, 0.95, 10)
RECALLS: Final = np.linspace(0.0, 1.0, 101)
MOST_DETECTIONS: Final = 100
SIZES: Final = {"": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
_BUDGET: Final = 20_000_000
"""Detections times resamples that a bootstrap may take: about a second."""


@dataclass(frozen=True)
class TrueBoxes:
    """What is in a picture: boxes [G, 4] as (left, top, right, bottom) in pixels, class indices [G], whether a crowd [G].

    `areas` [G] in square pixels (COCO takes those of the outlines); None: those of the boxes.
    """

    boxes: Floats
    labels: Ints
    crowd: Bools
    areas: Floats | None = None


@dataclass(frozen=True)
class FoundBoxes:
    """What a model found in a picture: boxes [D, 4] as in TrueBoxes, class indices [D], scores [D], higher is surer."""

    boxes: Floats
    labels: Ints
    scores: Floats


@dataclass(frozen=True)
class DetectionClass:
    """Figures of one class. `support` is the number of its true boxes, crowds left out."""

    label: str
    support: int
    map_50: Metric
    map_50_95: Metric


@dataclass(frozen=True)
class DetectionScore:
    """`metrics`: map_50_95, map_50, and map_small, map_medium, map_large (of 50-95) where boxes of that size are."""

    picture_count: int
    metrics: tuple[Metric, ...]
    classes: tuple[DetectionClass, ...]


def detection(
    truths: Sequence[TrueBoxes], found: Sequence[FoundBoxes], classes: Sequence[str], *, rounds: int = 0
) -> DetectionScore:
    """Scores one usage: the pictures' true boxes and what was found in them, picture by picture.

    `rounds` is how often to resample the pictures; 0: 1000 times, fewer (100 at least) where that would take long.
    Raises InvalidArgument BAD_BOXES naming the picture and what is wrong with it.
    """
    _check(truths, found, len(classes))
    weights = np.concatenate([np.ones((1, len(truths))), _resampled(len(truths), rounds or _rounds(found))])
    precision = {size: _by_class(truths, found, len(classes), limits, weights) for size, limits in SIZES.items()}
    whole = precision[""]
    means = {"map_50_95": _mean(whole.mean(axis=2)), "map_50": _mean(whole[:, :, 0])}
    means |= {f"map_{size}": _mean(values.mean(axis=2)) for size, values in precision.items() if size}
    metrics = tuple(_metric(name, values) for name, values in means.items() if not math.isnan(values[0]))
    supports = [sum(int(((truth.labels == index) & ~truth.crowd).sum()) for truth in truths) for index in range(len(classes))]
    scores = [
        DetectionClass(name, supports[i], _metric("map_50", whole[:, i, 0]), _metric("map_50_95", whole[:, i].mean(axis=1)))
        for i, name in enumerate(classes)
        if supports[i]
    ]
    return DetectionScore(len(truths), metrics, tuple(scores))


def _metric(name: str, samples: Floats) -> Metric:
    """The first of the samples [1 + B] is the value, the rest its bootstrap."""
    return Metric(name, float(samples[0]), *intervals.percentiles(samples[1:], float(samples[0])))


def _mean(by_class: Floats) -> Floats:
    """Mean over the classes that occur (are not NaN): [1 + B, K] to [1 + B]."""
    here = ~np.isnan(by_class)
    count = here.sum(axis=1)
    total = np.where(here, by_class, 0.0).sum(axis=1)
    return np.asarray(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0), dtype=np.float64)


def _rounds(found: Sequence[FoundBoxes]) -> int:
    total = sum(len(one.scores) for one in found)
    return int(np.clip(_BUDGET // (max(total, 1) * len(OVERLAPS)), 100, 1000))


def _resampled(pictures: int, rounds: int) -> Floats:
    rng = np.random.default_rng(intervals.SEED)
    return rng.multinomial(pictures, np.full(pictures, 1 / pictures), size=rounds).astype(np.float64)


# Average precision


def _by_class(
    truths: Sequence[TrueBoxes], found: Sequence[FoundBoxes], classes: int, limits: tuple[float, float], weights: Floats
) -> Floats:
    """Average precision [W, K, T] by class and overlap under each row of picture weights [W, P]; NaN where no true box counts."""
    out = np.full((len(weights), classes, len(OVERLAPS)), np.nan)
    for index in range(classes):
        matched = [_match(*_of_class(truth, one, index), limits) for truth, one in zip(truths, found, strict=True)]
        out[:, index] = _average_precision(matched, weights)
    return out


@dataclass(frozen=True)
class _Matched:
    """One picture and class: scores [D] falling; by overlap whether each detection hits [T, D] or is left out [T, D]."""

    scores: Floats
    hit: Bools
    ignored: Bools
    positives: int


def _of_class(truth: TrueBoxes, found: FoundBoxes, index: int) -> tuple[Floats, Floats, Bools, Floats, Floats]:
    ours, theirs = truth.labels == index, np.flatnonzero(found.labels == index)
    order = theirs[np.argsort(-found.scores[theirs], kind="stable")][:MOST_DETECTIONS]
    areas = _areas(truth.boxes) if truth.areas is None else truth.areas
    return truth.boxes[ours], areas[ours], truth.crowd[ours], found.boxes[order], found.scores[order]


def _match(boxes: Floats, areas: Floats, crowd: Bools, found: Floats, scores: Floats, limits: tuple[float, float]) -> _Matched:
    aside = crowd | (areas < limits[0]) | (areas > limits[1])
    overlaps = overlap(found, boxes, crowd)
    hit = np.zeros((len(OVERLAPS), len(found)), np.bool_)
    ignored = np.zeros_like(hit)
    free = np.ones((len(OVERLAPS), len(aside)), np.bool_)
    for row in np.flatnonzero((overlaps >= OVERLAPS[0]).any(axis=1)):
        fits = (free | crowd) & (overlaps[row] >= np.minimum(OVERLAPS, 1 - 1e-10)[:, None])
        counted, taken = _last_best(fits & ~aside, overlaps[row])
        spared, instead = _last_best(fits & aside, overlaps[row])
        hit[:, row], ignored[:, row] = counted, ~counted & spared
        either = counted | spared
        free[either, np.where(counted, taken, instead)[either]] = False
    size = _areas(found)
    outside = (size < limits[0]) | (size > limits[1])
    return _Matched(scores, hit, ignored | (outside & ~hit), int((~aside).sum()))


def _last_best(fits: Bools, overlaps: Floats) -> tuple[Bools, Ints]:
    """By overlap asked for: whether a box fits [T], and which of those that do is overlapped most, of equals the last [T]."""
    ranked = np.where(fits, overlaps, -1.0)[:, ::-1]
    return np.asarray(fits.any(axis=1)), np.asarray(len(overlaps) - 1 - ranked.argmax(axis=1), dtype=np.int64)


def overlap(found: Floats, boxes: Floats, crowd: Bools) -> Floats:
    """Intersection over union [D, G]; over the found box alone where the true one is a crowd. 0 where both are empty."""
    low = np.maximum(found[:, None, :2], boxes[None, :, :2])
    high = np.minimum(found[:, None, 2:], boxes[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    own = _areas(found)[:, None]
    whole = np.where(crowd[None], own, own + _areas(boxes)[None] - shared)
    return np.asarray(np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0), dtype=np.float64)


def _areas(boxes: Floats) -> Floats:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), dtype=np.float64)


def _average_precision(matched: Sequence[_Matched], weights: Floats) -> Floats:
    """[W, T]; NaN where a row of weights holds no true box."""
    positives = weights @ np.array([one.positives for one in matched], dtype=np.float64)
    if not any(one.positives for one in matched):
        return np.full((len(weights), len(OVERLAPS)), np.nan)
    scores = np.concatenate([one.scores for one in matched])
    order = np.argsort(-scores, kind="stable")
    picture = np.repeat(np.arange(len(matched)), [len(one.scores) for one in matched])[order]
    hit = np.concatenate([one.hit for one in matched], axis=1)[:, order]
    ignored = np.concatenate([one.ignored for one in matched], axis=1)[:, order]
    out = np.empty((len(weights), len(OVERLAPS)))
    for rows in _pieces(len(weights), len(order)):
        drawn = weights[rows][:, picture]
        for number in range(len(OVERLAPS)):
            kept = ~ignored[number]
            out[rows, number] = _area_under(drawn[:, kept], hit[number, kept], positives[rows])
    return out


def _pieces(rounds: int, width: int) -> Iterator[slice]:
    """Rows that are worked on at once, so that memory stays bounded."""
    step = max(1, 2_000_000 // max(width, 1))
    return (slice(start, start + step) for start in range(0, rounds, step))


def _area_under(drawn: Floats, hit: Bools, positives: Floats) -> Floats:
    """Mean of the falling precision at 101 recalls [W]: weights by falling score [W, D], hits [D], true boxes there are [W].

    NaN where there is no true box.
    """
    hits, called = np.cumsum(drawn * hit, axis=1), np.cumsum(drawn, axis=1)
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    falling = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate([falling, np.zeros((len(drawn), 1))], axis=1)
    recall = np.divide(hits, positives[:, None], out=np.zeros_like(hits), where=positives[:, None] > 0)
    area = np.take_along_axis(padded, _places(recall), axis=1).mean(axis=1)
    return np.asarray(np.where(positives > 0, area, np.nan), dtype=np.float64)


def _places(recall: Floats) -> Ints:
    """Where each row of rising recalls [W, D] first reaches each of RECALLS [W, 101]; D where it does not.

    One search over all rows: each is lifted above the one before, the first by nothing, so that it is exact.
    """
    lift = 2.0 * np.arange(len(recall))[:, None]
    found = np.searchsorted((recall + lift).ravel(), (RECALLS + lift).ravel()).reshape(len(recall), -1)
    return np.asarray(found - recall.shape[1] * np.arange(len(recall))[:, None], dtype=np.int64)


# What may come in


def _check(truths: Sequence[TrueBoxes], found: Sequence[FoundBoxes], classes: int) -> None:
    if len(truths) != len(found) or not truths:
        raise _bad(
            f"there are {len(truths)} pictures with true boxes and {len(found)} that were looked at; both must be the same"
        )
    for number, (truth, one) in enumerate(zip(truths, found, strict=True)):
        for what, boxes, labels in (("true", truth.boxes, truth.labels), ("found", one.boxes, one.labels)):
            problem = _problem(boxes, labels, classes)
            if problem:
                raise _bad(f"picture {number}: {what} boxes {problem}")
        if len(truth.crowd) != len(truth.labels) or len(one.scores) != len(one.labels):
            raise _bad(f"picture {number}: there is not one class, score and crowd mark a box")
        if not np.isfinite(one.scores).all():
            raise _bad(f"picture {number}: a score is not finite")


def _problem(boxes: Floats, labels: Ints, classes: int) -> str:
    if boxes.shape != (len(labels), 4):
        return f"are of the shape {list(boxes.shape)}; {len(labels)} classes need [{len(labels)}, 4]"
    if not np.isfinite(boxes).all() or (boxes[:, 2:] < boxes[:, :2]).any():
        return "must be finite, right of left and below top"
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        return f"have classes from {labels.min()} to {labels.max()}; there are {classes}"
    return ""


def _bad(message: str) -> InvalidArgument:
    return InvalidArgument("BAD_BOXES", message)
