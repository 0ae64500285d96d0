"""One figure a picture, 0 to 1, of answers that are many things: what the planner watches where no class is the answer.

The figures are those by which the gate pairs two artifacts (`Task.paired`; docs/evaluation.md defines them). The evaluator works
them out for itself, since services share no code; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.formats.agreement import BOXES, CLASSES, KEYPOINTS, MASK, SCORES
from modelyard.formats.annotations import IGNORED
from modelyard.formats.dataset import (
    IMAGE_MULTILABEL,
    KEYPOINT_DETECTION,
    OBJECT_DETECTION,
    SEMANTIC_SEGMENTATION,
    DatasetReader,
)
from modelyard.formats.keypoints import SIMILARITY, points_of

Array = NDArray[Any]
Answers = Mapping[str, Array]

KNOWN: Final = (OBJECT_DETECTION, SEMANTIC_SEGMENTATION, KEYPOINT_DETECTION, IMAGE_MULTILABEL)
HIT_OVERLAP, SURE, CALLED = 0.5, 0.3, 0.5


def picture_figures(reader: DatasetReader, usage: str, rows: Array, answers: Answers) -> Array:
    """The figures [N] of the examples at `rows` of a usage; answers to these, the first axis of each array."""
    task = reader.descriptor.task
    if task == SEMANTIC_SEGMENTATION:
        annotated = reader.annotations(usage)
        return np.array([_iou(annotated.mask(int(row)), said) for row, said in zip(rows, answers[MASK], strict=True)])
    if task == IMAGE_MULTILABEL:
        return _f1(reader.annotations(usage).several_labels()[rows], answers["probabilities"] >= CALLED)
    facts = reader.picture_facts(usage)
    sizes = np.stack([facts["width"], facts["height"]], axis=1).astype(np.float64).reshape(-1, 2)
    marks = reader.annotations(usage).marks()
    if task == KEYPOINT_DETECTION:
        points, extents = points_of(marks, sizes)
        return _oks(points[rows], extents[rows], sizes[rows], answers[KEYPOINTS].astype(np.float64))
    figures, usable = [], marks.usable
    for place, row in enumerate(rows.tolist()):
        there = np.arange(marks.starts[row], marks.starts[row + 1])
        there = there[usable[there]]
        scores, labels = answers[SCORES][place].astype(np.float64), answers[CLASSES][place]
        kept = (scores > 0) & (labels >= 0)
        boxes = answers[BOXES][place].astype(np.float64) * np.tile(sizes[row], 2)
        figures.append(
            _average_precision(
                marks.boxes[there].astype(np.float64), marks.labels[there], boxes[kept], labels[kept], scores[kept]
            )
        )
    return np.array(figures)


def _iou(truth: Array, said: Array) -> float:
    """picture_iou: at the size of the true mask, mean over the classes that are there or were said to be."""
    rows = ((np.arange(truth.shape[0]) + 0.5) * said.shape[0] / truth.shape[0]).astype(np.int64)
    columns = ((np.arange(truth.shape[1]) + 0.5) * said.shape[1] / truth.shape[1]).astype(np.int64)
    judged = truth != IGNORED
    true, found = truth[judged].astype(np.int64), said[rows[:, None], columns][judged].astype(np.int64)
    right, there, called = (np.bincount(each, minlength=256).astype(np.float64) for each in (true[true == found], true, found))
    union = there + called - right
    known = union > 0
    return float((right[known] / union[known]).mean()) if known.any() else 1.0


def _f1(there: Array, said: Array) -> Array:
    """picture_f1: 2 right labels over labels there and labels given."""
    both = there.sum(axis=1) + said.sum(axis=1)
    return np.where(both > 0, 2 * (there & said).sum(axis=1) / np.maximum(both, 1), 1.0)


def _oks(points: Array, extents: Array, sizes: Array, found: Array) -> Array:
    """picture_oks: mean similarity of the marked points."""
    away = np.linalg.norm((found[..., :2] - points[..., :2]) * sizes[:, None], axis=2)
    share = away / np.maximum(np.sqrt((extents * sizes).prod(axis=1)), 1e-9)[:, None]
    marked = points[..., 2] > 0
    alike = np.where(marked, np.exp(-(share**2) / (2 * SIMILARITY**2)), 0.0)
    counts = marked.sum(axis=1)
    return np.where(counts > 0, alike.sum(axis=1) / np.maximum(counts, 1), 1.0)


def _average_precision(true: Array, true_labels: Array, boxes: Array, labels: Array, scores: Array) -> float:
    """picture_ap50: mean over the classes in the picture, and those found for sure that are not there (0)."""
    order = np.argsort(-scores, kind="stable")
    boxes, labels, scores = boxes[order], labels[order], scores[order]
    overlaps, free = _overlaps(boxes, true), np.ones(len(true), np.bool_)
    hit = np.zeros(len(boxes), np.bool_)
    for row in range(len(boxes)):
        fits = free & (true_labels == labels[row]) & (overlaps[row] >= HIT_OVERLAP)
        if fits.any():
            free[int(np.argmax(np.where(fits, overlaps[row], -1.0)))] = False
            hit[row] = True
    here = np.unique(true_labels)
    wrong = np.setdiff1d(labels[scores >= SURE], here)
    if not len(here) + len(wrong):
        return 1.0
    return float(sum(_area(hit[labels == label], int((true_labels == label).sum())) for label in here) / (len(here) + len(wrong)))


def _area(hit: Array, there: int) -> float:
    if not len(hit):
        return 0.0
    precision = np.maximum.accumulate((np.cumsum(hit) / np.arange(1, len(hit) + 1))[::-1])[::-1]
    return float((precision * hit).sum() / there)


def _overlaps(boxes: Array, true: Array) -> Array:
    """Intersection over union [D, T]."""
    low, high = np.maximum(boxes[:, None, :2], true[None, :, :2]), np.minimum(boxes[:, None, 2:], true[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, true)]
    return np.asarray(shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12))
