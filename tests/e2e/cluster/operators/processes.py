"""Starts the controllers for the cluster of ../shared/cluster, and ends them.

Pods and the API server cannot reach this machine, but for what runs where the API server does: the network namespace k8s-cp. So
what the API server calls (Kueue's webhooks, metrics-server) runs in there, and the rest beside the tests.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.e2e.cluster.kube import Kube, until
from tests.support.certificates import Authority

HOME: Final = Path(os.environ.get("OPERATORS", Path.home() / ".cache" / "modelyard" / "e2e-operators"))
CLUSTER: Final = Path(os.environ.get("K8S_ROOT", Path.home() / ".cache" / "local-cluster")) / "run"
INSIDE: Final = "10.99.0.1"
"""The address of what runs beside the API server."""
INGRESS_CLASS = GATEWAY_CLASS = "traefik-of-tests"
API: Final = "v1beta1.metrics.k8s.io"
READ_TIMEOUT: Final = "--entryPoints.websecure.transport.respondingTimeouts.readTimeout=0"
"""Traefik ends a call whose body takes longer than a minute, unless it is told otherwise: an upload is one call."""


def needed(*names: str) -> None:
    """Skips a test whose controllers were not built, or cannot be started here."""
    missing = [name for name in names if not os.access(HOME / "bin" / name, os.X_OK)]
    if missing:
        pytest.skip(
            f"{', '.join(missing)} is not built: MODELYARD_E2E_OPERATORS=1 make e2e-cluster, or tests/e2e/cluster/operators/build"
        )
    kubeconfig = os.environ.get("KUBECONFIG", "")
    if not kubeconfig or Path(kubeconfig).resolve() != (CLUSTER / "kubeconfig").resolve() or os.geteuid() != 0:
        pytest.skip(
            f"controllers are started beside the API server of ../shared/cluster alone, by root; KUBECONFIG is {kubeconfig!r}"
        )


@dataclass(frozen=True)
class Controller:
    """One that runs."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def alive(self) -> bool:
        """True. AssertionError with its last words when it has ended."""
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.said()}"
        return True

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:]


@contextmanager
def running(name: str, folder: Path, *arguments: str, inside: bool = False, before: str = "") -> Iterator[Controller]:
    """A controller with these arguments. `before`: what its shell does first, in a mount namespace of its own."""
    command = [str(HOME / "bin" / name), *arguments]
    if before:
        command = ["unshare", "--mount", "sh", "-ec", f"{before}; exec {shlex.join(command)}"]
    if inside:
        command = ["nsenter", "--net=/run/netns/k8s-cp", *command]
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield Controller(name, process, log)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def apply(kube: Kube, *documents: dict[str, Any]) -> None:
    """Has objects be as these say."""
    kube.run(
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        "-",
        given=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}),
    )


def apply_manifests(name: str) -> None:
    """The CustomResourceDefinitions that come with a controller. They stay: the cluster is the tests' own."""
    Kube("default").run("apply", "--server-side", "--force-conflicts", "-f", str(HOME / "manifests" / name))


@contextmanager
def traefik(folder: Path, port: int, *arguments: str) -> Iterator[Controller]:
    """An Ingress controller and a Gateway API controller, with TLS, on a port of loopback. It reaches pods by their addresses."""
    apply_manifests("traefik")
    apply_manifests("gateway-api")
    cluster = Kube("default")
    ours = {"metadata": {"name": INGRESS_CLASS}, "spec": {"controller": "traefik.io/ingress-controller"}}
    theirs = {"metadata": {"name": GATEWAY_CLASS}, "spec": {"controllerName": "traefik.io/gateway-controller"}}
    apply(
        cluster,
        {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", **ours},
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", **theirs},
    )
    given = [
        f"--entryPoints.websecure.address=127.0.0.1:{port}",
        f"--providers.kubernetesIngress.ingressClass={INGRESS_CLASS}",
        "--providers.kubernetesCRD",
        "--providers.kubernetesGateway",
        "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false",
        "--log.level=INFO",
        *arguments,
    ]
    with running("traefik", folder, *given) as controller:
        until("traefik listens", lambda: controller.alive() and _answers("127.0.0.1", port), 60)
        yield controller
    cluster.run("delete", f"ingressclass/{INGRESS_CLASS}", f"gatewayclass/{GATEWAY_CLASS}", "--ignore-not-found", "--wait=false")


@contextmanager
def cert_manager(folder: Path) -> Iterator[Controller]:
    """What makes and renews certificates."""
    apply_manifests("cert-manager")
    with running("cert-manager", folder) as controller:
        yield controller


@contextmanager
def metrics_server(folder: Path) -> Iterator[Controller]:
    """The aggregated API metrics.k8s.io, of what pods use."""
    kubeconfig = os.environ["KUBECONFIG"]
    port = 4443
    given = [
        f"--secure-port={port}", f"--cert-dir={folder / 'metrics-server'}", "--metric-resolution=15s",
        "--kubelet-preferred-address-types=InternalIP", f"--kubelet-certificate-authority={CLUSTER / 'pki' / 'ca.crt'}",
        *(f"--{name}={kubeconfig}" for name in ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")),
    ]  # fmt: skip
    system = Kube("kube-system")
    with running("metrics-server", folder, *given, inside=True) as controller:
        apply(system, *_of_metrics_server(port))
        try:
            until("metrics of nodes", lambda: controller.alive() and "cpu" in _metrics(system, "nodes"), 120)
            yield controller
        finally:  # an API that does not answer keeps namespaces from going
            system.run("delete", f"apiservice/{API}", "service/metrics-server", "--ignore-not-found")
            system.run("delete", "endpointslice/metrics-server", "--ignore-not-found")


def _of_metrics_server(port: int) -> Sequence[dict[str, Any]]:
    meta = {"name": "metrics-server", "namespace": "kube-system"}
    ports: dict[str, Any] = {"name": "https", "port": 443, "targetPort": port}
    slice_ = {"metadata": {**meta, "labels": {"kubernetes.io/service-name": "metrics-server"}}, "addressType": "IPv4"}
    registered = {
        "service": meta, "group": "metrics.k8s.io", "version": "v1beta1", "insecureSkipTLSVerify": True,
        "groupPriorityMinimum": 100, "versionPriority": 100,
    }  # fmt: skip
    return (
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [ports]}},
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", **slice_,
            "endpoints": [{"addresses": [INSIDE]}], "ports": [{"name": "https", "port": port}],
        },
        {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": API}, "spec": registered},
    )  # fmt: skip


