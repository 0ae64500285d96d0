"""The release behind real controllers: Traefik (Ingress, Gateway API), cert-manager, metrics-server, Kueue.

operators/build makes them of their Go modules, and they run as processes of this machine; without them these tests are skipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.client import Client
from modelyard.client.access import Access
from modelyard.serving.v1 import serving_pb2
from modelyard.type.v1 import job_pb2
from tests.e2e.cluster.conftest import CHART, RELEASE, Installed, left_nothing
from tests.e2e.cluster.kube import LONG, Kube, until
from tests.e2e.cluster.operators import processes
from tests.e2e.cluster.test_cluster_journey import start
from tests.support.sources import breast_cancer_csv, digits_folder
from tests.support.triton import InferenceServerException, triton

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
INGRESS_HOST, ROUTE_HOST = "models.example.org", "routes.example.org"
MIB = 1 << 20
RENEWED_S = 240
"""A kubelet brings a Secret to its pods within two minutes."""


class Operated(Installed):
    """A release as callers from outside the cluster meet it: at Traefik, under a name that cert-manager has vouched for."""

    def __init__(self, kube: Kube, folder: Path, port: int) -> None:
        super().__init__(kube, folder)
        self.port = port
        self.host = INGRESS_HOST
        self.options += ["-f", str(Path(__file__).parent / "operators" / "values.yaml")]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def inner_address(self) -> str:
        """The gateway's own."""
        return super().address

    @property
    def server_name(self) -> str:
        return self.host

    @property
    def ca(self) -> Path:
        path = self._folder / "ca.crt"
        path.write_bytes(self.kube.secret("yard-authority", "ca.crt"))
        return path

    def inner_client(self) -> Client:
        """At the gateway itself, which shows a certificate of the same authority."""
        access = Access(token=self.token, ca=self.ca, server_name=f"{self.name}-gateway")
        return Client(self.inner_address, access=access, patience_s=180)

    def asking(self, model: str, address: str = "", name: str = "", token: str = "", **inputs: Any) -> Callable[[], Any]:
        """Asks for a prediction, by tritonclient over one connection; inputs are {name: (array, datatype)}."""
        server = triton.InferenceServerClient(
            address or self.address, ssl=True, root_certificates=str(self.ca),
            channel_args=[("grpc.ssl_target_name_override", name or self.host), ("grpc.use_local_subchannel_pool", 1)],
        )  # fmt: skip
        given = []
        for key, (array, datatype) in inputs.items():
            made = triton.InferInput(key, list(array.shape), datatype)
            made.set_data_from_numpy(array)
            given.append(made)
        headers = {"authorization": f"Bearer {token or self.token}"}
        return lambda: server.infer(model, given, headers=headers)

    def infer(self, model: str, **how: Any) -> Any:
        """A prediction over a connection of its own."""
        return self.asking(model, **how)()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operators")


@pytest.fixture(scope="module")
def yard(folder: Path) -> Iterator[Operated]:
    """A release with certificates of cert-manager, behind Traefik."""
    processes.needed("traefik", "cert-manager")
    standing = os.environ.get("MODELYARD_E2E_OPERATED", "")
    kube = Kube(standing or f"operated-{secrets.token_hex(3)}")
    yard = Operated(kube, folder, int(os.environ.get("MODELYARD_E2E_OPERATED_PORT", 0)) or processes.free_port())
    with ExitStack() as stack:
        # A GRPCRoute knows nothing of a BackendTLSPolicy in Traefik 3.7, and its general settings know no authority's name.
        loose = "--serversTransport.insecureSkipVerify=true"
        stack.enter_context(processes.cert_manager(folder))
        stack.enter_context(processes.traefik(folder, yard.port, processes.READ_TIMEOUT, loose))
        kube.run("create", "namespace", kube.namespace, check=not standing)
        processes.apply(kube, *outer_objects(kube.namespace, yard.port))
        for certificate in ("yard-authority", "routes-tls"):
            kube.run("wait", f"certificate/{certificate}", "--for=condition=Ready", "--timeout=120s")
        try:
            kube.helm("upgrade", "--install", RELEASE, str(CHART), *yard.options, "--wait", "--timeout", "15m")
            until("Traefik leads to the release", lambda: served_certificate("127.0.0.1", yard.port, INGRESS_HOST, yard.ca), 60)
            yield yard
            if not standing:
                kube.helm("uninstall", RELEASE, "--wait", "--timeout", "5m")
                kube.run("delete", "issuers,certificates,gateways", "--all")
                kube.run("delete", "secrets", "-l", "controller.cert-manager.io/fao=true")  # cert-manager leaves them on purpose
                left_nothing(
                    kube, ",grpcroutes,httproutes,backendtlspolicies,serverstransports", keep=("yard-authority", "routes-tls")
                )
        finally:
            if not standing:
                kube.helm("uninstall", RELEASE, "--ignore-not-found", check=False)
                Kube("default").run("delete", "namespace", kube.namespace, "--wait=false", check=False)


