"""What the gate answers: to retry with quantization-aware training, to go back to the data, to wait for more, or to deploy."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.jobs.job import JobState
from modelyard.core.latency import Latency
from modelyard.core.requests import Request
from modelyard.core.resources import Resource
from modelyard.evaluator.domain.gate import ClassFloor, Demands, Floor, GateTest, Outcome, Verdict
from modelyard.evaluator.handlers.decisions import GateDecision, Wanted, create_decision, decision_of
from modelyard.evaluator.rpc.convert import decision_message
from modelyard.evaluator.v1 import evaluator_pb2 as pb
from modelyard.formats.bundle import Parity
from tests.support.gate_fakes import MODEL_VERSION, NOW, PARENT, GateWorld, blob

RIVALS = ("parent_evaluation", "incumbent_evaluation")
NO_REQUEST = Request("", "CreateGateDecision", "")


@pytest.fixture
def world() -> GateWorld:
    """The float model errs on 20 of 400; its int8 on 1 or 40 more; one trained with the rounding too; what serves on 24."""
    made = GateWorld()
    made.add("float", range(20))
    made.add("int8", range(21), precision="int8", method="post_training")
    made.add("poor", range(60), precision="int8", method="post_training")
    made.add("aware", range(60), precision="int8", method="aware")
    made.add("serving", range(24), model_version=f"{PARENT}/models/m/versions/V000")
    return made


def resource(world: GateWorld, name: str, demands: Demands | None = None, **wanted: Any) -> Resource:
    rivals: dict[str, Any] = {key: f"{PARENT}/evaluations/{wanted.pop(key)}" for key in RIVALS if key in wanted}
    asked = Wanted(f"{PARENT}/evaluations/{name}", demands or Demands(), **rivals, **wanted)
    return create_decision(world.deciding, parent=PARENT, wanted=asked, request=NO_REQUEST)


def decide(world: GateWorld, name: str, demands: Demands | None = None, **wanted: Any) -> GateDecision:
    return decision_of(resource(world, name, demands, **wanted))


def test_of(made: GateDecision, name: str) -> GateTest:
    return next(test for test in made.decision.tests if test.name == name)


test_of.__test__ = False  # type: ignore[attr-defined]


# Verdicts


def test_an_export_as_good_as_its_parent_is_deployed_with_every_tests_numbers(world: GateWorld) -> None:
    made = decide(world, "int8", parent_evaluation="float", incumbent_evaluation="serving")
    assert made.decision.verdict is Verdict.DEPLOY
    names = [test.name for test in made.decision.tests]
    assert names == ["test_examples", "baseline:accuracy", "parent:accuracy", "incumbent:accuracy"]
    parent = test_of(made, "parent:accuracy")
    assert parent.value == pytest.approx(1 / 400)
    assert parent.bound == 0.01
    assert parent.lower < parent.value < parent.upper
    assert parent.message == (
        "accuracy is 0.9475 where the float model it comes from has 0.95 on the same 400 test examples: a loss of 0.25 points "
        "(95 percent interval -0.7 to 1.4); 1 answered worse and 0 better, p = 0.5; at most 1 point may be lost."
    )
    assert test_of(made, "incumbent:accuracy").value == pytest.approx(-3 / 400)


def test_what_only_quantization_took_is_tried_with_quantization_aware_training(world: GateWorld) -> None:
    made = decide(world, "poor", parent_evaluation="float")
    assert made.decision.verdict is Verdict.RETRY_WITH_QAT
    assert test_of(made, "parent:accuracy").outcome is Outcome.FAILED
    assert made.decision.reasons[0] == test_of(made, "parent:accuracy").message
    assert "quantization-aware training" in made.decision.reasons[1]


@pytest.mark.parametrize(
    "demands",
    [
        Demands((Floor("accuracy", 0.9),)),
        Demands(class_floors=(ClassFloor("bad", "recall", 0.9),)),
        Demands((Floor("accuracy", 0.9), Floor("f1_macro", 0.9)), class_floors=(ClassFloor("good", "f1", 0.9),)),
    ],
)
def test_floors_that_the_parent_reaches_are_tried_too(world: GateWorld, demands: Demands) -> None:
    made = decide(world, "poor", demands, parent_evaluation="float")
    assert made.decision.verdict is Verdict.RETRY_WITH_QAT
    assert sum(test.outcome is Outcome.FAILED for test in made.decision.tests) == 1 + len(demands.floors) + len(
        demands.class_floors
    )


def test_falling_behind_what_serves_is_tried_too_where_the_parent_does_not(world: GateWorld) -> None:
    made = decide(world, "poor", parent_evaluation="float", incumbent_evaluation="serving")
    assert test_of(made, "incumbent:accuracy").outcome is Outcome.FAILED
    assert made.decision.verdict is Verdict.RETRY_WITH_QAT


def test_a_floor_that_the_parent_misses_as_well_is_for_the_data(world: GateWorld) -> None:
    made = decide(world, "poor", Demands((Floor("accuracy", 0.99),)), parent_evaluation="float")
    assert made.decision.verdict is Verdict.BACK_TO_DATA


def test_what_was_trained_with_the_rounding_already_is_for_the_data(world: GateWorld) -> None:
    assert decide(world, "aware", parent_evaluation="float").decision.verdict is Verdict.BACK_TO_DATA
    made = decide(world, "poor", parent_evaluation="float", quantization_aware=True)
    assert made.decision.verdict is Verdict.BACK_TO_DATA
    assert made.quantization_aware


def test_what_is_not_quantized_has_no_such_remedy(world: GateWorld) -> None:
    world.add("fp16", range(60), precision="fp16")
    assert decide(world, "fp16", parent_evaluation="float").decision.verdict is Verdict.BACK_TO_DATA
    assert decide(world, "fp16", parent_evaluation="float", quantized=True).decision.verdict is Verdict.RETRY_WITH_QAT


def test_a_limit_that_is_broken_is_not_cured_by_training(world: GateWorld) -> None:
    made = decide(world, "poor", Demands(max_size_bytes=1233), parent_evaluation="float")
    assert made.decision.verdict is Verdict.BACK_TO_DATA
    assert "1234 bytes; 1233 are allowed" in " ".join(made.decision.reasons)


def test_a_loss_above_the_margin_that_may_be_chance_is_tried_but_only_while_there_is_a_remedy(world: GateWorld) -> None:
    world.add("unsure", [*range(2, 27)], precision="int8", method="post_training")
    assert test_of(decide(world, "unsure", parent_evaluation="float"), "parent:accuracy").outcome is Outcome.UNSURE
    assert decide(world, "unsure", parent_evaluation="float").decision.verdict is Verdict.RETRY_WITH_QAT
    made = decide(world, "unsure", parent_evaluation="float", quantization_aware=True)
    assert made.decision.verdict is Verdict.NOT_ENOUGH_DATA


def test_090_against_070_on_twenty_examples_is_never_taken_for_equal(world: GateWorld) -> None:
    world.add("float20", range(2), count=20)
    world.add("int8of20", range(6), count=20, precision="int8", method="post_training")
    made = decide(world, "int8of20", parent_evaluation="float20", incumbent_evaluation="float20")
    assert made.decision.verdict is Verdict.NOT_ENOUGH_DATA
    assert test_of(made, "parent:accuracy").outcome is Outcome.UNSURE


def test_what_is_significantly_worse_than_what_serves_does_not_replace_it(world: GateWorld) -> None:
    world.add("worse", range(60), model_version=f"{PARENT}/models/m/versions/V002")
    made = decide(world, "worse", incumbent_evaluation="serving")
    assert made.decision.verdict is Verdict.BACK_TO_DATA
    assert "the version that serves now" in made.decision.reasons[0]


def test_a_wider_margin_lets_more_pass(world: GateWorld) -> None:
    assert decide(world, "poor", Demands(max_loss=0.2), parent_evaluation="float").decision.verdict is Verdict.DEPLOY


def test_the_very_bytes_that_serve_are_no_worse_than_themselves_however_few_the_examples(world: GateWorld) -> None:
    world.add("small", range(1), count=35)
    world.add("again", range(1), count=35, artifact="small")
    made = decide(world, "again", parent_evaluation="small", incumbent_evaluation="small")
    assert test_of(made, "incumbent:accuracy").outcome is Outcome.PASSED
    assert made.decision.verdict is Verdict.DEPLOY


# Where to look


def test_back_to_data_names_the_labels_to_look_at_first_then_the_worst(world: GateWorld) -> None:
    world.add("noisy", range(80), suspects=7)
    made = decide(world, "noisy", Demands((Floor("accuracy", 0.9),)))
    assert made.decision.verdict is Verdict.BACK_TO_DATA
    assert len(made.examples) == 50
    assert [example.example_id for example in made.examples[:7]] == [f"e{number:05d}" for number in range(7)]
    said = next(reason for reason in made.decision.reasons if reason.startswith("Look first"))
    assert "7 labels that are probably wrong: e00000 (train, labelled 'good', answered 'bad')" in said
    assert made.decision.reasons[0].startswith("accuracy is")


def test_a_model_that_learned_nothing_says_nothing_about_labels(world: GateWorld) -> None:
    world.add("untrained", range(150), suspects=7)
    made = decide(world, "untrained")
    assert made.decision.verdict is Verdict.BACK_TO_DATA
    assert made.examples
    said = next(reason for reason in made.decision.reasons if reason.startswith("Look first"))
    assert said.startswith("Look first at the examples that are answered worst")


def test_no_other_verdict_names_examples(world: GateWorld) -> None:
    assert decide(world, "float").examples == ()
    assert decide(world, "poor", parent_evaluation="float").examples == ()


# What must not be compared


def test_another_dataset_version_is_refused_naming_both(world: GateWorld) -> None:
    world.add("elsewhere", range(20), digest="cc" * 32)
    with pytest.raises(InvalidArgument) as caught:
        decide(world, "int8", parent_evaluation="elsewhere")
    assert caught.value.reason == "DIFFERENT_TEST_SETS"
    assert caught.value.violations[0].field == "gate_decision.parent_evaluation"
    assert "dd" * 32 in caught.value.message
    assert "cc" * 32 in caught.value.message


def test_other_examples_of_the_same_version_are_refused(world: GateWorld) -> None:
    world.add("fewer", range(20), count=399)
    with pytest.raises(InvalidArgument, match="e00399") as caught:
        decide(world, "int8", incumbent_evaluation="fewer")
    assert caught.value.reason == "DIFFERENT_TEST_SETS"
    assert caught.value.violations[0].field == "gate_decision.incumbent_evaluation"


def test_a_parent_of_another_model_version_is_refused(world: GateWorld) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decide(world, "int8", parent_evaluation="serving")
    assert caught.value.reason == "NOT_THE_PARENT"
    assert MODEL_VERSION in caught.value.message


def test_imported_models_name_no_model_version_and_may_have_a_parent(world: GateWorld) -> None:
    world.add("brought", range(21), precision="int8", model_version="", origin="imported")
    assert decide(world, "brought", parent_evaluation="float").decision.verdict is Verdict.DEPLOY


def _against(world: GateWorld, field: str, name: str) -> None:
    rival: dict[str, Any] = {field: name}
    decide(world, "int8", **rival)


@pytest.mark.parametrize("field", RIVALS)
def test_others_must_have_succeeded_with_a_score_of_the_test_usage(world: GateWorld, field: str) -> None:
    world.add("running", range(1), state=JobState.RUNNING)
    world.add("untested", range(1), usages=("train",))
    for name, reason in (("running", "EVALUATION_NOT_READY"), ("untested", "TEST_NOT_SCORED")):
        with pytest.raises(FailedPrecondition) as caught:
            _against(world, field, name)
        assert caught.value.reason == reason
        assert caught.value.violations[0].field == f"gate_decision.{field}"
    with pytest.raises(NotFound):
        _against(world, field, "nothing")


def test_an_unknown_class_is_refused_with_the_classes_of_the_evaluation(world: GateWorld) -> None:
    with pytest.raises(InvalidArgument, match="good, bad") as caught:
        decide(world, "int8", Demands(class_floors=(ClassFloor("rose", "recall", 0.5),)))
    assert caught.value.reason == "UNKNOWN_CLASS"


# Latency


def test_the_latency_given_counts_before_that_of_the_export(world: GateWorld) -> None:
    measured = Latency(1, 12, 13, 100, 1, "cpu", "this")
    world.add("timed", range(20), latency=measured)
    assert decide(world, "timed", Demands(max_latency_ms=10)).decision.verdict is Verdict.BACK_TO_DATA
    made = decide(world, "timed", Demands(max_latency_ms=10), latency=replace(measured, p95_ms=9))
    assert made.decision.verdict is Verdict.DEPLOY


def test_a_limit_of_latency_that_nobody_measured_is_no_error_and_no_yes(world: GateWorld) -> None:
    made = decide(world, "float", Demands(max_latency_ms=10))
    assert made.decision.verdict is Verdict.NOT_ENOUGH_DATA


@pytest.mark.parametrize(("field", "value"), [("p95_ms", math.nan), ("p50_ms", -1.0), ("p99_ms", math.inf), ("memory_bytes", -1)])
def test_a_latency_that_no_measurement_gives_is_refused(world: GateWorld, field: str, value: float) -> None:
    changed: dict[str, Any] = {field: value}
    with pytest.raises(InvalidArgument) as caught:
        decide(world, "float", latency=replace(Latency(1, 2, 3, 100, 1, "cpu", "this"), **changed))
    assert caught.value.reason == "BAD_LATENCY"
    assert caught.value.violations[0].field == f"gate_decision.latency.{field}"


# Passports


def test_only_what_may_be_deployed_gets_a_passport(world: GateWorld) -> None:
    assert decide(world, "poor", parent_evaluation="float").passport is None
    assert world.passports.issued == []
    made = decide(world, "int8", parent_evaluation="float")
    assert made.passport == blob("passport1", "evaluator")


def test_a_passport_says_what_the_artifact_was_made_from_and_what_was_measured(world: GateWorld) -> None:
    name = resource(world, "int8", parent_evaluation="float").name
    ((export, sha256, content),) = world.passports.issued
    assert (export, sha256) == (f"{PARENT}/exports/int8", blob("int8").sha256)
    assert content["artifact"]["sha256"] == sha256
    assert content["gate"]["decision"] == name
    assert content["gate"]["verdict"] == "DEPLOY"
    assert [test["name"] for test in content["gate"]["tests"]] == ["test_examples", "baseline:accuracy", "parent:accuracy"]
    accuracy = content["evaluation"]["scores"]["test"]["metrics"][0]
    assert (accuracy["name"], accuracy["value"]) == ("accuracy", pytest.approx(379 / 400))
    assert accuracy["lower"] < accuracy["value"] < accuracy["upper"]
    assert content["dataset"] == {"version": f"{PARENT}/datasets/d/versions/V001", "digest": "dd" * 32}
    assert content["experiment"]["seed"] == 7
    assert len(content["experiment"]["fingerprint"]) == 64
    assert content["licence"] == "Apache-2.0"
    assert content["origin"] == "TRAINED"
    assert content["quantization"] == {"method": "post_training"}
    assert content["code"]["version"]
    assert content["environment"]["packages"]["numpy"]
    assert json.loads(json.dumps(content, allow_nan=False)) == content


def test_of_an_imported_model_it_says_that_its_making_is_not_known(world: GateWorld) -> None:
    world.add("brought", range(20), model_version="", origin="imported")
    decide(world, "brought")
    content = world.passports.issued[0][2]
    assert content["origin"] == "IMPORTED"
    assert content["experiment"] == {"unknown": "the artifact was not trained here"}
    assert content["licence"] == "unknown"


def test_the_licence_on_the_artifacts_own_card_counts_before_all_else(world: GateWorld) -> None:
    world.add("brought", range(20), model_version="", origin="imported")
    sha256 = blob("brought").sha256
    world.bundles.known[sha256] = replace(world.bundles.known[sha256], licence="MIT, from the maker")
    decide(world, "brought")
    assert world.passports.issued[0][2]["licence"] == "MIT, from the maker"


def test_a_figure_that_json_has_no_number_for_becomes_null(world: GateWorld) -> None:
    world.bundles.known[blob("int8").sha256] = replace(
        world.bundles.known[blob("int8").sha256], parity=Parity(8, math.inf, 1.0, 0.1, "torch")
    )
    decide(world, "int8", parent_evaluation="float")
    assert world.passports.issued[0][2]["parity"]["max_abs_difference"] is None


def test_the_fingerprint_is_of_data_recipe_seed_and_code(world: GateWorld) -> None:
    for _ in range(2):
        decide(world, "int8", parent_evaluation="float")
    known = world.experiments.known
    assert not isinstance(known, str)
    world.experiments.known = replace(known, recipe={"hyperparameters": {"seed": "8"}})
    decide(world, "int8", parent_evaluation="float")
    first, second, third = (content["experiment"]["fingerprint"] for _, _, content in world.passports.issued)
    assert first == second != third


# As stored and as sent


def test_a_decision_is_stored_and_sent_whole(world: GateWorld) -> None:
    demands = Demands((Floor("accuracy", 0.5),), 0.0, (ClassFloor("bad", "recall", 0.5),), 0.02, 5000, 0)
    message = decision_message(resource(world, "int8", demands, parent_evaluation="float", incumbent_evaluation="serving"))
    assert message.verdict == pb.VERDICT_DEPLOY
    assert (message.max_loss, message.max_size_bytes, message.model_size_bytes) == (0.02, 5000, 1234)
    assert message.class_floors[0] == pb.ClassFloor(label="bad", metric="recall", value=0.5)
    assert message.parent_evaluation.endswith("/float")
    assert message.quantized
    assert not message.quantization_aware
    assert message.passport.sha256 == blob("passport1").sha256
    assert {test.outcome for test in message.tests} == {pb.GateTest.OUTCOME_PASSED}
    back = decision_message(
        resource(world, "noisy" if world.add("noisy", range(150), suspects=3) else "", Demands((Floor("accuracy", 0.9),)))
    )
    assert len(back.examples) == 50
    assert back.examples[0].example_id == "e00000"
    assert pb.GateTest.OUTCOME_FAILED in {test.outcome for test in back.tests}


def test_a_decision_from_before_there_were_passports_can_be_read(world: GateWorld) -> None:
    document = to_document(decide(world, "float"))
    for key in (
        "passport",
        "examples",
        "parent_evaluation",
        "incumbent_evaluation",
        "model_size_bytes",
        "quantized",
        "quantization_aware",
    ):
        del document[key]
    for key in ("class_floors", "max_loss", "max_size_bytes", "max_memory_bytes"):
        del document["demands"][key]
    assert from_document(document, GateDecision).passport is None
    stored = Resource(f"{PARENT}/gateDecisions/old", "gateDecisions", PARENT, document, 1, NOW, NOW)
    assert not decision_message(stored).HasField("passport")
