"""The answers of several people to one example become one: by majority, classes also by Dawid and Skene's reliabilities.

Objects of different people are matched by overlap (matching.py); one that more than half of the people marked stays, with the
mean of its boxes and points, the majority of its pixels, class and attributes. Ranges go by the majority of each step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain.answers import Answer, Facts, same
from modelyard.dataset.domain.dawid_skene import Estimate, dawid_skene
from modelyard.dataset.domain.label_schema import CLASS, CLASSES, MASK, POLYGON, RANGE, TEXT, LabelSchema
from modelyard.dataset.domain.matching import box_overlaps, mask_overlap, matched
from modelyard.formats import annotations_rle
from modelyard.formats.annotations import Box, Interval, Mark, snap, snap_all

MAJORITY, DAWID_SKENE = "majority", "dawid_skene"
METHODS = (MAJORITY, DAWID_SKENE)

LEAST_OVERLAP = 0.5
"""Objects that overlap less are different ones."""

SURE = 0.8
"""The least probability of a class by Dawid and Skene's model that counts as a consensus."""

PRIOR = 0.1
_MOST_CELLS = 20_000_000


@dataclass(frozen=True)
class Consensus:
    """One answer of several. confidence: 0 to 1 (share of the people, or the model's probability); agreements: how far each
    person's answer is that one, 0 to 1; `settled`: whether it may stand for all of them."""

    answer: Answer
    confidence: float
    settled: bool
    agreements: Mapping[str, float] = field(default_factory=dict)


def consensus(answers: Mapping[str, Answer], schema: LabelSchema, facts: Facts, least: float = 0.0) -> Consensus:
    """By majority, of one person's answer or more. `least`: the least confidence of a settled one, beside more than half."""
    said = list(answers.values())
    if len(said) == 1 or all(same(said[0], each) for each in said[1:]):
        return Consensus(said[0], 1.0, least <= 1.0, dict.fromkeys(answers, 1.0))
    made, confidence, clear = _joined(said, schema, facts)
    agreements = {name: agreement(each, made, schema, facts) for name, each in answers.items()}
    return Consensus(made, confidence, clear and confidence >= least, agreements)


def by_reliability(
    answers: Sequence[Mapping[str, Answer]], schema: LabelSchema, least: float = 0.0
) -> tuple[list[Consensus | None], Estimate, list[str]]:
    """Of many examples with one class each: the consensus of each (None: no answer), the estimate behind it, and its people."""
    people = sorted({name for each in answers for name in each})
    names = schema.class_names
    of_person, of_class = ({name: place for place, name in enumerate(known)} for known in (people, names))
    votes = [
        (place, of_person[name], of_class[said.label])
        for place, each in enumerate(answers)
        for name, said in each.items()
        if said.label in of_class
    ]
    table = np.asarray(votes, np.int64).reshape(-1, 3)
    sizes = (len(answers), len(people), len(names))
    estimate = dawid_skene(table[:, 0], table[:, 1], table[:, 2], sizes, prior=PRIOR)
    best = estimate.probabilities.argmax(axis=1)
    found: list[Consensus | None] = []
    for place, each in enumerate(answers):
        if not each:
            found.append(None)
            continue
        label, sure = names[best[place]], float(estimate.probabilities[place, best[place]])
        agreements = {name: float(said.label == label) for name, said in each.items()}
        made = replace(_majority_of_rest(list(each.values())), classes=(label,))
        alone = len(each) == 1  # nobody to weigh it against: it stands as it is
        if alone:
            made, sure = next(iter(each.values())), 1.0
            agreements = dict.fromkeys(each, 1.0)
        found.append(Consensus(made, sure, sure >= (least or SURE), agreements))
    return found, estimate, people


def weighs_people(method: str, schema: LabelSchema, answers: Sequence[Mapping[str, Answer]]) -> bool:
    """Whether Dawid and Skene's model is used: for one class an example, when asked or where it has enough to go by."""
    if CLASS not in schema.shapes or method == MAJORITY:
        return False
    people = {name for each in answers for name in each}
    if len(people) * len(schema.classes) ** 2 > _MOST_CELLS:
        return False
    together = sum(len(each) >= 2 for each in answers)
    return method == DAWID_SKENE or (len(people) >= 3 and together >= 10)