def outer_objects(namespace: str, port: int) -> list[dict[str, Any]]:
    """What a platform has before anybody installs a chart: an authority, an issuer of it, and a Gateway with a certificate."""
    manager = {"apiVersion": "cert-manager.io/v1"}
    named: Callable[[str], dict[str, Any]] = lambda name: {"metadata": {"name": name, "namespace": namespace}}  # noqa: E731
    certificate = {"kind": "Secret", "name": "routes-tls"}
    listener = {
        "name": "https", "port": port, "protocol": "HTTPS", "hostname": ROUTE_HOST,
        "tls": {"mode": "Terminate", "certificateRefs": [certificate]}, "allowedRoutes": {"namespaces": {"from": "Same"}},
    }  # fmt: skip
    authority = {"isCA": True, "commonName": "Yard", "secretName": "yard-authority", "privateKey": {"algorithm": "ECDSA"}}
    return [
        {**manager, "kind": "Issuer", **named("self"), "spec": {"selfSigned": {}}},
        {**manager, "kind": "Certificate", **named("yard-authority"), "spec": {**authority, "issuerRef": {"name": "self"}}},
        {**manager, "kind": "Issuer", **named("yard"), "spec": {"ca": {"secretName": "yard-authority"}}},
        {
            **manager, "kind": "Certificate", **named("routes-tls"),
            "spec": {"secretName": "routes-tls", "dnsNames": [ROUTE_HOST], "issuerRef": {"name": "yard"}},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", **named("public"),
            "spec": {"gatewayClassName": processes.GATEWAY_CLASS, "listeners": [listener]},
        },
    ]  # fmt: skip


def served_certificate(host: str, port: int, name: str, ca: Path) -> bytes:
    """The certificate that a port shows under a name, where the authority has signed it; empty: another one, or none."""
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, port), timeout=5) as raw,
            context.wrap_socket(raw, server_hostname=name) as connection,
        ):
            return connection.getpeercert(binary_form=True) or b""
    except OSError:
        return b""


def answered_over_http(yard: Operated, path: str) -> str:
    """The status line of a GET."""
    context = ssl.create_default_context(cafile=str(yard.ca))
    with (
        socket.create_connection(("127.0.0.1", yard.port), timeout=30) as raw,
        context.wrap_socket(raw, server_hostname=yard.host) as connection,
    ):
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: {yard.host}\r\nconnection: close\r\n\r\n".encode())
        return connection.makefile("rb").readline().decode().strip()


def picture_of(folder: Path) -> dict[str, Any]:
    content = next((folder / "3").iterdir()).read_bytes()
    return {"image": (np.array([content], dtype=np.object_), "BYTES")}


