"""Learning rates and the plan, as arithmetic."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.recipes.recipe import Hyperparameters
from modelyard.trainer.worker.schedule import (
    Pace,
    Plateau,
    Progress,
    momentum_now,
    rate_factor,
    requested_steps,
    steps_that_fit,
)


def factors(settings: Hyperparameters, steps: int) -> list[float]:
    progress, plateau, seen = Progress(steps, steps), Plateau(), []
    for step in range(steps):
        seen.append(rate_factor(settings, progress, plateau, step))
        progress.advance(step)
    return seen


def test_cosine_rises_then_falls_to_almost_nothing() -> None:
    seen = factors(Hyperparameters(schedule="cosine", warmup_steps=10), 200)
    assert seen[0] == pytest.approx(1 / 11, abs=1e-3)
    assert max(seen) == pytest.approx(1.0, abs=0.02)
    assert seen[100] == pytest.approx(0.5, abs=0.01)
    assert seen[-1] < 0.001
    assert all(earlier >= later for earlier, later in pairwise(seen[20:]))


def test_warm_up_takes_at_most_a_tenth_of_the_run() -> None:
    seen = factors(Hyperparameters(schedule="constant", warmup_steps=1000), 100)
    assert seen[9] < 1.0
    assert seen[10:] == [1.0] * 90


def test_step_cuts_every_step_size() -> None:
    seen = factors(Hyperparameters(schedule="step", step_size=5, gamma=0.5, warmup_steps=0), 12)
    assert seen == [1.0] * 5 + [0.5] * 5 + [0.25] * 2


def test_plateau_cuts_after_patience() -> None:
    settings, plateau = Hyperparameters(schedule="reduce_on_plateau", gamma=0.1, plateau_patience=2), Plateau()
    seen = []
    for metric in (0.5, 0.6, 0.6, 0.59, 0.61, 0.6, 0.6):
        plateau.observe(metric, settings)
        seen.append(plateau.factor)
    assert seen == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])


@given(plans=st.lists(st.integers(1, 300), min_size=1, max_size=20), requested=st.integers(1, 300))
def test_progress_rises_to_one_however_the_plan_moves(plans: list[int], requested: int) -> None:
    """The plan is set anew every seven steps to anything at all; progress never falls, and is 1 when the plan is done."""
    progress, step, before = Progress(requested, requested), 0, 0.0
    while step < progress.planned:
        if step % 7 == 0:
            progress.plan(step, plans[(step // 7) % len(plans)])
            if step >= progress.planned:
                break
        progress.advance(step)
        step += 1
        assert before <= progress.value <= 1.0 + 1e-9
        before = progress.value
    assert step <= requested
    if step and progress.planned > step - 1 and step == progress.planned and progress.value < 1:
        assert step % 7 == 0  # cut off by a plan that ended here and now


def test_the_plan_leaves_time_for_validation() -> None:
    pace = Pace(step_s=0.1, validation_s=2.0)
    assert steps_that_fit(pace, remaining_s=102.0, steps_per_epoch=100) == pytest.approx(825, abs=10)
    assert steps_that_fit(pace, remaining_s=1.0, steps_per_epoch=100) == 0


def test_pace_follows_recent_stretches() -> None:
    pace = Pace()
    pace.observe(2.0, 20)
    assert pace.step_s == pytest.approx(0.1)
    for _ in range(20):
        pace.observe(4.0, 20)
    assert pace.step_s == pytest.approx(0.2, abs=0.001)


@pytest.mark.parametrize(
    ("examples", "batch", "epochs", "most", "steps"),
    [(100, 10, 3, 0, 30), (105, 10, 3, 0, 30), (5, 10, 3, 0, 3), (100, 10, 3, 12, 12), (100, 10, 3, 99, 30)],
)
def test_requested_steps(examples: int, batch: int, epochs: int, most: int, steps: int) -> None:
    assert requested_steps(Hyperparameters(batch_size=batch, max_epochs=epochs, max_steps=most), examples) == steps


def test_one_cycle_rises_then_falls_and_momentum_goes_the_other_way() -> None:
    settings = Hyperparameters(schedule="one_cycle", warmup_steps=50)
    seen = factors(settings, 200)
    top = seen.index(max(seen))
    assert 55 <= top <= 65
    assert seen[0] == pytest.approx(0.04, abs=0.01)
    assert seen[-1] < 0.01
    assert all(earlier <= later for earlier, later in pairwise(seen[:60]))
    assert all(earlier >= later for earlier, later in pairwise(seen[62:]))
    momenta = [momentum_now(settings, Progress(100, 100, value)) for value in (0.0, 0.3, 1.0)]
    assert momenta == pytest.approx([0.95, 0.85, 0.95])
    assert momentum_now(Hyperparameters(schedule="cosine", momentum=0.7), Progress(1, 1)) == 0.7
    assert momentum_now(Hyperparameters(schedule="one_cycle", momentum=0.0), Progress(1, 1)) == 0.0


def test_polynomial_falls_as_its_power_says() -> None:
    line = factors(Hyperparameters(schedule="polynomial", warmup_steps=0), 100)
    square = factors(Hyperparameters(schedule="polynomial", power=2.0, warmup_steps=0), 100)
    assert line[50] == pytest.approx(0.5)
    assert square[50] == pytest.approx(0.25)
    assert line[-1] == pytest.approx(0.01)


def test_plateau_counts_steps_where_the_settings_do() -> None:
    settings = Hyperparameters(schedule="reduce_on_plateau", gamma=0.5, plateau_patience=1, plateau_steps=1000)
    plateau, seen = Plateau(), []
    for step, metric in ((400, 0.5), (800, 0.5), (1200, 0.5), (1400, 0.5), (1800, 0.6), (2400, 0.6), (2900, 0.6)):
        plateau.observe(metric, settings, step)
        seen.append(plateau.factor)
    assert seen == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]
