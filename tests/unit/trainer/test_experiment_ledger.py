"""The ledger: what is the same experiment, what is refused, what is written down, found and compared. Over fakes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from modelyard.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, ModelyardError, NotFound, ResourceExhausted
from modelyard.core.jobs.job import Job, JobState
from modelyard.trainer.domain.ledger import spread_of
from modelyard.trainer.domain.recipe import RecipeRequest
from modelyard.trainer.domain.training_job import (
    Checkpoint,
    TrainingResult,
    TrainingState,
    result_document,
    spec_from,
    state_document,
)
from modelyard.trainer.handlers import ledger, search, training_jobs
from modelyard.trainer.handlers.search import Filter
from modelyard.trainer.handlers.training_jobs import NewTrainingJob
from tests.support.trainer_fakes import MODEL, OTHER_PICTURES, PARENT, PICTURES, ROWS, FakeDatasets, FakeJobs, FakeResources, blob

TINY = RecipeRequest("tinynet")


@dataclass
class World:
    jobs: FakeJobs = field(default_factory=FakeJobs)
    resources: FakeResources = field(default_factory=FakeResources)
    datasets: FakeDatasets = field(default_factory=FakeDatasets)

    def create(self, job_id: str = "", **more: Any) -> Job:
        values: dict[str, Any] = {"parent": PARENT, "dataset_version": PICTURES, "model": MODEL, "training_job_id": job_id} | more
        values.setdefault("recipe", TINY)
        return training_jobs.create_training_job(self.jobs, self.datasets, self.resources, NewTrainingJob(**values))

    def ended(self, job: Job, accuracy: float = 0.5, state: JobState = JobState.SUCCEEDED, reason: str = "COMPLETED") -> Job:
        """The job once it has come to something."""
        best = Checkpoint("best", 10, 1, {"val_accuracy": accuracy}, blob("a"))
        result = TrainingResult(
            blob("f"), spec_from(job.spec).recipe, {"val_accuracy": accuracy}, 7, TrainingState({"best": best})
        )
        error = {"reason": reason, "message": "no"} if state is JobState.FAILED else None
        document = result_document(result) if state is JobState.SUCCEEDED else None
        return self.jobs.put(replace(self.jobs.get(job.name), state=state, reason=reason, result=document, error=error))


@pytest.fixture
def world() -> World:
    return World()


def refused(world: World, **more: Any) -> ModelyardError:
    before = set(world.jobs.known)
    with pytest.raises(ModelyardError) as caught:
        world.create(**more)
    assert set(world.jobs.known) == before
    return caught.value


def test_a_repeat_by_accident_is_refused_with_the_name_and_outcome_of_the_first(world: World) -> None:
    first = world.ended(world.create("first"), 0.8125)
    error = refused(world)
    assert isinstance(error, AlreadyExists)
    assert (error.reason, error.values["training_job"]) == ("EXPERIMENT_REPEATED", first.name)
    assert first.name in error.message
    assert "val_accuracy 0.8125" in error.message
    assert error.violations[0].field == "training_job.repeat_reason"


def test_a_repeat_with_a_reason_is_recorded_as_one(world: World) -> None:
    first = world.ended(world.create("first"))
    again = spec_from(world.create("again", repeat_reason=" to see the spread ").spec)
    assert (again.repeat_of, again.repeat_reason) == (first.name, "to see the spread")
    assert spec_from(first.spec).repeat_of == ""
    assert [job.name for job in ledger.runs_of(world.jobs, world.resources, PARENT, again.experiment)] == [
        first.name,
        f"{PARENT}/trainingJobs/again",
    ]


def test_a_reason_without_a_repeat_is_not_kept(world: World) -> None:
    assert spec_from(world.create("only", repeat_reason="in case").spec).repeat_reason == ""


def test_another_seed_is_the_same_experiment_and_needs_no_reason(world: World) -> None:
    first = world.create("first")
    other = world.create("other", recipe=RecipeRequest("tinynet", hyperparameters={"seed": 1}))
    assert spec_from(other.spec).experiment == spec_from(first.spec).experiment
    assert spec_from(other.spec).repeat_of == first.name
    assert refused(world, recipe=RecipeRequest("tinynet", hyperparameters={"seed": 1})).reason == "EXPERIMENT_REPEATED"


@pytest.mark.parametrize(
    "other",
    [
        {"recipe": RecipeRequest("micronet")},
        {"recipe": RecipeRequest("tinynet", hyperparameters={"base_lr": 0.1})},
        {"recipe": RecipeRequest("tinynet", input_height=32)},
        {"max_training_time_s": 60.0},
        {"dataset_version": ROWS, "recipe": RecipeRequest()},
    ],
)
def test_what_may_change_the_outcome_is_another_experiment(world: World, other: dict[str, Any]) -> None:
    world.create("first")
    world.create("other", **other)


def test_the_same_content_under_another_version_is_the_same_experiment(world: World) -> None:
    world.create("first")
    assert refused(world, dataset_version=OTHER_PICTURES).reason == "EXPERIMENT_REPEATED"


def test_where_a_run_starts_makes_it_another(world: World) -> None:
    kept = {"last": Checkpoint("last", 100, 5, {}, blob("e"))}
    source = world.create("source", recipe=RecipeRequest("tinynet", hyperparameters={"max_epochs": 5}))
    world.jobs.put(replace(source, state=JobState.CANCELLED, saved=state_document(TrainingState(kept))))
    more = RecipeRequest(hyperparameters={"max_epochs": 50})
    resumed = world.create("resumed", recipe=more, resume_from=source.name)
    afresh = world.create("afresh", recipe=RecipeRequest("tinynet", hyperparameters={"max_epochs": 50}))
    assert spec_from(resumed.spec).experiment != spec_from(afresh.spec).experiment
    assert refused(world, recipe=more, resume_from=source.name).reason == "EXPERIMENT_REPEATED"


@pytest.mark.parametrize(
    ("state", "reason", "counts"),
    [
        (JobState.QUEUED, "", True),
        (JobState.RUNNING, "", True),
        (JobState.SUCCEEDED, "STOPPED", True),
        (JobState.FAILED, "DIVERGED", True),
        (JobState.FAILED, "WORKER_LOST", False),
        (JobState.CANCELLED, "CANCELLED", False),
    ],
)
def test_only_what_came_to_something_counts(world: World, state: JobState, reason: str, counts: bool) -> None:
    world.ended(world.create("first"), state=state, reason=reason)
    if counts:
        assert refused(world).reason == "EXPERIMENT_REPEATED"
    else:
        world.create("again")


def test_a_request_that_is_sent_again_is_no_repeat(world: World) -> None:
    first = world.create("first", request_id="r", fingerprint="f")
    world.resources.requests["r"] = first.name
    with pytest.raises(AlreadyExists) as caught:  # the engine's own answer here: the fake does not know requests
        world.create("first", request_id="r", fingerprint="f")
    assert caught.value.reason == "RESOURCE_EXISTS"
    assert len(world.datasets.held) == 1, "what its job holds is held already"


def test_a_job_that_is_not_made_leaves_no_trace(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Job:
        raise ResourceExhausted("QUOTA_EXCEEDED", "full")

    with monkeypatch.context() as patched:
        patched.setattr(world.jobs, "submit", full)
        with pytest.raises(ResourceExhausted):
            world.create("first")
    world.create("first")


def test_a_deleted_job_is_forgotten(world: World) -> None:
    job = world.ended(world.create("first"))
    training_jobs.delete_training_job(world.jobs, world.resources, job.name)
    world.create("again")


def test_the_spread_counts_each_seed_once(world: World) -> None:
    assert spread_of("m", [(0, 0.5), (0, 0.5), (0, 0.5)]) is None
    found = spread_of("m", [(0, 0.5), (0, 0.7), (1, 0.8)])
    assert found is not None
    assert (found.runs, found.mean) == (2, pytest.approx(0.7))
    runs = [
        world.ended(world.create(f"s{seed}", recipe=RecipeRequest("tinynet", hyperparameters={"seed": seed})), value)
        for seed, value in enumerate((0.5, 0.6, 0.7))
    ]
    among = ledger.spread_among(runs)
    assert among is not None
    assert (among.metric, among.runs, among.deviation) == ("val_accuracy", 3, pytest.approx(0.1))


def test_remarks_keep_author_and_order_and_have_limits(world: World) -> None:
    job = world.create("first")
    ledger.add_remark(world.jobs, job.name, " one ", "ann")
    written = ledger.written_on(ledger.add_remark(world.jobs, job.name, "two", "bob"))
    assert [(each.text, each.author) for each in written.remarks] == [("one", "ann"), ("two", "bob")]
    for text, reason in (("  ", "EMPTY_TEXT"), ("x" * 4001, "TEXT_TOO_LONG")):
        with pytest.raises(InvalidArgument) as caught:
            ledger.add_remark(world.jobs, job.name, text, "ann")
        assert caught.value.reason == reason
    for _ in range(198):
        ledger.add_remark(world.jobs, job.name, "more", "ann")
    with pytest.raises(FailedPrecondition):
        ledger.add_remark(world.jobs, job.name, "one too many", "ann")


def test_tags_are_checked_and_replace_each_other(world: World) -> None:
    job = world.create("first", tags=("a", "b", "a"))
    assert ledger.written_on(job).tags == ("a", "b")
    ledger.add_remark(world.jobs, job.name, "kept", "ann")
    written = ledger.written_on(ledger.set_tags(world.jobs, job.name, ["c"]))
    assert (written.tags, [each.text for each in written.remarks]) == (("c",), ["kept"])
    for tags in (["Big"], ["x" * 64], [""], [f"t{number}" for number in range(21)]):
        with pytest.raises(InvalidArgument):
            ledger.set_tags(world.jobs, job.name, tags)


def names(world: World, **wanted: Any) -> list[str]:
    page = search.list_training_jobs(world.jobs, PARENT, Filter(**wanted), 0, "")
    return [job.name.rpartition("/")[2] for job in page.items]


def test_jobs_are_found_by_what_they_are_about(world: World) -> None:
    world.ended(world.create("one", tags=("good",), display_name="Green Frog"), 0.5)
    world.ended(world.create("two", recipe=RecipeRequest("micronet"), model=f"{PARENT}/models/other"), 0.9)
    world.create("rows", dataset_version=ROWS, recipe=RecipeRequest("lightgbm"))
    world.create(
        "part", recipe=RecipeRequest("micronet", hyperparameters={"max_steps": 5}), part_of=f"{PARENT}/advisedTrainings/x"
    )
    ledger.add_remark(world.jobs, f"{PARENT}/trainingJobs/two", "labels were WRONG", "ann")
    assert names(world) == ["rows", "two", "one"]
    assert names(world, show_parts=True) == ["part", "rows", "two", "one"]
    assert names(world, dataset=PICTURES) == names(world, dataset=f"{PARENT}/datasets/digits") == ["two", "one"]
    assert names(world, model=MODEL) == ["rows", "one"]
    assert names(world, task="tabular_classification") == ["rows"]
    assert names(world, tag="good") == ["one"]
    assert names(world, text="green") == ["one"]
    assert names(world, text="wrong") == ["two"]
    assert names(world, order_by="val_accuracy") == ["two", "one", "rows"]
    experiment = spec_from(world.jobs.get(f"{PARENT}/trainingJobs/one").spec).experiment
    assert names(world, experiment=experiment) == ["one"]


def test_pages_follow_each_other_also_when_newer_jobs_come(world: World) -> None:
    for number in range(5):
        world.create(f"j{number}", recipe=RecipeRequest("tinynet", hyperparameters={"seed": number}))
    page = search.list_training_jobs(world.jobs, PARENT, Filter(), 2, "")
    world.create("newer", recipe=RecipeRequest("tinynet", hyperparameters={"seed": 9}))
    rest = search.list_training_jobs(world.jobs, PARENT, Filter(), 9, page.next_page_token)
    assert [job.name[-2:] for job in (*page.items, *rest.items)] == ["j4", "j3", "j2", "j1", "j0"]
    assert not rest.next_page_token
    with pytest.raises(InvalidArgument) as caught:
        search.list_training_jobs(world.jobs, PARENT, Filter(tag="x"), 2, page.next_page_token)
    assert caught.value.reason == "BAD_PAGE_TOKEN"
    for wrong in ({"parent": "nowhere"}, {"page_size": -1}, {"page_token": "?"}):
        given: dict[str, Any] = {"parent": PARENT, "page_size": 0, "page_token": ""} | wrong
        with pytest.raises(InvalidArgument):
            search.list_training_jobs(world.jobs, given["parent"], Filter(), given["page_size"], given["page_token"])


def test_jobs_side_by_side(world: World) -> None:
    for seed, value in enumerate((0.5, 0.52, 0.48)):
        settings = {"seed": seed}
        world.ended(world.create(f"base{seed}", recipe=RecipeRequest("tinynet", hyperparameters=settings)), value)
    better = world.ended(world.create("better", recipe=RecipeRequest("tinynet", hyperparameters={"base_lr": 0.01})), 0.7)
    equal = world.ended(world.create("equal", recipe=RecipeRequest("tinynet", hyperparameters={"base_lr": 0.02})), 0.51)
    first = world.jobs.get(f"{PARENT}/trainingJobs/base0")
    world.jobs.curves[first.name] = [
        {"step": step, "loss": 1.0, "metrics": {"val_accuracy": 0.1} if step % 10 == 0 else {}} for step in range(1, 1001)
    ]
    found = search.compare_training_jobs(world.jobs, world.resources, PARENT, [first.name, better.name, equal.name])
    assert found.settings["base_lr"] == ("0.004", "0.01", "0.02")
    assert set(found.settings) == {"base_lr"}
    assert (found.metric, found.higher_is_better) == ("val_accuracy", True)
    sides = found.sides
    assert sides[0].spread is not None
    assert sides[0].spread.runs == 3
    assert [side.gain for side in sides] == pytest.approx([0, 0.2, 0.01])
    assert [side.verdict.effect if side.verdict else "" for side in sides] == ["", "HELPED", "NO_EFFECT"]
    assert len(sides[0].points) == 200
    assert sum(bool(point["metrics"]) for point in sides[0].points) == 100
    assert sides[0].steps == 1000


def test_a_comparison_names_what_is_wrong(world: World) -> None:
    job = world.create("first")
    for wrong in ([], [job.name, job.name], ["projects/q/trainingJobs/x"], [job.name] * 21):
        with pytest.raises(InvalidArgument):
            search.compare_training_jobs(world.jobs, world.resources, PARENT, wrong)
    with pytest.raises(NotFound):
        search.compare_training_jobs(world.jobs, world.resources, PARENT, [f"{PARENT}/trainingJobs/none"])
