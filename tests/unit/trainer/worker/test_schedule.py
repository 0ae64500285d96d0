"""Learning rates and the plan, as arithmetic."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.recipes.recipe import Hyperparameters
from modelyard.trainer.worker.schedule import (
    Pace,
    Plateau,
    Progress,
    momentum_now,
    rate_factor,
    requested_steps,
    spares_validation,
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
    pace = Pace(step_s=0.1, validation_s=1.0)
    assert steps_that_fit(pace, 0.1, remaining_s=102.0, steps_per_epoch=100) == pytest.approx(909, abs=10)
    assert steps_that_fit(pace, 0.1, remaining_s=1.0, steps_per_epoch=100) == 0
    # Of epochs of one step most validations are spared: they take a tenth of the time, not ten elevenths.
    assert steps_that_fit(pace, 0.1, remaining_s=102.0, steps_per_epoch=1) == pytest.approx(900, abs=10)
    assert spares_validation(pace, 8.9)
    assert not spares_validation(pace, 9.1)


def test_pace_follows_recent_stretches() -> None:
    pace = Pace()
    pace.observe(2.0, 20)
    assert pace.step_s == pytest.approx(0.1)
    for _ in range(100):
        pace.observe(4.0, 20)
    assert pace.step_s == pytest.approx(0.2, abs=0.001)


def test_pace_remembers_the_longer_the_further_ahead_it_tells() -> None:
    far, near = Pace(), Pace()
    for pace, remaining_s in ((far, 1000.0), (near, 10.0)):
        pace.observe(20.0, 20, remaining_s)
        pace.observe(10.0, 100, remaining_s)
        assert pace.latest_s == 0.1
    assert far.step_s == pytest.approx(30 / 120, rel=0.05)
    assert near.step_s == pytest.approx(0.1, rel=0.25)


def test_a_validation_that_met_a_busy_moment_counts_half() -> None:
    pace = Pace()
    pace.expect(3.0)
    assert pace.validation_s == 3.0
    pace.validated(1.0)
    pace.expect(3.0)
    assert pace.validation_s == 1.0
    pace.validated(9.0)
    assert pace.validation_s == 5.0


@settings(deadline=None, max_examples=40)
@given(cuts=st.lists(st.tuples(st.floats(0, 92), st.sampled_from([0.05, 0.1, 0.3, 0.6])), max_size=6))
def test_a_limit_is_used_and_ends_annealed_however_the_speed_changes(cuts: list[tuple[float, float]]) -> None:
    """100 s on a machine whose steps take longer or shorter from some moments on; looks, epochs of 50 steps, as in the loop."""

    def step_s(now: float) -> float:
        return ([0.1] + [each for since, each in sorted(cuts) if since <= now])[-1]

    progress, pace = Progress(10**6, 10**6), Pace()
    now = looked = 0.0
    step = steps = 0
    before, latest = 0.0, 20
    while step < progress.planned and now < 100:
        now += step_s(now)
        progress.advance(step)
        step, steps = step + 1, steps + 1
        assert before <= progress.value <= 1 + 1e-9
        before = progress.value
        if now - looked >= 2 or steps >= min(20, 2 * latest):
            pace.observe(now - looked, steps, 100 - now)
            pace.expect(0.5)
            fit, pending = (
                steps_that_fit(pace, each, remaining_s=100 - now, steps_per_epoch=50) for each in (pace.step_s, pace.latest_s)
            )
            progress.plan(step, step + fit, pending)
            looked, latest, steps = now, steps, 0
        if step % 50 == 0:
            pace.validated(0.5)
            now += 0.5
            looked, steps = now, 0
    assert 90 < now < 101.5
    assert rate_factor(Hyperparameters(schedule="cosine"), progress, Plateau(), step) < 0.02


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