def uploaded_and_back(client: Client, path: Path, size: int, pause_s: float = 0.0) -> None:
    """A blob there and back is the same; `pause_s` between two of its pieces."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size // MIB):
            digest.update(piece := os.urandom(MIB))
            file.write(piece)
    blob = client.artifacts.upload(path, on_progress=lambda done, total: time.sleep(pause_s))
    assert blob.sha256 == digest.hexdigest()
    back = client.artifacts.download(blob, path.with_suffix(".back"))
    assert hashlib.sha256(back.read_bytes()).hexdigest() == digest.hexdigest()


def test_from_data_to_predictions_through_the_ingress(yard: Operated, tmp_path: Path) -> None:
    folder = digits_folder(tmp_path / "digits")
    command = [sys.executable, "-m", "modelyard.cli", "auto", str(folder), "--name", "digits", "--max-train-time", "30s"]
    done = subprocess.run(
        [*command, "--min-accuracy", "0.3", "--server", yard.address],
        env=yard.environment(), capture_output=True, text=True, check=False, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    answer = yard.infer("digits", **picture_of(folder))
    assert answer.get_response().model_version == "V001"
    with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
        yard.infer("digits", token="x" * 40, **picture_of(folder))
    assert answered_over_http(yard, "/v2/health/live") == "HTTP/1.1 200 OK"
    with yard.client() as client:
        (run,) = client.pipelines.list_pipeline_runs()
        assert [event.pipeline_run.status.state for event in client.pipelines.watch_pipeline_run(run.name)][
            -1
        ] == job_pb2.JOB_STATE_SUCCEEDED
        uploaded_and_back(client, tmp_path / "large", 256 * MIB)


@LONG
def test_an_upload_that_takes_longer_than_a_minute_goes_through_the_ingress(yard: Operated, tmp_path: Path) -> None:
    with yard.client() as client:
        uploaded_and_back(client, tmp_path / "slow", 100 * MIB, pause_s=0.9)


@pytest.mark.parametrize("route", ["GRPCRoute", "HTTPRoute"])
def test_the_same_calls_through_a(yard: Operated, tmp_path: Path, route: str) -> None:
    yard.upgrade("--set", f"gatewayApi.route={route}")
    until("the route is taken", lambda: taken(yard.kube, route, yard.name), 60)
    yard.host = ROUTE_HOST
    try:
        with yard.client() as client:
            run = start(client, breast_cancer_csv(tmp_path / "cancer.csv"), f"by-{route.lower()}", 15)
            found = client.pipelines.wait_pipeline_run(run, 900)
            assert found.status.state == job_pb2.JOB_STATE_SUCCEEDED, found.status
            uploaded_and_back(client, tmp_path / "large", 64 * MIB)
        assert answered_over_http(yard, "/v2/health/live") == "HTTP/1.1 200 OK"
        inputs = table_inputs(yard, f"by-{route.lower()}")
        assert yard.infer(f"by-{route.lower()}", **inputs).get_response().model_version == "V001"
    finally:
        yard.host = INGRESS_HOST


def taken(kube: Kube, kind: str, name: str) -> bool:
    """Whether a controller has accepted a route and found what it leads to."""
    parents = kube.get(kind.lower(), name).get("status", {}).get("parents", [])
    said = [(one["type"], one["status"]) for parent in parents for one in parent["conditions"]]
    return ("Accepted", "True") in said and ("ResolvedRefs", "True") in said


def table_inputs(yard: Operated, model: str, rows: int = 1) -> dict[str, Any]:
    """Rows of zeros."""
    server = triton.InferenceServerClient(
        yard.address, ssl=True, root_certificates=str(yard.ca), channel_args=[("grpc.ssl_target_name_override", yard.host)]
    )
    known = server.get_model_metadata(model, headers={"authorization": f"Bearer {yard.token}"})
    server.close()
    kinds = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "UINT8": np.uint8}
    return {
        one.name: (np.zeros([rows if size < 0 else size for size in one.shape], kinds[one.datatype]), one.datatype)
        for one in known.inputs
    }


class Calls:
    """Calls that go on in threads, none of them tried twice; what came of each."""

    def __init__(self, *calls: Callable[[], Any], pause_s: float = 0.02) -> None:
        self.outcomes: Counter[str] = Counter()
        self._going = True
        self._pause_s = pause_s
        self._threads = [threading.Thread(target=self._repeat, args=(call,)) for call in calls]

    def __enter__(self) -> Calls:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._going = False
        for thread in self._threads:
            thread.join()

    def _repeat(self, call: Callable[[], Any]) -> None:
        while self._going:
            try:
                call()
                self.outcomes["ok"] += 1
            except Exception as error:
                self.outcomes[f"{type(error).__name__}: {error}"[:300]] += 1
            time.sleep(self._pause_s)


def a_model(yard: Operated, tmp_path: Path) -> str:
    """An endpoint of a table; made where the tests before did not."""
    with yard.client() as client:
        for run in client.pipelines.list_pipeline_runs():
            if run.source.file_name.endswith(".csv") and run.result.deployment:
                return str(run.result.endpoint.rsplit("/", 1)[1])
        made = start(client, breast_cancer_csv(tmp_path / "cancer.csv"), "table", 15)
        assert client.pipelines.wait_pipeline_run(made, 900).status.state == job_pb2.JOB_STATE_SUCCEEDED
    return "table"


def test_renewed_certificates_are_used_without_a_failed_call(yard: Operated, tmp_path: Path) -> None:
    model = a_model(yard, tmp_path)
    inputs = table_inputs(yard, model)
    own = {one["metadata"]["name"] for one in yard.kube.items("certificates")} - {"yard-authority", "routes-tls"}
    assert {f"{yard.name}-gateway-tls", f"{yard.name}-serving-pod-tls", "outside-tls"} <= own
    places = {"gateway": 8970, "dataset": 8970, "serving": 8970}
    inner: Callable[[str], bytes] = lambda place: served_certificate(  # noqa: E731
        pod_address(yard.kube, place), places[place], f"{yard.name}-{place}", yard.ca
    )
    before = {place: inner(place) for place in places}
    outside = served_certificate("127.0.0.1", yard.port, INGRESS_HOST, yard.ca)
    assert all(before.values())
    assert outside
    direct = {"address": yard.inner_address, "name": f"{yard.name}-gateway"}
    with (
        yard.client() as client,
        Calls(
            lambda: yard.infer(model, **inputs),
            lambda: yard.infer(model, **direct, **inputs),
            lambda: [*client.datasets.list_datasets()],
        ) as calls,
    ):
        for name in own:
            renew(yard.kube, name)
        yard.kube.run(
            "annotate", "pods", "--all", f"renewed={secrets.token_hex(4)}", "--overwrite"
        )  # their kubelets look at once
        for place in places:
            until(f"{place} has another certificate", lambda place=place: inner(place) not in (b"", before[place]), RENEWED_S)
        until(
            "Traefik has another",
            lambda: served_certificate("127.0.0.1", yard.port, INGRESS_HOST, yard.ca) not in (b"", outside),
            60,
        )
        # Serving meets its pods with the new certificate, and they it: the one that is asked next is another.
        yard.kube.run("delete", "pods", "-l", "app.kubernetes.io/component=serving-pod", "--wait=false")
        time.sleep(20)
    assert set(calls.outcomes) == {"ok"}, calls.outcomes
    assert calls.outcomes["ok"] > 100


def renew(kube: Kube, name: str) -> None:
    """What `cmctl renew` does."""
    found = kube.get("certificate", name)["status"]["conditions"]
    wanted = {"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "renewed by a test"}
    wanted["lastTransitionTime"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    conditions = [*(one for one in found if one["type"] != "Issuing"), wanted]
    kube.run(
        "patch",
        "certificate",
        name,
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"status": {"conditions": conditions}}),
    )


def pod_address(kube: Kube, component: str) -> str:
    selector = f"app.kubernetes.io/component={component}"
    return str(next(pod["status"]["podIP"] for pod in kube.items("pods", selector) if "deletionTimestamp" not in pod["metadata"]))


@LONG
def test_serving_is_scaled_out_under_load_and_in_again(yard: Operated, folder: Path, tmp_path: Path) -> None:
    processes.needed("metrics-server")
    model = a_model(yard, tmp_path)
    one, many = table_inputs(yard, model), table_inputs(yard, model, rows=2000)
    with processes.metrics_server(folder), yard.client() as client:
        scaled = {"enabled": "true", "minReplicas": 1, "maxReplicas": 3, "targetCPU": 60}
        options = [f"serving.autoscaling.{key}={value}" for key, value in scaled.items()]
        # At rest they take some 30m where machines are busy: what they ask for must leave room below.
        yard.upgrade("--set", ",".join([*options, "serving.resources.requests.cpu=100m"]))
        placement = serving_pb2.Placement(target="cpu", min_replicas=1, max_replicas=3, cpu="100m", memory="512Mi")
        client.endpoints.update_endpoint(model, placements=[placement])
        scalers = f"hpa/{yard.name}-serving", pod_scaler(yard.kube, model)
        for scaler in scalers:
            quick = {"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 15}}}}  # and not five minutes
            yard.kube.run("patch", scaler, "--type=merge", "-p", json.dumps(quick))
        for scaler in scalers:
            until(f"{scaler} has come to one", lambda scaler=scaler: wanted_replicas(yard.kube, scaler) == 1, 300)
        with Calls(*[yard.asking(model, **many) for _ in range(8)], pause_s=0) as calls:
            for scaler in scalers:
                until(f"{scaler} asks for more", lambda scaler=scaler: wanted_replicas(yard.kube, scaler) > 1, 300)
            serving = f"deployment/{yard.name}-serving"
            until("more of serving are ready", lambda: yard.kube.get(serving)["status"].get("readyReplicas", 0) > 1, 180)
        assert set(calls.outcomes) == {"ok"}, calls.outcomes
        with Calls(yard.asking(model, **one), pause_s=1) as calls:
            for scaler in scalers:
                until(f"{scaler} is at one again", lambda scaler=scaler: wanted_replicas(yard.kube, scaler) == 1, 420)
        assert set(calls.outcomes) == {"ok"}, calls.outcomes
        yard.upgrade()


def pod_scaler(kube: Kube, model: str) -> str:
    """The HorizontalPodAutoscaler of an endpoint's pods."""
    return str(until("an autoscaler of its pods", lambda: [
        f"hpa/{one['metadata']['name']}" for one in kube.items("hpa") if f"serve-{model}-" in one["metadata"]["name"]
    ], 60)[0])  # fmt: skip


