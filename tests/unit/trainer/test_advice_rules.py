"""Which case a run is, on curves drawn by hand, and what is proposed for it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modelyard.trainer.domain.advice import Diagnosis, Facts, RunCase, diagnose
from modelyard.trainer.domain.curves import binomial_tail, curve_of, higher_is_better, jumps_of, line_of, metric_of
from modelyard.trainer.domain.ledger import Spread
from modelyard.trainer.domain.proposals import DATA, KEEP, TRAIN, Proposal, Situation, key_of, not_tried, propose

FACTS = Facts(
    task="image_classification",
    reason="COMPLETED",
    classes=10,
    chance=0.1,
    train_count=50_000,
    validation_count=5_000,
    planned_steps=1000,
    settings={"base_lr": 0.01},
)
SITUATION = Situation(
    settings={
        "base_lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 0.05,
        "optimizer": "adamw",
        "batch_size": 64,
        "augmentation": "light",
    },
    steps=1000,
    epochs=20.0,
    planned_steps=1000,
    planned_epochs=20,
    best_epoch=12,
    best_step=600,
    last=True,
    step_s=0.01,
    recipes=(("large", 3.0), ("own", 0.2), ("small", 0.05)),
    own_recipe="own",
    own_size=0.2,
    related=("projects/p/models/other/versions/V001",),
)


def points(
    accuracy: Any, loss: Any = None, *, held: Any = None, rate: Any = 0.01, seen: Any = None, every: int = 50
) -> list[dict[str, Any]]:
    """A curve with a validation every so many steps."""
    found = []
    for at, value in enumerate(accuracy):
        metrics = {"val_accuracy": float(value)}
        if held is not None:
            metrics["val_loss"] = float(held[at])
        if seen is not None:
            metrics["train_accuracy"] = float(seen[at])
        shown = float(loss[at]) if loss is not None else 2.3 - value
        rates = rate[at] if np.ndim(rate) else rate
        found.append({"step": every * (at + 1), "loss": shown, "metrics": metrics, "learning_rate": float(rates)})
    return found


def case_of(curve: list[dict[str, Any]], facts: Facts = FACTS) -> Diagnosis:
    return diagnose(curve, facts)


RISING = 0.3 + 0.5 * np.arange(20) / 20
FLAT = np.concatenate([np.linspace(0.3, 0.8, 8), np.full(12, 0.8)]) + 0.001 * np.tile([1, -1], 10)
ANNEALED = 0.005 * (1 + np.cos(np.pi * np.arange(20) / 19))


def test_still_improving_says_its_slope_with_an_interval() -> None:
    found = case_of(points(RISING))
    assert found.case is RunCase.STILL_IMPROVING
    slope = next(each for each in found.evidence if each.name == "slope")
    assert slope.lower is not None
    assert slope.upper is not None
    assert 0 < slope.lower <= slope.value <= slope.upper
    assert found.slow, "it rises evenly"


def test_a_rise_that_chance_explains_is_none() -> None:
    tiny = FLAT + 0.0001 * np.arange(20)
    assert case_of(points(tiny)).case is RunCase.STALLED
    wide = replace(FACTS, spread=Spread("val_accuracy", 3, 0.7, 0.2))
    assert case_of(points(RISING), wide).case is not RunCase.STILL_IMPROVING


def test_stalled_with_a_high_rate_converged_with_a_low_one() -> None:
    assert case_of(points(FLAT)).case is RunCase.STALLED
    assert case_of(points(FLAT, rate=ANNEALED)).case is RunCase.CONVERGED
    assert case_of(points(np.full(20, 1.0))).case is RunCase.CONVERGED


@pytest.mark.parametrize("accuracy", [np.full(20, 0.1), 0.1 + 0.004 * np.tile([1, -1], 10)])
def test_never_improved_within_what_chance_gives(accuracy: Any) -> None:
    found = case_of(points(accuracy, loss=np.full(20, 2.3)))
    assert (found.case, found.by_heart) == (RunCase.NEVER_IMPROVED, False)
    assert [each.value for each in found.evidence if each.name == "chance"] == [0.1]


def test_a_few_hits_more_than_chance_are_an_improvement_once_there_are_enough_examples() -> None:
    barely = points(np.full(20, 0.12), loss=np.full(20, 2.3))
    assert case_of(barely).case is not RunCase.NEVER_IMPROVED
    assert case_of(barely, replace(FACTS, validation_count=100)).case is RunCase.NEVER_IMPROVED


def test_labels_without_meaning_are_learned_by_heart_at_best() -> None:
    found = case_of(points(np.full(20, 0.1), loss=np.linspace(2.3, 0.2, 20), seen=np.linspace(0.1, 1.0, 20)))
    assert (found.case, found.by_heart) == (RunCase.NEVER_IMPROVED, True)
    assert propose(found, SITUATION)[0].kind == DATA


@pytest.mark.parametrize(
    ("facts", "loss"),
    [
        (replace(FACTS, reason="DIVERGED"), np.full(20, 2.3)),
        (replace(FACTS, notes=("DIVERGED",)), np.full(20, 2.3)),
        (FACTS, np.linspace(2.3, 30, 20)),
        (FACTS, np.full(20, 9.0)),  # it had broken down before its first point
    ],
)
def test_diverged_by_its_own_word_or_by_its_loss(facts: Facts, loss: Any) -> None:
    found = case_of(points(np.full(20, 0.1), loss=loss), facts)
    assert found.case is RunCase.DIVERGED
    assert found.evidence


def test_diverged_without_a_single_point() -> None:
    assert case_of([], replace(FACTS, reason="DIVERGED")).case is RunCase.DIVERGED
    assert case_of([], FACTS).case is RunCase.UNKNOWN


def test_answers_without_sense_are_a_divergence_too() -> None:
    found = case_of(points(np.full(20, 0.1), loss=np.full(20, 2.3), held=np.full(20, 40.0)))
    assert found.case is RunCase.DIVERGED


def test_overfitting_is_a_loss_that_rises_again() -> None:
    held = np.concatenate([np.linspace(2.3, 0.6, 8), np.linspace(0.62, 1.2, 12)])
    found = case_of(points(FLAT, loss=np.linspace(2.3, 0.05, 20), held=held))
    assert found.case is RunCase.OVERFITTING
    assert next(each for each in found.evidence if each.name == "validation_loss_rise").value > 0.3


def test_few_examples_and_a_gap_are_a_want_of_data() -> None:
    few = replace(FACTS, train_count=200)
    seen = np.minimum(1.0, FLAT + 0.2)
    assert case_of(points(FLAT, seen=seen), few).case is RunCase.DATA_LIMITED
    assert case_of(points(FLAT, seen=seen), FACTS).case is RunCase.STALLED
    assert case_of(points(FLAT, seen=FLAT), few).case is RunCase.STALLED


def test_noisy_is_more_jump_than_move() -> None:
    noise = np.random.default_rng(3).normal(0, 0.12, 30)
    found = case_of(points(np.clip(0.6 + noise, 0, 1)))
    assert found.case is RunCase.NOISY
    assert any(each.name == "jumps" for each in found.evidence)


def test_less_is_better_for_a_loss() -> None:
    falling = [{"step": at, "loss": 1.0, "metrics": {"rmse": 5 - 0.2 * at}, "learning_rate": 0.1} for at in range(1, 21)]
    found = diagnose(falling, Facts(task="tabular_regression", reason="COMPLETED"))
    assert (found.case, found.curve.best_value) == (RunCase.STILL_IMPROVING, 1.0)


def test_too_few_validations_go_by_the_training_loss() -> None:
    curve = [{"step": at, "loss": 2.3 - 0.05 * at, "metrics": {}, "learning_rate": 0.1} for at in range(1, 20)]
    curve += [{"step": 20, "loss": 1.3, "metrics": {"val_accuracy": 0.5}, "learning_rate": 0.1}]
    assert case_of(curve).case is RunCase.STILL_IMPROVING


def test_a_curve_that_began_again_is_that_of_the_last_beginning() -> None:
    first = points([0.1, 0.2, 0.3])
    again = points([0.1, 0.25])
    assert curve_of([*first, *again[1:]]).scores.tolist() == [0.1, 0.25]
    twice = [{"step": 5, "loss": 1.0, "metrics": {}}, {"step": 5, "loss": 1.0, "metrics": {"val_accuracy": 0.5}}]
    assert curve_of(twice).steps.tolist() == [5]


def test_figures_of_lines_and_jumps() -> None:
    x = np.arange(10.0)
    line = line_of(x, 2 * x)
    assert line is not None
    assert (line.rise, line.lower, line.upper) == pytest.approx((18, 18, 18))
    assert line_of(x[:2], x[:2]) is None
    assert line_of(np.full(5, 3.0), x[:5]) is None
    assert jumps_of(3 * x) == pytest.approx(0, abs=1e-12)
    noise = np.random.default_rng(0).normal(0, 0.5, 4000)
    assert jumps_of(0.01 * np.arange(4000) + noise) == pytest.approx(0.5, rel=0.1)


def test_the_binomial_tail_is_exact() -> None:
    assert binomial_tail(0, 10, 0.5) == 1.0
    assert binomial_tail(10, 10, 0.5) == pytest.approx(0.5**10)
    assert binomial_tail(3, 4, 0.5) == pytest.approx(5 / 16)
    assert (binomial_tail(1, 10, 0.0), binomial_tail(1, 10, 1.0)) == (0.0, 1.0)


def test_metrics_and_their_direction() -> None:
    assert metric_of(["train_accuracy", "val_loss", "val_accuracy"]) == "val_accuracy"
    assert metric_of(["own", "train_own"]) == "own"
    assert metric_of([]) == ""
    assert higher_is_better("val_accuracy")
    assert not any(higher_is_better(name) for name in ("val_loss", "log_loss", "rmse", "mae"))


# Proposals


def proposals(case: RunCase, situation: Situation = SITUATION, **more: Any) -> tuple[Proposal, ...]:
    curve = points(FLAT)
    found = replace(case_of(curve), case=case, **more)
    return propose(found, situation)


def test_still_improving_goes_on_from_the_last_for_longer() -> None:
    first = proposals(RunCase.STILL_IMPROVING)[0]
    assert (first.rung, first.start, first.changes) == ("resume_last", "last", {"max_epochs": 40})
    assert first.seconds == pytest.approx(10)


def test_stalled_goes_on_from_the_best_with_half_the_rate_or_less() -> None:
    first, second = proposals(RunCase.STALLED)[:2]
    assert (first.start, first.changes) == ("best", {"base_lr": 0.005, "max_epochs": 22})
    assert (second.start, second.changes["base_lr"]) == ("best", 0.001)


def test_never_improved_takes_the_practitioners_order() -> None:
    found = proposals(RunCase.NEVER_IMPROVED)
    order = [each.rung for each in found]
    assert list(dict.fromkeys(order)) == [
        "lr_doubled",
        "lr_halved",
        "momentum",
        "weight_decay",
        "optimizer",
        "architecture",
        "pretrained",
        "data",
    ]
    assert found[0].changes == {"base_lr": 0.02}
    assert found[1].changes == {"base_lr": 0.005}
    assert found[2].changes == {"momentum": 0.5}
    assert [each.changes["weight_decay"] for each in found if each.rung == "weight_decay"] == [0.025, 0.0]
    assert [each.changes["optimizer"] for each in found if each.rung == "optimizer"] == ["adam", "rmsprop", "nadam"]
    assert all(each.short for each in found if each.changes)
    low = replace(SITUATION, settings={**SITUATION.settings, "momentum": 0.2, "optimizer": "adam", "weight_decay": 0.0})
    others = proposals(RunCase.NEVER_IMPROVED, low)
    assert next(each for each in others if each.rung == "momentum").changes == {"momentum": 0.9}
    assert not [each for each in others if each.rung == "weight_decay"]
    assert [each.changes["optimizer"] for each in others if each.rung == "optimizer"] == ["rmsprop", "nadam"]


def test_short_runs_are_3500_steps_or_a_share_of_a_whole_run() -> None:
    assert SITUATION.short_run_steps == 250
    assert replace(SITUATION, planned_steps=100_000).short_run_steps == 3500
    assert replace(SITUATION, short_share=0.1, short_steps=50).short_run_steps == 50
    first = proposals(RunCase.NEVER_IMPROVED)[0]
    assert first.seconds == pytest.approx((1000 + 4 * 250) * 0.01), "its short run and the baseline's count too"


def test_the_other_cases_say_what_fits_them() -> None:
    assert proposals(RunCase.DIVERGED)[0].changes == {"base_lr": 0.001}
    assert {each.rung for each in proposals(RunCase.OVERFITTING)} >= {"regularize", "data"}
    assert [each.recipe for each in proposals(RunCase.OVERFITTING) if each.recipe] == ["small"]
    assert proposals(RunCase.DATA_LIMITED)[0].kind == DATA
    assert proposals(RunCase.CONVERGED)[0].kind == KEEP
    assert [each.recipe for each in proposals(RunCase.CONVERGED) if each.recipe] == ["large"]
    assert proposals(RunCase.NOISY)[0].changes == {"base_lr": 0.005}
    assert [each.kind for each in proposals(RunCase.UNKNOWN)] == [DATA]


def test_every_case_has_proposals_for_tables_too() -> None:
    table = replace(SITUATION, table=True, settings={"max_steps": 3000, "seed": 0})
    for case in RunCase:
        for each in proposals(case, table):
            assert each.kind != TRAIN or set(each.changes) <= {"max_steps", "base_lr"}, (case, each)


def test_what_was_tried_is_known_again() -> None:
    found = proposals(RunCase.NEVER_IMPROVED)
    keys = [key_of(each) for each in found]
    assert len(set(keys)) == len(keys)
    assert not_tried(found, keys[:3]) == list(found[3:])


def test_nothing_is_proposed_from_checkpoints_that_are_not_there() -> None:
    without = replace(SITUATION, best_epoch=None, best_step=None, last=False)
    for case in (RunCase.STALLED, RunCase.STILL_IMPROVING):
        assert not [each for each in proposals(case, without) if each.start]


def test_evidence_is_finite() -> None:
    broken = points(np.full(5, 0.1), loss=[2.3, math.nan, math.inf, math.nan, 2.3])
    for facts in (FACTS, replace(FACTS, reason="DIVERGED"), replace(FACTS, chance=None)):
        assert all(math.isfinite(each.value) for each in case_of(broken, facts).evidence)
