"""Model selections over simulated trainings by a fake clock: the time is held, nothing is trained twice, none is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from modelyard.core.artifacts import Blob
from modelyard.core.documents import from_document
from modelyard.core.errors import Cancelled, FailedPrecondition, InvalidArgument
from modelyard.core.jobs.job import Instruction, Job, JobState
from modelyard.core.requests import Request
from modelyard.recipes.recipe import Recipe
from modelyard.trainer.domain.recipe import RecipeRequest
from modelyard.trainer.domain.selection import Measured, SelectionSpec, SelectionState
from modelyard.trainer.domain.training_job import (
    KIND,
    Checkpoint,
    TrainingResult,
    TrainingState,
    result_document,
    spec_from,
    state_from,
)
from modelyard.trainer.handlers import children, ledger, model_selections, selection
from modelyard.trainer.handlers.children import World
from modelyard.trainer.handlers.training_jobs import NewTrainingJob
from modelyard.trainer.ports import DatasetVersion
from tests.support.simulated_training import Interrupted, RecordedSteps
from tests.support.trainer_fakes import MODEL, NOON, PARENT, PICTURES, ROWS, FakeDatasets, FakeJobs, FakeResources, blob

STEPS = 1400 // 64 * 72
"""What the recipe asks for on so few examples."""


@dataclass
class ClockedJobs(FakeJobs):
    """Trainings that end when they are made, after the seconds of a fake clock. fits: by base_lr the accuracy that a recipe
    comes to, seconds until it is half way there, and seconds of its whole training. fails: base_lr of those that fail, and the
    training (from 1) at which they do. overrun: what a pause comes too late by."""

    fits: dict[float, tuple[float, float, float]] = field(default_factory=dict)
    fails: dict[float, int] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    behind: dict[str, float] = field(default_factory=dict)
    overrun: float = 0.0

    def submit(self, name: str, kind: str, *, parent: str, spec: dict[str, Any], **more: Any) -> Job:
        request = str(more.get("request_id", ""))
        if request and request in self.made:
            return self.get(self.made[request])
        job = super().submit(name, kind, parent=parent, spec=spec, **more)
        self.made[request or name] = name
        return self.finish(job) if kind == KIND else job

    def finish(self, job: Job) -> Job:
        spec = spec_from(job.spec)
        top, half, whole = self.fits[spec.recipe.hyperparameters.base_lr]
        before = self.behind[spec.resume_from.training_job] if spec.resume_from else 0.0
        ends = {whole - before: "COMPLETED", spec.max_training_time_s: "TIME_LIMIT"}
        ends |= {spec.pause_s + self.overrun: "STOPPED"} if spec.pause_s else {}
        seconds = min(ends)
        rate = spec.recipe.hyperparameters.base_lr
        self.behind[job.name] = before + seconds
        number = sum(spec_from(each.spec).recipe.hyperparameters.base_lr == rate for each in self.find(KIND))
        ran = {"start_time": NOON, "end_time": NOON + timedelta(seconds=seconds)}
        if self.fails.get(rate) == number:
            state = TrainingState(train_seconds=seconds)
            error = {"reason": "DIVERGED", "message": "the loss was no number", "code": 9}
            saved = {"train_seconds": state.train_seconds}
            return self.put(replace(job, state=JobState.FAILED, reason="DIVERGED", error=error, saved=saved, **ran))
        step = max(1, round(STEPS * (before + seconds) / whole))
        metrics = {"val_accuracy": top * (1 - 0.5 ** ((before + seconds) / half))}
        last = Checkpoint("last", step, 0, metrics, Blob("artifact://trainer/" + "c" * 64, f"{len(self.made):064d}", 3))
        state = TrainingState({"last": last, "best": replace(last, kind="best")}, {"step": step}, train_seconds=seconds)
        result = result_document(TrainingResult(blob("f"), spec.recipe, metrics, 7, state))
        if not spec.measure_only:
            result["model_version"] = f"{spec.model}/versions/V{len(self.made):03d}"
        return self.put(replace(job, state=JobState.SUCCEEDED, reason=ends[seconds], result=result, **ran))


class Counted(FakeDatasets):
    def get_version(self, name: str) -> DatasetVersion:
        return replace(super().get_version(name), validation_count=5000)


@dataclass
class FakeProfiling:
    """ports.Profiling: what each recipe takes, by its input's height."""

    takes: dict[str, Measured] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    recipes: list[Recipe] = field(default_factory=list)
    looks: int = 1

    def check_target(self, parent: str, target: str) -> None:
        if target != "cpu":
            raise InvalidArgument("UNKNOWN_TARGET", f"{target} is unknown", field="model_selection.target")

    def start(self, parent: str, dataset_version: str, recipes: Sequence[Recipe], target: str, request_id: str) -> str:
        if request_id not in self.started:
            self.started.append(request_id)
            self.recipes = list(recipes)
        return f"{parent}/latencyProfiles/one"

    def measured(self, profile: str) -> tuple[Measured, ...] | None:
        self.looks -= 1
        return None if self.looks >= 0 else tuple(self.takes[recipe.name] for recipe in self.recipes)

    def cancel(self, profile: str) -> None:
        raise AssertionError("nobody asked for that")


