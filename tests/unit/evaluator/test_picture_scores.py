"""One figure a picture, and what two artifacts are compared by."""

from __future__ import annotations

import numpy as np
import pytest

from modelyard.evaluator.domain.detection import FoundBoxes, TrueBoxes
from modelyard.evaluator.domain.pairing import Answers, Outcome, compare
from modelyard.evaluator.domain.picture_scores import best_score_threshold, class_scores, counted_text, hits_of, picture_ap, rates

NAMES = ("cat", "dog")


def true(*rows: tuple[int, float, float, float, float]) -> TrueBoxes:
    boxes = np.array([row[1:] for row in rows], float).reshape(-1, 4)
    return TrueBoxes(boxes, np.array([row[0] for row in rows], np.int64), np.zeros(len(rows), np.bool_))


def found(*rows: tuple[float, int, float, float, float, float]) -> FoundBoxes:
    boxes = np.array([row[2:] for row in rows], float).reshape(-1, 4)
    return FoundBoxes(boxes, np.array([row[1] for row in rows], np.int64), np.array([row[0] for row in rows], float))


CAT, DOG = (0, 0.0, 0.0, 10.0, 10.0), (1, 20.0, 20.0, 40.0, 40.0)


@pytest.mark.parametrize(
    ("truth", "said", "figure"),
    [
        (true(CAT, DOG), found((0.9, *CAT), (0.8, *DOG)), 1.0),
        (true(CAT, DOG), found((0.9, *CAT)), 0.5),
        (true(CAT), found((0.9, *CAT), (0.8, *DOG)), 0.5),  # a dog, for sure, where none is
        (true(CAT), found((0.9, *CAT), (0.2, *DOG)), 1.0),
        (true(CAT), found((0.9, 0, 50, 50, 60, 60), (0.5, *CAT)), 0.5),  # the right one comes second
        (true(CAT), found((0.9, *CAT), (0.8, *CAT)), 1.0),  # twice: the second does not take from the first
        (true(CAT), found(), 0.0),
        (true(), found(), 1.0),
        (true(), found((0.2, *CAT)), 1.0),
        (true(), found((0.4, *CAT)), 0.0),
    ],
)
def test_average_precision_of_a_picture(truth: TrueBoxes, said: FoundBoxes, figure: float) -> None:
    assert picture_ap(hits_of(truth, said, 2)) == pytest.approx(figure)


def test_the_threshold_parts_hits_from_the_rest() -> None:
    hits = [hits_of(true(CAT), found((0.9, *CAT), (0.3, 0, 50, 50, 60, 60)), 2) for _ in range(5)]
    assert best_score_threshold(hits) == pytest.approx(0.9)
    assert best_score_threshold([hits_of(true(CAT), found(), 2)]) == 0.5
    scores = class_scores(hits, NAMES, 0.9, {})
    assert [(one.label, one.support, one.precision.value, one.recall.value) for one in scores] == [("cat", 5, 1.0, 1.0)]
    assert class_scores(hits, NAMES, 0.2, {})[0].precision.value == pytest.approx(0.5)
    assert scores[0].accuracy is None


def test_rates_are_of_all_pictures_together() -> None:
    counts = np.array([[[1, 2, 1], [0, 0, 0]], [[0, 0, 1], [0, 1, 0]]], float)
    (cat,) = rates(counts, NAMES, {})
    assert (cat.precision.value, cat.recall.value, cat.f1.value) == (0.5, 0.5, 0.5)
    assert cat.precision.lower <= 0.5 <= cat.precision.upper


def test_counts_in_words() -> None:
    assert counted_text(np.array([1, 0, 1]), NAMES) == "1 cat, 2 dog"
    assert counted_text(np.array([], np.int64), NAMES) == "nothing"


def answers(scores: np.ndarray) -> Answers:
    ids = tuple(f"e{place}" for place in range(len(scores)))
    text = np.array(["x"] * len(scores), dtype=object)
    return Answers("e", ids, text, text, scores)


@pytest.mark.parametrize(("loss", "outcome"), [(0.0, Outcome.PASSED), (0.2, Outcome.FAILED)])
def test_artifacts_are_compared_by_the_figures_of_pictures(loss: float, outcome: Outcome) -> None:
    random = np.random.default_rng(0)
    other = random.uniform(0.6, 1.0, 200)
    mine = np.clip(other - loss + random.normal(0, 0.01, 200), 0, 1)
    result = compare(answers(mine), answers(other), 0.01, "f", "picture_ap50")
    assert result.outcome is outcome
    assert result.metric == "picture_ap50"
    assert result.loss == pytest.approx(loss, abs=0.01)
    assert result.lower <= result.loss <= result.upper


def test_few_pictures_prove_nothing() -> None:
    assert compare(answers(np.ones(10)), answers(np.ones(10)), 0.01, "f", "picture_ap50").outcome is Outcome.UNSURE
