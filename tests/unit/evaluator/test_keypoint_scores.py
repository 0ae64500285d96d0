"""Figures of key points, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from modelyard.evaluator.domain.keypoints import PointPairs, metrics_of, picture_oks, point_scores, reading_errors
from modelyard.formats.agreement import agreement
from modelyard.formats.dataset_annotated import Marks
from modelyard.formats.keypoints import points_of, several_objects

NAMES = ("centre", "tip", "begin", "end")
PLACES = np.array([[50.0, 50.0], [50.0, 20.0], [29.0, 71.0], [71.0, 71.0]])


def pairs(found: np.ndarray, *, marked: object = True, scores: float = 0.9) -> PointPairs:
    count = len(found)
    true = np.broadcast_to(PLACES, (count, 4, 2)).copy()
    known = np.broadcast_to(np.asarray(marked, bool), (count, 4)).copy()
    return PointPairs(true, known, found, np.full((count, 4), scores), np.full(count, 100.0))


def named(of: PointPairs) -> dict[str, float]:
    return {metric.name: metric.value for metric in metrics_of(of, NAMES)}


def test_right_points_have_the_best_of_everything() -> None:
    found = named(pairs(PLACES[None].repeat(3, 0)))
    assert found == pytest.approx(
        {
            "picture_oks": 1,
            "oks_50_95": 1,
            "pck_10": 1,
            "pck_05": 1,
            "normalised_error": 0,
            "reading_error": 0,
            "reading_within_2": 1,
        }
    )


def test_a_point_that_is_off_by_a_tenth_of_the_object() -> None:
    moved = PLACES.copy()
    moved[0] += (10.0, 0.0)
    one = pairs(moved[None])
    assert picture_oks(one) == pytest.approx([(3 + np.exp(-0.5)) / 4])
    found = named(one)
    assert found["pck_05"] == 0.75
    assert found["pck_10"] == 1.0
    assert found["normalised_error"] == pytest.approx(0.025)


def test_points_that_are_not_marked_are_not_judged() -> None:
    wrong = PLACES + 40.0
    wrong[0] = PLACES[0]
    of = pairs(wrong[None], marked=[True, False, False, False])
    assert named(of)["pck_05"] == 1.0
    assert "reading_error" not in named(of)  # the truth does not say what it shows
    assert picture_oks(pairs(wrong[None], marked=False)) == [1.0]


def test_a_reading_is_off_by_the_share_of_the_scale() -> None:
    moved = PLACES.copy()
    moved[1] = (80.0, 50.0)  # the pointer a quarter turn on, of three quarters
    assert reading_errors(pairs(moved[None]), NAMES) == pytest.approx([1 / 3], abs=1e-3)
    assert named(pairs(moved[None]))["reading_within_2"] == 0.0


def test_each_point_has_figures_of_its_own() -> None:
    moved = PLACES.copy()
    moved[3] += 30.0
    scores = point_scores(pairs(np.stack([PLACES, moved])), NAMES)
    assert [one.label for one in scores] == list(NAMES)
    assert [one.precision.value for one in scores] == [1.0, 1.0, 1.0, 0.5]
    assert point_scores(pairs(PLACES[None], scores=0.1), NAMES)[0].recall.value == 0.0


def _marks() -> Marks:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 40, 20], [5, 5, 6, 6]], np.float32)
    keypoints = np.zeros((3, 2, 3), np.float32)
    keypoints[0, :, 2] = keypoints[1, 0, 2] = 2
    keypoints[1, 0, :2] = 20, 10
    return Marks(np.array([0, 2, 3, 3]), np.zeros(3, np.int64), boxes, keypoints, None, None)  # type: ignore[arg-type]


def test_the_largest_object_with_points_counts() -> None:
    points, extents = points_of(_marks(), np.full((3, 2), 80.0))
    assert points[0].tolist() == [[0.25, 0.125, 1.0], [0.0, 0.0, 0.0]]
    assert points[1:].any() is np.False_
    assert extents.tolist() == [[0.5, 0.25], [0, 0], [0, 0]]
    assert several_objects(_marks()) == 1


def test_answers_agree_where_points_do() -> None:
    one = np.array([[[0.5, 0.5, 0.9], [0.1, 0.1, 0.05]]], np.float32)
    other = np.array([[[0.51, 0.5, 0.92], [0.9, 0.9, 0.06]]], np.float32)  # the second is hardly found by either
    same = agreement("keypoint_detection", {"keypoints": one}, {"keypoints": other}, 0.02)
    assert (same.share, same.difference) == (1.0, pytest.approx(0.02, abs=1e-6))
    other[0, 0, 0] = 0.6
    assert agreement("keypoint_detection", {"keypoints": one}, {"keypoints": other}, 0.02).share == 0.5