FITS = {0.001: (0.6, 5.0, 300.0), 0.002: (0.9, 11.0, 400.0), 0.003: (0.8, 10.0, 200.0), 0.004: (0.7, 10.0, 500.0)}
"""The second is the best in the end, and behind the first after 7.5 s."""


def recipes(*rates: float) -> tuple[dict[str, Any], ...]:
    return tuple({"recipe_id": "micronet", "hyperparameters": {"base_lr": rate}} for rate in rates)


def a_world(**more: Any) -> World:
    return World(ClockedJobs(fits=dict(FITS), **more), Counted(), FakeResources())


def created(world: World, total_s: float, spec: SelectionSpec | None = None, profiling: FakeProfiling | None = None) -> Job:
    new = NewTrainingJob(PARENT, PICTURES, MODEL, max_training_time_s=total_s, tags=("mine",))
    wanted = spec or SelectionSpec(PICTURES, MODEL, recipes=recipes(*FITS), max_candidates=27)
    return model_selections.create_model_selection(
        world, profiling or FakeProfiling(), new, wanted, job_id="s", request=Request()
    )


def run(
    world: World, job: Job, steps: RecordedSteps | None = None, profiling: FakeProfiling | None = None
) -> tuple[SelectionState, str]:
    result = selection.run_model_selection(world, profiling or FakeProfiling(), job, steps or RecordedSteps())
    return from_document(result["selection"], SelectionState), result["reason"]


def trainings(world: World) -> list[Job]:
    return list(world.jobs.find(KIND))


def test_the_best_wins_and_the_time_is_held_to_the_second() -> None:
    world = a_world()
    state, reason = run(world, created(world, 120.0))
    assert reason == "TIME_LIMIT"
    assert [each.state for each in state.candidates] == ["ELIMINATED", "WON", "ELIMINATED", "ELIMINATED"]
    assert state.spent_seconds == pytest.approx(120.0, rel=1e-3)
    assert sum(state_from((job.result or {})["state"]).train_seconds for job in trainings(world)) == pytest.approx(120.0)
    winner = state.candidates[1]
    assert winner.train_seconds >= 60.0, "half of the time at least is the winner's"
    assert winner.metric == pytest.approx(0.9 * (1 - 0.5 ** (winner.train_seconds / 11)))
    assert state.best_training_job == winner.training_jobs[-1]
    assert state.model_version == (world.jobs.get(state.best_training_job).result or {})["model_version"]
    # Each whole training would have taken 300, 400, 200 and 500 s.
    assert sum(each.full_seconds or 0.0 for each in state.candidates) == pytest.approx(1400, rel=0.1)
    assert state.spared_seconds == pytest.approx(1400 - 120, rel=0.1)
    assert "micronet" in state.summary


def test_what_comes_late_is_made_up_for() -> None:
    """Pauses that come 5 percent late each: the last rung gets what is really left."""
    world = a_world(overrun=0.4)
    state, _ = run(world, created(world, 120.0))
    assert state.spent_seconds == pytest.approx(120.0, rel=0.05)
    assert [each.state for each in state.candidates].count("WON") == 1


def test_where_the_first_rung_took_all_there_is_for_rungs_the_best_goes_on_alone() -> None:
    """Reading the data takes 20 s each time, as on a machine that others use: 4 times 27.5 s of 120."""
    world = a_world(overrun=20.0)
    state, _ = run(world, created(world, 120.0))
    assert len(trainings(world)) == 5
    assert [each.state for each in state.candidates].count("ELIMINATED") == 3
    assert state.spent_seconds == pytest.approx(120.0, rel=0.05)