def agreement(one: Answer, other: Answer, schema: LabelSchema, facts: Facts) -> float:
    """How far two answers agree, 0 to 1: classes and texts equal or not, several classes by Jaccard's index, objects by their
    mean overlap (an object that only one has counts 0), ranges by the share of steps under the same class."""
    parts = []
    if CLASS in schema.shapes:
        parts.append(float(one.classes == other.classes))
    if CLASSES in schema.shapes:
        together = set(one.classes) | set(other.classes)
        parts.append(len(set(one.classes) & set(other.classes)) / len(together) if together else 1.0)
    if one.marks or other.marks:
        parts.append(_object_agreement(one.marks, other.marks, facts))
    if RANGE in schema.shapes and (one.intervals or other.intervals):
        parts.append(_range_agreement(one.intervals, other.intervals))
    if TEXT in schema.shapes:
        parts.append(float(_plain(one.text) == _plain(other.text)))
    if one.attributes or other.attributes:
        names = set(one.attributes) | set(other.attributes)
        parts.append(sum(one.attributes.get(name) == other.attributes.get(name) for name in names) / len(names))
    return sum(parts) / len(parts) if parts else 1.0


def _joined(said: Sequence[Answer], schema: LabelSchema, facts: Facts) -> tuple[Answer, float, bool]:
    """The answer, how sure it is, and whether more than half stand behind each part of it."""
    parts: list[tuple[float, bool]] = []
    made = _majority_of_rest(said)
    if CLASS in schema.shapes:
        label, share, clear = _most(each.label for each in said)
        made = replace(made, classes=(label,))
        parts.append((share, clear))
    if CLASSES in schema.shapes:
        shares = {name: sum(name in each.classes for each in said) / len(said) for name in schema.class_names}
        made = replace(made, classes=tuple(name for name, share in shares.items() if share > 0.5))
        parts.append((min((max(share, 1 - share) for share in shares.values()), default=1.0), 0.5 not in shares.values()))
    if any(each.marks for each in said):
        marks, share, clear = _joined_marks([each.marks for each in said], schema, facts)
        made = replace(made, marks=marks)
        parts.append((share, clear))
    if any(each.intervals for each in said):
        intervals, share, clear = _joined_ranges([each.intervals for each in said])
        made = replace(made, intervals=intervals)
        parts.append((share, clear))
    if TEXT in schema.shapes:
        text, share, clear = _most(_plain(each.text) for each in said)
        made = replace(made, text=next(each.text for each in said if _plain(each.text) == text))
        parts.append((share, clear))
    if not parts:
        return made, 1.0, True
    return made, min(share for share, _ in parts), all(clear for _, clear in parts)


def _majority_of_rest(said: Sequence[Answer]) -> Answer:
    """The attributes of the example, each by majority."""
    return Answer(attributes=_joined_attributes([each.attributes for each in said]))


def _joined_attributes(said: Sequence[Mapping[str, str]]) -> dict[str, str]:
    names = sorted({name for each in said for name in each})
    found = {name: _most(each.get(name, "") for each in said)[0] for name in names}
    return {name: value for name, value in found.items() if value}


def _most(values: Iterable[str]) -> tuple[str, float, bool]:
    """The most frequent value (of equals the first), its share, and whether more than half have it."""
    counts = Counter(values)
    value, count = counts.most_common(1)[0]
    total = counts.total()
    return value, count / total, 2 * count > total


def _plain(text: str) -> str:
    return " ".join(text.split())


# Objects


def _joined_marks(said: Sequence[Sequence[Mark]], schema: LabelSchema, facts: Facts) -> tuple[tuple[Mark, ...], float, bool]:
    if not any(mark.keypoints for marks in said for mark in marks) and _is_of_pixels(said, schema):
        return _joined_pixels(said, schema, facts)
    clusters = _clusters(said, facts)
    count = len(said)
    kept = [cluster for cluster in clusters if 2 * len(cluster) > count]
    # One that exactly half of the people marked is neither there nor not.
    clear = all(2 * len(cluster) != count for cluster in clusters)
    made, shares = [], []
    for cluster in kept:
        mark, sure = _joined_mark(cluster, facts)
        made.append(mark)
        shares.append(len(cluster) / count)
        clear = clear and sure
    missed = [1 - len(cluster) / count for cluster in clusters if 2 * len(cluster) <= count]
    return tuple(made), min([*shares, *missed], default=1.0), clear


