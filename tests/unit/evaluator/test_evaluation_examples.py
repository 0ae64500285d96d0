"""Probably wrong labels, worst examples, slices, the gap to training."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.evaluator.domain import metrics, slices
from modelyard.evaluator.domain.examples import Classified, Estimated, suspects, worst_classified, worst_estimated
from modelyard.evaluator.domain.gaps import train_gaps
from modelyard.evaluator.domain.scores import Metric, UsageScore
from modelyard.statistics.confident_learning import class_thresholds, label_suspects
from modelyard.statistics.intervals import Floats, Ints


def _noisy(count: int, wrong: int, classes: int = 4, seed: int = 0) -> tuple[Ints, Floats]:
    """Labels of which the first `wrong` are false, and a good model's probabilities."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, count)
    logits = rng.normal(0, 1, (count, classes))
    logits[np.arange(count), truth] += 4
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = truth.copy()
    labels[:wrong] = (truth[:wrong] + 1 + rng.integers(0, classes - 1, wrong)) % classes
    return labels.astype(np.int64), probabilities


def test_wrong_labels_are_found_and_named_with_the_right_class() -> None:
    labels, probabilities = _noisy(1000, 60)
    found = label_suspects(labels, probabilities, 4)
    hits = found.positions < 60
    assert hits.sum() >= 35
    assert hits.mean() >= 0.9
    assert (np.diff(found.margins) <= 0).all()
    truth = probabilities[found.positions].argmax(axis=1)
    assert (found.classes == truth).mean() > 0.9


def test_suspects_stand_off_the_diagonal_of_the_confident_joint() -> None:
    """The paper's definition, example by example."""
    labels, probabilities = _noisy(300, 40, seed=5)
    thresholds = [probabilities[labels == c, c].mean() for c in range(4)]
    assert class_thresholds(labels, probabilities) == pytest.approx(thresholds)
    expected = set()
    for row, (label, answer) in enumerate(zip(labels, probabilities, strict=True)):
        confident = [c for c in range(4) if answer[c] >= thresholds[c]]
        if confident and max(confident, key=lambda c: answer[c]) != label and answer.argmax() != label:
            expected.add(row)
    assert set(label_suspects(labels, probabilities, 4).positions.tolist()) == expected


def test_a_model_without_a_clue_suspects_nobody_of_a_class_nobody_carries() -> None:
    labels = np.zeros(50, np.int64)
    found = label_suspects(labels, np.tile([0.3, 0.7], (50, 1)), 2)
    assert len(found.positions) == 0


def test_a_label_that_the_model_does_not_know_is_not_judged() -> None:
    labels, probabilities = _noisy(200, 20)
    wider = np.concatenate([probabilities, np.zeros((200, 1))], axis=1)
    labels[:20] = 4
    assert not set(label_suspects(labels, wider, 4).positions.tolist()) & set(range(20))


def test_no_examples_no_suspects() -> None:
    assert len(label_suspects(np.zeros(0, np.int64), np.zeros((0, 3)), 3).positions) == 0


def _part(usage: str, labels: Ints, probabilities: Floats) -> Classified:
    ids = [f"{usage}-{row}" for row in range(len(labels))]
    return Classified(usage, ids, labels, probabilities.astype(np.float32), "abcd", 4)


def test_suspects_of_what_was_not_learned_from_come_first() -> None:
    parts = [_part(usage, *_noisy(400, 20, seed=seed)) for seed, usage in enumerate(("validation", "test", "train"))]
    found = suspects(parts[:2], parts[2:])
    usages = [example.usage for example in found]
    assert set(usages[: usages.index("train")]) == {"validation", "test"}
    assert set(usages[usages.index("train") :]) == {"train"}
    assert all(example.label != example.prediction for example in found)
    place = int(found[0].example_id.split("-")[1])
    part = parts[0] if found[0].usage == "validation" else parts[1]
    assert found[0].label == "abcd"[part.labels[place]]
    assert found[0].loss == pytest.approx(-np.log(part.probabilities[place, part.labels[place]]))


def test_at_most_a_hundred_suspects_and_fifty_worst() -> None:
    part = _part("test", *_noisy(3000, 600))
    assert len(suspects([part], [])) == 100
    worst = worst_classified(part)
    assert len(worst) == 50
    assert [example.loss for example in worst] == sorted((example.loss for example in worst), reverse=True)
    assert worst[0].loss == pytest.approx(metrics.log_losses(part.labels, part.probabilities).max())


def test_the_worst_of_a_regression_are_the_largest_errors() -> None:
    answers = Estimated("test", ["a", "b", "c"], np.array([1.0, 2.0, 3.5]), np.array([1.5, 2.0, -3.0]))
    worst = worst_estimated(answers)
    assert [example.example_id for example in worst] == ["c", "a", "b"]
    assert (worst[0].label, worst[0].prediction, worst[0].probability, worst[0].loss) == ("3.5", "-3", 0.0, 6.5)


def test_text_is_cut_by_value_and_missing_values_are_a_slice() -> None:
    found = slices.by_value(["b"] * 30 + ["a"] * 12 + [None] * 10 + ["rare"] * 9)
    assert [(name, len(rows)) for name, rows in found] == [("b", 30), ("a", 12), ("(missing)", 10)]
    assert found[1][1].tolist() == list(range(30, 42))


