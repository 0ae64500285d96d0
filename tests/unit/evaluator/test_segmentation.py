"""Segmentation agrees with scikit-learn and, at the boundaries, with scipy's distances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage
from sklearn import metrics as sk

from modelyard.core.errors import InvalidArgument
from modelyard.evaluator.domain.segmentation import IGNORED, boundary, segmentation, tally, widened

CLASSES = ("road", "sky", "tree", "car")
Maps = NDArray[Any]


def _maps(seed: int, pictures: int = 6) -> tuple[Maps, Maps]:
    """Blotches of four classes [P, 60, 80], and a prediction that errs at a tenth of the pixels."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(pictures, 4, 60, 80)), (0, 0, 6, 6))
    truth = smooth.argmax(axis=1).astype(np.uint8)
    noisy = (smooth + 0.3 * ndimage.gaussian_filter(rng.normal(size=smooth.shape), (0, 0, 3, 3))).argmax(axis=1)
    return truth, noisy.astype(np.uint8)


@pytest.mark.parametrize("ignored", [False, True])
def test_segmentation_agrees_with_scikit_learn(ignored: bool) -> None:
    truth, predicted = _maps(0)
    if ignored:
        truth[:, :10] = IGNORED
    score = segmentation([tally(*pair, 4) for pair in zip(truth, predicted, strict=True)], CLASSES)
    ours, theirs = truth[truth != IGNORED], predicted[truth != IGNORED]
    assert [entry.iou.value for entry in score.classes] == pytest.approx(sk.jaccard_score(ours, theirs, average=None))
    assert [entry.dice.value for entry in score.classes] == pytest.approx(sk.f1_score(ours, theirs, average=None))
    values = {metric.name: metric.value for metric in score.metrics}
    assert values["mean_iou"] == pytest.approx(sk.jaccard_score(ours, theirs, average="macro"))
    assert values["dice"] == pytest.approx(sk.f1_score(ours, theirs, average="macro"))
    assert values["pixel_accuracy"] == pytest.approx(sk.accuracy_score(ours, theirs))
    assert [entry.support for entry in score.classes] == np.bincount(ours, minlength=4).tolist()


def _boundary_f1(truth: Maps, predicted: Maps, near: float) -> float:
    """By distance transforms."""
    whole = np.ones_like(truth)
    edges = [boundary(mask, whole) for mask in (truth, predicted)]
    far = [ndimage.distance_transform_edt(~edge) for edge in edges]
    recall, precision = (far[1][edges[0]] <= near).mean(), (far[0][edges[1]] <= near).mean()
    return float(2 * precision * recall / (precision + recall))


def test_boundary_f1_is_that_of_distances() -> None:
    truth, predicted = _maps(1, 3)
    score = segmentation([tally(*pair, 4) for pair in zip(truth, predicted, strict=True)], CLASSES)
    for index, entry in enumerate(score.classes):
        expected = [_boundary_f1(a == index, b == index, 0.0075 * 100) for a, b in zip(truth, predicted, strict=True)]
        assert entry.boundary_f1.value == pytest.approx(np.mean(expected))


@settings(deadline=None)
@given(arrays(np.bool_, (12, 17)), st.floats(0, 6))
def test_widened_is_the_distance_transform(edge: NDArray[np.bool_], near: float) -> None:
    expected = ndimage.distance_transform_edt(~edge) <= near if edge.any() else np.zeros_like(edge)
    assert (widened(edge, near) == expected).all()


@settings(deadline=None)
@given(arrays(np.bool_, (9, 9)))
def test_a_boundary_is_what_erosion_takes_away(mask: NDArray[np.bool_]) -> None:
    expected = mask & ~ndimage.binary_erosion(mask, border_value=1)
    assert (boundary(mask, np.ones_like(mask)) == expected).all()


def test_the_right_answer_scores_1_and_a_shift_costs_most_at_the_boundary() -> None:
    truth, _ = _maps(2)
    perfect = segmentation([tally(one, one, 4) for one in truth], CLASSES)
    assert {metric.value for metric in perfect.metrics} == {1.0}
    shifted = segmentation([tally(one, np.roll(one, 3, axis=1), 4) for one in truth], CLASSES)
    values = {metric.name: metric.value for metric in shifted.metrics}
    assert values["boundary_f1"] < values["mean_iou"] < values["dice"] < 1


def test_intervals_hold_the_value_and_narrow_with_pictures() -> None:
    widths = []
    for pictures in (6, 60):
        score = segmentation([tally(*pair, 4) for pair in zip(*_maps(3, pictures), strict=True)], CLASSES)
        assert all(metric.lower < metric.value < metric.upper for metric in score.metrics)
        widths.append(score.metrics[0].upper - score.metrics[0].lower)
    assert widths[1] < widths[0] * 0.6


def test_a_class_that_neither_occurs_nor_is_predicted_is_left_out() -> None:
    truth = np.zeros((8, 8), np.uint8)
    score = segmentation([tally(truth, truth, 4)], CLASSES)
    assert [entry.label for entry in score.classes] == ["road"]
    assert score.metrics[0].value == 1.0
    assert "boundary_f1" not in {metric.name for metric in score.metrics}


@pytest.mark.parametrize(
    ("truth", "predicted", "match"),
    [
        (np.zeros((4, 4), int), np.zeros((4, 5), int), r"\[4, 4\], the predicted ones \[4, 5\]"),
        (np.full((4, 4), 4), np.zeros((4, 4), int), "true classes are from 4 to 4"),
        (np.zeros((4, 4), int), np.full((4, 4), -1), "predicted classes are from -1"),
    ],
)
def test_maps_that_cannot_be_are_named(truth: Maps, predicted: Maps, match: str) -> None:
    with pytest.raises(InvalidArgument, match=match) as caught:
        tally(truth, predicted, 4)
    assert caught.value.reason == "BAD_CLASS_MAP"
