"""The serving service with versions in pods that follow it, here processes: deployed, shared out, switched, lost."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.client import Client, ModelyardClientError
from modelyard.serving.v1 import serving_pb2
from tests.support.bundles import mlp_bundle, spoil_vectors
from tests.support.pod_servers import LIGHT
from tests.support.serving_process import Served, Server, server, wait_for

READY = serving_pb2.EndpointPod.STATE_READY


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Client]]:
    """A server whose versions live in pods, with exports of three versions; the third does not answer as it should."""
    folder = tmp_path_factory.mktemp("pods")
    bundles = [mlp_bundle(folder / f"{number}.zip", seed=number) for number in (1, 2)]
    bundles.append(spoil_vectors(folder / "3.zip", bundles[0]))
    settings: dict[str, Any] = {"serving_pods": "process", "pods_ready_s": 150, "isolation": "none"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LIGHT.items():
            patch.setenv(name, value)
        with server(folder / "data", bundles, **settings) as made, Client(made.address) as client:
            yield made, client


@pytest.fixture
def served(world: tuple[Server, Client], request: pytest.FixtureRequest) -> Iterator[Served]:
    """An endpoint of two pods."""
    made, client = world
    name = "e" + str(abs(hash(request.node.name)))[:8]
    client.endpoints.create_endpoint(name, placements=[serving_pb2.Placement(target="cpu", min_replicas=2)])
    yield Served(made, client, name)
    client.endpoints.delete_endpoint(name)


def _pods(served: Served) -> list[serving_pb2.EndpointPod]:
    return [pod for pod in served.get().pods if pod.state == READY]


def _follower_pids(served: Served) -> list[int]:
    """The pods' own processes."""
    found = []
    for pid in served.server.descendants():
        line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"--follow" in line:
            found.append(pid)
    return found


def test_a_canary_gets_its_share_and_is_promoted_and_rolled_back_under_load(served: Served) -> None:
    """No request fails: not while versions come and go, not while a pod is killed."""
    assert served.deploy(1).state == serving_pb2.Deployment.STATE_READY
    assert [pod.ready_versions for pod in _pods(served)] == [["V001"], ["V001"]]
    with served.callers(count=8) as callers:
        served.deploy(2, percent=10)
        assert [list(pod.ready_versions) for pod in _pods(served)] == [["V001", "V002"]] * 2
        begun = time.time()
        time.sleep(6)
        ended = time.time()
        os.kill(_follower_pids(served)[0], signal.SIGKILL)
        time.sleep(1)
        served.client.endpoints.update_endpoint(served.endpoint, traffic={"V002": 100})
        time.sleep(1)
        served.client.endpoints.rollback_endpoint(served.endpoint)
        wait_for(lambda: len(_pods(served)) == 2, 120)
        asked = callers.stop()
    assert not [one.error for one in asked if one.error]
    during = Counter(one.version for one in asked if begun <= one.began < ended)
    total = sum(during.values())
    spread = 4 * (total * 0.1 * 0.9) ** 0.5
    assert total > 300
    assert abs(during["V002"] - 0.1 * total) < spread
    assert served.shares() == {"V001": 90, "V002": 10}
    figures = served.client.endpoints.get_deployment_statistics(f"{served.endpoint}/V001")
    assert figures.successes > 0
    assert figures.executions > 0
    assert figures.failures == 0


def test_a_version_that_fails_its_golden_requests_in_a_pod_changes_nothing(served: Served) -> None:
    served.deploy(1)
    with pytest.raises(ModelyardClientError) as caught:
        served.deploy(3)
    assert caught.value.reason == "VERSION_FAILED_IN_POD"
    assert "TEST_VECTORS_DIFFER" in str(caught.value)
    assert served.shares() in ({}, {"V001": 100})
    assert [deployment.name.rpartition("/")[2] for deployment in served.get().deployments] == ["V001"]
    wait_for(lambda: [list(pod.ready_versions) for pod in _pods(served)] == [["V001"]] * 2, 120)


def test_pods_go_with_their_last_version_and_their_number_can_be_changed(served: Served) -> None:
    served.deploy(1)
    served.client.endpoints.update_endpoint(served.endpoint, placements=[serving_pb2.Placement(target="cpu", min_replicas=1)])
    wait_for(lambda: len(_pods(served)) == 1, 120)
    assert [(each.target, each.wanted) for each in served.get().placement_statuses] == [("cpu", 1)]
    served.client.endpoints.delete_deployment(f"{served.endpoint}/V001")
    wait_for(lambda: not served.get().pods, 120)
    with pytest.raises(ModelyardClientError) as caught:
        served.client.endpoints.update_endpoint(served.endpoint, placements=[serving_pb2.Placement(target="moon")])
    assert caught.value.reason == "BAD_PLACEMENT"
