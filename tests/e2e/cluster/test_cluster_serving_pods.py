"""Serving pods of an installed release: a canary, promotion and rollback, pods killed and rolled, under load without a failure.

Needs KUBECONFIG, and of the release: MODELYARD_E2E_NAMESPACE, MODELYARD_SERVER (its address), MODELYARD_CA and MODELYARD_TOKEN
where it has TLS and asks for tokens; MODELYARD_E2E_EXPORT and MODELYARD_E2E_GATE_DECISION: an export and the decision that allows
it (as `modelyard auto` leaves them). Requests hold zeros, in the inputs that MODELYARD_E2E_INPUTS names: JSON of [name, datatype,
shape].
"""

from __future__ import annotations

import json
import math
import os
import shutil
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

NEEDED = ("KUBECONFIG", "MODELYARD_E2E_NAMESPACE", "MODELYARD_SERVER", "MODELYARD_E2E_EXPORT", "MODELYARD_E2E_GATE_DECISION")
SIZES = {"FP32": 4, "UINT8": 1, "INT64": 8}
READY = serving_pb2.EndpointPod.STATE_READY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not all(os.environ.get(name) for name in NEEDED), reason=f"needs {', '.join(NEEDED)}"),
]


def kubectl(*arguments: str) -> str:
    program = shutil.which("kubectl")
    assert program, "kubectl is not on the PATH"
    command = [program, "-n", os.environ["MODELYARD_E2E_NAMESPACE"], *arguments]
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
        wait_ready(client, endpoint, 2)
        load.start(4)
        client.endpoints.create_deployment(endpoint, deployment_id="V2", percent=10, **allowed)
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