def test_nothing_is_trained_twice_and_the_schedule_goes_on() -> None:
    world = a_world()
    state, _ = run(world, created(world, 120.0))
    for candidate in state.candidates:
        before = ""
        for at, name in enumerate(candidate.training_jobs):
            spec = spec_from(world.jobs.get(name).spec)
            assert (spec.resume_from.training_job if spec.resume_from else "") == before
            assert spec.stretch
            last = at == len(candidate.training_jobs) - 1 and candidate.state == "WON"
            assert spec.measure_only is not last
            assert (spec.pause_s > 0) is not last
            assert spec.part_of.endswith("/modelSelections/s")
            assert ledger.written_on(world.jobs.get(name)).tags == ("mine", "s")
            before = name
    planned = [spec_from(world.jobs.get(name).spec) for name in state.candidates[1].training_jobs]
    # Limits shrink by what was trained: the whole run is planned alike from the first step on.
    assert planned[1].max_training_time_s == pytest.approx(planned[0].max_training_time_s - planned[0].pause_s)


@pytest.mark.parametrize(("second", "winner"), [("efficientnet-lite0", 1), ("micronet", 0)])
def test_what_chance_does_not_tell_apart_learned_weights_do(second: str, winner: int) -> None:
    world = a_world()
    world.jobs.fits = {0.003: (0.8, 1.0, 10_000.0), 0.005: (0.795, 1.0, 10_000.0)}
    asked = (*recipes(0.003), {"recipe_id": second, "hyperparameters": {"base_lr": 0.005}})
    state, _ = run(world, created(world, 120.0, SelectionSpec(PICTURES, MODEL, recipes=asked)))
    assert [len(each.training_jobs) for each in state.candidates][winner] == 2, "it goes on"


def test_one_that_comes_to_its_end_costs_no_more_and_may_win() -> None:
    world = a_world()
    world.jobs.fits[0.001] = (0.95, 1.0, 4.0)
    state, reason = run(world, created(world, 120.0))
    won = state.candidates[0]
    assert (won.state, won.train_seconds, reason) == ("WON", 4.0, "COMPLETED")
    assert len(won.training_jobs) == 1
    assert state.model_version.startswith(f"{MODEL}/versions/"), "a version is made of what was only measured"
    assert state.spent_seconds < 120.0


def test_one_that_fails_is_out_and_the_others_go_on() -> None:
    world = a_world(fails={0.002: 1})
    state, _ = run(world, created(world, 120.0))
    # After the first rung all are in their warm-up, so two of three go on, and the one that starts slower ends higher.
    assert [each.state for each in state.candidates] == ["ELIMINATED", "FAILED", "WON", "ELIMINATED"]
    assert [len(each.training_jobs) for each in state.candidates] == [2, 1, 3, 1]
    assert state.rungs == state.rung == 3
    assert "the loss was no number" in state.candidates[1].message
    assert len(state.candidates[1].training_jobs) == 1


def test_one_that_fails_at_the_end_is_kept_as_it_was() -> None:
    world = a_world(fails={0.002: 3})
    state, _ = run(world, created(world, 120.0))
    won = next(each for each in state.candidates if each.state == "WON")
    assert won.label == state.candidates[1].label
    assert state.best_training_job == state.candidates[1].training_jobs[1]
    assert state.model_version


def test_none_that_comes_to_anything_is_an_error() -> None:
    world = a_world(fails=dict.fromkeys(FITS, 1))
    with pytest.raises(FailedPrecondition) as caught:
        run(world, created(world, 120.0))
    assert caught.value.reason == "NO_RUN_SUCCEEDED"


def test_those_that_miss_the_limits_are_set_aside_untrained() -> None:
    world, profiling = (
        a_world(),
        FakeProfiling(
            {"tinynet": Measured(12.5, 800_000), "smallnet": Measured(10.5, 500_000), "micronet": Measured(1.5, 200_000)}
        ),
    )
    world.jobs.fits |= {0.004: (0.7, 10.0, 50.0), 0.006: (0.7, 10.0, 50.0)}
    spec = SelectionSpec(PICTURES, MODEL, target="cpu", max_inference_ms=10.0)
    job = created(world, 300.0, spec, profiling)
    state, reason = run(world, job, profiling=profiling)
    aside = {each.recipe_id: each for each in state.candidates}["tinynet"]
    assert (aside.state, aside.training_jobs) == ("SET_ASIDE", ())
    assert aside.message == "takes 12.5 ms (p95) on cpu; 10 ms are allowed"
    assert aside.measured == Measured(12.5, 800_000)
    assert {each.recipe_id for each in state.candidates if each.training_jobs} == {"micronet"}
    assert reason == "COMPLETED"
    none = FakeProfiling(dict.fromkeys(("tinynet", "smallnet", "micronet"), Measured(11.0, 1)))
    with pytest.raises(FailedPrecondition) as caught:
        run(world, job, profiling=none)
    assert caught.value.reason == "NO_CANDIDATE_FITS"
    assert "11 ms" in caught.value.message


