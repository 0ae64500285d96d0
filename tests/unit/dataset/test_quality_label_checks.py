"""Labels that are probably wrong: the quick models, and what is said of their answers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from modelyard.core.errors import Cancelled
from modelyard.dataset.domain import label_checks, out_of_sample
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.label_noise import LabelNoise, fit
from modelyard.dataset.domain.work import Work


def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    return (data.data / 16).astype(np.float32), data.target.astype(np.int64)


def planted(labels: np.ndarray, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which a share is moved to another class at random, and which they are."""
    rng = np.random.default_rng(seed)
    wrong = np.zeros(len(labels), bool)
    wrong[rng.choice(len(labels), int(share * len(labels)), replace=False)] = True
    return np.where(wrong, (labels + rng.integers(1, 10, len(labels))) % 10, labels), wrong


def judged(features: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> out_of_sample.OutOfSample:
    groups = np.arange(len(labels)) if groups is None else groups
    return out_of_sample.out_of_sample(lambda a, b: features[a:b], labels, groups, 10, Work(), (0, 1))


def found(labels: np.ndarray, noise: LabelNoise) -> list:
    members = np.arange(len(labels))
    names = Names([f"{i}.png" for i in members], [f"e{i}" for i in members])
    return label_checks.label_findings(labels, noise, members, [str(i) for i in range(10)], names)


def test_planted_label_errors_are_found_and_put_right() -> None:
    """5 percent of digits' labels moved: the precision and recall that docs/quality.md states."""
    features, labels = digits()
    noisy, wrong = planted(labels, 0.05)
    answer = judged(features, noisy)
    assert answer.accuracy > 0.9
    (finding,) = found(noisy, answer.noise)
    assert finding.kind == "LABEL_ERRORS"
    assert finding.severity == "warning"
    assert finding.fix is not None
    places = np.array([int(id_[1:]) for id_ in finding.fix.examples])
    assert wrong[places].mean() >= 0.9
    assert wrong[places].sum() / wrong.sum() >= 0.85
    right = [labels[place] == int(label) for place, label in zip(places, finding.fix.labels, strict=True)]
    assert np.mean(right) >= 0.9
    assert list(finding.fix_scores) == sorted(finding.fix_scores, reverse=True)
    assert all(label_checks.LEAST_SCORE <= score <= 1 for score in finding.fix_scores)
    assert finding.example_count == len(places)
    assert finding.examples[0] == f"{places[0]}.png"
    assert finding.cost
    assert finding.action


def test_clean_labels_are_hardly_accused() -> None:
    features, labels = digits()
    accused = found(labels, judged(features, labels).noise)
    assert sum(finding.example_count for finding in accused) <= 0.01 * len(labels)


def test_a_model_never_learns_from_the_group_it_judges() -> None:
    """Each example twice, once with a wrong label: in one fold the copy cannot vouch for it."""
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(200, 8)).astype(np.float32), 2, axis=0)
    labels = rng.integers(0, 10, 200).repeat(2)
    together = judged(features, labels, np.arange(200).repeat(2))
    apart = judged(features, labels)
    assert together.accuracy < 0.25
    assert apart.accuracy > 0.6


