"""Agreement and Dawid and Skene's model, against published worked examples and against scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import cohen_kappa_score

from modelyard.dataset.domain.agreement import class_figures, cohen_kappa, fleiss_kappa, krippendorff_alpha
from modelyard.dataset.domain.dawid_skene import dawid_skene
from modelyard.dataset.domain.matching import assign, box_overlaps, matched

# Dawid and Skene 1979, Table 1: the grades that five anaesthetists gave 45 patients; the first of them three times.
ANAESTHETISTS = [
    "1111111", "3334334", "1122122", "2223121", "2223222", "2223322", "1222111", "3333433", "2222223",
    "2322223", "4444444", "2223343", "1111111", "2223212", "1211111", "1112111", "1111111", "1111111",
    "2222221", "2221322", "2222222", "2222221", "2223222", "2212222", "1111111", "1111111", "2322222",
    "1111111", "1111111", "1121121", "1111111", "3333233", "1111111", "2222222", "2223232", "4334343",
    "2212232", "2323233", "3333432", "1111111", "1111111", "1212111", "2322222", "1211111", "2222222",
]  # fmt: skip

# Fleiss 1971 as worked through in many textbooks: ten subjects, fourteen raters, five classes; kappa 0.210.
FOURTEEN_RATERS = np.array(
    [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]
)  # fmt: skip

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: observers by units, * missing; alpha 0.743.
FOUR_OBSERVERS = ["123321412***", "1233224125*3", "*3332342251*", "12332441251*"]
# The same for three coders and fifteen units, from Krippendorff's textbook; alpha 0.691.
THREE_CODERS = ["*****34121133*3", "1*213343*******", "**21344*21133*4"]


def test_fleiss_kappa_of_the_textbook() -> None:
    value, lower, upper = fleiss_kappa(FOURTEEN_RATERS)
    assert value == pytest.approx(0.210, abs=5e-4)
    assert lower < value < upper


def test_cohen_kappa_of_the_textbook() -> None:
    """Two readers of 50 proposals: 20 both yes, 5 and 10 one of them, 15 both no; kappa 0.4."""
    one = np.repeat([0, 0, 1, 1], [20, 5, 10, 15])
    other = np.repeat([0, 1, 0, 1], [20, 5, 10, 15])
    value, lower, upper = cohen_kappa(one, other, 2)
    assert value == pytest.approx(0.4)
    assert 0.05 < lower < 0.25
    assert 0.55 < upper < 0.75


@pytest.mark.parametrize(("table", "alpha"), [(FOUR_OBSERVERS, 0.743), (THREE_CODERS, 0.691)])
def test_krippendorff_alpha_of_the_paper(table: list[str], alpha: float) -> None:
    counts = np.zeros((len(table[0]), 6), np.int64)
    for observer in table:
        for unit, value in enumerate(observer):
            counts[unit, int(value) if value != "*" else 0] += value != "*"
    several = counts[counts.sum(axis=1) > 1]
    assert krippendorff_alpha(several)[0] == pytest.approx(alpha, abs=5e-4)


@pytest.mark.parametrize("seed", range(5))
def test_cohen_kappa_is_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = rng.integers(0, 4, 80)
    other = np.where(rng.random(80) < 0.6, one, rng.integers(0, 4, 80))
    assert cohen_kappa(one, other, 4)[0] == pytest.approx(cohen_kappa_score(one, other))


def test_agreement_of_chance_is_about_none_and_the_interval_holds_zero() -> None:
    rng = np.random.default_rng(0)
    examples, people = np.repeat(np.arange(300), 3), np.tile(np.arange(3), 300)
    figures = class_figures(examples, people, rng.integers(0, 3, 900), ["a", "b", "c"], 3)
    assert [figure.name for figure in figures] == [
        "percent_agreement", "fleiss_kappa", "krippendorff_alpha", "cohen_kappa", "cohen_kappa", "cohen_kappa"
    ]  # fmt: skip
    for figure in figures[1:]:
        assert figure.lower < 0 < figure.upper or abs(figure.value) < 0.08
    assert figures[0].value == pytest.approx(1 / 3, abs=0.05)


def test_full_agreement_is_one_also_on_one_class() -> None:
    same = np.zeros(20, np.int64)
    assert cohen_kappa(same, same, 3) == (1.0, 1.0, 1.0)
    assert fleiss_kappa(np.tile([0, 3], (10, 1)))[0] == 1.0
    assert krippendorff_alpha(np.tile([0, 3], (10, 1)))[0] == 1.0


def test_dawid_and_skene_find_what_they_published() -> None:
    votes = [
        (patient, observer, int(grade) - 1)
        for patient, grades in enumerate(ANAESTHETISTS)
        for observer, grade in zip((0, 0, 0, 1, 2, 3, 4), grades, strict=True)
    ]
    table = np.asarray(votes)
    found = dawid_skene(table[:, 0], table[:, 1], table[:, 2], (45, 5, 4))
    assert np.round(found.shares, 2).tolist() == [0.40, 0.42, 0.11, 0.07]
    first = np.round(found.confusions[0], 2)
    assert first[0].tolist() == [0.89, 0.11, 0.0, 0.0]
    assert first[1].tolist() == [0.07, 0.88, 0.05, 0.0]
    assert np.allclose(found.probabilities.sum(axis=1), 1)


def test_one_careful_person_outweighs_two_who_guess_alike_at_random() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 600)
    guesses = [truth, *(np.where(rng.random(600) < 0.45, truth, rng.integers(0, 3, 600)) for _ in range(2))]
    examples = np.tile(np.arange(600), 3)
    people, said = np.repeat(np.arange(3), 600), np.concatenate(guesses)
    found = dawid_skene(examples, people, said, (600, 3, 3), prior=0.1).probabilities.argmax(axis=1)
    votes = np.stack([np.bincount([g[i] for g in guesses], minlength=3) for i in range(600)]).argmax(axis=1)
    assert (found == truth).mean() > (votes == truth).mean() + 0.05
    assert (found == truth).mean() > 0.97


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (6, 2), (7, 7), (0, 3)])
def test_the_assignment_is_the_best_there_is(shape: tuple[int, int]) -> None:
    for seed in range(20):
        gain = np.random.default_rng(seed).random(shape).round(1)
        rows, columns = assign(gain)
        assert len(rows) == min(shape)
        assert len(set(columns.tolist())) == len(columns)
        assert rows.tolist() == sorted(rows.tolist())
        best = linear_sum_assignment(gain, maximize=True)
        assert gain[rows, columns].sum() == pytest.approx(gain[best].sum())


def test_overlaps_and_pairs() -> None:
    one = np.array([[0.0, 0, 10, 10], [20, 20, 30, 30], [5, 5, 5, 9]])
    other = np.array([[20.0, 20, 30, 40], [0, 0, 10, 10]])
    assert box_overlaps(one, other).tolist() == [[0, 1], [0.5, 0], [0, 0]]
    assert matched(box_overlaps(one, other), 0.5) == [(0, 1), (1, 0)]
    assert matched(box_overlaps(one, other), 0.6) == [(0, 1)]
