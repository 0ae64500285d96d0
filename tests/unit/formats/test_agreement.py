"""Answers that say the same although their numbers are in other places, and those that do not."""

from __future__ import annotations

import numpy as np
import pytest

from modelyard.formats.agreement import agreement, least_share


def found(*rows: tuple[float, ...], most: int = 5) -> dict[str, np.ndarray]:
    """One picture: (score, class, left, top, right, bottom) by falling score."""
    boxes, scores, classes = np.zeros((1, most, 4), np.float32), np.zeros((1, most), np.float32), np.full((1, most), -1)
    for place, (score, label, *box) in enumerate(rows):
        scores[0, place], classes[0, place], boxes[0, place] = score, label, box
    return {"boxes": boxes, "scores": scores, "classes": classes}


A, B = (0.9, 0, 0.1, 0.1, 0.5, 0.5), (0.899, 1, 0.5, 0.5, 0.9, 0.9)


def test_two_boxes_may_change_places() -> None:
    alike = agreement("object_detection", found(A, B), found((0.9, *B[1:]), (0.899, *A[1:])), 0.02)
    assert alike.share == 1.0
    assert alike.difference == pytest.approx(0.001, abs=1e-6)


@pytest.mark.parametrize(
    "other", [found(A), found(A, (0.899, 0, *B[2:])), found(A, (0.5, *B[1:])), found(A, (0.899, 1, 0.4, 0.5, 0.9, 0.9))]
)
def test_a_box_that_is_missing_or_another_counts_in_both_directions(other: dict[str, np.ndarray]) -> None:
    share = agreement("object_detection", found(A, B), other, 0.02).share
    assert share == pytest.approx(2 / 3 if other["scores"][0, 1] == 0 else 0.5)


def test_what_is_hardly_found_does_not_count() -> None:
    assert agreement("object_detection", found(A, (0.05, 1, 0, 0, 1, 1)), found(A), 0.02).share == 1.0
    assert agreement("object_detection", found(), found(), 0.02).share == 1.0


def test_masks_agree_by_pixels() -> None:
    mask = np.zeros((2, 10, 10), np.uint8)
    other = mask.copy()
    other[0, 0, :5] = 1
    assert agreement("semantic_segmentation", {"mask": mask}, {"mask": other}, 0.02).share == pytest.approx(0.975)
    assert least_share("fp32") > 0.975 > least_share("int8")
