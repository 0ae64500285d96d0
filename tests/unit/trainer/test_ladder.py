"""Advised trainings over simulated jobs: which steps are taken, what they are compared with, how they end, that none is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import Cancelled, FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.jobs.job import Job, JobState
from modelyard.core.requests import Request
from modelyard.recipes.recipe import Hyperparameters
from modelyard.trainer.domain.ladder import LadderSpec, LadderState, check_ladder
from modelyard.trainer.domain.recipe import RecipeRequest
from modelyard.trainer.domain.training_job import KIND, spec_from
from modelyard.trainer.handlers import children, ladder, ledger
from modelyard.trainer.handlers.advising import advise, check_short_runs
from modelyard.trainer.handlers.children import World
from modelyard.trainer.handlers.training_jobs import NewTrainingJob, create_training_job
from modelyard.trainer.ports import DatasetVersion
from tests.support.simulated_training import Interrupted, Outcome, RecordedSteps, SimulatedJobs, chance
from tests.support.trainer_fakes import MODEL, PARENT, PICTURES, FakeDatasets, FakeResources, a_job


class Counted(FakeDatasets):
    """Versions that say how many examples validate."""

    def get_version(self, name: str) -> DatasetVersion:
        return replace(super().get_version(name), validation_count=5000, class_counts=(2500, 2500))


def a_world(outcome: Outcome, **more: Any) -> tuple[World, Job]:
    """A trainer in which one job has been trained."""
    world = World(SimulatedJobs(outcome=outcome, **more), Counted(), FakeResources())
    settings = {"base_lr": 0.001, "schedule": "constant", "max_epochs": 100}
    new = NewTrainingJob(PARENT, PICTURES, MODEL, "source", recipe=RecipeRequest("micronet", hyperparameters=settings))
    return world, create_training_job(world.jobs, world.datasets, world.resources, new)


def climb(world: World, source: Job, steps: RecordedSteps | None = None, **asked: Any) -> tuple[LadderState, str, RecordedSteps]:
    """An advised training to its end."""
    steps = steps or RecordedSteps()
    spec = LadderSpec(source.name, **({"budget_s": 10_000.0} | asked))
    job = a_job(f"{PARENT}/advisedTrainings/a", to_document(spec), kind=ladder.KIND, parent=PARENT)
    result = ladder.run_ladder(world, job, steps)
    return from_document(result["ladder"], LadderState), result["reason"], steps


def needs_a_higher_rate(settings: Hyperparameters, steps: int) -> float:
    """At chance below a rate of 0.004."""
    return 0.5 + chance(settings) if settings.base_lr < 0.004 else 0.9 + chance(settings)


def test_a_rate_that_is_too_low_is_doubled_until_it_helps_and_then_run_at_full_length() -> None:
    def outcome(settings: Hyperparameters, steps: int) -> float:
        return 0.5 + chance(settings) + min(0.3, 40 * (settings.base_lr - 0.001)) * (1 if settings.base_lr > 0.001 else 0)

    world, source = a_world(outcome)
    state, _, _ = climb(world, source)
    rungs = [(step.rung, step.short_run, step.effect) for step in state.steps]
    assert rungs[0] == ("baseline", True, "MEASURED")
    assert rungs[1] == ("lr_doubled", True, "HELPED")
    assert rungs[2] == ("lr_doubled", True, "HELPED")
    full = next(step for step in state.steps if not step.short_run and step.effect == "HELPED")
    assert full.rung == "lr_doubled"
    best = spec_from(world.jobs.get(state.best).spec)
    assert best.recipe.hyperparameters.base_lr >= 0.004
    assert not best.measure_only
    assert state.model_version
    assert "lr_doubled" in state.summary


def test_short_runs_make_no_version_have_a_share_of_the_steps_and_other_seeds() -> None:
    world, source = a_world(needs_a_higher_rate)
    state, _, _ = climb(world, source, short_run_share=0.1)
    for step in state.steps:
        for name in step.training_jobs:
            spec = spec_from(world.jobs.get(name).spec)
            assert spec.part_of == f"{PARENT}/advisedTrainings/a"
            assert spec.measure_only == step.short_run
            if step.short_run:
                assert spec.recipe.hyperparameters.max_steps == 210  # a tenth of 100 epochs of 1400 // 64 steps
    baseline = [spec_from(world.jobs.get(name).spec) for name in state.steps[0].training_jobs]
    assert [spec.recipe.hyperparameters.seed for spec in baseline] == [0, 1, 2]
    assert len({spec.experiment for spec in baseline}) == 1


def test_what_chance_explains_does_not_count_as_help() -> None:
    world, source = a_world(lambda settings, steps: 0.5 + chance(settings))
    state, reason, _ = climb(world, source, max_steps=100)
    assert reason == "NOTHING_HELPED"
    assert {step.effect for step in state.steps} == {"MEASURED", "NO_EFFECT"}
    order = list(dict.fromkeys(step.rung for step in state.steps))
    assert order == ["baseline", "lr_doubled", "lr_halved", "momentum", "weight_decay", "optimizer", "architecture"]
    assert state.best == source.name
    assert "Nothing helped" in state.summary
    assert "data" in state.summary


def test_a_short_run_that_promises_what_a_full_one_does_not_keep_is_not_taken() -> None:
    def outcome(settings: Hyperparameters, steps: int) -> float:
        return 0.5 + chance(settings) + (0.2 if settings.base_lr > 0.001 and steps < 1000 else 0.0)

    world, source = a_world(outcome)
    state, _, _ = climb(world, source, max_steps=12)
    assert any(step.rung == "lr_doubled" and step.short_run and step.effect == "HELPED" for step in state.steps)
    assert not [step for step in state.steps if not step.short_run and step.effect == "HELPED"]
    assert state.best == source.name


def test_stalled_goes_on_from_the_best_with_a_lower_rate_while_that_helps() -> None:
    def outcome(settings: Hyperparameters, steps: int) -> float:
        return 0.8 + chance(settings) + (0.05 if settings.base_lr < 0.001 else 0.0) + (0.05 if settings.base_lr < 0.0004 else 0.0)

    world, source = a_world(outcome)
    state, _, _ = climb(world, source)
    first = state.steps[0]
    assert (first.rung, first.effect, first.short_run) == ("resume_best_lr_halved", "HELPED", False)
    spec = spec_from(world.jobs.get(first.training_jobs[0]).spec)
    assert spec.resume_from is not None
    assert (spec.resume_from.training_job, spec.resume_from.checkpoint.kind) == (source.name, "best")
    assert spec.recipe.hyperparameters.base_lr == 0.0005
    assert world.jobs.get(state.best).result is not None
    assert ledger.metrics_of(world.jobs.get(state.best))["val_accuracy"] > 0.89


def test_a_run_that_diverged_is_tried_with_a_tenth_of_its_rate() -> None:
    world, source = a_world(lambda settings, steps: -1.0 if settings.base_lr > 0.0005 else 0.8 + chance(settings))
    assert source.state is JobState.FAILED
    state, _, _ = climb(world, source)
    assert [(step.rung, step.effect) for step in state.steps[:3]] == [
        ("baseline", "MEASURED"),
        ("lr_tenth", "HELPED"),
        ("lr_tenth", "HELPED"),
    ]
    assert len(state.steps[0].training_jobs) == 1, "one that breaks down is enough"
    assert ledger.metrics_of(world.jobs.get(state.best))["val_accuracy"] > 0.79


def test_the_budget_ends_it_and_binds_the_runs() -> None:
    world, source = a_world(lambda settings, steps: 0.5 + chance(settings), step_s=0.1)
    # A short run takes 55 s, so the baseline and one more.
    state, reason, _ = climb(world, source, budget_s=200.0)
    assert reason == "BUDGET_USED_UP"
    assert sum(step.seconds for step in state.steps) < 280
    assert state.summary.endswith("never improved.")


def test_the_most_steps_end_it() -> None:
    world, source = a_world(lambda settings, steps: 0.5 + chance(settings))
    state, reason, _ = climb(world, source, max_steps=5)
    assert reason == "MOST_STEPS"
    assert sum(len(step.training_jobs) for step in state.steps) <= 6


def test_every_step_is_written_down_on_its_jobs() -> None:
    world, source = a_world(needs_a_higher_rate)
    state, _, _ = climb(world, source)
    for step in state.steps:
        for name in step.training_jobs:
            remarks = ledger.written_on(world.jobs.get(name)).remarks
            assert any(step.rung in remark.text and remark.author == "advisor" for remark in remarks), (step, remarks)


@pytest.mark.parametrize("stop_before", ["look 0", "001-baseline-0", "003-baseline-2", "write 1", "004-lr_doubled", "end"])
def test_a_run_that_was_interrupted_goes_on_and_trains_nothing_twice(stop_before: str) -> None:
    def outcome(settings: Hyperparameters, steps: int) -> float:
        return 0.5 + chance(settings)

    world, source = a_world(outcome)
    whole, reason, _ = climb(world, source, max_steps=8)
    other, source = a_world(outcome)
    steps = RecordedSteps(stop_before=stop_before)
    with pytest.raises(Interrupted):
        climb(other, source, steps, max_steps=8)
    again, same, _ = climb(other, source, steps, max_steps=8)
    assert same == reason
    assert [(step.rung, step.effect, step.after) for step in again.steps] == [
        (step.rung, step.effect, step.after) for step in whole.steps
    ]
    assert len(other.jobs.find(KIND)) == len(world.jobs.find(KIND))


def test_a_step_that_was_cut_off_after_its_job_began_finds_that_job() -> None:
    """The job exists, the step's record does not: the same request id finds it."""
    world, source = a_world(needs_a_higher_rate)
    steps = RecordedSteps()
    climb(world, source, steps, max_steps=4)
    count = len(world.jobs.find(KIND))
    lost = {name: value for name, value in steps.recorded.items() if name.startswith(("look 0", "001", "002"))}
    climb(world, source, RecordedSteps(recorded=lost), max_steps=4)
    assert len(world.jobs.find(KIND)) == count