def wanted_replicas(kube: Kube, scaler: str) -> int:
    return int(kube.get(scaler).get("status", {}).get("desiredReplicas", 0))


def test_kueue_lets_jobs_go_in_turn(yard: Operated, folder: Path, tmp_path: Path) -> None:
    processes.needed("kueue")
    version = a_dataset_version(yard, tmp_path)
    with processes.kueue(folder):
        processes.apply(yard.kube, *queue_for_one(yard.kube.namespace))
        yard.upgrade("--set", "jobs.queue=yard,trainer.settings.MODELYARD_TRAINING_SLOTS=3")
        with yard.client() as client:
            there = workloads(yard.kube)
            jobs = [queued(client, version, f"queued-{number}") for number in range(3)]
            until(
                "one trains and two wait",
                lambda: sorted(reason_of(client, job) for job in jobs) == ["", "IN_QUEUE", "IN_QUEUE"],
                180,
            )
            waiting = [job for job in jobs if reason_of(client, job)]
            for job in waiting:
                message = client.training.get_training_job(job).status.progress.waiting.message
                assert message.startswith("waits in the queue yard: ")
                assert "quota for cpu" in message
            assert len(workloads(yard.kube) - there) == 3
            client.training.cancel_training_job(waiting[0])
            until("its Workload is gone", lambda: len(workloads(yard.kube) - there) == 2, 60)
            for job in jobs:
                if job != waiting[0]:
                    assert client.training.wait_training_job(job, 600).status.state == job_pb2.JOB_STATE_SUCCEEDED
            assert client.training.get_training_job(waiting[0]).status.state == job_pb2.JOB_STATE_CANCELLED
            # A whole run with room for one job: nothing in it waits for another job while it holds the room.
            run = start(client, breast_cancer_csv(tmp_path / "cancer.csv"), "in-turn", 15)
            assert client.pipelines.wait_pipeline_run(run, 900).status.state == job_pb2.JOB_STATE_SUCCEEDED
        yard.upgrade("--set", "jobs.queue=")
        yard.kube.run("delete", "jobs", "-l", "kueue.x-k8s.io/queue-name")
        until("no Workload is left", lambda: not workloads(yard.kube), 60)
        yard.kube.run("delete", "localqueue/yard", f"clusterqueue/{yard.kube.namespace}", f"resourceflavor/{yard.kube.namespace}")


