"""Serving pods of an installed release: a canary, promotion and rollback, pods killed and rolled, under load without a failure.

The release of conftest, with what a run of the journeys left there (one more is made where none did); or another one:
MODELYARD_E2E_NAMESPACE, MODELYARD_SERVER (its address), MODELYARD_CA and MODELYARD_TOKEN where it has TLS and asks for tokens;
MODELYARD_E2E_EXPORT and MODELYARD_E2E_GATE_DECISION: an export and the decision that allows it (as `modelyard auto` leaves them).
Requests hold zeros, in the inputs that MODELYARD_E2E_INPUTS names: JSON of [name, datatype, shape].
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from inference import grpc_service_pb2 as oip
from inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from modelyard.client import Client
from modelyard.client.access import access_from_environment
from modelyard.client.channels import open_channel
from modelyard.serving.v1 import serving_pb2
from tests.e2e.cluster.conftest import Installed
from tests.e2e.cluster.kube import program
from tests.e2e.cluster.test_cluster_journey import start
from tests.support.sources import breast_cancer_csv

NEEDED = ("KUBECONFIG", "MODELYARD_E2E_NAMESPACE", "MODELYARD_SERVER", "MODELYARD_E2E_EXPORT", "MODELYARD_E2E_GATE_DECISION")
SIZES = {"FP32": 4, "FP64": 8, "UINT8": 1, "INT32": 4, "INT64": 8}
FOLLOWED_S = 5
"""Until all servers of the release know what one of them has deployed: MODELYARD_RECONCILE_S, and what loading takes."""
READY = serving_pb2.EndpointPod.STATE_READY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module", autouse=True)
def _release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if all(os.environ.get(name) for name in NEEDED):
        yield
        return
    installed: Installed = request.getfixturevalue("installed")
    run = a_run_of_a_table(installed, tmp_path_factory)
    environment = installed.environment()
    found = {name: environment[name] for name in ("MODELYARD_SERVER", "MODELYARD_TOKEN", "MODELYARD_CA", "MODELYARD_SERVER_NAME")}
    found["MODELYARD_E2E_NAMESPACE"] = installed.kube.namespace
    found["MODELYARD_E2E_EXPORT"] = run.result.export
    found["MODELYARD_E2E_GATE_DECISION"] = run.result.gate_decision.name
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.items():
            patch.setenv(name, value)
        patch.setenv("MODELYARD_E2E_INPUTS", json.dumps(inputs_of(run.result.endpoint.rsplit("/", 1)[1])))
        yield


def a_run_of_a_table(installed: Installed, temporary: pytest.TempPathFactory) -> Any:
    """The newest pipeline run over a table that deployed something; one is made where there is none."""
    with installed.client() as client:
        for run in client.pipelines.list_pipeline_runs():
            if run.source.file_name.endswith(".csv") and run.result.deployment:
                return run
        made = start(client, breast_cancer_csv(temporary.mktemp("table") / "cancer.csv"), "for-pods", 20)
        return client.pipelines.wait_pipeline_run(made, 900)


def inputs_of(endpoint: str) -> list[list[Any]]:
    """What a model is asked with: one example of each input."""
    with open_channel(os.environ["MODELYARD_SERVER"], access_from_environment()) as channel:
        known = GRPCInferenceServiceStub(channel).ModelMetadata(oip.ModelMetadataRequest(name=endpoint), timeout=60).inputs
    return [[one.name, one.datatype, [1 if size < 0 else size for size in one.shape]] for one in known]


def kubectl(*arguments: str) -> str:
    command = [program("kubectl"), "-n", os.environ["MODELYARD_E2E_NAMESPACE"], *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


@dataclass
class Load:
    """Callers that ask all the time, without a retry."""

    endpoint: str
    rows: list[tuple[float, str, str]] = field(default_factory=list)
    going: bool = True
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, count: int) -> None:
        self.threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def stop(self) -> list[tuple[float, str, str]]:
        self.going = False
        for thread in self.threads:
            thread.join()
        return self.rows

    def _ask(self, number: int) -> None:
        inputs = json.loads(os.environ.get("MODELYARD_E2E_INPUTS", '[["x", "FP32", [1, 4]]]'))
        with open_channel(os.environ["MODELYARD_SERVER"], access_from_environment()) as channel:
            stub = GRPCInferenceServiceStub(channel)
            while self.going:
                request = oip.ModelInferRequest(model_name=self.endpoint, id=f"{number}-{time.time_ns()}")
                for name, datatype, shape in inputs:
                    request.inputs.add(name=name, datatype=datatype, shape=shape)
                    request.raw_input_contents.append(bytes(math.prod(shape) * SIZES[datatype]))
                began, version, error = time.time(), "", ""
                try:
                    version = stub.ModelInfer(request, timeout=60).model_version
                except grpc.RpcError as problem:
                    error = f"{problem.code().name}: {problem.details()}"
                self.rows.append((began, version, error))
                time.sleep(0.01)


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(os.environ["MODELYARD_SERVER"], access=access_from_environment()) as made:
        yield made


def wait_ready(client: Client, endpoint: str, count: int, seconds: float = 240) -> list[Any]:
    end = time.monotonic() + seconds
    while True:
        pods = [pod for pod in client.endpoints.get_endpoint(endpoint).pods if pod.state == READY]
        if len(pods) == count:
            return pods
        assert time.monotonic() < end, f"{len(pods)} of {count} pods are ready: {client.endpoints.get_endpoint(endpoint).pods}"
        time.sleep(1)


def test_no_request_fails_while_versions_and_pods_come_and_go(client: Client) -> None:
    endpoint = f"pods-{int(time.time()) % 100_000}"
    allowed = {"export": os.environ["MODELYARD_E2E_EXPORT"], "gate_decision": os.environ["MODELYARD_E2E_GATE_DECISION"]}
    placement = serving_pb2.Placement(target="cpu", min_replicas=2, cpu="50m", memory="512Mi")
    client.endpoints.create_endpoint(endpoint, placements=[placement])
    load = Load(endpoint)
    try:
        client.endpoints.create_deployment(endpoint, deployment_id="V1", **allowed)
        load.start(4)  # at once: a server that has not heard of it looks before it says that it does not know it
        wait_ready(client, endpoint, 2)
        client.endpoints.create_deployment(endpoint, deployment_id="V2", percent=10, **allowed)
        time.sleep(FOLLOWED_S)
        begun = time.time()
        while sum(row[0] >= begun for row in list(load.rows)) < 400 and time.time() < begun + 180:
            time.sleep(1)
        ended = time.time()
        pods = wait_ready(client, endpoint, 2)
        assert all(set(pod.ready_versions) == {"V1", "V2"} for pod in pods)
        kubectl("delete", "pod", pods[0].name, "--grace-period=0", "--force")
        client.endpoints.update_endpoint(endpoint, traffic={"V2": 100})
        client.endpoints.rollback_endpoint(endpoint)
        wait_ready(client, endpoint, 2)
        deployments = kubectl("get", "deployment", "-o", "name", "-l", "app.kubernetes.io/component=serving-pod").split()
        mine = next(name for name in deployments if f"serve-{endpoint}-" in name)
        kubectl("rollout", "restart", mine)
        kubectl("rollout", "status", mine, "--timeout=300s")
        wait_ready(client, endpoint, 2)
        rows = load.stop()
    finally:
        load.going = False
        client.endpoints.delete_endpoint(endpoint)
    assert not Counter(error for _, _, error in rows if error)
    during = Counter(version for began, version, _ in rows if begun <= began < ended)
    total = sum(during.values())
    assert total >= 100
    assert abs(during["V2"] - 0.1 * total) < 4 * (total * 0.09) ** 0.5
    end = time.monotonic() + 120
    while f"serve-{endpoint}-" in kubectl("get", "all,secret,pdb", "-o", "name", "-l", "app.kubernetes.io/component=serving-pod"):
        assert time.monotonic() < end, "objects of a deleted endpoint are still there"
        time.sleep(2)


def test_a_pod_that_finds_no_node_says_why(client: Client) -> None:
    """And the deployment changes nothing."""
    endpoint = f"gpus-{int(time.time()) % 100_000}"
    placement = serving_pb2.Placement(target="gpu", gpus=64)
    client.endpoints.create_endpoint(endpoint, placements=[placement])
    allowed = {"export": os.environ["MODELYARD_E2E_EXPORT"], "gate_decision": os.environ["MODELYARD_E2E_GATE_DECISION"]}
    failed: list[Exception] = []

    def deploy() -> None:
        try:
            client.endpoints.create_deployment(endpoint, deployment_id="V1", **allowed)
        except Exception as error:
            failed.append(error)

    deploying = threading.Thread(target=deploy)
    deploying.start()
    try:
        end = time.monotonic() + 90
        while not any("nvidia.com/gpu" in pod.message for pod in client.endpoints.get_endpoint(endpoint).pods):
            assert time.monotonic() < end, client.endpoints.get_endpoint(endpoint).pods
            time.sleep(1)
    finally:
        client.endpoints.delete_endpoint(endpoint)
        deploying.join(300)
    assert failed
