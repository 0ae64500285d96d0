"""The pods of an endpoint in a cluster: what is asked for, with which rights, and what is told of them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.serving.adapters.pod_manifests import (
    USUAL_TARGETS,
    PodShape,
    PodsOrder,
    deployment_manifest,
    object_name,
    owned_manifests,
    replicas_of,
)
from modelyard.serving.adapters.pod_status import pod_of, refused_pods
from modelyard.serving.domain.placement import Placement, PodState
from modelyard.serving.pods import read_targets

ENDPOINT = "projects/default/endpoints/flowers"
SHAPE = PodShape(
    "registry/serving:1", "serving:8970", node_cache="cache:8002", owner={"kind": "Deployment", "name": "s", "uid": "u"}
)


def order(placement: Placement, replicas: int = 1) -> PodsOrder:
    return PodsOrder(ENDPOINT, placement, USUAL_TARGETS[placement.target], replicas, "a-token", b"KEY")


def pod_spec(placement: Placement, shape: PodShape = SHAPE) -> dict[str, Any]:
    spec: dict[str, Any] = deployment_manifest(order(placement), shape)["spec"]["template"]["spec"]
    return spec


def test_a_pod_has_the_least_rights() -> None:
    spec = pod_spec(Placement("cpu"))
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    container = spec["containers"][0]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {kind for volume in spec["volumes"] for kind in volume if kind != "name"} == {"emptyDir", "secret"}, "no hostPath"
    environment = {each["name"] for each in container["env"]}
    assert not [name for name in environment if "S3" in name or "DATABASE" in name or name.endswith("_TOKEN")]


def test_pods_are_replaced_one_more_never_one_less_and_end_in_peace() -> None:
    manifest = deployment_manifest(order(Placement("cpu", 2, 2), 2), SHAPE)
    assert manifest["spec"]["replicas"] == 2
    assert manifest["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    spec = manifest["spec"]["template"]["spec"]
    container = spec["containers"][0]
    assert container["readinessProbe"]["grpc"] == {"port": 8971}
    assert "sleep(5)" in container["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert spec["terminationGracePeriodSeconds"] >= 5 + 10
    assert manifest["metadata"]["ownerReferences"][0]["uid"] == "u"


def test_tls_goes_to_the_pod() -> None:
    spec = pod_spec(Placement("cpu"), PodShape("i", "serving:8970", tls_secret="pods-tls"))
    container = spec["containers"][0]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment["MODELYARD_TLS_CA"] == "/etc/modelyard/tls/ca.crt"
    assert {"name": "tls", "secret": {"secretName": "pods-tls", "defaultMode": 0o440}} in spec["volumes"]


@pytest.mark.parametrize(
    ("placement", "limits"),
    [
        (Placement("cpu", memory="2Gi"), {"memory": "2Gi"}),
        (Placement("gpu"), {"memory": "8Gi", "nvidia.com/gpu": "1"}),
        (Placement("gpu", gpus=2), {"memory": "8Gi", "nvidia.com/gpu": "2"}),
    ],
)
def test_resources_follow_the_placement_and_the_target(placement: Placement, limits: dict[str, str]) -> None:
    assert pod_spec(placement)["containers"][0]["resources"]["limits"] == limits


def test_targets_choose_their_nodes() -> None:
    assert pod_spec(Placement("edge"))["nodeSelector"] == {"kubernetes.io/arch": "arm64"}
    assert pod_spec(Placement("gpu"))["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert "nodeSelector" not in pod_spec(Placement("cpu"))


def test_what_belongs_to_a_deployment_goes_with_it() -> None:
    made = {
        (each["kind"], each["metadata"]["name"]): each for each in owned_manifests(order(Placement("cpu", 2, 5)), SHAPE, "uid-1")
    }
    name = object_name(ENDPOINT, "cpu")
    assert set(made) == {
        ("Secret", name),
        ("Service", name),
        ("Service", f"{name}-pods"),
        ("PodDisruptionBudget", name),
        ("HorizontalPodAutoscaler", name),
    }
    assert all(each["metadata"]["ownerReferences"][0]["uid"] == "uid-1" for each in made.values())
    assert made["Service", f"{name}-pods"]["spec"]["clusterIP"] == "None"
    assert base64.b64decode(made["Secret", name]["data"]["token"]) == b"a-token"
    assert made["HorizontalPodAutoscaler", name]["spec"]["minReplicas"] == 2
    fixed = owned_manifests(order(Placement("cpu", 2, 2)), SHAPE, "uid-1")
    assert "HorizontalPodAutoscaler" not in {each["kind"] for each in fixed}


def test_names_are_short_and_of_one_endpoint_alone() -> None:
    long = "projects/p/endpoints/" + "a" * 63
    assert len(object_name(long, "edge") + "-pods") <= 63
    assert object_name("projects/a/endpoints/x", "cpu") != object_name("projects/b/endpoints/x", "cpu")


@pytest.mark.parametrize(
    ("placement", "now", "wanted"),
    [
        (Placement("cpu", 2, 2), None, 2),
        (Placement("cpu", 2, 2), 7, 2),
        (Placement("cpu", 2, 5), None, 2),
        (Placement("cpu", 2, 5), 4, 4),
        (Placement("cpu", 2, 5), 9, 5),
        (Placement("cpu", 0, 5, idle_s=60), 0, 0),
        (Placement("cpu", 0, 5, idle_s=60), None, 1),
        (Placement("cpu", 2, 5), 0, 2),
    ],
)
def test_who_decides_how_many(placement: Placement, now: int | None, wanted: int) -> None:
    assert replicas_of(placement, now) == wanted


def document(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    labels = {"modelyard.internal/target": "cpu"}
    return {"metadata": {"name": "p", "labels": labels, **metadata}, "spec": {"nodeName": "n1"}, "status": status}


def container(**state: Any) -> dict[str, Any]:
    return {"phase": "Pending", "containerStatuses": [{"name": "serving", "restartCount": state.pop("restarts", 0), **state}]}


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes: 2 Insufficient cpu"}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"phase": "Pending", "conditions": [UNSCHEDULABLE]}, "Unschedulable: 0/2 nodes: 2 Insufficient cpu"),
        (container(state={"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}), "ImagePullBackOff: no such tag"),
        (
            container(
                restarts=2,
                state={"waiting": {"reason": "CrashLoopBackOff"}},
                lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}},
            ),
            "its process ended: OOMKilled (exit status 137)",
        ),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, "Evicted: low on memory"),
    ],
)
def test_why_a_pod_waits_is_said(status: dict[str, Any], said: str) -> None:
    assert pod_of(document(status)).message == said


def test_the_life_of_a_pod() -> None:
    running = {"phase": "Running", "podIP": "10.1.2.3", "containerStatuses": [{"name": "serving", "state": {"running": {}}}]}
    assert pod_of(document(running)).state is PodState.RUNNING
    ready = running | {"conditions": [{"type": "Ready", "status": "True"}]}
    assert (pod_of(document(ready)).state, pod_of(document(ready)).address) == (PodState.READY, "10.1.2.3:8970")
    assert pod_of(document(ready | {"podIP": "fd00::1"})).address == "[fd00::1]:8970"
    assert pod_of(document(ready, deletionTimestamp="now")).state is PodState.ENDING


def test_pods_that_the_cluster_refuses_to_make_are_told() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    refused = refused_pods(document({"conditions": [failure]}))
    assert refused is not None
    assert refused.message == "FailedCreate: exceeded quota"
    assert refused_pods(document({})) is None


def test_targets_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "targets.yaml"
    file.write_text("- {name: edge, node_selector: {pool: edge}, cpu: 100m}\n")
    targets = read_targets(file)
    assert (targets["edge"].node_selector, targets["edge"].cpu) == ({"pool": "edge"}, "100m")
    assert targets["gpu"] == USUAL_TARGETS["gpu"]
    for wrong in ("- {name: moon}", "- {name: cpu, colour: red}", "{}", "- {name: cpu, gpu: many}"):
        file.write_text(wrong)
        with pytest.raises(InvalidArgument) as caught:
            read_targets(file)
        assert caught.value.reason == "BAD_TARGETS"
