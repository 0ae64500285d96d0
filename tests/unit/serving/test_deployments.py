"""Deploying: only what a gate let through, all of it or nothing, and memory in line with what is written down."""

from __future__ import annotations

import gc
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from modelyard.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, ModelyardError, NotFound, Unavailable
from modelyard.serving.domain.endpoint import Deployment, DeploymentState, EventKind
from modelyard.serving.handlers.deployer import OneAtATime
from modelyard.serving.handlers.deployments import Wanted, create_deployment, delete_deployment, get_deployment, list_events
from modelyard.serving.handlers.endpoints import create_endpoint, delete_endpoint, get_endpoint, list_endpoints
from modelyard.serving.handlers.reconcile import reconcile
from modelyard.serving.handlers.traffic import Update, update_endpoint
from modelyard.serving.ports import NewEndpoint, Request
from tests.support.serving_fakes import PROJECT, blob
from tests.support.serving_models import ENDPOINT, World, a_world

NO_REQUEST = Request()


@pytest.fixture
def world() -> World:
    return a_world(2)


def deploy(world: World, number: int, request: Request = NO_REQUEST) -> Deployment:
    names = f"{PROJECT}/exports/x{number}", f"{PROJECT}/gateDecisions/g{number}"
    view = create_deployment(world.deployer, ENDPOINT, Wanted(*names), request)
    assert view.condition.state == DeploymentState.READY
    return view.deployment


def answering(world: World, version: str = "") -> str:
    return world.registry.find("flowers", version)[0].version