def test_another_advised_training_reuses_what_was_measured() -> None:
    world, source = a_world(lambda settings, steps: 0.5 + chance(settings))
    climb(world, source, max_steps=6)
    count = len(world.jobs.find(KIND))
    spec = LadderSpec(source.name, 10_000.0, max_steps=6)
    job = a_job(f"{PARENT}/advisedTrainings/b", to_document(spec), kind=ladder.KIND, parent=PARENT)
    ladder.run_ladder(world, job, RecordedSteps())
    assert len(world.jobs.find(KIND)) == count


def test_cancelling_cancels_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "CANCEL_S", 0.1)
    world, source = a_world(lambda settings, steps: 0.5)

    class Hanging(SimulatedJobs):
        def finish(self, job: Job) -> Job:
            return self.put(replace(job, state=JobState.RUNNING))

    hanging = Hanging(known=dict(world.jobs.known), curves=world.jobs.curves)
    with pytest.raises(Cancelled):
        climb(World(hanging, world.datasets, world.resources), source, RecordedSteps(cancel_at="look 0"))
    running = [job for job in hanging.find(KIND) if job.state is JobState.RUNNING]
    assert [job.instruction.value for job in running] == ["CANCEL"]


def test_it_begins_only_with_a_job_that_has_ended() -> None:
    world, source = a_world(needs_a_higher_rate)
    spec = LadderSpec(source.name, 600.0)
    job = ladder.create_advised_training(world, PARENT, "mine", spec, Request())
    assert job.name == f"{PARENT}/advisedTrainings/mine"
    assert ladder.state_of_ladder(job).steps == ()
    world.jobs.put(replace(source, state=JobState.RUNNING))
    with pytest.raises(FailedPrecondition) as caught:
        ladder.create_advised_training(world, PARENT, "other", spec, Request())
    assert caught.value.violations[0].field == "advised_training.training_job"
    with pytest.raises(NotFound):
        ladder.create_advised_training(world, PARENT, "", replace(spec, training_job=f"{PARENT}/trainingJobs/no"), Request())
    with pytest.raises(NotFound):
        ladder.get_advised_training(world.jobs, f"{PARENT}/advisedTrainings/none")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"budget_s": None}, "budget"),
        ({"budget_s": 59.0}, "budget"),
        ({"budget_s": 1e9}, "budget"),
        ({"steps": 9}, "short_run_steps"),
        ({"share": 1.1}, "short_run_share"),
        ({"baseline_runs": 1}, "baseline_runs"),
        ({"max_steps": 101}, "max_steps"),
    ],
)
def test_wrong_wishes_are_named(wrong: dict[str, Any], field: str) -> None:
    right: dict[str, Any] = {"budget_s": 600.0, "steps": 0, "share": 0.0, "baseline_runs": 0, "max_steps": 0}
    check_ladder("j", **right)
    with pytest.raises(InvalidArgument) as caught:
        check_ladder("j", **(right | wrong))
    assert [each.field for each in caught.value.violations] == [f"advised_training.{field}"]


def test_advice_is_ready_to_be_started_and_knows_what_was_tried() -> None:
    world, source = a_world(needs_a_higher_rate)
    found = advise(world.jobs, world.datasets, world.resources, source.name)
    first = found.proposals[0]
    assert first.new is not None
    assert not first.tried_by
    made = create_training_job(world.jobs, world.datasets, world.resources, first.new)
    assert spec_from(made.spec).recipe.hyperparameters.base_lr == 0.002
    again = advise(world.jobs, world.datasets, world.resources, source.name)
    assert again.proposals[0].tried_by == made.name
    assert all(ready.new is not None for ready in found.proposals if ready.proposal.kind == "TRAIN")


def test_short_runs_have_limits() -> None:
    assert check_short_runs(0, 0.0).steps == 3500
    for steps, share in ((5, 0.0), (0, 2.0)):
        with pytest.raises(InvalidArgument):
            check_short_runs(steps, share)
