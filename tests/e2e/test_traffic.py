"""Who answers, on real servers under load: switches, rollbacks, crashes, and what is left after kill -9."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from modelyard.client import Client
from modelyard.client.history import answering_at
from modelyard.serving.v1 import serving_pb2
from tests.support.bundles import mlp_bundle
from tests.support.serving_process import Asked, Served, Server, p99, server, wait_for
from tests.support.triton import triton, triton_http

EVENT = serving_pb2.DeploymentEvent
READY = serving_pb2.Deployment.STATE_READY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("bundles")
    return [mlp_bundle(folder / f"{seed}.zip", seed=seed) for seed in (1, 2, 3)]


@contextmanager
def serving(
    data: Path, bundles: list[Path], endpoint: str = "mlp", slow: dict[str, float] | None = None, **settings: object
) -> Iterator[Served]:
    with server(data, bundles, slow=slow, **settings) as made, Client(made.address) as client:
        yield Served(made, client, endpoint)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, bundles: list[Path]) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("data"), bundles) as made:
        yield made


@pytest.fixture
def one(running: Server, request: pytest.FixtureRequest) -> Iterator[Served]:
    """An endpoint of the test's own that serves V001."""
    with Client(running.address) as client:
        served = Served(running, client, request.node.name.replace("_", "-")[:40].rstrip("-"))
        client.endpoints.create_endpoint(served.endpoint)
        served.deploy(1)
        yield served
        client.endpoints.delete_endpoint(served.endpoint)


def errors(asked: list[Asked]) -> list[str]:
    return sorted({one.error for one in asked if one.error})


def switched(one: Served) -> float:
    """Switches five times under load, and takes the old version off each time; gives p99 during the switches (from the call to
    half a second after it) as a multiple of that of all other times."""
    moments: list[tuple[float, float, str]] = []
    with one.callers() as load:
        time.sleep(2)
        for old, new in ((1, 2), (2, 3), (3, 1), (1, 2), (2, 3)):
            began = time.time()
            one.deploy(new)
            moments.append((began, time.time() + 0.5, f"V00{new}"))
            time.sleep(1)
            one.client.endpoints.delete_deployment(f"{one.endpoint}/V00{old}")
            time.sleep(1)
        asked = load.stop()
    during = [a for a in asked if any(began <= a.began < ended for began, ended, _ in moments)]
    others = [a for a in asked if a not in set(during)]
    ratio = p99(during) / p99(others)
    took = sorted(ended - 0.5 - began for began, ended, _ in moments)[2]
    print(f"p99 {p99(others):.1f} ms, {p99(during):.1f} ms during switches ({took:.2f} s each): {ratio:.2f} times")
    assert errors(asked) == []
    for began, ended, version in moments:
        answers = [a for a in asked if began < a.began < ended]
        first = min(a.began + a.ms / 1000 for a in answers if a.version == version)
        assert {a.version for a in answers if a.began > first} == {version}  # it moved in one step
    return ratio


def test_a_switch_under_load_fails_nobody(one: Served) -> None:
    switched(one)


@pytest.mark.alone
def test_a_switch_under_load_is_hardly_felt(one: Served) -> None:
    assert switched(one) <= 1.5


def test_going_back_under_load_fails_nobody_and_is_instant(one: Served) -> None:
    one.deploy(2)
    with one.callers() as load:
        took = []
        for _ in range(10):
            start = time.perf_counter()
            one.client.endpoints.rollback_endpoint(one.endpoint, reason="to and fro")
            took.append(time.perf_counter() - start)
            time.sleep(0.1)
        asked = load.stop()
    print(f"a rollback took {1000 * sorted(took)[5]:.0f} ms in the median")
    assert errors(asked) == []
    assert set(Counter(a.version for a in asked)) == {"V001", "V002"}
    assert one.shares() == {"V002": 100}
    assert one.kinds().count(EVENT.KIND_ROLLED_BACK) == 10


def test_a_slow_canary_is_taken_back_by_itself(tmp_path: Path, bundles: list[Path]) -> None:
    with serving(tmp_path / "data", bundles, slow={"V002": 0.25}) as one:
        one.client.endpoints.create_endpoint(one.endpoint)
        one.deploy(1)
        with one.callers() as load:
            time.sleep(3)
            one.deploy(2, percent=20)
            wait_for(lambda: one.shares() == {"V001": 100}, 60)
            asked = load.stop()
        assert errors(asked) == []
        last = one.record()[-1]
        assert last.kind == EVENT.KIND_ROLLED_BACK
        assert "by itself: V002: p99 was" in last.detail
        print(last.detail)
        assert one.client.endpoints.get_deployment(f"{one.endpoint}/V002").state == READY