def _metrics(kube: Kube, what: str) -> str:
    return kube.run("get", "--raw", f"/apis/metrics.k8s.io/v1beta1/{what}", check=False)


@contextmanager
def kueue(folder: Path) -> Iterator[Controller]:
    """What lets Jobs go when there is quota for them, with its webhooks for Jobs and for its own kinds."""
    cluster = Kube("default")
    for manifest in sorted((HOME / "manifests" / "kueue" / "bases").glob("*.yaml")):
        cluster.run("apply", "--server-side", "--force-conflicts", "-f", str(manifest))
    apply(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kueue-system"}})
    certificates = folder / "kueue"
    authority = Authority(certificates)
    pair = authority.sign("tls", INSIDE)
    pair.certificate.rename(certificates / "tls.crt")
    pair.key.rename(certificates / "tls.key")
    configuration = folder / "kueue.yaml"
    configuration.write_text(yaml.safe_dump(_kueue_configuration(certificates)))
    # Without certificates of its own making it looks for those of its metrics in a folder that it does not let one choose.
    layers = folder / "kueue-etc"
    for layer in ("upper", "work"):
        (layers / layer).mkdir(parents=True)
    before = (
        f"mount -t overlay overlay -o lowerdir=/etc,upperdir={layers}/upper,workdir={layers}/work /etc; "
        f"mkdir -p /etc/kueue/metrics; cp -r {certificates} /etc/kueue/metrics/certs"
    )
    given = [f"--config={configuration}", "--feature-gates=VisibilityOnDemand=false"]
    with running("kueue", folder, *given, inside=True, before=before) as controller:
        until("kueue is ready", lambda: controller.alive() and _ready(f"http://{INSIDE}:8081/readyz"), 120)
        hooks = _kueue_hooks(authority.ca)
        apply(cluster, *hooks)
        try:
            yield controller
        finally:  # a webhook that does not answer would keep every Job from being made
            for hook in hooks:
                cluster.run("delete", hook["kind"], hook["metadata"]["name"], "--ignore-not-found")


def _kueue_configuration(certificates: Path) -> dict[str, Any]:
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2", "kind": "Configuration", "namespace": "kueue-system",
        "health": {"healthProbeBindAddress": f"{INSIDE}:8081"}, "metrics": {"bindAddress": f"{INSIDE}:8443"},
        "webhook": {"port": 9443, "certDir": str(certificates)}, "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False}, "integrations": {"frameworks": ["batch/job"]},
    }  # fmt: skip


def _kueue_hooks(ca: Path) -> list[dict[str, Any]]:
    import base64

    bundle = base64.b64encode(ca.read_bytes()).decode()
    found = []
    for configuration in yaml.safe_load_all((HOME / "manifests" / "kueue" / "manifests.yaml").read_text()):
        kept = []
        for hook in configuration["webhooks"]:
            path = hook["clientConfig"]["service"]["path"]
            if "batch-v1-job" in path or "-kueue-x-k8s-io-" in path:
                kept.append({**hook, "clientConfig": {"url": f"https://{INSIDE}:9443{path}", "caBundle": bundle}})
        name = f"kueue-{configuration['metadata']['name']}"
        found.append({**configuration, "metadata": {"name": name}, "webhooks": kept})
    return found


def _ready(url: str) -> bool:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        time.sleep(0.5)
        return False


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False
