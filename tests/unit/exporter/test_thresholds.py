"""Thresholds of classes: the best F1 by trying every one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modelyard.formats.thresholds import UNKNOWN, class_thresholds


def f1(called: np.ndarray, positive: np.ndarray) -> float:
    return 2 * float((called & positive).sum()) / float(called.sum() + positive.sum())


@given(st.lists(st.tuples(st.integers(0, 255), st.sampled_from("ab")), min_size=2, max_size=60))
def test_no_threshold_is_better(examples: list[tuple[int, str]]) -> None:
    scores = np.array([score / 256 for score, _ in examples])
    labels = [label for _, label in examples]
    positive = np.array(labels) == "b"
    _, found = class_thresholds(np.stack([1 - scores, scores], 1), labels, ("a", "b"))
    if positive.all() or not positive.any():
        assert found == UNKNOWN
        return
    tried = [f1(scores >= each, positive) for each in np.arange(0, 257) / 256]
    assert f1(scores >= found, positive) >= max(tried) - 1e-12


def test_classes_are_told_apart_half_way() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
    assert class_thresholds(probabilities, ["x", "x", "y", "y"], ("x", "y")) == (0.55, 0.44999999999999996)