def _is_of_pixels(said: Sequence[Sequence[Mark]], schema: LabelSchema) -> bool:
    """Whether classes of pixels are asked, not objects: masks, at most one for each class and person."""
    if MASK not in schema.shapes or POLYGON in schema.shapes:
        return False
    return all(len({mark.label for mark in marks}) == len(marks) for marks in said)


def _joined_pixels(said: Sequence[Sequence[Mark]], schema: LabelSchema, facts: Facts) -> tuple[tuple[Mark, ...], float, bool]:
    """For each class the pixels that more than half gave it."""
    labels = [name for name in schema.class_names if any(mark.label == name for marks in said for mark in marks)]
    made, shares = [], []
    for label in labels:
        votes = np.zeros((facts.height, facts.width), np.uint16)
        given = [pixels_of(mark, facts) for marks in said for mark in marks if mark.label == label]
        for each in given:
            votes += each
        mask = (2 * votes > len(said)).astype(np.uint8)
        shares.append(float(np.mean([mask_overlap(mask, each) for each in given])) if given else 1.0)
        if mask.any():
            made.append(Mark(label, annotations_rle.box_of(mask), mask=annotations_rle.encode(mask)))
    confidence = float(np.mean(shares)) if shares else 1.0
    return tuple(made), confidence, confidence > 0.5


def _clusters(said: Sequence[Sequence[Mark]], facts: Facts) -> list[list[Mark]]:
    """The same object of different people, at most one of each person."""
    clusters: list[list[Mark]] = []
    for marks in said:
        if not marks:
            continue
        if not clusters:
            clusters = [[mark] for mark in marks]
            continue
        overlaps = _overlaps([_middle(cluster) for cluster in clusters], marks, facts)
        pairs = {column: row for row, column in matched(overlaps, LEAST_OVERLAP)}
        for place, mark in enumerate(marks):
            if place in pairs:
                clusters[pairs[place]].append(mark)
            else:
                clusters.append([mark])
    return clusters


def _middle(cluster: Sequence[Mark]) -> Mark:
    """What stands for a cluster when the next person's objects are compared with it."""
    if len(cluster) == 1:
        return cluster[0]
    if any(mark.mask or mark.polygons for mark in cluster):
        return cluster[0]
    return replace(cluster[0], box=_mean_box(cluster))


def _overlaps(one: Sequence[Mark], other: Sequence[Mark], facts: Facts) -> npt.NDArray[np.float64]:
    """Overlaps [N, M]: of boxes; where both have an outline or pixels, of these. The same class wins among equals."""
    boxes = [np.asarray([mark.box for mark in marks], np.float64).reshape(-1, 4) for marks in (one, other)]
    found = box_overlaps(*boxes)
    for row, left in enumerate(one):
        for column, right in enumerate(other):
            if not (left.mask or left.polygons) or not (right.mask or right.polygons) or not found[row, column]:
                continue
            found[row, column] = mask_overlap(pixels_of(left, facts), pixels_of(right, facts))
    alike = np.asarray([[left.label == right.label for right in other] for left in one], np.bool_).reshape(found.shape)
    return np.where(alike & (found > 0), np.minimum(found + 1e-6, 1.0 + 1e-6), found)


def pixels_of(mark: Mark, facts: Facts) -> npt.NDArray[np.uint8]:
    """The pixels of an object, uint8 [height, width]: from its mask, else its outline, else its box."""
    if mark.mask:
        return annotations_rle.decode(mark.mask, facts.height, facts.width)
    left, top, right, bottom = mark.box
    rings = mark.polygons or ((left, top, right, top, right, bottom, left, bottom),)
    return annotations_rle.fill(rings, facts.height, facts.width)