def test_a_crashing_canary_is_taken_back_and_the_rest_goes_on(one: Served) -> None:
    with one.callers() as load:
        time.sleep(2)
        before = set(one.server.descendants())
        one.deploy(2, percent=20)
        new = [pid for pid in one.server.descendants() if pid not in before]
        time.sleep(1)
        for pid in new:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: one.shares() == {"V001": 100})
        time.sleep(1)
        asked = load.stop()
    failed = [a for a in asked if a.error]
    assert len(failed) <= 8  # those it was computing for, no more
    assert all("UNAVAILABLE" in a.error for a in failed)
    detail = next(event.detail for event in one.record() if event.kind == EVENT.KIND_ROLLED_BACK)
    assert "V002: it became unhealthy" in detail
    wait_for(lambda: EVENT.KIND_RECOVERED in one.kinds())
    assert one.kinds().count(EVENT.KIND_UNHEALTHY) == one.kinds().count(EVENT.KIND_RECOVERED) == 1


def ask(client: triton.InferenceServerClient, endpoint: str, key: str, header: str = "") -> str:
    x = triton.InferInput("x", [1, 4], "FP32")
    x.set_data_from_numpy(np.ones((1, 4), np.float32))
    got = client.infer(endpoint, [x], request_id=key, headers={header: key} if header else None)
    return str(got.get_response().model_version)


def test_a_caller_stays_with_its_version(one: Served) -> None:
    one.deploy(2, percent=30)
    keys = [f"caller-{number}" for number in range(200)]
    update = one.client.endpoints.update_endpoint
    with triton.InferenceServerClient(one.server.address) as asking:
        first = {key: ask(asking, one.endpoint, key) for key in keys}
        assert {key: ask(asking, one.endpoint, key) for key in keys} == first
        assert 30 < list(first.values()).count("V002") < 90
        update(one.endpoint, traffic={"V001": 40, "V002": 60})
        second = {key: ask(asking, one.endpoint, key) for key in keys}
        assert all(second[key] == "V002" for key in keys if first[key] == "V002")
        update(one.endpoint, sticky_header="x-user")
        assert {key: ask(asking, one.endpoint, key, "x-user") for key in keys} == second
    with triton_http.InferenceServerClient(one.server.address) as asking:
        x = triton_http.InferInput("x", [1, 4], "FP32")
        x.set_data_from_numpy(np.ones((1, 4), np.float32))
        for key in keys[:40]:
            got = asking.infer(one.endpoint, [x], headers={"x-user": key}).get_response()
            assert got["model_version"] == second[key]


def test_a_shadow_is_compared_and_costs_no_answer(one: Served) -> None:
    one.deploy(2, percent=0)
    client = one.client.endpoints
    client.update_endpoint(one.endpoint, shadow=serving_pb2.Shadow(deployment="V002", percent=50))
    with one.callers() as load:
        wait_for(lambda: client.get_shadow_report(one.endpoint).examples > 100)
        asked = load.stop()
    report = client.get_shadow_report(one.endpoint)
    assert errors(asked) == []
    assert {a.version for a in asked} == {"V001"}
    assert report.deployment == "V002"
    assert report.requests + report.skipped > 0.3 * len(asked)
    assert report.failures == 0
    assert report.max_difference > 0
    assert report.p99_ms > 0
    figures = client.get_deployment_statistics(f"{one.endpoint}/V001")
    assert figures.successes >= len(asked)
    assert figures.memory_bytes > 0