def test_turns_about_one_endpoint_never_overlap_and_leave_nothing_behind() -> None:
    turns = OneAtATime()
    inside: list[str] = []
    most: list[int] = []

    def call() -> None:
        with turns.hold("a"):
            inside.append("a")
            most.append(len(inside))
            time.sleep(0.001)
            inside.pop()

    threads = [threading.Thread(target=call) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20
    with turns.hold("a"), turns.hold("b"):
        assert len(turns._locks) == 2
    gc.collect()
    assert len(turns._locks) == 0


def never(*_: Any) -> None:
    raise AssertionError("nothing should fail here")


def test_a_deployment_answers_under_its_model_version(world: World) -> None:
    deployment = deploy(world, 1)
    assert deployment.name == f"{ENDPOINT}/deployments/V001"
    assert deployment.artifact.uri == blob("a", "serving").uri
    assert [answering(world, version) for version in ("", "V001", "1", "001")] == ["V001"] * 4


def test_the_newest_answers_and_the_old_one_stays(world: World) -> None:
    deploy(world, 1)
    deploy(world, 2)
    assert answering(world) == "V002"
    assert answering(world, "V001") == "V001"
    assert get_endpoint(world.store, world.registry, ENDPOINT).default_version == "V002"


def test_a_version_with_traffic_is_taken_off_only_when_another_has_its_share(world: World) -> None:
    deploy(world, 1)
    deploy(world, 2)
    with pytest.raises(FailedPrecondition, match="V001=100") as refused:
        delete_deployment(world.deployer, f"{ENDPOINT}/deployments/V002")
    assert refused.value.reason == "DEPLOYMENT_HAS_TRAFFIC"
    assert answering(world) == "V002"
    update_endpoint(world.deployer, ENDPOINT, Update(traffic=[("V001", 100)]))
    delete_deployment(world.deployer, f"{ENDPOINT}/deployments/V002")
    assert answering(world) == "V001"
    assert world.loader.models[-1].closed == 1
    with pytest.raises(NotFound) as gone:
        world.registry.find("flowers", "V002")
    assert gone.value.reason == "VERSION_NOT_FOUND"


def test_the_last_version_is_taken_off_whatever_its_share(world: World) -> None:
    deploy(world, 1)
    delete_deployment(world.deployer, f"{ENDPOINT}/deployments/V001")
    assert not world.registry.is_ready("flowers", "")
    assert world.store.record[-1].shares == {}


def test_the_same_export_again_gives_the_deployment_that_is_there(world: World) -> None:
    assert deploy(world, 1) == deploy(world, 1)
    assert len(world.loader.loaded) == 1
    assert len(list_events(world.store, ENDPOINT, 0, "").items) == 1


def test_a_request_id_gives_the_same_answer_and_refuses_another_body(world: World) -> None:
    first = deploy(world, 1, Request("r", "f"))
    assert deploy(world, 1, Request("r", "f")) == first
    with pytest.raises(InvalidArgument) as refused:
        deploy(world, 2, Request("r", "other"))
    assert refused.value.reason == "REQUEST_ID_REUSED"


def test_a_version_never_changes_its_bytes(world: World) -> None:
    deploy(world, 1)
    world.exports.add("x3", "V001", "c")
    world.gates.add("g3", "c")
    with pytest.raises(AlreadyExists) as refused:
        deploy(world, 3)
    assert refused.value.reason == "VERSION_DEPLOYED"
    assert answering(world) == "V001"


def _wrong_verdict(world: World) -> None:
    world.gates.add("g1", "a", "BACK_TO_DATA", ("accuracy 0.61 is below the floor 0.9.",))


def _other_bytes(world: World) -> None:
    world.gates.add("g1", "f")


def _made_again(world: World) -> None:
    """The export was made once more: other bytes than those that were evaluated."""
    world.exports.add("x1", "V001", "e")


def _other_export(world: World) -> None:
    """The decision is about another export's bytes."""
    world.gates.decisions[f"{PROJECT}/gateDecisions/g1"] = world.gates.get(f"{PROJECT}/gateDecisions/g2")


def _no_passport(world: World) -> None:
    decision = world.gates.get(f"{PROJECT}/gateDecisions/g1")
    world.gates.decisions[decision.name] = replace(decision, passport=None)


def _withdrawn_key(world: World) -> None:
    world.passports.refused.add(blob("a").sha256)


def _unfinished(world: World) -> None:
    world.exports.add("x1", "V001", "a", "RUNNING")


def _broken(world: World) -> None:
    world.loader.broken.add(blob("a").sha256)


def _no_version(world: World) -> None:
    world.exports.add("x1", "", "a")


def _no_endpoint(world: World) -> None:
    world.store.endpoints.clear()


def _no_export(world: World) -> None:
    world.exports.exports.clear()


def _no_gate(world: World) -> None:
    world.gates.decisions.clear()


@pytest.mark.parametrize(
    ("spoil", "error", "reason"),
    [
        (_wrong_verdict, FailedPrecondition, "GATE_REFUSED"),
        (_other_bytes, FailedPrecondition, "ARTIFACT_NOT_EVALUATED"),
        (_made_again, FailedPrecondition, "ARTIFACT_NOT_EVALUATED"),
        (_other_export, FailedPrecondition, "ARTIFACT_NOT_EVALUATED"),
        (_no_passport, FailedPrecondition, "PASSPORT_MISSING"),
        (_withdrawn_key, FailedPrecondition, "PASSPORT_UNTRUSTED_KEY"),
        (_unfinished, FailedPrecondition, "EXPORT_NOT_READY"),
        (_broken, InvalidArgument, "INVALID_BUNDLE"),
        (_no_version, InvalidArgument, "BAD_MODEL_VERSION"),
        (_no_endpoint, NotFound, "RESOURCE_NOT_FOUND"),
        (_no_export, NotFound, "RESOURCE_NOT_FOUND"),
        (_no_gate, NotFound, "RESOURCE_NOT_FOUND"),
    ],
)
def test_what_must_not_be_served_changes_nothing(world: World, spoil: Any, error: type[ModelyardError], reason: str) -> None:
    spoil(world)
    with pytest.raises(error) as refused:
        deploy(world, 1)
    assert refused.value.reason == reason
    assert not world.store.rows
    assert not world.store.record
    assert not world.registry.entries()


def test_a_refusal_says_why(world: World) -> None:
    _wrong_verdict(world)
    with pytest.raises(FailedPrecondition) as refused:
        deploy(world, 1)
    assert "accuracy 0.61 is below the floor 0.9." in refused.value.message
    assert refused.value.values["verdict"] == "BACK_TO_DATA"


@pytest.mark.parametrize(
    ("parent", "export", "gate", "field"),
    [
        ("projects/default/endpoints/../x", f"{PROJECT}/exports/x1", f"{PROJECT}/gateDecisions/g1", "parent"),
        (ENDPOINT, "x1", f"{PROJECT}/gateDecisions/g1", "deployment.export"),
        (ENDPOINT, f"{PROJECT}/exports/x1", "", "deployment.gate_decision"),
    ],
)
def test_bad_names_are_refused_by_field(world: World, parent: str, export: str, gate: str, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        create_deployment(world.deployer, parent, Wanted(export, gate), NO_REQUEST)
    assert refused.value.violations[0].field == field


def test_the_record_tells_what_served_when(world: World) -> None:
    deploy(world, 1)
    deploy(world, 2)
    delete_endpoint(world.deployer, ENDPOINT)
    events = list_events(world.store, ENDPOINT, 0, "").items
    assert [(event.kind, event.deployment.rpartition("/")[2]) for event in reversed(events)] == [
        (EventKind.DEPLOYED, "V001"),
        (EventKind.DEPLOYED, "V002"),
        (EventKind.UNDEPLOYED, "V001"),
        (EventKind.UNDEPLOYED, "V002"),
    ]
    assert {event.artifact_sha256 for event in events} == {blob("a").sha256, blob("b").sha256}
    with pytest.raises(NotFound) as refused:
        world.registry.find("flowers", "")
    assert refused.value.reason == "MODEL_NOT_FOUND"


@pytest.mark.parametrize("id_", ["", "Flowers", "1st", "a.b", "a/b", "..", " a", "a" * 64, "é"])
def test_endpoints_with_bad_ids_are_refused(world: World, id_: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        create_endpoint(world.store, PROJECT, id_, NewEndpoint(), NO_REQUEST)
    assert refused.value.violations[0].field == "endpoint_id"


def test_a_display_name_that_is_too_long_is_refused(world: World) -> None:
    with pytest.raises(InvalidArgument) as refused:
        create_endpoint(world.store, PROJECT, "e", NewEndpoint("x" * 201), NO_REQUEST)
    assert refused.value.violations[0].field == "endpoint.display_name"


def test_endpoints_of_other_projects_answer_with_the_project_before_them(world: World) -> None:
    other = "projects/lab/endpoints/flowers"
    create_endpoint(world.store, "projects/lab", "flowers", NewEndpoint(), NO_REQUEST)
    names = f"{PROJECT}/exports/x1", f"{PROJECT}/gateDecisions/g1"
    create_deployment(world.deployer, other, Wanted(*names), NO_REQUEST)
    assert world.registry.find("lab.flowers", "")[0].version == "V001"
    assert not world.registry.is_ready("flowers", "")
    assert [view.endpoint.name for view in list_endpoints(world.store, world.registry, "projects/lab", 0, "").items] == [other]


def test_after_a_restart_everything_answers_again(world: World) -> None:
    deploy(world, 1)
    deploy(world, 2)
    again = world.restarted()
    with pytest.raises(Unavailable) as refused:
        again.registry.find("flowers", "")
    assert refused.value.reason == "SERVER_STARTING"
    assert not again.registry.complete
    reconcile(again.deployer, never)
    assert again.registry.complete
    assert answering(again) == "V002"
    assert answering(again, "V001") == "V001"
    assert again.loader.loaded == [blob("b").sha256, blob("a").sha256]  # the newest first: it is the one that most callers want


def test_before_its_turn_a_deployment_is_loading(world: World) -> None:
    deployment = deploy(world, 1)
    again = world.restarted()
    assert get_deployment(again.store, again.registry, deployment.name).condition.state == DeploymentState.LOADING
    reconcile(again.deployer, never, going=lambda: False)
    with pytest.raises(Unavailable) as refused:
        again.registry.find("flowers", "V001")
    assert refused.value.reason == "MODEL_LOADING"
    assert refused.value.retry_after_s
    assert not again.registry.complete


def test_one_that_cannot_be_loaded_keeps_no_other_from_it(world: World) -> None:
    deploy(world, 1)
    failing = deploy(world, 2)
    again = world.restarted()
    again.loader.broken.add(blob("b").sha256)
    reported: list[str] = []
    reconcile(again.deployer, lambda deployment, error: reported.append(deployment.version))
    assert reported == ["V002"]
    assert answering(again) == "V001"
    condition = get_deployment(again.store, again.registry, failing.name).condition
    assert condition.state == DeploymentState.FAILED
    assert "it is broken" in condition.message
    with pytest.raises(Unavailable) as refused:
        again.registry.find("flowers", "V002")
    assert refused.value.reason == "MODEL_FAILED"


def test_what_failed_is_tried_again_only_when_asked(world: World) -> None:
    deploy(world, 1)
    again = world.restarted()
    again.loader.broken.add(blob("a").sha256)
    reported: list[str] = []
    for _ in range(3):
        reconcile(again.deployer, lambda deployment, error: reported.append(deployment.version))
    assert reported == ["V001"]
    again.loader.broken.clear()
    reconcile(again.deployer, never, retry_failed=True)
    assert answering(again) == "V001"


def test_what_another_server_did_is_seen(world: World) -> None:
    other = world.restarted()
    reconcile(other.deployer, never)
    deploy(world, 1)
    reconcile(other.deployer, never)
    assert answering(other) == "V001"
    delete_deployment(world.deployer, f"{ENDPOINT}/deployments/V001")
    deploy(world, 2)
    reconcile(other.deployer, never)
    assert answering(other) == "V002"
    assert not other.registry.is_ready("flowers", "V001")


def test_a_version_deployed_anew_elsewhere_is_loaded_anew(world: World) -> None:
    other = world.restarted()
    deploy(world, 1)
    reconcile(other.deployer, never)
    delete_deployment(world.deployer, f"{ENDPOINT}/deployments/V001")
    world.exports.add("x1", "V001", "c")
    world.gates.add("g1", "c")
    deploy(world, 1)
    reconcile(other.deployer, never)
    assert other.loader.loaded == [blob("a").sha256, blob("c").sha256]
    assert answering(other) == "V001"


def test_every_load_leads_past_the_passport(world: World) -> None:
    deploy(world, 1)
    again = world.restarted()
    reconcile(again.deployer, never)
    assert (world.passports.checked, again.passports.checked) == ([blob("a").sha256], [blob("a").sha256])


def test_after_a_restart_a_passport_that_is_refused_keeps_its_version_from_answering_and_no_other(world: World) -> None:
    deploy(world, 1)
    deploy(world, 2)
    again = world.restarted()
    again.passports.refused.add(blob("b").sha256)
    reconcile(again.deployer, lambda deployment, error: None)
    assert answering(again) == "V001"
    with pytest.raises(Unavailable, match="the key is not trusted any more"):
        again.registry.find("flowers", "V002")


def test_what_is_refused_leaves_what_serves_as_it_is(world: World) -> None:
    deploy(world, 1)
    world.passports.refused.add(blob("b").sha256)
    with pytest.raises(FailedPrecondition):
        deploy(world, 2)
    assert answering(world) == "V001"
    assert [row.version for row in world.store.rows.values()] == ["V001"]


def old(world: World) -> World:
    """A database from before there were passports, and a server that has just started on it."""
    deployment = deploy(world, 1)
    world.store.rows[deployment.name] = replace(deployment, passport=None)
    again = world.restarted()
    reconcile(again.deployer, lambda deployment, error: None)
    return again


def test_a_deployment_from_before_there_were_passports_says_how_to_go_on(world: World) -> None:
    again = old(world)
    condition = get_deployment(again.store, again.registry, f"{ENDPOINT}/deployments/V001").condition
    assert condition.state == DeploymentState.FAILED
    assert "deployed before there were passports" in condition.message


def test_deployed_again_by_a_new_decision_it_answers_under_its_name(world: World) -> None:
    again = old(world)
    gate = again.gates.add("later", "a", passport=blob("9", "evaluator"))
    view = create_deployment(again.deployer, ENDPOINT, Wanted(f"{PROJECT}/exports/x1", gate), NO_REQUEST)
    deployment = view.deployment
    assert view.condition.state == DeploymentState.READY
    assert answering(again) == "V001"
    assert (deployment.gate_decision, deployment.passport) == (gate, blob("9", "serving"))
    assert list(again.store.rows) == [deployment.name]
    assert len(again.store.record) == 1


def test_renewed_while_a_server_was_about_to_load_it_it_goes_on_answering(world: World) -> None:
    deployment = deploy(world, 1)
    world.store.rows[deployment.name] = replace(deployment, passport=None)
    again = world.restarted()
    gate = again.gates.add("later", "a", passport=blob("9", "evaluator"))

    def renewed_meanwhile() -> bool:
        create_deployment(again.deployer, ENDPOINT, Wanted(f"{PROJECT}/exports/x1", gate), NO_REQUEST)
        return True

    reconcile(again.deployer, never, going=renewed_meanwhile)
    assert answering(again) == "V001"


def test_another_decision_about_what_answers_changes_nothing(world: World) -> None:
    first = deploy(world, 1)
    gate = world.gates.add("later", "a", passport=blob("9", "evaluator"))
    again = create_deployment(world.deployer, ENDPOINT, Wanted(f"{PROJECT}/exports/x1", gate), NO_REQUEST)
    assert again.deployment == first


def test_an_imported_model_answers_under_its_exports_id(world: World) -> None:
    name = world.exports.add("x1", "", "a")
    world.exports.exports[name] = replace(world.exports.exports[name], model_version="", imported=True)
    assert deploy(world, 1).version == "x1"
    assert answering(world) == "x1"


def test_another_servers_switch_is_followed_without_a_gap(world: World) -> None:
    """The old version goes only when the one that has its share is there; until then it stands in."""
    other = world.restarted()
    deploy(world, 1)
    reconcile(other.deployer, never)
    deploy(world, 2)
    delete_deployment(world.deployer, f"{ENDPOINT}/deployments/V001")
    seen: list[str] = []

    def look() -> bool:
        seen.append(answering(other))
        return True

    reconcile(other.deployer, never, going=look)
    assert seen == ["V001"]
    assert answering(other) == "V002"
    assert [model.closed for model in other.loader.models] == [1, 0]


def test_an_endpoint_deleted_elsewhere_is_gone_here_and_one_made_meanwhile_is_not(world: World) -> None:
    other = world.restarted()
    deploy(world, 1)
    reconcile(other.deployer, never)
    delete_endpoint(world.deployer, ENDPOINT)
    reconcile(other.deployer, never)
    with pytest.raises(NotFound) as gone:
        other.registry.find("flowers", "")
    assert gone.value.reason == "MODEL_NOT_FOUND"
    assert other.loader.models[0].closed == 1


def test_of_two_servers_that_deploy_the_same_at_once_both_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    other = world.restarted()
    looked = world.store.deployment

    def not_there_yet(name: str) -> Deployment:
        monkeypatch.setattr(world.store, "deployment", looked)
        deploy(world, 1)
        raise NotFound("RESOURCE_NOT_FOUND", "not yet")

    monkeypatch.setattr(world.store, "deployment", not_there_yet)
    view = create_deployment(other.deployer, ENDPOINT, Wanted(f"{PROJECT}/exports/x1", f"{PROJECT}/gateDecisions/g1"), NO_REQUEST)
    assert view.condition.state == DeploymentState.READY
    assert answering(other) == answering(world) == "V001"
    assert len(world.store.record) == 1


def test_what_another_server_read_earlier_does_not_take_back_what_was_written_since(world: World) -> None:
    deploy(world, 1)
    old = world.store.get(ENDPOINT)
    deploy(world, 2)
    world.registry.assign("flowers", old)
    assert answering(world) == "V002"


def test_a_model_that_was_loaded_for_nothing_is_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> Any:
        raise Unavailable("DATABASE_UNAVAILABLE", "not now")

    monkeypatch.setattr(world.store, "deploy", away)
    with pytest.raises(Unavailable):
        deploy(world, 1)
    assert [model.closed for model in world.loader.models] == [1]
    assert not world.registry.entries()


def test_deployed_again_an_old_version_gets_the_traffic_again(world: World) -> None:
    deploy(world, 1)
    deploy(world, 2)
    deploy(world, 1)
    assert answering(world) == "V001"
    assert len(world.loader.loaded) == 2
    assert [event.kind for event in world.store.record] == [EventKind.DEPLOYED, EventKind.DEPLOYED, EventKind.TRAFFIC_CHANGED]
