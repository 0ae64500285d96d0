"""Models that callers of the inference protocol take out of memory and bring back: only what is deployed, past its passport."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.core.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from modelyard.serving.domain.endpoint import DeploymentState
from modelyard.serving.handlers.reconcile import reconcile
from modelyard.serving.handlers.repository import check_load_parameters, deployed_models
from modelyard.serving.handlers.router import route
from tests.support.serving_models import World, a_world


@pytest.fixture
def world() -> World:
    """Versions V001 and V002 of `flowers`."""
    made = a_world(2)
    made.deploy(1)
    made.deploy(2)
    return made


def states(world: World) -> list[tuple[str, DeploymentState, bool]]:
    return [(entry.version, entry.health.state, entry.loaded is not None) for entry in world.registry.entries()]


def test_what_is_unloaded_is_closed_and_says_so(world: World) -> None:
    models = list(world.loader.models)
    deployed_models(world.deployer).unload("flowers")
    assert [model.closed for model in models] == [1, 1]
    assert states(world) == [("V001", DeploymentState.UNLOADED, False), ("V002", DeploymentState.UNLOADED, False)]
    for version in ("", "V001"):
        with pytest.raises(Unavailable) as refused:
            route(world.registry, "flowers", version, "")
        assert refused.value.reason == "MODEL_UNLOADED"


def test_it_stays_so_until_it_is_loaded_again(world: World) -> None:
    repository = deployed_models(world.deployer)
    repository.unload("flowers")
    loads = len(world.loader.loaded)
    for retry in (False, True):
        reconcile(world.deployer, lambda deployment, error: None, retry_failed=retry)
    assert len(world.loader.loaded) == loads
    repository.load("flowers")
    assert states(world) == [("V001", DeploymentState.READY, True), ("V002", DeploymentState.READY, True)]
    assert route(world.registry, "flowers", "", "").entry.version == "V002"


def test_a_restarted_server_has_it_again(world: World) -> None:
    deployed_models(world.deployer).unload("flowers")
    again = world.restarted()
    reconcile(again.deployer, lambda deployment, error: None)
    assert [loaded for _, _, loaded in states(again)] == [True, True]


def test_what_is_in_memory_is_left_as_it_is(world: World) -> None:
    models = list(world.loader.models)
    deployed_models(world.deployer).load("flowers")
    assert world.loader.models == models
    assert [model.closed for model in models] == [0, 0]


def test_loading_again_goes_past_the_passport(world: World) -> None:
    repository = deployed_models(world.deployer)
    repository.unload("flowers")
    world.passports.refused.update(deployment.artifact.sha256 for deployment in world.store.deployments())
    with pytest.raises(FailedPrecondition) as refused:
        repository.load("flowers")
    assert refused.value.reason == "PASSPORT_UNTRUSTED_KEY"
    assert [loaded for _, _, loaded in states(world)] == [False, False]


def test_unloading_twice_is_fine_and_unknown_models_are_not(world: World) -> None:
    repository = deployed_models(world.deployer)
    for _ in range(2):
        repository.unload("flowers")
    for call in (repository.load, repository.unload):
        for name in ("nothing", "../flowers", ""):
            with pytest.raises(NotFound) as refused:
                call(name)
            assert refused.value.reason == "MODEL_NOT_FOUND"


def test_a_model_that_cannot_be_loaded_stays_out(world: World) -> None:
    repository = deployed_models(world.deployer)
    repository.unload("flowers")
    world.loader.broken.update(Path(deployment.artifact.sha256).name for deployment in world.store.deployments())
    with pytest.raises(InvalidArgument):
        repository.load("flowers")
    assert [state for _, state, _ in states(world)] == [DeploymentState.UNLOADED] * 2


@pytest.mark.parametrize("name", ["config", "file:1/model.onnx", "file:../../etc/passwd"])
def test_nobody_brings_a_model_along(name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_load_parameters(["unload_dependents", name])
    assert refused.value.reason == "MODEL_FROM_CALLER"
