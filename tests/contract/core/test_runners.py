"""What every Runner does: processes, and Jobs of a cluster (here one in memory; tests/e2e/cluster has a real one)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelyard.core.jobs import kubernetes_runner
from modelyard.core.jobs.flavors import Flavor, Flavors
from modelyard.core.jobs.kubernetes_api import ApiError
from modelyard.core.jobs.kubernetes_manifests import Placement, object_name
from modelyard.core.jobs.kubernetes_runner import KubernetesRunner
from modelyard.core.jobs.process_runner import ProcessRunner
from modelyard.core.jobs.runner import Order, Run, Runner, RunStatus, Stage
from tests.support.cluster_fake import FakeCluster

ROOT = Path(__file__).resolve().parents[3]
SMALL = Flavor("cpu-small", memory="2Gi")
ORDER = Order("projects/p/samples/a", "sample", "sample", 1, "tests.support.quiet_worker", SMALL, identity="{}")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_runner, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(kubernetes_runner, "EXIT_S", 0.1)


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture(params=["process", "kubernetes"])
def runner(request: pytest.FixtureRequest, tmp_path: Path, cluster: FakeCluster) -> Runner:
    if request.param == "process":
        return ProcessRunner({"PYTHONPATH": f"{ROOT}{os.pathsep}"}, log_dir=tmp_path / "logs", work_dir=tmp_path / "work")
    return on(cluster)


def on(cluster: FakeCluster, **placement: Any) -> KubernetesRunner:
    return KubernetesRunner(cluster, Placement("image:1", **placement), Flavors([SMALL]))  # type: ignore[arg-type]


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def reached(run: Run, stage: Stage) -> RunStatus:
    return until(lambda: (status := run.status()).stage is stage and status)  # type: ignore[no-any-return]


def look_again(run: Run) -> RunStatus:
    time.sleep(0.02)
    return run.status()


def test_an_attempt_runs_says_something_and_ends_when_asked_to(runner: Runner) -> None:
    runner.prepare()
    run = runner.start(ORDER)
    reached(run, Stage.RUNNING)
    said = b""
    while b"world" not in said:
        for output in run.output():
            assert (output.node, output.offset) == (0, len(said))
            said += output.data
    run.ask_to_end()
    status = reached(run, Stage.ENDED)
    assert status.error is None
    run.end(1, decided=False)
    run.end(1, decided=False)


def test_ending_leaves_nothing(runner: Runner) -> None:
    run = runner.start(ORDER)
    reached(run, Stage.RUNNING)
    run.end(5, decided=False)
    assert until(lambda: (found := runner.adopt(replace(ORDER, identity=""), {})) is None or found.status().stage is Stage.ENDED)


def test_what_was_never_started_is_neither_adopted_nor_hard_to_discard(runner: Runner) -> None:
    runner.discard(ORDER)
    found = runner.adopt(replace(ORDER, identity=""), {})
    if found is not None:
        status = found.status()
        assert (status.stage, status.disrupted) == (Stage.ENDED, True)


# The cluster alone.


def test_what_a_lost_node_leaves_of_several_is_taken_away(cluster: FakeCluster) -> None:
    cluster.stranded_since = "2026-11-30T12:00:00Z"
    several = replace(ORDER, flavor=replace(SMALL, nodes=2, min_nodes=1), distributed=True)
    run = on(cluster).start(several)
    reached(run, Stage.RUNNING)
    assert ("pods", "pod", 0) in cluster.deleted
    alone = FakeCluster()
    alone.stranded_since = cluster.stranded_since
    reached(on(alone).start(ORDER), Stage.RUNNING)  # the next attempt has pods of another name
    assert not [each for each in alone.deleted if each[0] == "pods"]


def test_a_service_that_restarts_goes_on_with_the_output(cluster: FakeCluster) -> None:
    run = on(cluster).start(ORDER)
    reached(run, Stage.RUNNING)
    run.leave(1)
    again = on(cluster).adopt(replace(ORDER, identity=""), {0: 6})
    reached(again, Stage.RUNNING)
    [output] = until(again.output)
    assert (output.offset, output.data) == (6, b"world\n")


def test_what_its_maker_left_half_made_is_removed(cluster: FakeCluster) -> None:
    cluster.refuses["create", "secrets"] = ApiError(0, "Refused", "gone")
    run = on(cluster).start(ORDER)
    assert run.status().reason == "CLUSTER_UNAVAILABLE"
    cluster.refuses.clear()
    found = on(cluster).adopt(replace(ORDER, identity=""), {})
    assert reached(found, Stage.ENDED).disrupted
    assert not cluster.objects


def test_its_own_maker_goes_on_where_it_was(cluster: FakeCluster) -> None:
    cluster.refuses["create", "secrets"] = ApiError(503, "Unavailable", "later")
    run = on(cluster).start(ORDER)
    assert run.status().stage is Stage.WAITING
    cluster.refuses.clear()
    reached(run, Stage.RUNNING)
    assert {kind for kind, _ in cluster.objects} == {"jobs", "secrets"}


def test_several_nodes_find_each_other_and_are_found_by_nobody_else(cluster: FakeCluster) -> None:
    order = replace(ORDER, flavor=replace(SMALL, nodes=2), distributed=True)
    run = on(cluster).start(order)
    run.status()
    made = [kind for kind, name in cluster.objects if name == object_name(order)]
    assert made == ["jobs", "networkpolicies", "services", "secrets"], "the secret is the last: it says that the rest is there"
    run.ask_to_end()
    assert not cluster.objects


def test_kueue_lets_it_go(cluster: FakeCluster) -> None:
    run = on(cluster, queue="team").start(ORDER)
    status = run.status()
    assert (status.stage, status.reason, status.message) == (Stage.WAITING, "IN_QUEUE", "waits in the queue team")
    said = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": "insufficient unused quota for cpu"}
    cluster.objects["workloads", "one"] = {"metadata": {"name": "one"}, "status": {"conditions": [said]}}
    status = look_again(run)
    assert (status.reason, status.message) == ("IN_QUEUE", "waits in the queue team: insufficient unused quota for cpu")
    cluster.refuses["find", "workloads"] = ApiError(403, "Forbidden", "you may not")
    assert look_again(run).message == "waits in the queue team"
    cluster.objects["jobs", object_name(ORDER)]["spec"]["suspend"] = False
    reached(run, Stage.RUNNING)


@pytest.mark.parametrize(
    ("error", "stage", "reason"),
    [
        (ApiError(403, "Forbidden", "exceeded quota: tight"), Stage.WAITING, "QUOTA_EXCEEDED"),
        (ApiError(403, "Forbidden", "you may not"), Stage.WAITING, "CLUSTER_REFUSES"),
        (ApiError(0, "Refused", "no route"), Stage.WAITING, "CLUSTER_UNAVAILABLE"),
        (ApiError(422, "Invalid", "tolerations"), Stage.ENDED, "FLAVOR_REFUSED"),
    ],
)
def test_what_the_cluster_answers_is_told(cluster: FakeCluster, error: ApiError, stage: Stage, reason: str) -> None:
    cluster.refuses["create", "jobs"] = error
    status = on(cluster).start(ORDER).status()
    assert status.stage is stage
    assert (status.error["reason"] if status.error else status.reason) == reason
    assert error.message in status.message


def test_a_cluster_that_is_away_ends_nothing_that_runs(cluster: FakeCluster) -> None:
    run = on(cluster).start(ORDER)
    reached(run, Stage.RUNNING)
    cluster.refuses["get", "jobs"] = ApiError(0, "Refused", "no route")
    time.sleep(0.05)
    assert run.status().stage is Stage.RUNNING


def test_an_owner_that_is_not_there_is_named(cluster: FakeCluster) -> None:
    placement = Placement("image:1")
    runner = KubernetesRunner(cluster, placement, Flavors([SMALL]), "apps/v1/Deployment/other")  # type: ignore[arg-type]
    status = runner.start(ORDER).status()
    assert status.error is not None
    assert status.error["reason"] == "RUNNER_OWNER_NOT_FOUND"
