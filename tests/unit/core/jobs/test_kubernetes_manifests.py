"""What an attempt is in a cluster."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.jobs.flavors import Flavor
from modelyard.core.jobs.kubernetes_manifests import (
    KUEUE_QUEUE,
    Placement,
    job_manifest,
    object_name,
    policy_manifest,
    secret_manifest,
    service_manifest,
)
from modelyard.core.jobs.kubernetes_runner import placement_of
from modelyard.core.jobs.runner import Order
from modelyard.core.settings import CoreSettings

SMALL = Flavor("cpu-small", cpu="2", memory="4Gi", disk="10Gi", max_seconds=3600)
ORDER = Order(
    "projects/p/trainingJobs/t-1", "training", "trainer", 2, "modelyard.trainer.worker", SMALL, identity='{"token": "s"}'
)
OWNER = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "trainer", "uid": "u-1"}
PLACEMENT = Placement(
    image="image:1", environment={"MODELYARD_ARTIFACTS_URL": "s3://b"}, secrets={"MODELYARD_S3_SECRET_KEY": "hidden"}, owner=OWNER
)


def pod_of(order: Order, placement: Placement = PLACEMENT) -> dict[str, Any]:
    return dict(job_manifest(order, placement)["spec"]["template"]["spec"])


def test_one_pod_is_one_attempt_that_the_cluster_never_starts_again() -> None:
    spec = job_manifest(ORDER, PLACEMENT)["spec"]
    assert (spec["backoffLimit"], spec["completions"], spec["suspend"]) == (0, 1, True)
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    ]
    pod = spec["template"]["spec"]
    assert (pod["restartPolicy"], pod["activeDeadlineSeconds"]) == ("Never", 3600)
    assert pod["containers"][0]["command"] == ["python", "-m", "modelyard.trainer.worker"]


def test_a_pod_has_no_rights() -> None:
    pod = pod_of(ORDER)
    container = pod["containers"][0]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "hostPath" not in json.dumps(pod)
    as_user = pod_of(ORDER, replace(PLACEMENT, user=1000))["securityContext"]
    assert (as_user["runAsUser"], as_user["fsGroup"]) == (1000, 1000)


def test_secrets_are_in_the_secret_alone_which_goes_with_the_job() -> None:
    job = json.dumps(job_manifest(ORDER, PLACEMENT))
    secret = secret_manifest(ORDER, PLACEMENT, "uid-of-the-job")
    assert "token" not in job.replace("automountServiceAccountToken", "")
    assert "hidden" not in job
    assert secret["stringData"] == {"identity": ORDER.identity, "MODELYARD_S3_SECRET_KEY": "hidden"}
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "uid-of-the-job"
    assert job_manifest(ORDER, PLACEMENT)["metadata"]["ownerReferences"] == [OWNER]


def test_a_flavor_says_where_and_with_what() -> None:
    toleration = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
    gpu = replace(SMALL, gpu=1, node_selector={"pool": "gpu"}, tolerations=[toleration], image="gpu:1", runtime_class="nvidia")
    pod = pod_of(replace(ORDER, flavor=gpu))
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert toleration in pod["tolerations"]
    assert pod["runtimeClassName"] == "nvidia"
    container = pod["containers"][0]
    assert container["image"] == "gpu:1"
    wanted = {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"}
    assert container["resources"] == {"requests": wanted, "limits": wanted}
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
    assert volumes["work"] == {"sizeLimit": "10Gi"}
    assert volumes["shm"] == {"medium": "Memory", "sizeLimit": str(2 << 30)}


def test_several_nodes_meet_at_the_first_one() -> None:
    order = replace(ORDER, flavor=replace(SMALL, nodes=3), distributed=True)
    job, name = job_manifest(order, PLACEMENT), object_name(order)
    spec = job["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"], spec["backoffLimit"]) == (3, 3, "Indexed", 0)
    assert spec["template"]["spec"]["subdomain"] == name
    command = spec["template"]["spec"]["containers"][0]["command"]
    assert command[:3] == ["python", "-m", "torch.distributed.run"]
    assert f"--rdzv-endpoint={name}-0.{name}:29400" in command
    assert {"--nnodes=3:3", "--nproc-per-node=1", "--max-restarts=0"} <= {*command}
    assert "--rdzv-conf=last_call_timeout=5,keep_alive_interval=2,keep_alive_max_attempt=3" in command
    assert command[-2:] == ["-m", "modelyard.trainer.worker"]
    service = service_manifest(order, PLACEMENT, "u")
    assert (service["metadata"]["name"], service["spec"]["clusterIP"]) == (name, "None")
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_only_nodes_of_the_same_attempt_reach_each_other() -> None:
    order = replace(ORDER, flavor=replace(SMALL, nodes=3), distributed=True)
    policy, name = policy_manifest(order, PLACEMENT, "u"), object_name(order)
    theirs = {"matchLabels": {"batch.kubernetes.io/job-name": name}}
    assert policy["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert (policy["spec"]["podSelector"], policy["spec"]["policyTypes"]) == (theirs, ["Ingress"])
    (rule,) = policy["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": theirs}]
    assert [(port["port"], port.get("endPort")) for port in rule["ports"]] == [(29400, None), (32768, 65535)]


def test_an_elastic_job_gets_its_nodes_back() -> None:
    order = replace(ORDER, flavor=replace(SMALL, nodes=3, min_nodes=2), distributed=True)
    spec = job_manifest(order, PLACEMENT)["spec"]
    assert "backoffLimit" not in spec
    assert spec["backoffLimitPerIndex"] == 100
    assert "--nnodes=2:3" in spec["template"]["spec"]["containers"][0]["command"]


def test_what_cannot_use_several_nodes_or_gpus_gets_one_process() -> None:
    order = replace(ORDER, flavor=replace(SMALL, gpu=2))
    assert "torch.distributed.run" not in pod_of(order)["containers"][0]["command"]
    assert "--nproc-per-node=2" in pod_of(replace(order, distributed=True))["containers"][0]["command"]


@pytest.mark.parametrize(("of_service", "of_flavor", "expected"), [("q", "", "q"), ("q", "own", "own"), ("", "", None)])
def test_kueue_is_a_label_and_nothing_else(of_service: str, of_flavor: str, expected: str | None) -> None:
    order = replace(ORDER, flavor=replace(SMALL, queue=of_flavor))
    job = job_manifest(order, replace(PLACEMENT, queue=of_service))
    assert job["metadata"]["labels"].get(KUEUE_QUEUE) == expected
    assert job["spec"]["suspend"] is True


@given(st.text(max_size=80), st.integers(1, 9999))
def test_names_are_names(job: str, attempt: int) -> None:
    name = object_name(replace(ORDER, job=f"projects/p/trainingJobs/{job}", attempt=attempt))
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(f"{name}-255-xxxxx") <= 63


def test_names_tell_jobs_and_attempts_apart() -> None:
    orders = [
        replace(ORDER, job=f"projects/{project}/trainingJobs/same", attempt=attempt) for project in "pq" for attempt in (1, 2)
    ]
    assert len({object_name(order) for order in orders}) == 4


def test_the_secret_of_the_settings_comes_in_place_of_the_keys() -> None:
    environment = {
        "MODELYARD_S3_ACCESS_KEY": "a",
        "MODELYARD_S3_SECRET_KEY": "b",
        "MODELYARD_TLS_CA": "/here/ca.pem",
        "EMPTY": "",
    }
    own = placement_of(CoreSettings(worker_image="i"), environment)
    assert own.secrets == {"MODELYARD_S3_ACCESS_KEY": "a", "MODELYARD_S3_SECRET_KEY": "b"}
    assert own.environment == {"MODELYARD_TLS_CA": "/here/ca.pem"}
    named = placement_of(CoreSettings(worker_image="i", worker_secret="s3", worker_tls_secret="tls"), environment)
    assert (named.secrets, named.secret_name) == ({}, "s3")
    assert named.environment == {"MODELYARD_TLS_CA": "/etc/modelyard/tls/ca.crt"}
    container = pod_of(ORDER, named)["containers"][0]
    assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert {"name": "tls", "mountPath": "/etc/modelyard/tls", "readOnly": True} in container["volumeMounts"]
