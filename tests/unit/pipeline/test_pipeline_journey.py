"""The whole journey over fakes: in order, over crashes, with every end it can come to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modelyard.core.artifacts import Blob
from modelyard.core.errors import Cancelled, FailedPrecondition, InvalidArgument, ModelyardError
from modelyard.core.jobs.job import Document
from modelyard.core.requests import Request
from modelyard.pipeline.domain.choice import Candidate, fitting, set_aside
from modelyard.pipeline.domain.spec import ClassFloor, Floor, Limits, RunSpec, Source, Split, TargetFacts
from modelyard.pipeline.handlers import follow as following
from modelyard.pipeline.handlers.journey import merged, run_journey
from modelyard.pipeline.handlers.runs import create_run, step_states
from modelyard.pipeline.ports import ExportWish, JobView, Question
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
    question = world.started_with["gateDecisions"]["question"]
    assert (question.floors, question.latency, question.max_ms) == ((), {"p95_ms": 2.0}, 20)
    assert (question.parent, question.incumbent, question.quantized, question.max_loss) == ("", "", False, 0.01)


def test_the_most_accurate_recipe_that_is_fast_enough_is_trained() -> None:
    world, _, outcome = _went(replace(FROM_SOURCE, target="cpu-1core", max_training_s=119.0))
    assert world.started_with["latencyProfiles"] == {"ids": ["large", "middle", "small"], "target": "cpu-1core"}
    assert outcome["result"]["recipe_id"] == "middle"
    assert len(outcome["result"]["candidates"]) == 3
    trained = world.started_with["trainingJobs"]
    assert trained["recipe"]["recipe_id"] == "middle"
    assert trained["max_s"] == 119.0


def test_with_time_for_it_those_that_are_fast_enough_compete() -> None:
    world, steps, outcome = _went(replace(FROM_SOURCE, max_training_s=600.0))
    how = world.started_with["modelSelections"]
    assert [recipe["recipe_id"] for recipe in how["recipes"]] == ["middle", "small"], "large takes 30 ms, 20 are allowed"
    assert how["max_s"] == 600.0
    assert "trainingJobs" not in world.created
    result = outcome["result"]
    assert (result["recipe_id"], result["training_job"]) == ("small", f"{PARENT}/trainingJobs/won")
    assert result["model_version"] == f"{PARENT}/models/flowers/versions/V001"
    assert result["model_selection"].startswith(f"{PARENT}/modelSelections/")
    assert [each["state"] for each in result["selection_candidates"]] == ["CANDIDATE_STATE_TRAINING", "CANDIDATE_STATE_WON"]
    assert result["train_duration"] == "99.500s"
    states = {state.step_id: state for state in step_states(steps.job)}
    assert states["choose_recipe"].message == "middle, small compete for 600 s of training; set aside: large (30 ms)"
    assert states["train"].resource == result["model_selection"]
    assert states["train"].message == "V001 of small: val_accuracy 0.9, the best of 2 in 100 s (COMPLETED)"


@pytest.mark.parametrize("what", ["task", "recipe", "limit"])
def test_where_there_is_nothing_to_choose_nobody_competes(what: str) -> None:
    spec, world = replace(FROM_SOURCE, max_training_s=600.0), World()
    if what == "task":
        world.task = "tabular_regression"
    elif what == "recipe":
        spec = replace(spec, recipe={"recipe_id": "middle"})
    else:
        spec = replace(spec, max_inference_ms=2)
    made, _, outcome = _went(spec, world)
    assert "modelSelections" not in made.created
    assert "trainingJobs" in made.created
    assert not outcome["result"].get("model_selection")


def test_a_competition_that_is_interrupted_goes_on_as_one() -> None:
    world, steps = World(looks=4), FakeSteps(a_job(replace(FROM_SOURCE, max_training_s=600.0)), crash_before="train")
    with pytest.raises(Crash):
        _run(world, steps)
    steps.crash_before = ""
    outcome = _run(world, steps)
    assert world.created.count("modelSelections") == 1
    assert outcome["result"]["deployment"]


def test_the_limit_is_500_ms_unless_said() -> None:
    world, _, outcome = _went(replace(FROM_SOURCE, max_inference_ms=0))
    assert outcome["result"]["recipe_id"] == "large"
    assert world.started_with["gateDecisions"]["question"].max_ms == 500


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


def test_settings_alone_go_over_the_recipe_that_is_chosen_by_measuring() -> None:
    world, _, _ = _went(replace(FROM_SOURCE, recipe={"hyperparameters": {"max_epochs": 2}}))
    chosen, _, _ = _went(FROM_SOURCE)
    recipe = world.started_with["trainingJobs"]["recipe"]
    assert recipe["recipe_id"] == chosen.started_with["trainingJobs"]["recipe"]["recipe_id"]
    assert recipe["hyperparameters"]["max_epochs"] == 2
    assert "latencyProfiles" in world.started_with


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


# The diamond: a float parent, what serves now, and quantization-aware training once

INT8 = replace(FROM_SOURCE, precision="int8")
INT8_STEPS = ["import", "check", "publish", "choose_recipe", "train", "export_float", "evaluate_float"]
INT8_STEPS += ["export", "evaluate", "gate", "deploy"]
RETRIED = [*INT8_STEPS[:-1], "retry_export", "retry_evaluate", "retry_gate", "deploy"]


def _questions(world: World) -> list[Question]:
    return [how["question"] for collection, how in world.all_started if collection == "gateDecisions"]


def _wishes(world: World) -> list[ExportWish]:
    return [how["wish"] for collection, how in world.all_started if collection == "exports"]


def test_an_int8_export_is_compared_with_its_float_parent() -> None:
    world, steps, outcome = _went(INT8)
    assert steps.taken == INT8_STEPS
    floating, deployed = _wishes(world)
    assert (floating.format, floating.precision, floating.target) == ("onnx", "fp32", "cpu")
    assert (deployed.format, deployed.precision, deployed.aware) == ("", "int8", False)
    (question,) = _questions(world)
    result = outcome["result"]
    assert question.parent == result["float_evaluation"]
    assert question.evaluation == result["evaluation"] != question.parent
    assert question.quantized
    assert not question.aware
    assert question.model_size_bytes == 8
    assert result["float_export"] != result["export"]
    assert result["float_scores"]
    assert world.started_with["deployments"]["export"] == result["export"]
    assert "first_gate_decision" not in result


def test_a_lossy_export_is_tried_again_with_quantization_aware_training_once() -> None:
    world, steps, outcome = _went(replace(INT8, format="litert", max_training_s=60.0), World(verdicts=["RETRY_WITH_QAT"]))
    result = outcome["result"]
    assert steps.taken == RETRIED
    again = _wishes(world)[-1]
    assert (again.format, again.precision, again.aware, again.max_training_s) == ("litert", "int8", True, 60.0)
    first, second = _questions(world)
    assert second.parent == first.parent
    assert (first.aware, second.aware) == (False, True)
    assert second.evaluation != first.evaluation
    assert result["first_gate_decision"]["verdict"] == "VERDICT_RETRY_WITH_QAT"
    assert result["gate_decision"]["verdict"] == "VERDICT_DEPLOY"
    assert world.started_with["deployments"]["export"] == result["export"]
    assert world.how[result["export"]]["wish"].aware
    assert result["evaluation"] == second.evaluation
    assert [state.state for state in step_states(steps.job)] == ["SUCCEEDED"] * len(RETRIED)


@pytest.mark.parametrize("second", ["RETRY_WITH_QAT", "BACK_TO_DATA", "NOT_ENOUGH_DATA"])
def test_a_second_no_ends_refused(second: str) -> None:
    world, steps, outcome = _went(INT8, World(verdicts=["RETRY_WITH_QAT", second]))
    assert outcome["reason"] == "GATE_REFUSED"
    assert steps.taken == RETRIED[:-1]
    assert "deployments" not in world.created
    assert second in step_states(steps.job)[-1].message


def test_the_end_after_the_gate_still_tries_again() -> None:
    _, steps, outcome = _went(replace(INT8, skip_deployment=True), World(verdicts=["RETRY_WITH_QAT"]))
    assert steps.taken == RETRIED[:-1]
    assert outcome["result"]["gate_decision"]["verdict"] == "VERDICT_DEPLOY"


@pytest.mark.parametrize("when", ["crash_before", "crash_after"])
@pytest.mark.parametrize("step", RETRIED[5:])
def test_a_crash_on_the_way_back_makes_nothing_twice(when: str, step: str) -> None:
    world = World(verdicts=["RETRY_WITH_QAT"], serving=f"{PARENT}/exports/old")
    order = [*RETRIED[:9], "evaluate_incumbent", *RETRIED[9:]]
    steps = FakeSteps(a_job(INT8), **{when: step})  # type: ignore[arg-type]  # one of two str fields
    again, outcome = _survives(steps, world)
    same = World(verdicts=["RETRY_WITH_QAT"], serving=f"{PARENT}/exports/old")
    assert sorted(world.created) == sorted(_went(INT8, same)[0].created)
    assert again.taken == ([*order[: order.index(step) + 1], *order[order.index(step) :]] if when == "crash_before" else order)
    assert outcome["result"]["deployment"]
    assert [state.step_id for state in step_states(again.job)] == order
    assert [state.state for state in step_states(again.job)] == ["SUCCEEDED"] * len(order)
    fractions = [report["fraction"] for report in again.reports]
    assert fractions == sorted(fractions)


def test_what_serves_now_is_scored_on_the_same_examples() -> None:
    serving = f"{PARENT}/exports/old"
    world, steps, outcome = _went(FROM_SOURCE, World(serving=serving))
    assert steps.taken == [*STEPS[:7], "evaluate_incumbent", *STEPS[7:]]
    scored = [how for collection, how in world.all_started if collection == "evaluations"]
    assert [how["export"] for how in scored] == [outcome["result"]["export"], serving]
    assert len({how["dataset_version"] for how in scored}) == 1
    (question,) = _questions(world)
    assert question.incumbent not in ("", question.evaluation)
    assert outcome["result"]["evaluation"] == question.evaluation


@pytest.mark.parametrize(
    "world",
    [World(serving=f"{PARENT}/exports/deleted"), World(serving=f"{PARENT}/exports/old", task_of_serving="tabular_regression")],
)
def test_what_serves_something_else_is_not_compared(world: World) -> None:
    _, steps, outcome = _went(FROM_SOURCE, world)
    assert steps.taken == STEPS
    assert outcome["result"]["deployment"]


def test_an_incumbent_that_cannot_answer_is_not_compared_and_said() -> None:
    class Stale(World):
        """The version that serves has other classes."""

        def view(self, name: str, found: Document, point: object = None) -> JobView:
            if self.how.get(name, {}).get("export", "").endswith("/old"):
                return JobView(name, "FAILED", error=FailedPrecondition("CLASSES_DIFFER", "it knows other classes"))
            return super().view(name, found, point)  # type: ignore[arg-type]

    world, steps, _ = _went(FROM_SOURCE, Stale(serving=f"{PARENT}/exports/old"))
    states = {state.step_id: state for state in step_states(steps.job)}
    assert "it knows other classes" in states["evaluate_incumbent"].message
    assert _questions(world)[0].incumbent == ""


def test_a_table_goes_the_short_way_whatever_its_target_likes() -> None:
    litert = TargetFacts("litert", "int8", measurable=False)
    world, steps = World(task="tabular_classification"), FakeSteps(a_job(replace(FROM_SOURCE, facts=litert)))
    assert [state.step_id for state in step_states(steps.job)][5] == "export_float", "nobody knows yet that it is a table"
    _run(world, steps)
    assert steps.taken == STEPS
    assert [state.step_id for state in step_states(steps.job)] == STEPS


def test_integers_of_series_are_compared_with_the_floats() -> None:
    world, steps, outcome = _went(INT8, World(task="series_classification"))
    assert steps.taken == INT8_STEPS
    (question,) = _questions(world)
    assert (question.parent, question.quantized) == (outcome["result"]["float_evaluation"], True)


def test_what_cannot_be_made_in_the_precision_is_not_trained() -> None:
    series = World(task="series_classification", architectures={"large": "modelyard:minirocket"})
    _, _, outcome = _went(INT8, series)
    assert outcome["result"]["recipe_id"] == "middle"
    asked = World(task="series_classification", architectures={"large": "modelyard:minirocket"})
    with pytest.raises(InvalidArgument, match=r"precision is int8; a model of large is exported as fp32 only") as caught:
        _run(asked, FakeSteps(a_job(replace(INT8, recipe={"recipe_id": "large"}))))
    assert (caught.value.reason, caught.value.values["recipe"]) == ("UNSUPPORTED_FORM", "large")
    assert "trainingJobs" not in asked.created
    _, _, outcome = _went(FROM_SOURCE, World(task="series_classification", architectures={"middle": "modelyard:minirocket"}))
    assert outcome["result"]["recipe_id"] == "middle"


def test_limits_reach_the_planner_with_what_the_run_demands() -> None:
    world, _, _ = _went(replace(FROM_SOURCE, compression=Limits(max_size_bytes=5000), max_loss=0.02, max_training_s=30.0))
    limits = _wishes(world)[-1].limits
    assert limits == Limits(5000, 20.0, 0.02)
    assert _wishes(world)[-1].max_training_s == 30.0
    assert _questions(world)[0].max_size_bytes == 5000
    free, _, _ = _went(replace(FROM_SOURCE, compression=Limits(), max_inference_ms=0))
    assert _wishes(free)[-1].limits == Limits(0, 0.0, 0.01)


MCU = TargetFacts("edge", "int8", measurable=False, flash_bytes=1 << 20)


def test_on_a_target_that_is_not_here_size_decides_and_latency_is_not_guessed() -> None:
    facts = replace(FROM_SOURCE, target="mcu", facts=MCU, max_inference_ms=0)
    latencies: dict[str, float | None] = {"large": None, "middle": None, "small": None}
    world, steps, outcome = _went(facts, World(facts=MCU, latencies=latencies, sizes={"middle": 90_000, "small": 20_000}))
    assert outcome["result"]["recipe_id"] == "middle"
    states = {state.step_id: state for state in step_states(steps.job)}
    assert "90000 bytes" in states["choose_recipe"].message
    assert "not measured" in states["choose_recipe"].message
    assert "latency not measured" in states["export"].message
    (question,) = _questions(world)
    assert (question.latency, question.max_ms, question.max_size_bytes) == (None, 0.0, 1 << 20)
    assert "latency" not in outcome["result"]


def test_a_latency_that_was_demanded_is_asked_of_the_gate_even_where_the_agent_was_away() -> None:
    world, _, _ = _went(FROM_SOURCE, World(facts=replace(MCU, flash_bytes=0)))
    assert (_questions(world)[0].latency, _questions(world)[0].max_ms) == (None, 20)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"max_inference_ms": 20}, "max_inference_duration_ms"),
        ({"max_inference_ms": 0, "compression": Limits(max_latency_ms=5.0)}, "compression.max_latency_ms"),
    ],
)
def test_a_latency_that_nothing_can_measure_is_refused_at_once(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        _created(replace(FROM_SOURCE, target="mcu", **changes), World(facts=MCU))
    assert (caught.value.reason, caught.value.violations[0].field) == ("LATENCY_UNMEASURED", f"pipeline_run.{field}")


def test_no_recipe_small_enough_names_the_smallest() -> None:
    spec = replace(FROM_SOURCE, target="mcu", facts=MCU, compression=Limits(max_size_bytes=10_000))
    latencies: dict[str, float | None] = {"middle": None, "small": None}
    world = World(facts=MCU, latencies=latencies, sizes={"middle": 90_000, "small": 20_000})
    with pytest.raises(FailedPrecondition, match="the smallest, small, has 20000") as caught:
        _run(world, FakeSteps(a_job(spec)))
    assert caught.value.reason == "NO_RECIPE_SMALL_ENOUGH"
    assert "trainingJobs" not in world.created


def test_floors_of_classes_reach_the_gate() -> None:
    floors = (ClassFloor("rose", "recall", 0.8),)
    world, _, _ = _went(replace(FROM_SOURCE, class_floors=floors))
    assert _questions(world)[0].class_floors == floors


class NoJobs:
    """None is started."""


def _created(spec: RunSpec, world: World) -> None:
    jobs: Any = NoJobs()
    create_run(jobs, lambda _: services(world), parent=PARENT, run_id="", spec=spec, request=Request())


def test_a_target_that_is_not_known_is_refused_at_once() -> None:
    with pytest.raises(InvalidArgument, match="target is 'phone'") as caught:
        _created(replace(FROM_SOURCE, target="phone"), World())
    assert (caught.value.reason, caught.value.violations[0].field) == ("UNKNOWN_TARGET", "pipeline_run.target")


def test_a_size_limit_sets_aside_what_would_not_keep_it_even_in_eight_bits() -> None:
    found = [
        Candidate("large", 1.0, size_bytes=700_000),
        Candidate("small", 1.0, size_bytes=390_000),
        Candidate("odd", None, "no"),
    ]
    assert fitting(found, 10.0, "cpu", 100_000, shrinks=True) == (1,)
    told = set_aside(found, (1,), 10.0, 100_000, shrinks=True)
    assert told == "set aside: large (700000 bytes, 100000 are allowed, more than that even in eight bits), odd (no)"
    with pytest.raises(FailedPrecondition) as caught:
        fitting(found, 10.0, "cpu", 100_000)
    assert caught.value.reason == "NO_RECIPE_SMALL_ENOUGH"
    assert set_aside(found[:2], (0, 1), 10.0, 0) == ""
