"""What the objects of an attempt say about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from modelyard.core.jobs.flavors import Flavor
from modelyard.core.jobs.kubernetes_status import status_of, stranded
from modelyard.core.jobs.runner import Order, RunStatus, Stage

SMALL = Flavor("cpu-small", memory="2Gi", max_seconds=60)
LARGE = Flavor("cpu-large", memory="8Gi")
ORDER = Order("projects/p/trainingJobs/t", "training", "trainer", 1, "m", SMALL)
SILENT_NODE = {"conditions": [{"type": "Ready", "status": "False"}]}


def job(suspend: bool = False, **condition: str) -> dict[str, Any]:
    conditions = [{"status": "True", **condition}] if condition else []
    return {"spec": {"suspend": suspend}, "status": {"conditions": conditions}}


def pod(
    phase: str, state: dict[str, Any] | None = None, *, gone: bool = False, ready: bool = False, **status: Any
) -> dict[str, Any]:
    containers = [{"name": "worker", "state": state, "ready": ready}] if state else []
    metadata = {"name": "p", **({"deletionTimestamp": "now"} if gone else {})}
    return {"metadata": metadata, "status": {"phase": phase, "containerStatuses": containers, **status}}


def condition(kind: str, status: str, message: str = "") -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": status, "message": message}]}


def look(found: dict[str, Any] | None, *pods: dict[str, Any], refusals: tuple[str, ...] = (), queue: str = "") -> RunStatus:
    return status_of(ORDER, found, pods, refusals, queue, LARGE)


@pytest.mark.parametrize(
    ("pods", "refusals", "reason", "words"),
    [
        ([], (), "STARTING", "being made"),
        ([], ("exceeded quota: tight",), "QUOTA_EXCEEDED", "tight"),
        ([], ("violates PodSecurity",), "POD_REFUSED", "PodSecurity"),
        ([pod("Pending", **condition("PodScheduled", "False", "0/2 nodes"))], (), "UNSCHEDULABLE", "0/2 nodes"),
        ([pod("Pending", {"waiting": {"reason": "ImagePullBackOff", "message": "no i:1"}})], (), "IMAGE_PULL_FAILED", "no i:1"),
        ([pod("Pending", {"waiting": {"reason": "CreateContainerConfigError"}})], (), "CONTAINER_NOT_CREATED", ""),
        ([pod("Pending", {"waiting": {"reason": "ContainerCreating"}})], (), "STARTING", ""),
    ],
)
def test_what_it_waits_for(pods: list[Any], refusals: tuple[str, ...], reason: str, words: str) -> None:
    status = look(job(), *pods, refusals=refusals)
    assert (status.stage, status.reason) == (Stage.WAITING, reason)
    assert words in status.message


def test_a_job_that_kueue_holds_waits_in_its_queue() -> None:
    status = look(job(suspend=True), queue="team")
    assert (status.stage, status.reason) == (Stage.WAITING, "IN_QUEUE")
    assert "team" in status.message


def test_it_runs() -> None:
    assert look(job(), pod("Running", {"running": {}}, ready=True)).stage is Stage.RUNNING
    silent = look(job(), pod("Running", {"running": {}}, ready=True, **SILENT_NODE))
    assert (silent.stage, silent.disrupted) == (Stage.RUNNING, True)


@pytest.mark.parametrize(
    ("found", "pods"),
    [
        (job(), [pod("Running", {"running": {}}, gone=True, **condition("DisruptionTarget", "True", "evicted"))]),
        (job(), [pod("Failed", {"terminated": {"exitCode": 143}}, **condition("DisruptionTarget", "True"))]),
        (job(type="FailureTarget", reason="PodFailurePolicy"), []),
        (job(), [pod("Failed", reason="NodeShutdown", message="Pod was terminated in response to imminent node shutdown.")]),
        (job(), [pod("Failed", {"terminated": {"exitCode": 4}})]),
        (None, []),
    ],
)
def test_what_is_no_fault_of_the_jobs(found: Any, pods: list[Any]) -> None:
    status = look(found, *pods)
    assert (status.stage, status.disrupted, status.error) == (Stage.ENDED, True, None)


@pytest.mark.parametrize(
    ("pods", "reason", "words"),
    [
        ([pod("Failed", {"terminated": {"reason": "OOMKilled", "exitCode": 137}})], "WORKER_OUT_OF_MEMORY", "cpu-large (8Gi)"),
        ([pod("Failed", reason="Evicted", message="emptyDir volume work exceeds the limit")], "WORKER_OUT_OF_DISK", "work"),
        ([pod("Failed", reason="DeadlineExceeded")], "FLAVOR_TIME_LIMIT", "60 s"),
    ],
)
def test_what_would_end_another_attempt_alike(pods: list[Any], reason: str, words: str) -> None:
    status = look(job(), *pods)
    assert status.error is not None
    assert (status.stage, status.error["reason"]) == (Stage.ENDED, reason)
    assert words in status.error["message"]


@pytest.mark.parametrize("pods", [[pod("Failed", {"terminated": {"exitCode": 1}})], [pod("Succeeded", {"terminated": {}})]])
def test_an_end_without_a_word_counts(pods: list[Any]) -> None:
    status = look(job(), *pods)
    assert (status.stage, status.disrupted, status.error) == (Stage.ENDED, False, None)


def test_a_deleted_job_has_ended_when_its_pods_have() -> None:
    assert look(None, pod("Running", gone=True)).stage is Stage.RUNNING
    assert look(None, pod("Succeeded")).stage is Stage.ENDED


def test_an_elastic_job_goes_on_with_the_nodes_it_has() -> None:
    order = replace(ORDER, distributed=True, flavor=replace(SMALL, nodes=3, min_nodes=2))
    up, lost = pod("Running", {"running": {}}, ready=True), pod("Failed", {"terminated": {"exitCode": 1}})
    assert status_of(order, job(), [up, up, lost], (), "", None).stage is Stage.RUNNING
    assert status_of(order, job(), [up, lost, lost], (), "", None).stage is Stage.WAITING


@pytest.mark.parametrize(
    ("until", "expected"),
    [(None, False), ("2026-11-30T12:00:30Z", False), ("2026-11-30T11:59:55Z", False), ("2026-11-30T11:59:40Z", True)],
)
def test_a_pod_is_stranded_when_its_grace_is_long_over(until: str | None, expected: bool) -> None:
    now = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)
    metadata = {"name": "p", **({"deletionTimestamp": until} if until else {})}
    assert stranded({"metadata": metadata}, now) is expected


def test_a_pod_that_is_to_end_on_a_silent_node_is_stranded_at_once() -> None:
    now = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)
    silent = pod("Running", {"running": {}}, ready=True, **SILENT_NODE)
    assert not stranded(silent, now)  # it may come back
    silent["metadata"]["deletionTimestamp"] = "2026-11-30T12:00:30Z"
    assert stranded(silent, now)
    assert not stranded(pod("Running", {"running": {}}, ready=True) | {"metadata": silent["metadata"]}, now)