def workloads(kube: Kube) -> set[str]:
    """What Kueue keeps of Jobs."""
    return {one["metadata"]["name"] for one in kube.items("workloads")}


def queued(client: Client, version: str, model: str) -> str:
    made = client.training.create_training_job(
        dataset_version=version, model=model, max_training_time_s=15, repeat_reason="a queue needs several"
    )
    return made.name


def reason_of(client: Client, job: str) -> str:
    """What a training job waits for; empty: it trains."""
    status = client.training.get_training_job(job).status
    return status.progress.waiting.reason if status.state == job_pb2.JOB_STATE_RUNNING else job_pb2.JobState.Name(status.state)


def a_dataset_version(yard: Operated, tmp_path: Path) -> str:
    a_model(yard, tmp_path)
    with yard.client() as client:
        return next(
            str(run.result.dataset_version)
            for run in client.pipelines.list_pipeline_runs()
            if run.source.file_name.endswith(".csv")
        )


def queue_for_one(namespace: str) -> list[dict[str, Any]]:
    """Room for one job of the flavor cpu-tiny at a time."""
    kind = {"apiVersion": "kueue.x-k8s.io/v1beta2"}
    quotas = [{"name": "cpu", "nominalQuota": "1"}, {"name": "memory", "nominalQuota": "4Gi"}]
    group = {"coveredResources": [one["name"] for one in quotas], "flavors": [{"name": namespace, "resources": quotas}]}
    return [
        {**kind, "kind": "ResourceFlavor", "metadata": {"name": namespace}},
        {
            **kind,
            "kind": "ClusterQueue",
            "metadata": {"name": namespace},
            "spec": {"namespaceSelector": {}, "resourceGroups": [group]},
        },
        {**kind, "kind": "LocalQueue", "metadata": {"name": "yard", "namespace": namespace}, "spec": {"clusterQueue": namespace}},
    ]