def _joined_mark(cluster: Sequence[Mark], facts: Facts) -> tuple[Mark, bool]:
    label, _, clear = _most(mark.label for mark in cluster)
    attributes = _joined_attributes([mark.attributes for mark in cluster])
    if len(cluster) == 1:
        return replace(cluster[0], attributes=attributes), clear
    if any(mark.mask or mark.polygons for mark in cluster):
        votes = np.zeros((facts.height, facts.width), np.uint16)
        for mark in cluster:
            votes += pixels_of(mark, facts)
        mask = (2 * votes > len(cluster)).astype(np.uint8)
        if mask.any():
            made = Mark(label, annotations_rle.box_of(mask), mask=annotations_rle.encode(mask), attributes=attributes)
            return made, clear
    return Mark(label, _mean_box(cluster), keypoints=_mean_points(cluster), attributes=attributes), clear


def _mean_box(cluster: Sequence[Mark]) -> Box:
    left, top, right, bottom = np.mean([mark.box for mark in cluster], axis=0).tolist()
    return snap(left), snap(top), snap(right), snap(bottom)


def _mean_points(cluster: Sequence[Mark]) -> tuple[float, ...]:
    """Each point where those who marked it put it on average; marked if more than half did, visible as most of them say."""
    marked = [np.asarray(mark.keypoints, np.float64).reshape(-1, 3) for mark in cluster if mark.keypoints]
    if not marked:
        return ()
    points = np.stack(marked)  # [people, points, 3]
    seen = points[:, :, 2] > 0
    often = seen.sum(axis=0)
    place = (points[:, :, :2] * seen[:, :, None]).sum(axis=0) / np.maximum(often, 1)[:, None]
    visible = np.where(2 * (points[:, :, 2] == 2).sum(axis=0) >= often, 2, 1)
    is_there = 2 * often > len(marked)
    out = np.where(is_there[:, None], np.column_stack([place, visible]), 0.0)
    return snap_all(out.ravel().tolist())


def _object_agreement(one: Sequence[Mark], other: Sequence[Mark], facts: Facts) -> float:
    if not one or not other:
        return 0.0
    overlaps = np.minimum(_overlaps(one, other, facts), 1.0)
    pairs = matched(overlaps, 1e-9)
    shared = sum(float(overlaps[row, column]) for row, column in pairs if one[row].label == other[column].label)
    return shared / (len(one) + len(other) - len(pairs))


# Ranges


def _joined_ranges(said: Sequence[Sequence[Interval]]) -> tuple[tuple[Interval, ...], float, bool]:
    """For each class the steps that more than half put under it."""
    made: list[Interval] = []
    shares = []
    for label in sorted({each.label for ranges in said for each in ranges}):
        edges = sorted({edge for ranges in said for each in ranges if each.label == label for edge in (each.start, each.end)})
        votes = [
            sum(any(each.label == label and each.start <= low < each.end for each in ranges) for ranges in said)
            for low in edges[:-1]
        ]
        lengths = [high - low for low, high in pairwise(edges)]
        kept = [2 * vote > len(said) for vote in votes]
        both = sum(length for length, vote in zip(lengths, votes, strict=True) if vote == len(said))
        any_ = sum(length for length, vote in zip(lengths, votes, strict=True) if vote)
        shares.append(both / any_ if any_ else 1.0)
        for low, high, keep in zip(edges[:-1], edges[1:], kept, strict=True):
            if keep and made and made[-1].label == label and made[-1].end == low:
                made[-1] = Interval(made[-1].start, high, label)
            elif keep:
                made.append(Interval(low, high, label))
    confidence = float(np.mean(shares)) if shares else 1.0
    ordered = tuple(sorted(made, key=lambda each: (each.start, each.end, each.label)))
    return ordered, confidence, bool(made) or len(said) > 2


def _range_agreement(one: Sequence[Interval], other: Sequence[Interval]) -> float:
    """Steps that both put under a class, of those that either does; each class for itself."""
    both = either = 0
    for label in {each.label for each in (*one, *other)}:
        edges = sorted({edge for each in (*one, *other) if each.label == label for edge in (each.start, each.end)})
        for low, high in pairwise(edges):
            inside = [any(e.label == label and e.start <= low < e.end for e in ranges) for ranges in (one, other)]
            both += (high - low) * all(inside)
            either += (high - low) * any(inside)
    return both / either if either else 1.0
