"""The Kubernetes runner on a real cluster: a small service in a pod, its jobs as Jobs, and all that can happen to them.

Needs KUBECONFIG, kubectl, and nodes that have the image of jobs.Dockerfile (MODELYARD_E2E_JOBS_IMAGE).
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.cluster.kube import LONG

IMAGE = os.environ.get("MODELYARD_E2E_JOBS_IMAGE", "docker.io/local/modelyard-jobs-test:1")
FLAVORS = [
    {"name": "cpu-small", "description": "For tests", "cpu": "100m", "memory": "160Mi", "disk": "64Mi", "shared_memory": "8Mi"},
    {"name": "cpu-large", "cpu": "100m", "memory": "320Mi", "disk": "64Mi"},
    {"name": "gpu-1", "cpu": "100m", "memory": "200Mi", "gpu": 1, "tolerations": [{"key": "gpu", "operator": "Exists"}]},
    {"name": "nowhere", "cpu": "100m", "memory": "160Mi", "node_selector": {"pool": "nowhere"}, "max_wait_seconds": 8},
    {"name": "bad-image", "cpu": "100m", "memory": "160Mi", "image": "docker.io/local/there-is-none:1"},
    {"name": "short", "cpu": "100m", "memory": "160Mi", "max_seconds": 8},
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), LONG]


def kubectl(*arguments: str, stdin: str = "", check: bool = True) -> str:
    done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def until(condition: Callable[[], Any], seconds: float = 150, what: str = "it") -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true in {seconds} s"
        time.sleep(0.3)
    return found


class Service:
    """The service of tests.support.sample_service in a namespace of its own."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.started = 0

    def kubectl(self, *arguments: str, **more: Any) -> str:
        return kubectl("-n", self.namespace, *arguments, **more)

    def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        return list(json.loads(self.kubectl("get", kind, "-o", "json", *(["-l", selector] if selector else [])))["items"])

    def submit(self, flavor: str = "", name: str = "", **spec: Any) -> str:
        name = name or f"j-{secrets.token_hex(3)}"
        answer = self.call("POST", "/jobs", {"name": name, "flavor": flavor, "spec": {"steps": 3, **spec}})
        assert answer.get("state"), answer
        return name

    def job(self, name: str) -> dict[str, Any]:
        return self.call("GET", f"/jobs/{name}")

    def log(self, name: str) -> str:
        return "".join(piece["text"] for piece in self.call("GET", f"/logs/{name}"))

    def wait(self, name: str, seconds: float = 240) -> dict[str, Any]:
        return until(lambda: (job := self.job(name))["state"] in ("SUCCEEDED", "FAILED", "CANCELLED") and job, seconds, name)

    def waiting(self, name: str, reason: str, seconds: float = 150) -> str:
        def look() -> Any:
            waiting = (self.job(name)["progress"] or {}).get("waiting") or {}
            return waiting.get("reason") == reason and waiting

        return str(until(look, seconds, f"{name} waits for {reason}")["message"])

    def saved(self, name: str) -> int:
        return int((self.job(name)["saved"] or {}).get("step", 0))

    def worker(self, name: str) -> dict[str, Any]:
        """The pod that works for a job now."""
        full = f"projects/default/samples/{name}"
        pods = [pod for pod in self.items("pods", "app.kubernetes.io/component=worker") if job_of(pod) == full]
        running = [pod for pod in pods if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]]
        return running[-1] if running else {}

    def call(self, method: str, path: str, body: Any = None, seconds: float = 60) -> Any:
        """With patience: pods are restarted here."""
        deadline = time.monotonic() + seconds
        while True:
            address = self.kubectl("get", "service", "sample", "-o", "jsonpath={.spec.clusterIP}")
            data = json.dumps(body).encode() if body is not None else None
            request = urllib.request.Request(f"http://{address}:8080{path}", data, method=method)
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    return json.loads(answer.read())
            except urllib.error.HTTPError as error:
                return json.loads(error.read())
            except OSError:
                assert time.monotonic() < deadline, f"the service did not answer in {seconds} s"
                time.sleep(0.3)


