"""Who answers: versions, labels, shares, and who stands in for a version that cannot."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.errors import FailedPrecondition, ModelyardError, NotFound, Unavailable
from modelyard.serving.domain.endpoint import Condition, DeploymentState
from modelyard.serving.handlers.deployments import Wanted, create_deployment
from modelyard.serving.handlers.endpoints import get_endpoint
from modelyard.serving.handlers.registry import Entry
from modelyard.serving.handlers.router import route, sticky_header
from modelyard.serving.handlers.traffic import Update, update_endpoint
from modelyard.serving.ports import Request
from tests.support.serving_fakes import PROJECT
from tests.support.serving_models import ENDPOINT, FakeServed, World, a_world

KEYS = [f"caller-{number}" for number in range(2000)]


def split(world: World, **shares: int) -> None:
    update_endpoint(world.deployer, ENDPOINT, Update(traffic=list(shares.items())))


def asked(world: World, key: str = "", version: str = "") -> str:
    return route(world.registry, "flowers", version, key).entry.version


def everybody(world: World) -> dict[str, str]:
    return {key: asked(world, key) for key in KEYS}


def three() -> tuple[World, list[FakeServed]]:
    """V001 50 %, V002 30 %, V003 20 %; V003 is the champion."""
    world = a_world()
    models = [world.deploy(number) for number in (1, 2, 3)]
    split(world, V001=50, V002=30, V003=20)
    return world, models


def ill(world: World, models: Sequence[FakeServed], *numbers: int) -> None:
    for number in numbers:
        models[number - 1].fall_ill()


def test_versions_and_labels_are_found_by_name() -> None:
    world, _ = three()
    update_endpoint(world.deployer, ENDPOINT, Update(labels=[("champion", "V003"), ("old", "V001")]))
    names = ("V001", "1", "001", "old", "champion", "V002", "3")
    assert [asked(world, version=name) for name in names] == ["V001", "V001", "V001", "V001", "V003", "V002", "V003"]
    with pytest.raises(NotFound, match="it has champion, old, V001, V002, V003") as refused:
        asked(world, version="V009")
    assert refused.value.reason == "VERSION_NOT_FOUND"


def test_shares_are_kept_with_and_without_keys() -> None:
    world, _ = three()
    keyed = Counter(everybody(world).values())
    drawn = Counter(asked(world) for _ in range(4000))
    for version, share in (("V001", 0.5), ("V002", 0.3), ("V003", 0.2)):
        assert abs(keyed[version] / 2000 - share) < 0.05
        assert abs(drawn[version] / 4000 - share) < 0.05


def test_a_caller_stays_where_it_is() -> None:
    world, _ = three()
    assert everybody(world) == everybody(world)
    again = world.restarted()
    for entry in world.registry.versions("flowers"):
        again.registry.put(entry, world.store.get(ENDPOINT))
    assert everybody(again) == everybody(world)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 100), min_size=2, max_size=2).filter(lambda cuts: sum(cuts) <= 100))
def test_only_callers_of_versions_that_lost_move(cuts: list[int]) -> None:
    world, _ = three()
    before = everybody(world)
    wanted = {"V001": cuts[0], "V002": cuts[1], "V003": 100 - sum(cuts)}
    split(world, **wanted)
    had = {"V001": 50, "V002": 30, "V003": 20}
    for key, version in everybody(world).items():
        if version != before[key]:
            assert wanted[version] > had[version]
            assert wanted[before[key]] < had[before[key]]


def test_the_share_of_one_that_is_ill_goes_to_the_others_in_proportion_and_comes_back() -> None:
    world, models = three()
    before = everybody(world)
    ill(world, models, 1)
    during = everybody(world)
    assert all(during[key] == version for key, version in before.items() if version != "V001")
    moved = Counter(during[key] for key, version in before.items() if version == "V001")
    assert abs(moved["V002"] / sum(moved.values()) - 0.6) < 0.06
    assert set(moved) == {"V002", "V003"}
    assert during == everybody(world)
    models[0].recover()
    assert everybody(world) == before


def test_where_nobody_with_a_share_answers_the_champion_does_and_then_the_newest() -> None:
    world = a_world()
    models = [world.deploy(number) for number in (1, 2, 3)]
    update_endpoint(world.deployer, ENDPOINT, Update(traffic=[("V001", 100)], labels=[("champion", "V002")]))
    ill(world, models, 1)
    assert asked(world) == asked(world, "anna") == "V002"
    ill(world, models, 2)
    assert asked(world) == "V003"
    ill(world, models, 3)
    assert asked(world) in {"V001", "V002", "V003"}  # it says itself why it does not answer
    assert not world.registry.is_ready("flowers", "")


def test_a_version_that_is_named_is_asked_though_it_is_ill() -> None:
    world, models = three()
    ill(world, models, 3)
    assert asked(world, version="V003") == "V003"
    assert not world.registry.is_ready("flowers", "V003")
    assert world.registry.is_ready("flowers", "")


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.sampled_from([DeploymentState.READY, DeploymentState.LOADING, DeploymentState.FAILED]), min_size=3, max_size=3)
)
def test_whoever_is_ready_answers_as_long_as_there_is_one(states: list[DeploymentState]) -> None:
    world, models = three()
    for entry, state, model in zip(world.registry.versions("flowers"), states, models, strict=True):
        loaded = model if state is DeploymentState.READY else None
        world.registry.put(Entry("flowers", entry.version, entry.since, Condition(state), loaded))
    for key in ("", *KEYS[:50]):
        if DeploymentState.READY in states:
            assert route(world.registry, "flowers", "", key).entry.is_ready
        else:
            with pytest.raises(Unavailable) as refused:
                asked(world, key)
            assert refused.value.reason in {"MODEL_LOADING", "MODEL_FAILED"}


def test_what_is_not_there_is_told() -> None:
    world, _ = three()
    with pytest.raises(NotFound) as refused:
        route(world.registry, "trees", "", "")
    assert refused.value.reason == "MODEL_NOT_FOUND"
    with pytest.raises(Unavailable) as starting:
        route(world.restarted().registry, "flowers", "", "")
    assert starting.value.reason == "SERVER_STARTING"


def test_the_shadow_is_asked_for_its_share_and_never_beside_itself() -> None:
    world, _ = three()
    update_endpoint(world.deployer, ENDPOINT, Update(shadow=("V003", 25)))
    found = [route(world.registry, "flowers", "V001", "") for _ in range(2000)]
    asked_beside = [one for one in found if one.shadow is not None and one.shadow[0].version == "V003" and one.comparison]
    assert abs(len(asked_beside) / 2000 - 0.25) < 0.05
    assert all(route(world.registry, "flowers", "V003", "").shadow is None for _ in range(100))
    update_endpoint(world.deployer, ENDPOINT, Update(shadow=("", 0)))
    assert all(route(world.registry, "flowers", "V001", "").shadow is None for _ in range(100))


def test_the_sticky_header_is_the_endpoints() -> None:
    world, _ = three()
    assert sticky_header(world.registry, "flowers") == sticky_header(world.registry, "trees") == ""
    update_endpoint(world.deployer, ENDPOINT, Update(sticky_header="x-user"))
    assert sticky_header(world.registry, "flowers") == "x-user"


def test_the_default_version_is_who_most_get() -> None:
    world, models = three()
    assert get_endpoint(world.store, world.registry, ENDPOINT).default_version == "V001"
    assert world.registry.find("flowers", "")[0].version == "V001"
    ill(world, models, 1)
    assert get_endpoint(world.store, world.registry, ENDPOINT).default_version == "V002"


def test_a_canary_gets_its_percent_and_its_label_and_the_rest_stay() -> None:
    world = a_world()
    world.deploy(1)
    world.deploy(2, percent=10)
    endpoint = world.store.get(ENDPOINT)
    assert endpoint.routing.shares == {"V001": 90, "V002": 10}
    assert endpoint.routing.labels == {"champion": "V001", "canary": "V002"}
    world.deploy(3, percent=0)
    assert world.store.get(ENDPOINT).routing.shares == {"V001": 90, "V002": 10}
    assert asked(world, version="canary") == asked(world, version="V003") == "V003"
    world.deploy(2)
    assert world.store.get(ENDPOINT).routing.shares == {"V002": 100}
    assert world.store.get(ENDPOINT).routing.labels["champion"] == "V002"


@pytest.mark.parametrize("percent", [0, 50])
def test_the_first_version_cannot_leave_a_rest_to_nobody(percent: int) -> None:
    world = a_world()
    with pytest.raises(FailedPrecondition) as refused:
        world.deploy(1, percent=percent)
    assert refused.value.reason == "NOTHING_ELSE_ANSWERS"
    assert not world.loader.loaded


@pytest.mark.parametrize("percent", [-1, 101])
def test_a_percent_that_cannot_be_is_refused_before_anything_is_loaded(percent: int) -> None:
    world = a_world()
    world.deploy(1)
    with pytest.raises(ModelyardError, match="it must be 0 to 100"):
        world.deploy(2, percent=percent)
    assert len(world.loader.loaded) == 1


def test_one_model_version_is_there_in_several_exports() -> None:
    world = a_world()
    world.deploy(3)
    world.exports.add("x4", "V003", "d")
    with pytest.raises(ModelyardError, match="'V003-2' is free") as refused:
        world.deploy(4)
    free = refused.value.values["free_id"]
    world.deploy(4, percent=0, deployment_id=free)
    assert asked(world, version=free) == free
    assert asked(world) == "V003"


@pytest.mark.parametrize("id_", ["champion", "canary", "old", "a b", "1", "V003.int8", "../x", "x" * 64])
def test_an_id_that_could_be_taken_for_a_label_or_has_another_form_is_refused(id_: str) -> None:
    world = a_world()
    world.deploy(1)
    update_endpoint(world.deployer, ENDPOINT, Update(labels=[("old", "V001")]))
    wanted = Wanted(f"{PROJECT}/exports/x2", f"{PROJECT}/gateDecisions/g2", id_)
    with pytest.raises(ModelyardError) as refused:
        create_deployment(world.deployer, ENDPOINT, wanted, Request())
    assert refused.value.reason == "BAD_DEPLOYMENT_ID"
    assert refused.value.violations[0].field == "deployment_id"


def test_traffic_and_labels_go_only_to_who_is_ready() -> None:
    world, models = three()
    ill(world, models, 3)
    for update in (Update(traffic=[("V003", 100)]), Update(labels=[("best", "V003")])):
        with pytest.raises(FailedPrecondition, match="which is UNHEALTHY: signal 11") as refused:
            update_endpoint(world.deployer, ENDPOINT, update)
        assert refused.value.reason == "VERSION_NOT_READY"
    split(world, V001=90, V003=10)  # less than it had: nobody new is sent to it


def test_traffic_waits_for_what_another_server_has_deployed_a_moment_ago() -> None:
    """This one comes to it with its next look at the database; callers do not know which of them they meet."""
    world, _ = three()
    entry = world.registry.entry("flowers", "V003")
    assert entry is not None
    world.registry.put(replace(entry, condition=Condition(DeploymentState.LOADING), loaded=None))
    taken_over = threading.Timer(0.3, world.registry.put, (entry,))
    taken_over.start()
    began = time.monotonic()
    split(world, V003=100)
    assert time.monotonic() - began > 0.25
    assert asked(world) == "V003"
    with pytest.raises(ModelyardError):  # what nobody has deployed is not waited for
        split(world, V009=100)
    assert time.monotonic() - began < 20


def test_routing_takes_microseconds() -> None:
    world, _ = three()
    registry = world.registry
    best = min(_timed(lambda key: route(registry, "flowers", "", key)) for _ in range(5))
    assert best < 20e-6  # about 2 here; ten times as much would be felt


def _timed(call: object) -> float:
    start = time.perf_counter()
    for key in KEYS:
        call(key)  # type: ignore[operator]
    return (time.perf_counter() - start) / len(KEYS)