def test_at_most_fifty_values() -> None:
    assert len(slices.by_value([str(row % 80) for row in range(800)])) == 50


def test_numbers_are_cut_at_their_quartiles() -> None:
    found = slices.by_quartile(np.array([*range(100), *[np.nan] * 10], dtype=np.float64))
    assert [name for name, _ in found] == ["[0, 24.75)", "[24.75, 49.5)", "[49.5, 74.25)", "[74.25, 99]", "(missing)"]
    assert [len(rows) for _, rows in found] == [25, 25, 25, 25, 10]


def test_few_different_numbers_are_their_own_slices() -> None:
    assert [name for name, _ in slices.by_quartile(np.array([0.0, 1.0] * 20))] == ["0", "1"]


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6), st.integers(0, 3).map(float)), max_size=200))
def test_no_example_is_in_two_slices_of_a_column(values: list[float | None]) -> None:
    rows = [row for _, held in slices.cut(values, True) for row in held.tolist()]
    assert len(rows) == len(set(rows))


@given(st.lists(st.floats(-1e6, 1e6), min_size=60, max_size=200, unique=True))
def test_the_quarters_hold_every_number(values: list[float]) -> None:
    assert sum(len(held) for _, held in slices.cut(values, True)) == len(values)


def test_slices_come_worst_first_with_intervals() -> None:
    labels, probabilities = _noisy(400, 60)

    def score(rows: Ints) -> tuple[Metric, ...]:
        return metrics.main_classification(labels[rows], probabilities[rows])

    columns = [("half", [("first", np.arange(200)), ("second", np.arange(200, 400))])]
    found = slices.score_slices(columns, score)
    assert [entry.value for entry in found] == ["first", "second"]
    assert [metric.name for metric in found[0].metrics] == list(metrics.MAIN_CLASSIFICATION)
    accuracy = found[0].metrics[0]
    assert accuracy.lower < accuracy.value < accuracy.upper < found[1].metrics[0].value


def test_slices_of_a_regression_come_largest_error_first() -> None:
    targets, predictions = np.arange(40.0), np.arange(40.0) + np.repeat([0.1, 5.0], 20)

    def score(rows: Ints) -> tuple[Metric, ...]:
        return metrics.main_regression(targets[rows], predictions[rows])

    columns = [("c", [("near", np.arange(20)), ("far", np.arange(20, 40))])]
    assert [entry.value for entry in slices.score_slices(columns, score)] == ["far", "near"]


def test_the_metrics_of_a_slice_are_those_of_a_whole_usage() -> None:
    labels, probabilities = _noisy(300, 40)
    whole = metrics.classification("test", labels, probabilities, "abcd")
    for metric in metrics.main_classification(labels, probabilities):
        found = whole.metric(metric.name)
        assert found is not None
        assert metric.value == pytest.approx(found.value)


@pytest.mark.parametrize(
    ("asked", "reason", "field"),
    [
        (("age", "colour"), "UNKNOWN_SLICE_COLUMN", "evaluation.slice_columns[1]"),
        (("age", "age"), "DUPLICATE_SLICE_COLUMN", "evaluation.slice_columns[1]"),
        (tuple("abcdefghi"), "TOO_MANY_SLICE_COLUMNS", "evaluation.slice_columns"),
    ],
)
def test_impossible_slice_columns_are_refused(asked: tuple[str, ...], reason: str, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        slices.check_columns(asked, ("age", "height", *"abcdefghi"), "V001")
    assert (caught.value.reason, caught.value.violations[0].field) == (reason, field)


def _score(usage: str, sureness: float, count: int, seed: int) -> UsageScore:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    probabilities = np.full((count, 2), 1 - sureness)
    right = rng.random(count) < sureness
    probabilities[np.arange(count), np.where(right, labels, 1 - labels)] = sureness
    return metrics.classification(usage, labels, probabilities, "ab")


def test_overfitting_shows_as_a_gap_above_0_in_every_metric() -> None:
    found = train_gaps(_score("train", 0.95, 2000, 0), _score("validation", 0.7, 300, 1), metrics.MAIN_CLASSIFICATION)
    assert [gap.name for gap in found] == list(metrics.MAIN_CLASSIFICATION)
    assert all(0 < gap.lower < gap.value < gap.upper for gap in found)
    assert found[0].value == pytest.approx(0.25, abs=0.07)


def test_the_interval_of_a_gap_holds_0_about_95_times_in_100_without_overfitting() -> None:
    held = dict.fromkeys(metrics.MAIN_CLASSIFICATION, 0)
    for seed in range(100):
        for gap in train_gaps(_score("t", 0.8, 200, seed), _score("v", 0.8, 100, seed + 500), metrics.MAIN_CLASSIFICATION):
            held[gap.name] += gap.lower <= 0 <= gap.upper
    assert all(88 <= count <= 100 for count in held.values()), held


def test_without_validation_there_is_no_gap() -> None:
    assert train_gaps(_score("train", 0.9, 50, 0), None, metrics.MAIN_CLASSIFICATION) == ()