def test_probabilities_are_probabilities_and_repeatable() -> None:
    features, labels = digits()
    first, second = judged(features[:400], labels[:400]), judged(features[:400], labels[:400])
    assert np.array_equal(first.noise.probabilities, second.noise.probabilities)
    np.testing.assert_allclose(first.noise.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert first.noise.probabilities.min() >= 0
    assert 0 <= first.noise.wrong.min() <= first.noise.wrong.max() <= 1


def test_small_classes_are_not_judged() -> None:
    labels = np.array([0] * 12 + [1] * 9 + [-1] * 3 + [2] * 10)
    assert label_checks.judged(labels, 3).tolist() == [*range(12), *range(24, 34)]


def test_skill_is_nought_by_chance_and_one_when_always_right() -> None:
    assert label_checks.skill(0.5, 2) == 0
    assert label_checks.skill(1.0, 7) == 1
    assert label_checks.skill(0.1, 10) == pytest.approx(0)


@pytest.mark.parametrize("count", [1797, 259])
def test_the_models_are_the_ridge_regressions_that_they_are_said_to_be(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against ridge regression solved anew without each fold, on the same cosines; the last block may lack members of a fold."""
    features, labels = (each[:count] for each in digits())
    if count < 1000:
        monkeypatch.setattr(out_of_sample, "_BLOCK", 257)
        monkeypatch.setattr(out_of_sample, "_places", lambda count, rng: [(0, 128), (128, 256)])
    rng = np.random.default_rng(0)
    folds = out_of_sample._folds(np.arange(len(labels)), rng)
    cosines = out_of_sample._Cosines(lambda a, b: features[a:b], len(labels), rng)
    sums = out_of_sample._summed(lambda a, b: features[a:b], cosines, labels, folds, 10, Work(), (0, 1))
    parts = [cosines(features[start : start + out_of_sample._BLOCK]).copy() for start in range(0, count, out_of_sample._BLOCK)]
    rows, wanted = np.concatenate(parts).astype(np.float64), np.eye(10)[labels]
    for fold in range(out_of_sample.FOLDS):
        others = folds != fold
        products = rows[others].T @ rows[others]
        products += 0.01 * np.trace(products) / len(products) * np.eye(len(products))
        plain = np.linalg.solve(products, rows[others].T @ wanted[others])
        ours = out_of_sample._solved(sums, 0.01, fold)
        np.testing.assert_allclose(rows @ ours, rows @ plain, atol=2e-3)


def test_sums_that_are_not_quite_positive_are_solved_all_the_same() -> None:
    products = np.zeros((out_of_sample.FOLDS, 3, 3), np.float32)
    products[1] = np.diag([1.0, 1.0, -0.2])
    weights = out_of_sample._solved(out_of_sample._Sums(products, np.ones((out_of_sample.FOLDS, 3, 2))), 1e-3, 0)
    np.testing.assert_allclose(weights[:2], 4.0, rtol=0.01)
    products[1] = 0
    assert not out_of_sample._solved(out_of_sample._Sums(products, np.ones((out_of_sample.FOLDS, 3, 2))), 1e-3, 0).any()


def test_long_features_are_turned_to_their_axes_and_tell_as_much() -> None:
    features, labels = digits()
    long = features @ np.random.default_rng(1).normal(size=(64, 400)).astype(np.float32) / 8
    assert judged(long, labels).accuracy > judged(features, labels).accuracy - 0.02
    cosines = out_of_sample._Cosines(lambda a, b: long[a:b], len(labels), np.random.default_rng(0))
    assert cosines._directions.shape[0] <= 64, "no more axes than there are"


def test_learning_stops_when_cancelled() -> None:
    features, labels = digits()
    with pytest.raises(Cancelled):
        out_of_sample.out_of_sample(
            lambda a, b: features[a:b], labels, np.arange(len(labels)), 10, Work(should_stop=lambda: True), (0, 1)
        )


def told(count: int, confidence: float, share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of a model that knows how sure it is of 4 classes, labels drawn from them of which a share was moved, and which."""
    rng = np.random.default_rng(0)
    scores = (rng.normal(size=(count, 4)) * confidence).astype(np.float32)
    raised = np.exp(scores)
    drawn = (rng.random(count)[:, None] > np.cumsum(raised / raised.sum(axis=1, keepdims=True), axis=1)).sum(axis=1).clip(0, 3)
    wrong = rng.random(count) < share
    return scores, np.where(wrong, (drawn + rng.integers(1, 4, count)) % 4, drawn), wrong


def test_the_share_of_moved_labels_is_seen_and_scores_are_probabilities() -> None:
    scores, labels, wrong = told(20_000, 8.0, 0.06)
    noise = fit(0.2 * scores, labels)  # on any scale
    assert noise.rate == pytest.approx(0.06, abs=0.01)
    for low in (0.2, 0.5, 0.8):
        chosen = (noise.wrong >= low) & (noise.wrong < low + 0.2)
        assert wrong[chosen].mean() == pytest.approx(noise.wrong[chosen].mean(), abs=0.1)


def test_a_weak_model_explains_by_overlap_what_it_cannot_tell() -> None:
    scores, labels, _ = told(5_000, 0.7, 0.0)
    assert (labels != scores.argmax(axis=1)).mean() > 0.4
    assert (fit(scores, labels).wrong >= 0.5).sum() == 0
