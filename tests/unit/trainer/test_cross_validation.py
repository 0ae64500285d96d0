"""Cross-validations over simulated trainings: every fold of every repeat, other seeds, and intervals over the runs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modelyard.core.documents import from_document
from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.core.jobs.job import Job, JobState
from modelyard.core.requests import Request
from modelyard.statistics.student import resampled_mean, student_cdf, student_quantile
from modelyard.trainer.domain.cross_validation import CrossState, FoldRun, check_cross, metrics_over
from modelyard.trainer.domain.recipe import RecipeRequest
from modelyard.trainer.domain.training_job import KIND, spec_from
from modelyard.trainer.handlers import cross_validation
from modelyard.trainer.handlers.children import World
from modelyard.trainer.handlers.training_jobs import NewTrainingJob
from modelyard.trainer.ports import Fold, Folds
from tests.support.simulated_training import Interrupted, RecordedSteps, SimulatedJobs, chance
from tests.support.trainer_fakes import (
    MODEL,
    PARENT,
    PICTURES,
    FakeDatasets,
    FakeResources,
    blob,
)


@pytest.mark.parametrize(
    ("share", "freedom", "t"), [(0.975, 1, 12.7062), (0.975, 9, 2.26216), (0.95, 2, 2.91999), (0.975, 200, 1.97190)]
)
def test_students_quantiles_are_those_of_the_tables(share: float, freedom: int, t: float) -> None:
    assert student_quantile(share, freedom) == pytest.approx(t, rel=1e-5)
    assert student_cdf(t, freedom) == pytest.approx(share, abs=1e-6)
    assert student_cdf(-t, freedom) == pytest.approx(1 - share, abs=1e-6)


def test_the_interval_of_folds_is_wider_than_that_of_independent_runs() -> None:
    values = [0.80, 0.82, 0.78, 0.81, 0.79]
    mean, deviation, plain = resampled_mean(values, 0.0)
    assert plain is not None
    assert mean == pytest.approx(0.8)
    assert plain[1] - mean == pytest.approx(2.77645 * deviation / math.sqrt(5), rel=1e-4)
    corrected = resampled_mean(values, 0.25)[2]
    assert corrected is not None
    assert corrected[1] - mean == pytest.approx(2.77645 * deviation * math.sqrt(1 / 5 + 1 / 4), rel=1e-4)
    assert resampled_mean([0.5], 0.25) == (0.5, 0.0, None)


def test_the_corrected_interval_covers_the_truth_and_the_plain_one_does_not() -> None:
    """A mean predictor of normal values, 5 folds of 50 examples: the squared error to come is what the interval must hold."""
    rng, held = np.random.default_rng(1), {0.0: 0, 0.25: 0}
    for _ in range(400):
        values = rng.normal(0, 1, 50)
        parts = np.array_split(rng.permutation(50), 5)
        errors = [float(np.square(values[part] - np.delete(values, part).mean()).mean()) for part in parts]
        for overlap in held:
            interval = resampled_mean(errors, overlap)[2]
            assert interval is not None
            held[overlap] += interval[0] <= 1 + 1 / 40 <= interval[1]
    assert held[0.25] / 400 > 0.93
    assert held[0.0] < held[0.25]


def test_metrics_over_runs() -> None:
    runs = [
        FoldRun(0, at, 0, metrics={"val_accuracy": value}, train_count=80, validation_count=20)
        for at, value in enumerate((0.79, 0.8, 0.81))
    ]
    runs.append(FoldRun(0, 3, 0, error="failed", train_count=80, validation_count=20))
    (over,) = metrics_over(runs, 4)
    assert (over.name, over.runs, over.mean) == ("val_accuracy", 3, pytest.approx(0.8))
    assert over.interval is not None
    (seeds,) = metrics_over(runs, 0)
    assert seeds.interval is not None
    assert seeds.interval[1] < over.interval[1]
    (sure,) = metrics_over([FoldRun(0, at, 0, metrics={"accuracy": value}) for at, value in enumerate((0.9, 1.0))], 2)
    assert sure.interval is not None
    assert sure.interval[1] == 1.0, "no share is more than all"


@pytest.mark.parametrize(
    ("folds", "repeats", "group_by"), [(1, 0, ""), (21, 0, ""), (2, 101, ""), (20, 11, ""), (0, 3, "speaker"), (-1, 0, "")]
)
def test_wrong_wishes_are_named(folds: int, repeats: int, group_by: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_cross(folds, repeats, group_by)
    assert caught.value.violations[0].field.startswith("cross_validation.")
    assert check_cross(0, 0, "") == (0, 5)
    assert check_cross(5, 0, "speaker") == (5, 1)


# The job


class CutPlain:
    """ports.Folding without data."""

    def cut(self, version: str, folds: int, repeats: int, seed: int, group_by: str) -> Folds:
        assert version == PICTURES
        letters = "abcdef"
        each = [
            Fold(blob(letters[at % 6]), 80, 20, ("no example of dog to validate",) if at == 1 else ())
            for at in range(folds * repeats)
        ]
        return Folds(tuple(each), ("stratified by class",))


def a_world(**more: Any) -> World:
    return World(SimulatedJobs(outcome=lambda found, steps: 0.8 + chance(found), **more), FakeDatasets(), FakeResources())


def started(world: World, folds: int, repeats: int) -> Job:
    new = NewTrainingJob(PARENT, PICTURES, MODEL, recipe=RecipeRequest("micronet", hyperparameters={"max_epochs": 3}))
    return cross_validation.create_cross_validation(
        world, new, job_id="cv", folds=folds, repeats=repeats, group_by="", shown={}, request=Request()
    )


def run(world: World, job: Job, steps: RecordedSteps | None = None) -> CrossState:
    return from_document(
        cross_validation.run_cross_validation(world, CutPlain(), job, steps or RecordedSteps())["cross"], CrossState
    )


def test_a_cross_validation_trains_every_fold_of_every_repeat() -> None:
    world = a_world()
    state = run(world, started(world, 3, 2))
    assert [(each.repeat, each.fold, each.seed) for each in state.runs] == [
        (0, 0, 0),
        (0, 1, 0),
        (0, 2, 0),
        (1, 0, 1),
        (1, 1, 1),
        (1, 2, 1),
    ]
    assert all(each.state == "SUCCEEDED" and each.metrics for each in state.runs)
    specs = [spec_from(world.jobs.get(each.training_job).spec) for each in state.runs]
    assert all(spec.measure_only and spec.part_of.endswith("crossValidations/cv") for spec in specs)
    assert len({spec.descriptor for spec in specs[:3]}) == 3
    assert specs[1].fold == "repeat 0, fold 1 of 3"
    assert state.notes == ("stratified by class", "Repeat 0, fold 1: no example of dog to validate.")


def test_without_folds_only_the_seed_differs() -> None:
    world = a_world()
    state = run(world, started(world, 0, 4))
    specs = [spec_from(world.jobs.get(each.training_job).spec) for each in state.runs]
    assert [spec.recipe.hyperparameters.seed for spec in specs] == [0, 1, 2, 3]
    assert len({spec.experiment for spec in specs}) == 1
    assert not any(spec.fold for spec in specs)


@pytest.mark.parametrize("stop_before", ["cut", "start 2", "wait"])
def test_it_goes_on_after_an_interruption(stop_before: str) -> None:
    world = a_world()
    job, steps = started(world, 4, 1), RecordedSteps(stop_before=stop_before)
    with pytest.raises(Interrupted):
        run(world, job, steps)
    state = run(world, job, steps)
    assert len(state.runs) == 4
    assert len(world.jobs.find(KIND)) == 4


def test_a_run_that_failed_is_said_and_the_others_count() -> None:
    class OneFails(SimulatedJobs):
        def finish(self, job: Job) -> Job:
            ended = super().finish(job)
            if "fold 1" in spec_from(job.spec).fold:
                error = {"reason": "ONE_CLASS", "message": "one class only", "code": 9}
                return self.put(replace(ended, state=JobState.FAILED, result=None, error=error))
            return ended

    world = World(OneFails(outcome=lambda found, steps: 0.8), FakeDatasets(), FakeResources())
    state = run(world, started(world, 3, 1))
    assert [each.error for each in state.runs] == ["", "one class only", ""]
    assert metrics_over(state.runs, 3)[0].runs == 2


def test_when_none_came_to_anything_it_fails() -> None:
    world = World(SimulatedJobs(outcome=lambda found, steps: -1.0), FakeDatasets(), FakeResources())
    with pytest.raises(FailedPrecondition) as caught:
        run(world, started(world, 3, 1))
    assert caught.value.reason == "NO_RUN_SUCCEEDED"


def test_folds_begin_afresh() -> None:
    world = a_world()
    new = NewTrainingJob(PARENT, PICTURES, MODEL, resume_from=f"{PARENT}/trainingJobs/x")
    with pytest.raises(InvalidArgument) as caught:
        cross_validation.create_cross_validation(
            world, new, job_id="", folds=3, repeats=0, group_by="", shown={}, request=Request()
        )
    assert caught.value.violations[0].field == "cross_validation.training_job.resume_from"