def test_where_time_is_short_fewer_of_the_catalogue_compete() -> None:
    world = a_world()
    world.jobs.fits = dict.fromkeys((0.004, 0.006), (0.7, 10.0, 1000.0))
    state, _ = run(world, created(world, 30.0, SelectionSpec(PICTURES, MODEL)))
    assert state.candidates[0].state == "WON"
    assert all("have room for 1" in each.message for each in state.candidates[1:])
    assert state.spent_seconds == pytest.approx(30.0)


STEP_NAMES = ["candidates", "rung-0-0", "rung-0-3", "wait 0", "rung-1-1", "wait 1", "rung-2-1", "wait 2", "end"]


@pytest.mark.parametrize("stop_before", STEP_NAMES)
def test_one_that_was_interrupted_goes_on_and_trains_nothing_twice(stop_before: str) -> None:
    world = a_world()
    whole, reason = run(world, created(world, 120.0), steps := RecordedSteps())
    assert set(STEP_NAMES) <= set(steps.taken)
    other = a_world()
    job, cut = created(other, 120.0), RecordedSteps(stop_before=stop_before)
    with pytest.raises(Interrupted):
        run(other, job, cut)
    again, same = run(other, job, cut)
    assert same == reason
    assert len(trainings(other)) == len(trainings(world))
    assert [(each.state, each.metric, len(each.training_jobs)) for each in again.candidates] == [
        (each.state, each.metric, len(each.training_jobs)) for each in whole.candidates
    ]


class Hanging(ClockedJobs):
    """Trainings that run until they are told to end."""

    def finish(self, job: Job) -> Job:
        return self.put(replace(job, state=JobState.RUNNING))

    def stop(self, name: str) -> Job:
        job = super().stop(name)
        return ClockedJobs.finish(self, job) if job.kind == KIND else job


def test_cancelling_cancels_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "CANCEL_S", 0.1)
    world = World(Hanging(fits=dict(FITS)), Counted(), FakeResources())
    with pytest.raises(Cancelled):
        run(world, created(world, 120.0), RecordedSteps(cancel_at="rung-0-3"))
    assert [job.instruction for job in trainings(world)] == [Instruction.CANCEL] * 4


def test_stopping_keeps_the_best_so_far() -> None:
    world = World(Hanging(fits=dict(FITS)), Counted(), FakeResources())
    job = created(world, 120.0)
    model_selections.stop_model_selection(world.jobs, job.name)
    state, reason = run(world, job)
    assert reason == "STOPPED"
    assert len(trainings(world)) == 4, "no further rung"
    assert [each.state for each in state.candidates].count("WON") == 1
    assert state.model_version


def test_what_is_wrong_is_found_before_anything_is_made() -> None:
    world = a_world()
    with pytest.raises(InvalidArgument) as caught:
        created(world, 120.0, SelectionSpec(PICTURES, MODEL, recipes=({"recipe_id": "giantnet"},)))
    assert caught.value.reason == "UNKNOWN_RECIPE"
    with pytest.raises(InvalidArgument):
        created(world, 120.0, SelectionSpec(PICTURES, MODEL, target="abacus"))
    assert not world.jobs.known


def test_recipes_of_the_users_get_the_settings_of_all() -> None:
    world = a_world()
    new = NewTrainingJob(PARENT, PICTURES, MODEL, max_training_time_s=60.0, recipe=RecipeRequest(hyperparameters={"seed": 7}))
    wanted = SelectionSpec(PICTURES, MODEL, recipes=recipes(0.001, 0.002))
    job = model_selections.create_model_selection(world, FakeProfiling(), new, wanted, job_id="", request=Request())
    run(world, job)
    assert {spec_from(each.spec).recipe.hyperparameters.seed for each in trainings(world)} == {7}


def test_a_training_that_cannot_be_paused_has_its_slice_as_its_limit() -> None:
    world = a_world()
    spec = SelectionSpec(ROWS, MODEL, recipes=({"recipe_id": "lightgbm"}, {"recipe_id": "linear"}), max_candidates=2)
    new = NewTrainingJob(PARENT, ROWS, MODEL, max_training_time_s=120.0)
    job = model_selections.create_model_selection(world, FakeProfiling(), new, spec, job_id="", request=Request())
    assert {each.pauses for each in run(world, job)[0].candidates} == {False}
    assert [spec_from(each.spec).max_training_time_s for each in trainings(world)][:2] == [30.0, 30.0]
