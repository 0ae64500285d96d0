"""Advice, the ladder, the ledger and cross-validation end to end: real server, SQLite, worker processes, digits."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from modelyard.client import AlreadyExists, FailedPrecondition, InvalidArgument, JobFailed, NotFound
from modelyard.trainer.v1 import advice_pb2
from modelyard.trainer.v1 import trainer_pb2 as pb
from modelyard.type.v1 import job_pb2
from tests.integration.trainer.conftest import DIGITS, PARENT, TABLE, Trainer

pytestmark = pytest.mark.slow

SHORT = {"max_epochs": 4, "batch_size": 32}
RATE = 2e-4


@pytest.fixture(scope="module")
def slow_rate(trainer: Trainer) -> pb.TrainingJob:
    """A run whose learning rate is far too low to get anywhere."""
    settings = pb.Hyperparameters(**SHORT, base_lr=RATE, schedule=pb.SCHEDULE_CONSTANT, warmup_steps=0)
    return trainer.wait(trainer.create("slow-rate", model="slow", hyperparameters=settings))


def test_an_experiment_that_exists_is_refused_unless_it_is_meant(trainer: Trainer) -> None:
    settings = pb.Hyperparameters(max_epochs=1, batch_size=64)
    first = trainer.wait(trainer.create("once", hyperparameters=settings))
    with pytest.raises(AlreadyExists) as caught:
        trainer.create("twice", hyperparameters=settings)
    assert caught.value.reason == "EXPERIMENT_REPEATED"
    assert caught.value.values["training_job"] == first.name
    assert "val_accuracy" in caught.value.message
    again = trainer.wait(trainer.create("meant", hyperparameters=settings, repeat_reason="is it the same?"))
    assert (again.repeat_of, again.repeat_reason, again.experiment) == (first.name, "is it the same?", first.experiment)
    other = trainer.wait(trainer.create("seeded", hyperparameters=pb.Hyperparameters(max_epochs=1, batch_size=64, seed=5)))
    assert other.experiment == first.experiment
    found = trainer.client.training.compare_training_jobs([first.name, again.name, other.name])
    assert [side.spread.runs for side in found.jobs] == [2, 2, 2]
    assert found.jobs[1].gain == pytest.approx(0.0), "the same seed, the same bits"
    assert [setting.name for setting in found.settings] == ["seed"]


def test_the_same_request_sent_twice_is_one_job(trainer: Trainer) -> None:
    settings = pb.Hyperparameters(max_epochs=1, batch_size=64, seed=77)
    jobs = [trainer.create("", hyperparameters=settings, request_id="the-same-request") for _ in range(2)]
    assert jobs[0].name == jobs[1].name
    trainer.wait(jobs[0])


def test_people_write_down_what_they_think(trainer: Trainer, slow_rate: pb.TrainingJob) -> None:
    training = trainer.client.training
    training.add_training_remark(slow_rate.name, "the rate is a guess")
    job = training.set_training_tags(slow_rate.name, ["guess", "digits"])
    assert [remark.text for remark in job.remarks] == ["the rate is a guess"]
    assert job.remarks[0].author
    assert [each.name for each in training.list_training_jobs(tag="guess")] == [slow_rate.name]
    assert [each.name for each in training.list_training_jobs(text="A GUESS", dataset="digits")] == [slow_rate.name]
    best = list(training.list_training_jobs(dataset=DIGITS, order_by="val_accuracy"))
    scores = [each.metrics["val_accuracy"] for job in best for each in job.checkpoints if each.kind == pb.CHECKPOINT_KIND_BEST]
    assert scores == sorted(scores, reverse=True)
    with pytest.raises(InvalidArgument):
        training.set_training_tags(slow_rate.name, ["Not a tag"])
    with pytest.raises(NotFound):
        training.add_training_remark("none", "x")


def test_advice_on_a_real_run_names_the_rate(trainer: Trainer, slow_rate: pb.TrainingJob) -> None:
    advice = trainer.client.advisor.advise(slow_rate.name)
    cases = (advice_pb2.RUN_CASE_NEVER_IMPROVED, advice_pb2.RUN_CASE_STILL_IMPROVING)
    assert advice.run_case in cases
    assert advice.metric == "val_accuracy"
    assert {each.name for each in advice.evidence} >= {"chance", "best_step"}
    doubled = next(each for each in advice.proposals if each.rung == "lr_doubled")
    assert doubled.training_job.recipe.hyperparameters.base_lr == 2 * RATE
    assert doubled.short_run_first
    assert doubled.expected_duration.ToNanoseconds() > 0


def test_a_run_that_diverges_fails_with_the_reason_and_the_advice_says_so(trainer: Trainer) -> None:
    settings = pb.Hyperparameters(max_epochs=8, batch_size=32, base_lr=100.0, optimizer=pb.OPTIMIZER_SGD, warmup_steps=0)
    job = trainer.create("diverges", hyperparameters=settings)
    with suppress(JobFailed):  # it may end with what it had before
        trainer.wait(job)
    advice = trainer.client.advisor.advise(job.name)
    assert advice.run_case == advice_pb2.RUN_CASE_DIVERGED
    assert advice.proposals[0].rung == "lr_tenth"


@pytest.mark.timeout(900)
def test_the_ladder_raises_a_rate_that_is_too_low_and_ends_better(trainer: Trainer, slow_rate: pb.TrainingJob) -> None:
    advisor = trainer.client.advisor
    started = advisor.create_advised_training(
        slow_rate.name, 3600, short_run_steps=40, short_run_share=1.0, baseline_runs=2, max_steps=7
    )
    ended = advisor.wait_advised_training(started.name, timeout_s=900)
    assert ended.status.state == job_pb2.JOB_STATE_SUCCEEDED
    helped = [step for step in ended.steps if step.effect == advice_pb2.STEP_EFFECT_HELPED]
    assert helped, ended.steps
    assert ended.best_training_job != slow_rate.name
    best = trainer.client.training.get_training_job(ended.best_training_job)
    assert best.part_of == ended.name
    assert any(remark.author == "advisor" for remark in best.remarks)

    def score(job: pb.TrainingJob) -> float:
        return max(each.metrics["val_accuracy"] for each in job.checkpoints)

    assert score(best) > score(trainer.client.training.get_training_job(slow_rate.name)) + 0.05
    assert ended.model_version == best.model_version
    assert ended.summary
    parts = [job.name for job in trainer.client.training.list_training_jobs(show_parts=True) if job.part_of == ended.name]
    assert set(parts) >= {name for step in ended.steps for name in step.training_jobs}
    assert ended.name in [each.name for each in advisor.list_advised_trainings()]


def test_an_advised_training_is_cancelled_with_what_it_runs(trainer: Trainer, slow_rate: pb.TrainingJob) -> None:
    source = trainer.long("to-be-stopped", model="slow")
    trainer.until(source, lambda now: now.latest_point.step > 0)
    with pytest.raises(FailedPrecondition):
        trainer.client.advisor.create_advised_training(source.name, 600)
    trainer.client.training.cancel_training_job(source.name)
    advisor = trainer.client.advisor
    started = advisor.create_advised_training(slow_rate.name, 600, short_run_steps=1000, short_run_share=1.0)
    deadline = time.monotonic() + 60
    while True:
        parts = [job for job in trainer.client.training.list_training_jobs(show_parts=True) if job.part_of == started.name]
        if parts or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    advisor.cancel_advised_training(started.name)
    with pytest.raises(JobFailed):
        advisor.wait_advised_training(started.name, timeout_s=60)
    states = [trainer.client.training.get_training_job(job.name).status.state for job in parts]
    assert states
    assert job_pb2.JOB_STATE_RUNNING not in states


def test_folds_give_a_mean_with_an_interval(trainer: Trainer) -> None:
    wanted = pb.TrainingJob(dataset_version=TABLE, model=f"{PARENT}/models/iris", recipe=pb.Recipe(recipe_id="linear"))
    started = trainer.client.advisor.create_cross_validation(wanted, folds=3, repeats=2)
    ended = trainer.client.advisor.wait_cross_validation(started.name, timeout_s=240)
    assert len(ended.runs) == 6
    assert {run.state for run in ended.runs} == {job_pb2.JOB_STATE_SUCCEEDED}
    accuracy = next(each for each in ended.metrics if each.name == "accuracy")
    assert accuracy.runs == 6
    assert accuracy.lower < accuracy.mean < accuracy.upper
    assert accuracy.mean > 0.8
    jobs = [trainer.client.training.get_training_job(run.training_job) for run in ended.runs]
    assert all(job.measure_only and not job.model_version for job in jobs)
    with pytest.raises(NotFound):
        trainer.client.models.get_model("iris")


def test_the_spread_is_measured_by_seeds(trainer: Trainer) -> None:
    recipe = pb.Recipe(recipe_id="micronet", hyperparameters=pb.Hyperparameters(max_epochs=1, batch_size=64, seed=100))
    wanted = pb.TrainingJob(dataset_version=DIGITS, model=f"{PARENT}/models/digits", recipe=recipe)
    started = trainer.client.advisor.create_cross_validation(wanted, repeats=2)
    ended = trainer.client.advisor.wait_cross_validation(started.name, timeout_s=240)
    assert [run.seed for run in ended.runs] == [100, 101]
    jobs = [trainer.client.training.get_training_job(run.training_job) for run in ended.runs]
    assert jobs[0].experiment == jobs[1].experiment
    assert {each.name for each in ended.metrics} == {"val_accuracy", "val_loss"}


def test_the_best_version_is_what_a_training_starts_from(trainer: Trainer) -> None:
    poor = trainer.wait(trainer.create("poor", model="two", hyperparameters=pb.Hyperparameters(max_epochs=5, batch_size=32)))
    worse = pb.Hyperparameters(max_epochs=1, batch_size=64, base_lr=1e-6)
    trainer.wait(trainer.create("worse", model="two", hyperparameters=worse))
    job = trainer.create(
        "warm-best",
        recipe="",
        model="two",
        warm_start_model_version="two/best",
        hyperparameters=pb.Hyperparameters(max_epochs=1, seed=3),
    )
    assert job.warm_start_model_version == poor.model_version
    trainer.wait(job)
