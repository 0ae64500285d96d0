"""The whole journey over fakes: in order, over crashes, with every end it can come to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelyard.core.artifacts import Blob
from modelyard.core.errors import Cancelled, FailedPrecondition, InvalidArgument, ModelyardError
from modelyard.core.jobs.job import Document
from modelyard.pipeline.domain.spec import Floor, RunSpec, Source, Split
from modelyard.pipeline.handlers import follow as following
from modelyard.pipeline.handlers.journey import merged, run_journey
from modelyard.pipeline.handlers.runs import step_states
from tests.support.pipeline_fakes import PARENT, Crash, FakeSteps, World, a_job, services

STEPS = ["import", "check", "publish", "choose_recipe", "train", "export", "evaluate", "gate", "deploy"]
BLOB = Blob(f"artifact://dataset/{'ab' * 32}", "ab" * 32, 1000)
FROM_SOURCE = RunSpec(source=Source(BLOB, f"{PARENT}/datasets/flowers", "flowers.zip"), max_inference_ms=20)


def _run(world: World, steps: FakeSteps) -> Document:
    return run_journey(lambda _: services(world), steps.job, steps)


def _went(spec: RunSpec, world: World | None = None) -> tuple[World, FakeSteps, Document]:
    world, steps = world or World(), FakeSteps(a_job(spec))
    return world, steps, _run(world, steps)


def test_a_source_becomes_an_endpoint() -> None:
    world, steps, outcome = _went(FROM_SOURCE)
    result = outcome["result"]
    assert steps.taken == STEPS
    assert result["dataset_version"].startswith(f"{PARENT}/datasets/flowers/versions/")
    assert result["model_version"] == f"{PARENT}/models/flowers/versions/V001"
    assert result["endpoint"] == f"{PARENT}/endpoints/flowers"
    assert result["deployment"].startswith(f"{PARENT}/endpoints/flowers/deployments/")
    assert result["export_sha256"] == "ab" * 32
    assert result["train_duration"] == "12.500s"
    assert result["findings"][0]["kind"] == "CLASS_IMBALANCE"
    assert "reason" not in outcome
    assert world.started_with["gateDecisions"] == {"floors": (), "latency": {"p95_ms": 2.0}, "max_ms": 20}


def test_the_most_accurate_recipe_that_is_fast_enough_is_trained() -> None:
    world, _, outcome = _went(replace(FROM_SOURCE, target="cpu-1core", max_training_s=60.0))
    assert world.started_with["latencyProfiles"] == {"ids": ["large", "middle", "small"], "target": "cpu-1core"}
    assert outcome["result"]["recipe_id"] == "middle"
    assert len(outcome["result"]["candidates"]) == 3
    trained = world.started_with["trainingJobs"]
    assert trained["recipe"]["recipe_id"] == "middle"
    assert trained["max_s"] == 60.0


def test_the_limit_is_500_ms_unless_said() -> None:
    world, _, outcome = _went(replace(FROM_SOURCE, max_inference_ms=0))
    assert outcome["result"]["recipe_id"] == "large"
    assert world.started_with["gateDecisions"]["max_ms"] == 500


def test_no_recipe_fast_enough_fails_before_training_and_names_the_fastest() -> None:
    world, steps = World(latencies={"large": 30.0, "small": 21.5}), FakeSteps(a_job(FROM_SOURCE))
    with pytest.raises(FailedPrecondition, match=r"small, takes 21.5 ms") as caught:
        _run(world, steps)
    assert caught.value.reason == "NO_RECIPE_FAST_ENOUGH"
    assert caught.value.values["fastest_recipe"] == "small"
    assert "trainingJobs" not in world.created
    assert steps.job.result is not None
    assert len(steps.job.result["result"]["candidates"]) == 2


def test_recipes_that_cannot_be_measured_are_passed_over() -> None:
    _, _, outcome = _went(FROM_SOURCE, World(latencies={"large": None, "small": 3.0}))
    assert outcome["result"]["recipe_id"] == "small"


def test_a_given_recipe_is_measured_and_its_own_settings_win() -> None:
    given = {"recipe_id": "small", "hyperparameters": {"max_epochs": 2}}
    world, _, _ = _went(replace(FROM_SOURCE, recipe=given))
    assert world.started_with["latencyProfiles"]["ids"] == ["small"]
    assert world.started_with["trainingJobs"]["recipe"]["hyperparameters"] == {"max_epochs": 2, "base_lr": 0.1}


def test_a_recipe_of_the_users_own_is_trained_as_it_is() -> None:
    world, _, outcome = _went(replace(FROM_SOURCE, recipe={"architecture": "timm:resnet18"}))
    assert "latencyProfiles" not in world.created
    assert outcome["result"]["recipe_id"] == "timm:resnet18"


def test_incremental_training_starts_from_the_version_with_its_recipe() -> None:
    version = f"{PARENT}/models/flowers/versions/V001"
    world, _, _ = _went(replace(FROM_SOURCE, incremental_model_version=version))
    trained = world.started_with["trainingJobs"]
    assert trained["warm_start"] == version
    assert trained["recipe"] == {"recipe_id": "middle"}


def test_a_dataset_is_published_again_and_a_version_is_taken_as_it_is() -> None:
    dataset = f"{PARENT}/datasets/flowers"
    split = Split("0.75", "SOURCE_RATIO", 7)
    world, steps, _ = _went(RunSpec(dataset=dataset, split=split, excluded_columns=("id",), dataset_version_id="spring"))
    assert steps.taken == STEPS[1:]
    assert world.started_with["versions"] == {"split": split, "excluded": ("id",), "version_id": "spring"}
    world, steps, outcome = _went(RunSpec(dataset_version=f"{dataset}/versions/V001"))
    assert steps.taken == STEPS[3:]
    assert world.started_with["trainingJobs"]["dataset_version"] == f"{dataset}/versions/V001"
    assert outcome["result"]["dataset_version"] == f"{dataset}/versions/V001"


def test_a_gate_that_says_no_deploys_nothing_and_is_an_answer() -> None:
    world, steps, outcome = _went(FROM_SOURCE, World(verdict="BACK_TO_DATA"))
    assert outcome["reason"] == "GATE_REFUSED"
    assert outcome["result"]["gate_decision"]["reasons"] == ["accuracy is 0.5"]
    assert "deployment" not in outcome["result"]
    assert "deployments" not in world.created
    assert f"{PARENT}/endpoints/flowers" not in world.existing
    deploy = step_states(steps.job)[-1]
    assert (deploy.step_id, deploy.state) == ("deploy", "CANCELLED")
    assert "BACK_TO_DATA" in deploy.message


def test_a_run_may_end_after_the_gate() -> None:
    world, steps, outcome = _went(replace(FROM_SOURCE, skip_deployment=True))
    assert steps.taken == STEPS[:-1]
    assert "deployments" not in world.created
    assert "reason" not in outcome


@pytest.mark.parametrize(
    ("collection", "step"),
    [
        ("imports", "import"),
        ("qualityReports", "check"),
        ("versions", "publish"),
        ("trainingJobs", "train"),
        ("exports", "export"),
    ],
)
def test_the_error_of_a_step_is_the_runs(collection: str, step: str) -> None:
    error = InvalidArgument("BAD_THING", "thing is 7; it must be below 5", field="thing", thing=7)
    world, steps = World(errors={collection: error}), FakeSteps(a_job(FROM_SOURCE))
    with pytest.raises(InvalidArgument) as caught:
        _run(world, steps)
    assert (caught.value.reason, caught.value.message, caught.value.values["thing"]) == ("BAD_THING", error.message, "7")
    assert caught.value.violations == error.violations
    states = {state.step_id: state for state in step_states(steps.job)}
    assert (states[step].state, states[step].message) == ("FAILED", error.message)
    assert all(states[later].state == "QUEUED" for later in STEPS[STEPS.index(step) + 1 :])


def test_a_failed_import_leaves_no_empty_dataset() -> None:
    world = World(errors={"imports": InvalidArgument("EMPTY", "nothing in it")})
    with pytest.raises(InvalidArgument):
        _run(world, FakeSteps(a_job(FROM_SOURCE)))
    assert world.deleted == [f"{PARENT}/datasets/flowers"]


def test_a_failed_import_leaves_a_dataset_that_was_there() -> None:
    dataset = f"{PARENT}/datasets/flowers"
    world = World(errors={"imports": InvalidArgument("EMPTY", "nothing in it")}, existing={dataset})
    with pytest.raises(InvalidArgument):
        _run(world, FakeSteps(a_job(FROM_SOURCE)))
    assert world.deleted == []


def test_an_export_that_cannot_be_loaded_leaves_no_empty_endpoint() -> None:
    endpoint, error = f"{PARENT}/endpoints/flowers", FailedPrecondition("CANNOT_LOAD", "its test vectors come out wrong")
    for there, deleted in ((set(), [endpoint]), ({endpoint}, [])):
        world = World(errors={"deployments": error}, existing=there)
        with pytest.raises(FailedPrecondition, match="test vectors"):
            _run(world, FakeSteps(a_job(FROM_SOURCE)))
        assert world.deleted == deleted


def test_a_floor_of_another_task_is_refused_before_training() -> None:
    world = World(task="tabular_regression")
    with pytest.raises(InvalidArgument, match="must be one of mae, rmse, r2") as caught:
        _run(world, FakeSteps(a_job(replace(FROM_SOURCE, floors=(Floor("accuracy", 0.9),)))))
    assert caught.value.reason == "UNKNOWN_METRIC"
    assert "trainingJobs" not in world.created


def _survives(steps: FakeSteps, world: World) -> tuple[FakeSteps, Document]:
    with pytest.raises(Crash):
        _run(world, steps)
    again = steps.after_restart()
    return again, _run(world, again)


@pytest.mark.parametrize("when", ["crash_before", "crash_after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_crash_around_any_step_makes_nothing_twice(when: str, step: str) -> None:
    world, steps = World(), FakeSteps(a_job(FROM_SOURCE), **{when: step})  # type: ignore[arg-type]  # one of two str fields
    again, outcome = _survives(steps, world)
    assert sorted(world.created) == sorted(_went(FROM_SOURCE)[0].created)
    assert again.taken == ([*STEPS[: STEPS.index(step) + 1], *STEPS[STEPS.index(step) :]] if when == "crash_before" else STEPS)
    assert outcome["result"]["deployment"]
    assert [state.state for state in step_states(again.job)] == ["SUCCEEDED"] * 9


@pytest.mark.parametrize("sleep", range(1, 15))
def test_a_crash_while_waiting_goes_on_waiting_for_the_same_job(sleep: int) -> None:
    world, steps = World(), FakeSteps(a_job(FROM_SOURCE), crash_at_sleep=sleep)
    again, outcome = _survives(steps, world)
    assert len(world.created) == len(set(world.created)) == 9
    assert outcome["result"]["model_version"]
    fractions = [report["fraction"] for report in again.reports]
    assert fractions == sorted(fractions)


def test_times_of_finished_steps_survive_a_crash() -> None:
    steps = FakeSteps(a_job(FROM_SOURCE), crash_after="train")
    with pytest.raises(Crash):
        _run(world := World(), steps)
    before = {state.step_id: state for state in step_states(steps.job)}
    again = steps.after_restart()
    _run(world, again)
    after = {state.step_id: state for state in step_states(again.job)}
    for step in STEPS[:4]:
        assert after[step] == before[step]


@pytest.mark.parametrize("sleep", range(1, 15))
def test_cancelling_a_run_cancels_what_it_waits_for(sleep: int) -> None:
    world, steps = World(), FakeSteps(a_job(FROM_SOURCE), cancel_at_sleep=sleep)
    with pytest.raises(Cancelled):
        _run(world, steps)
    assert len(world.cancelled) == 1
    states = [state.state for state in step_states(steps.job)]
    assert states.count("CANCELLED") == 1
    assert "deployments" not in world.created


def test_a_run_cancelled_between_steps_starts_no_more() -> None:
    world, steps = World(), FakeSteps(a_job(FROM_SOURCE), crash_after="publish")
    with pytest.raises(Crash):
        _run(world, steps)
    again = steps.after_restart()
    again.cancel_at_sleep = 0
    from modelyard.core.jobs.job import Instruction
    from tests.support.pipeline_fakes import replaced

    again.job = replaced(again.job, instruction=Instruction.CANCEL)
    with pytest.raises(Cancelled):
        _run(world, again)
    assert "latencyProfiles" not in world.created


def test_somebody_else_cancelling_a_job_fails_the_run() -> None:
    class Elsewhere(World):
        """The training is cancelled at its trainer."""

        def make(self, request_id: str, parent: str, collection: str, **how: object) -> str:
            name = super().make(request_id, parent, collection, **how)
            if collection == "trainingJobs":
                self.cancelled.append(name)
            return name

    with pytest.raises(FailedPrecondition) as caught:
        _run(Elsewhere(), FakeSteps(a_job(FROM_SOURCE)))
    assert caught.value.reason == "STEP_CANCELLED"


def test_the_curve_of_the_training_is_passed_on_once() -> None:
    steps = FakeSteps(a_job(FROM_SOURCE), crash_after="train")
    with pytest.raises(Crash):
        _run(world := World(looks=5), steps)
    again = steps.after_restart()
    _run(world, again)
    assert [event["point"]["step"] for event in again.events] == ["10", "20", "30", "40", "50"]


def test_a_service_that_is_away_for_a_while_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelyard.core.errors import Unavailable
    from modelyard.pipeline.ports import JobView

    class Away:
        """Away for the first looks."""

        def __init__(self, looks: int) -> None:
            self.left = looks

        def job(self, name: str) -> JobView:
            self.left -= 1
            if self.left >= 0:
                raise Unavailable("NO_CONNECTION", "nobody answers")
            return JobView(name, "SUCCEEDED")

        def cancel(self, name: str) -> None: ...

    assert following.follow(FakeSteps(a_job(FROM_SOURCE)), Away(5), "x", lambda _: None).state == "SUCCEEDED"
    monkeypatch.setattr(following, "AWAY_S", -1.0)
    with pytest.raises(ModelyardError):
        following.follow(FakeSteps(a_job(FROM_SOURCE)), Away(5), "x", lambda _: None)


def test_merged_goes_level_by_level() -> None:
    assert merged({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": 5}, "e": {"f": 6}}) == {
        "a": 1,
        "b": {"c": 5, "d": 3},
        "e": {"f": 6},
    }