def test_two_servers_over_one_database_follow_each_other(tmp_path: Path, bundles: list[Path]) -> None:
    data = tmp_path / "data"
    with serving(data, bundles, reconcile_s=0.3) as one, serving(data, bundles, reconcile_s=0.3) as two:
        one.client.endpoints.create_endpoint(one.endpoint)
        one.deploy(1)
        wait_for(lambda: two.get().default_version == "V001")
        with two.callers() as load:
            one.deploy(2, percent=50)
            wait_for(lambda: two.client.endpoints.get_deployment(f"{two.endpoint}/V002").state == READY)
            two.client.endpoints.update_endpoint(two.endpoint, traffic={"V002": 100})
            wait_for(lambda: one.shares() == {"V002": 100})
            one.client.endpoints.delete_deployment(f"{one.endpoint}/V001")
            with triton.InferenceServerClient(two.server.address) as asking:
                wait_for(lambda: not asking.is_model_ready(two.endpoint, "V001"))
            asked = load.stop()
        assert errors(asked) == []
        assert asked[-1].version == "V002"
        expected = [EVENT.KIND_DEPLOYED, EVENT.KIND_DEPLOYED, EVENT.KIND_TRAFFIC_CHANGED, EVENT.KIND_UNDEPLOYED]
        assert one.kinds() == two.kinds() == expected


def test_kill_9_during_a_switch_leaves_it_before_or_after(tmp_path: Path, bundles: list[Path]) -> None:
    """Killed at moments around that at which it is written down."""
    outcomes = []
    with serving(tmp_path / "first", bundles) as one:
        one.client.endpoints.create_endpoint(one.endpoint)
        one.deploy(1)
        start = time.monotonic()
        one.deploy(2)
        took = time.monotonic() - start
    for number, part in enumerate((0.3, 0.7, 0.9, 1.0)):
        data = tmp_path / str(number)
        with serving(data, bundles) as one:
            one.client.endpoints.create_endpoint(one.endpoint)
            one.deploy(1)
            switching = threading.Thread(target=_deploy_quietly, args=(one, 2))
            switching.start()
            time.sleep(part * took)
            if part == 1.0:  # as soon as it can be seen to be written
                wait_for(lambda one=one: len(one.record()) == 2)  # type: ignore[misc]
            one.server.kill()
            switching.join(60)
        with serving(data, bundles) as again, triton.InferenceServerClient(again.server.address) as asking:
            wait_for(asking.is_server_ready)
            outcomes.append(_whole(again))
            assert ask(asking, again.endpoint, "anna") == outcomes[-1]
    print(f"answered after the kill: {outcomes}")
    assert set(outcomes) <= {"V001", "V002"}


def _deploy_quietly(one: Served, number: int) -> None:
    try:
        with Client(one.server.address, patience_s=0) as client:
            Served(one.server, client, one.endpoint).deploy(number)
    except Exception as error:  # the server is killed meanwhile
        print(f"the caller was told: {type(error).__name__}")


def _whole(one: Served) -> str:
    """The version that answers, after checking that shares, labels, versions and record are of one moment."""
    endpoint = one.get()
    versions = [deployment.name.rpartition("/")[2] for deployment in endpoint.deployments]
    assert one.shares() == {versions[-1]: 100}
    assert {label.label: label.deployment for label in endpoint.labels} == {"champion": versions[-1]}
    assert [event.deployment.rpartition("/")[2] for event in one.record()] == versions
    return str(endpoint.default_version)


def test_the_record_tells_which_bytes_answered_at_every_moment(one: Served) -> None:
    """After each change what is asked is compared with what the record says of that moment."""
    moments: list[tuple[datetime, dict[str, int], dict[str, str]]] = []

    def note() -> None:
        bytes_ = {each.name.rpartition("/")[2]: each.artifact.sha256 for each in one.get().deployments}
        time.sleep(0.01)
        moments.append((datetime.now(UTC), one.shares(), bytes_))
        time.sleep(0.01)

    client = one.client.endpoints
    note()
    one.deploy(2, percent=10)
    note()
    client.update_endpoint(one.endpoint, traffic={"V001": 50, "V002": 50}, labels={"old": "V001"})
    note()
    one.deploy(3)
    note()
    client.rollback_endpoint(one.endpoint)
    note()
    client.delete_deployment(f"{one.endpoint}/V003")
    note()
    record = one.record()
    for time_, expected, bytes_ in moments:
        found = answering_at(record, time_)
        assert {version: each.percent for version, each in found.items() if each.percent} == expected
        assert {version: each.artifact_sha256 for version, each in found.items()} == bytes_
    assert answering_at(record, moments[0][0].replace(year=2020)) == {}
    with triton.InferenceServerClient(one.server.address) as asking:
        said = {ask(asking, one.endpoint, f"caller-{number}") for number in range(40)}
    assert said == {version for version, each in answering_at(record).items() if each.percent}
