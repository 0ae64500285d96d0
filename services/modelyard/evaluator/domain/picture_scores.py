"""One figure a picture where an answer is many things (boxes, pixels, several labels): for pairing, slices, and the worst
examples.

A picture is what was drawn at random, so it is what two artifacts are compared by; docs/evaluation.md defines each figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelyard.evaluator.domain.detection import FoundBoxes, TrueBoxes, overlap
from modelyard.evaluator.domain.scores import ClassScore, ExampleScore, Metric, Paired
from modelyard.statistics import intervals
from modelyard.statistics.intervals import Floats, Ints

Bools = NDArray[np.bool_]

HIT_OVERLAP: Final = 0.5
SURE: Final = 0.3
"""A box with this score or more, of a class that is not in the picture, counts against it."""
MOST_WORST: Final = 50


def mean_of(name: str, values: Floats) -> Metric:
    """The mean of figures [N], 0 to 1, with its bootstrap interval."""
    value = float(values.mean())
    return Metric(name, value, *intervals.percentiles(intervals.bootstrap_means(values[:, None])[:, 0], value))


def paired(name: str, mine: Floats, theirs: Floats) -> Paired:
    """Figures of the same pictures [N] against those of a baseline, higher is better."""
    gains = mine - theirs
    gain, (lower, upper), p_value = intervals.paired_mean(gains)
    return Paired(name, len(gains), gain, lower, upper, p_value, int((gains > 0).sum()), int((gains < 0).sum()))


def worst(
    usage: str, ids: Sequence[str], values: Floats, said: Sequence[str], labels: Sequence[str], sure: Floats
) -> tuple[ExampleScore, ...]:
    """The pictures with the lowest figures that are below 1, at most MOST_WORST. said, labels: answer and truth in words."""
    order = [int(row) for row in np.argsort(values, kind="stable")[:MOST_WORST] if values[row] < 1]
    return tuple(ExampleScore(ids[row], usage, labels[row], said[row], float(sure[row]), 1 - float(values[row])) for row in order)


# Boxes


@dataclass(frozen=True)
class Hits:
    """What of a picture was found: scores [D] falling, classes [D], whether each is a hit [D]; true boxes by class [K]."""

    scores: Floats
    labels: Ints
    hit: Bools
    there: Ints


def hits_of(truth: TrueBoxes, found: FoundBoxes, classes: int) -> Hits:
    """In the order of their scores the boxes take the free true box of their class that they overlap most, from 0.5 on."""
    order = np.argsort(-found.scores, kind="stable")
    boxes, labels, scores = found.boxes[order], found.labels[order], found.scores[order]
    counted = ~truth.crowd
    overlaps = overlap(boxes, truth.boxes, truth.crowd)
    free, hit = counted.copy(), np.zeros(len(scores), np.bool_)
    for row in range(len(scores)):
        fits = free & (truth.labels == labels[row]) & (overlaps[row] >= HIT_OVERLAP)
        if fits.any():
            free[int(np.argmax(np.where(fits, overlaps[row], -1.0)))] = False
            hit[row] = True
    return Hits(scores, labels, hit, np.bincount(truth.labels[counted], minlength=classes))


def picture_ap(picture: Hits) -> float:
    """picture_ap50: mean over the classes in the picture (and those that were found for sure but are not there, with 0) of the
    average precision; of a picture with nothing in it 1 unless something was found for sure."""
    here = np.flatnonzero(picture.there)
    wrong = np.setdiff1d(picture.labels[picture.scores >= SURE], here)
    areas = [_average_precision(picture.hit[picture.labels == label], int(picture.there[label])) for label in here]
    return float(np.sum(areas) / (len(here) + len(wrong))) if len(here) + len(wrong) else 1.0


def _average_precision(hit: Bools, there: int) -> float:
    if not len(hit):
        return 0.0
    precision = np.maximum.accumulate((np.cumsum(hit) / np.arange(1, len(hit) + 1))[::-1])[::-1]
    return float((precision * hit).sum() / there)


def best_score_threshold(pictures: Sequence[Hits]) -> float:
    """The score from which on boxes count, so that F1 over all of them is best; 0.5 where nothing was found."""
    scores = np.concatenate([one.scores for one in pictures]) if pictures else np.empty(0)
    if not len(scores):
        return 0.5
    hit = np.concatenate([one.hit for one in pictures])
    there = sum(int(one.there.sum()) for one in pictures)
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(hit[order])
    f1 = 2 * found / (np.arange(1, len(order) + 1) + max(there, 1))
    return float(scores[order[int(f1.argmax())]])


def class_scores(
    pictures: Sequence[Hits], classes: Sequence[str], threshold: float, extra: Mapping[str, Sequence[Metric]]
) -> tuple[ClassScore, ...]:
    """Of each class that occurs precision, recall and F1 of the boxes from the threshold on; `extra` figures by class."""
    counts = np.zeros((len(pictures), len(classes), 3))
    for place, one in enumerate(pictures):
        called = one.scores >= threshold
        counts[place, :, 0] = np.bincount(one.labels[called & one.hit], minlength=len(classes))
        counts[place, :, 1] = np.bincount(one.labels[called], minlength=len(classes))
        counts[place, :, 2] = one.there
    return rates(counts, classes, extra)


def rates(counts: Floats, classes: Sequence[str], extra: Mapping[str, Sequence[Metric]]) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 of the classes that occur, from right calls, calls and what is there by picture [N, K, 3]."""
    whole = counts.sum(axis=0)[None]
    drawn = intervals.bootstrap_means(counts.reshape(len(counts), -1)).reshape(-1, *counts.shape[1:])
    values, samples = _rates(whole), _rates(drawn)
    out = []
    for index, name in enumerate(classes):
        if whole[0, index, 2]:
            precision, recall, f1 = (
                Metric(what, float(each[0, index]), *intervals.percentiles(drawn_each[:, index], float(each[0, index])))
                for what, each, drawn_each in zip(("precision", "recall", "f1"), values, samples, strict=True)
            )
            support = int(whole[0, index, 2])
            out.append(ClassScore(name, support, precision, recall, f1, metrics=tuple(extra.get(name, ()))))
    return tuple(out)


def _rates(counts: Floats) -> tuple[Floats, Floats, Floats]:
    right, called, there = counts[..., 0], counts[..., 1], counts[..., 2]

    def share(part: Floats, of: Floats) -> Floats:
        return np.asarray(np.divide(part, of, out=np.zeros_like(part), where=of > 0), dtype=np.float64)

    return share(right, called), share(right, there), share(2 * right, called + there)


def counted_text(labels: Ints, classes: Sequence[str]) -> str:
    """ "14 RBC, 1 WBC"; "nothing"."""
    counts = np.bincount(labels, minlength=len(classes))
    return ", ".join(f"{counts[index]} {name}" for index, name in enumerate(classes) if counts[index]) or "nothing"