def job_of(thing: dict[str, Any]) -> str:
    return str(thing["metadata"].get("annotations", {}).get("modelyard.internal/job", ""))


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    if not os.environ.get("KUBECONFIG") or shutil.which("kubectl") is None:
        pytest.skip("No cluster: KUBECONFIG is not set, or there is no kubectl")
    standing = os.environ.get("MODELYARD_E2E_JOBS_NAMESPACE")  # for whoever works on these tests
    if standing:
        yield Service(standing)
        return
    namespace = f"jobs-test-{secrets.token_hex(3)}"
    kubectl("create", "namespace", namespace)
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    found = Service(namespace)
    try:
        found.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests()}))
        found.kubectl("rollout", "status", "deployment/sample", "--timeout=120s")
        yield found
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false")


def manifests() -> list[dict[str, Any]]:
    """The service, with the least rights that the runner needs. Its SQLite is on a claim, so that it outlives the pod."""
    meta = {"name": "sample"}
    labels = {"app": "sample"}
    rules = [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "create", "patch", "delete"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "delete"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["create"]},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["create"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["sample"], "verbs": ["get"]},
    ]
    environment = {
        "MODELYARD_HOST": "0.0.0.0",
        "MODELYARD_PORT": "8970",
        "MODELYARD_DATA_DIR": "/data",
        "MODELYARD_RUNNER": "kubernetes",
        "MODELYARD_FLAVORS": "/etc/sample/flavors.json",
        "MODELYARD_WORKER_IMAGE": IMAGE,
        "MODELYARD_WORKER_PULL_POLICY": "IfNotPresent",
        "MODELYARD_WORKER_ADDRESS": "sample:8970",
        "MODELYARD_RUNNER_OWNER": "apps/v1/Deployment/sample",
        "MODELYARD_LOG_FORMAT": "json",
        "SAMPLE_HEARTBEAT_S": "30",
    }
    container = {
        "name": "service",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "ports": [{"containerPort": 8970}, {"containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8970}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True},
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "flavors", "mountPath": "/etc/sample"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    pod = {
        "serviceAccountName": "sample",
        "terminationGracePeriodSeconds": 20,
        "securityContext": {"runAsNonRoot": True, "fsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "sample"}},
            {"name": "flavors", "configMap": {"name": "sample"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Mi"}}}
    two = [*FLAVORS, {"name": "two-nodes", "cpu": "100m", "memory": "160Mi", "nodes": 2}]
    template = {"metadata": {"labels": labels}, "spec": pod}
    deployment = {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": labels}, "template": template}
    ports = [{"name": "grpc", "port": 8970}, {"name": "http", "port": 8080}]
    subjects = [{"kind": "ServiceAccount", "name": "sample"}]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "sample"}
    rbac = "rbac.authorization.k8s.io/v1"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": rbac, "kind": "Role", "metadata": meta, "rules": rules},
        {"apiVersion": rbac, "kind": "RoleBinding", "metadata": meta, "subjects": subjects, "roleRef": role},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"flavors.json": json.dumps(two)}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": claim},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": labels, "ports": ports}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": deployment},
    ]


def test_a_job_runs_to_its_end_and_shows_its_log(service: Service) -> None:
    name = service.submit(say="counted")
    job = service.wait(name)
    assert (job["state"], job["reason"], job["attempt"]) == ("SUCCEEDED", "COMPLETED", 1), job
    assert job["labels"]["instance_flavor"] == "cpu-small"
    assert "counted 0\ncounted 1\ncounted 2\n" in service.log(name)
    made = next(item for item in service.items("jobs") if job_of(item).endswith(name))
    assert made["metadata"]["ownerReferences"][0]["kind"] == "Deployment"
    assert made["spec"]["ttlSecondsAfterFinished"] == 600
    assert '"token"' not in json.dumps(made), "the token belongs in the Secret"
    secret = next(item for item in service.items("secrets") if item["metadata"]["name"] == made["metadata"]["name"])
    assert secret["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]


def test_a_workers_own_error_is_the_jobs_error_and_is_not_tried_again(service: Service) -> None:
    job = service.wait(service.submit(error=True))
    assert (job["state"], job["reason"], job["attempt"]) == ("FAILED", "BAD_THING", 1)


def test_a_worker_that_dies_is_started_again_and_goes_on_where_it_was(service: Service) -> None:
    job = service.wait(service.submit(die_at=1))
    assert (job["state"], job["attempt"], job["result"]["first"]) == ("SUCCEEDED", 2, 2), job


def test_without_enough_memory_the_job_says_so_and_names_a_larger_flavor(service: Service) -> None:
    job = service.wait(service.submit(eat_at=1, eat_mib=400))
    assert (job["state"], job["reason"], job["attempt"]) == ("FAILED", "WORKER_OUT_OF_MEMORY", 1), job
    assert "160Mi" in job["error"]["message"]
    assert "--instance-flavor cpu-large (320Mi)" in job["error"]["message"]


def test_more_than_the_work_folder_holds(service: Service) -> None:
    job = service.wait(service.submit(steps=200, pause_s=1, fill_mib=100), 180)
    assert (job["state"], job["reason"]) == ("FAILED", "WORKER_OUT_OF_DISK"), job


def test_the_flavors_time_is_up(service: Service) -> None:
    job = service.wait(service.submit("short", steps=1000, pause_s=0.1))
    assert (job["state"], job["reason"], job["attempt"]) == ("FAILED", "FLAVOR_TIME_LIMIT", 1), job


def test_cancel_ends_the_pod_with_grace(service: Service) -> None:
    name = service.submit(steps=10_000, pause_s=0.1)
    until(lambda: service.saved(name) > 2)
    service.call("POST", f"/jobs/{name}/cancel")
    assert service.wait(name)["state"] == "CANCELLED"
    until(lambda: not service.worker(name), 40)


def test_no_node_fits_is_told_with_the_schedulers_reason(service: Service) -> None:
    name = service.submit("gpu-1")
    message = service.waiting(name, "UNSCHEDULABLE")
    assert "Insufficient nvidia.com/gpu" in message
    node = service.items("nodes")[0]["metadata"]["name"]
    patch = [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": "1"}]
    kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(patch))
    job = service.wait(name, 120)
    assert job["state"] == "SUCCEEDED"
    assert job["running_seconds"] < 60, "waiting is not running"


def test_a_flavor_may_limit_the_wait(service: Service) -> None:
    job = service.wait(service.submit("nowhere"))
    assert (job["state"], job["reason"]) == ("FAILED", "UNSCHEDULABLE")
    assert "didn't match Pod's node affinity/selector" in job["error"]["message"]


def test_an_image_that_is_not_there_and_cancelled_while_it_waits(service: Service) -> None:
    name = service.submit("bad-image")
    assert "there-is-none" in service.waiting(name, "IMAGE_PULL_FAILED", 90)
    service.call("POST", f"/jobs/{name}/cancel")
    assert service.wait(name)["state"] == "CANCELLED"


def test_a_quota_is_told_and_waited_for(service: Service) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tight"}, "spec": {"hard": {"pods": "1"}}}
    service.kubectl("apply", "-f", "-", stdin=json.dumps(quota))
    try:
        name = service.submit()
        assert "exceeded quota: tight" in service.waiting(name, "QUOTA_EXCEEDED")
    finally:
        service.kubectl("delete", "resourcequota", "tight")
    assert service.wait(name, 180)["state"] == "SUCCEEDED"


def test_an_unknown_flavor_is_refused_with_the_known_ones(service: Service) -> None:
    answer = service.call("POST", "/jobs", {"name": "x", "flavor": "gpu-9", "spec": {"steps": 1}})
    assert answer["reason"] == "UNKNOWN_INSTANCE_FLAVOR"
    assert "cpu-small, cpu-large, gpu-1" in answer["message"]


def test_eviction_is_no_fault_of_the_jobs(service: Service) -> None:
    name = service.submit(steps=60, pause_s=0.2)
    until(lambda: service.saved(name) > 3)
    pod = service.worker(name)["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": service.namespace}}
    path = f"/api/v1/namespaces/{service.namespace}/pods/{pod}/eviction"
    kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    job = service.wait(name, 120)
    assert (job["state"], job["attempt"]) == ("SUCCEEDED", 2), job
    assert job["result"]["first"] > 3
    log = service.kubectl("logs", "deployment/sample")
    assert '"disrupted": true' in log


@pytest.mark.parametrize("how", ["delete", "kill"])
def test_a_service_that_restarts_adopts_what_runs(service: Service, how: str) -> None:
    name = service.submit(steps=150, pause_s=0.2, say="step")
    until(lambda: service.saved(name) > 3)
    before = service.worker(name)["metadata"]["name"]
    if how == "delete":
        service.kubectl("delete", "pod", "-l", "app=sample")
    else:
        service.kubectl("delete", "pod", "-l", "app=sample", "--force", "--grace-period=0")
    service.kubectl("rollout", "status", "deployment/sample", "--timeout=120s")
    assert service.worker(name)["metadata"]["name"] == before, "it works on while the service is away"
    job = service.wait(name, 150)
    assert (job["state"], job["attempt"], job["result"]["first"]) == ("SUCCEEDED", 1, 0), job
    text = service.log(name)
    assert [line for line in text.splitlines() if line.startswith("step")] == [f"step {step}" for step in range(150)]


def test_the_loss_of_a_node_is_no_fault_of_the_jobs(service: Service) -> None:
    """MODELYARD_E2E_NODE_DOWN and _UP: commands with {node} that take a node's power, and give it back."""
    down, up = os.environ.get("MODELYARD_E2E_NODE_DOWN"), os.environ.get("MODELYARD_E2E_NODE_UP")
    if not down or not up:
        pytest.skip("MODELYARD_E2E_NODE_DOWN and MODELYARD_E2E_NODE_UP do not say how to lose a node")
    here = service.items("pods", "app=sample")[0]["spec"]["nodeName"]
    names = [service.submit(steps=1500, pause_s=0.1) for _ in range(4)]
    workers = {name: until(lambda name=name: service.saved(name) > 3 and service.worker(name)) for name in names}
    lost = [name for name, pod in workers.items() if pod["spec"]["nodeName"] != here]
    if not lost:
        pytest.skip("every pod came to the service's own node")
    node = workers[lost[0]]["spec"]["nodeName"]
    subprocess.run(down.format(node=node), shell=True, check=True)
    try:
        until(lambda: service.job(lost[0])["attempt"] == 2 and service.worker(lost[0]), 240)
        assert service.worker(lost[0])["spec"]["nodeName"] != node
    finally:
        subprocess.run(up.format(node=node), shell=True, check=True)
    job = service.wait(lost[0], 400)
    assert (job["state"], job["attempt"]) == ("SUCCEEDED", 2), job
    assert job["result"]["first"] > 3


def test_several_nodes_are_one_attempt_of_an_indexed_job(service: Service) -> None:
    """Without torch in the image torchrun is not there: the Job, its names and its end are what is looked at."""
    name = service.submit("two-nodes", steps=3)
    made = until(lambda: [item for item in service.items("jobs") if job_of(item).endswith(name)], 60)[0]
    assert (made["spec"]["completionMode"], made["spec"]["completions"], made["spec"]["parallelism"]) == ("Indexed", 2, 2)
    assert "-m torch.distributed.run --nnodes=2:2" in " ".join(made["spec"]["template"]["spec"]["containers"][0]["command"])
    own = made["metadata"]["name"].rpartition("-")[0] + "-"  # of any attempt: one is over in seconds, and its Service with it
    headless = until(lambda: [item for item in service.items("services") if item["metadata"]["name"].startswith(own)], 60)[0]
    assert headless["spec"]["clusterIP"] == "None"
    job = service.wait(name, 180)
    assert (job["state"], job["reason"]) == ("FAILED", "WORKER_LOST")
    assert "No module named" in service.log(name)


def test_all_goes_when_the_service_goes(service: Service) -> None:
    """The last of this module: as `helm uninstall` does."""
    name = service.submit(steps=10_000, pause_s=0.1)
    until(lambda: service.saved(name) > 2)
    service.kubectl("delete", "deployment", "sample")
    until(lambda: not service.items("jobs") and not service.items("pods"), 90, "no Job and no pod left")
    assert not [item for item in service.items("secrets") if job_of(item)]
