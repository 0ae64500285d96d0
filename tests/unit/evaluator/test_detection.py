"""Detection agrees with pycocotools, on whatever boxes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.evaluator.domain.detection import FoundBoxes, TrueBoxes, detection
from tests.support.coco import coco_figures, our_figures

CLASSES = ("cat", "dog", "bird")


def _world(seed: int, pictures: int, *, crowds: bool = True, ties: bool = False) -> tuple[list[TrueBoxes], list[FoundBoxes]]:
    """Pictures of 0 to 8 objects of every size; detections near them, beside them, and of the wrong class."""
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(pictures):
        count = int(rng.integers(0, 9))
        corner, size = rng.uniform(0, 300, (count, 2)), np.exp(rng.uniform(np.log(6), np.log(250), (count, 2)))
        boxes = np.round(np.concatenate([corner, corner + size], axis=1))
        labels = rng.integers(0, 3, count)
        truths.append(TrueBoxes(boxes, labels, (rng.random(count) < 0.1) & crowds))
        copies = np.repeat(np.arange(count), rng.integers(0, 4, count))
        moved = boxes[copies] + np.round(rng.normal(0, 0.12, (len(copies), 4)) * np.tile(size[copies], 2))
        stray = rng.uniform(0, 300, (int(rng.integers(0, 4)), 2))
        both = np.concatenate([moved, np.concatenate([stray, stray + 40], axis=1)])
        both = np.concatenate([np.minimum(both[:, :2], both[:, 2:]), np.maximum(both[:, :2], both[:, 2:])], axis=1)
        said = np.concatenate([labels[copies], rng.integers(0, 3, len(stray))])
        scores = rng.random(len(both))
        found.append(FoundBoxes(both, said, np.round(scores, 1) if ties else scores))
    return truths, found


@pytest.mark.parametrize("seed", range(6))
def test_detection_agrees_with_pycocotools(seed: int) -> None:
    truths, found = _world(seed, 25, ties=seed % 2 == 1)
    expected, ours = coco_figures(truths, found, CLASSES), our_figures(detection(truths, found, CLASSES, rounds=2))
    assert ours.keys() == expected.keys()
    assert ours == pytest.approx(expected, abs=1e-9)


_BOX = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 120), st.integers(1, 120)).map(
    lambda box: [box[0], box[1], box[0] + box[2], box[1] + box[3]]
)
_TRUE = st.lists(st.tuples(_BOX, st.integers(0, 2), st.booleans()), max_size=5)
_FOUND = st.lists(st.tuples(_BOX, st.integers(0, 2), st.integers(1, 9)), max_size=6)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(_TRUE, _FOUND), min_size=1, max_size=4))
def test_it_agrees_on_whatever_boxes(pictures: list[tuple[list[Any], list[Any]]]) -> None:
    truths = [
        TrueBoxes(
            np.array([box for box, _, _ in true], dtype=np.float64).reshape(-1, 4),
            np.array([label for _, label, _ in true], dtype=np.int64),
            np.array([crowd for _, _, crowd in true], dtype=np.bool_),
        )
        for true, _ in pictures
    ]
    found = [
        FoundBoxes(
            np.array([box for box, _, _ in some], dtype=np.float64).reshape(-1, 4),
            np.array([label for _, label, _ in some], dtype=np.int64),
            np.array([score / 10 for _, _, score in some]),
        )
        for _, some in pictures
    ]
    if not any(len(one.scores) for one in found):  # pycocotools takes no empty result
        return
    expected, ours = coco_figures(truths, found, CLASSES), our_figures(detection(truths, found, CLASSES, rounds=2))
    assert ours == pytest.approx(expected, abs=1e-9)


def test_perfect_boxes_score_1_and_nothing_found_0() -> None:
    truths, _ = _world(0, 20, crowds=False)
    perfect = [FoundBoxes(truth.boxes, truth.labels, np.full(len(truth.labels), 0.9)) for truth in truths]
    assert set(our_figures(detection(truths, perfect, CLASSES)).values()) == {1.0}
    nothing = [FoundBoxes(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0)) for _ in truths]
    assert set(our_figures(detection(truths, nothing, CLASSES)).values()) == {0.0}


def test_intervals_hold_the_value_and_narrow_with_pictures() -> None:
    widths = []
    for pictures in (20, 150):
        metric = detection(*_world(1, pictures), CLASSES).metrics[0]
        assert metric.lower < metric.value < metric.upper
        widths.append(metric.upper - metric.lower)
    assert widths[1] < widths[0] * 0.7


def test_pictures_without_objects_are_no_detection_score() -> None:
    empty = TrueBoxes(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    found = FoundBoxes(np.array([[0.0, 0, 5, 5]]), np.array([0]), np.array([0.5]))
    score = detection([empty], [found], CLASSES)
    assert score.classes == ()
    assert score.metrics == ()


@pytest.mark.parametrize(
    ("boxes", "labels", "scores", "match"),
    [
        ([[5.0, 5, 1, 9]], [0], [0.5], "picture 0: found boxes must be finite"),
        ([[0.0, 0, np.nan, 9]], [0], [0.5], "must be finite"),
        ([[0.0, 0, 5, 9]], [3], [0.5], "classes from 3 to 3; there are 3"),
        ([[0.0, 0, 5, 9]], [0], [np.nan], "a score is not finite"),
        ([[0.0, 0, 5, 9]], [0, 1], [0.5], r"shape \[1, 4\]"),
    ],
)
def test_boxes_that_cannot_be_are_named(boxes: Any, labels: Any, scores: Any, match: str) -> None:
    truth = TrueBoxes(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    with pytest.raises(InvalidArgument, match=match) as caught:
        detection([truth], [FoundBoxes(np.array(boxes), np.array(labels), np.array(scores))], CLASSES)
    assert caught.value.reason == "BAD_BOXES"


def test_three_hundred_pictures_take_seconds() -> None:
    truths, found = _world(3, 300)
    start = time.process_time()
    detection(truths, found, CLASSES)
    assert time.process_time() - start < 10
