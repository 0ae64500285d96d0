"""An installation of the chart on the cluster of KUBECONFIG, for all the tests of this folder.

MODELYARD_E2E_REGISTRY   prefix of the images (docker.io/local); they must be there for the cluster to pull
MODELYARD_E2E_TAG        their tag (dev)
MODELYARD_E2E_VALUES     one more values file, such as images of PostgreSQL and MinIO
MODELYARD_E2E_STANDING   a namespace with a release of these tests that is there already, and stays: for whoever works on them
MODELYARD_E2E_OPERATED   the same for test_cluster_operators.py, whose release has the controllers of operators/build before it
MODELYARD_E2E_LONG       1: also what takes minutes each (lost nodes and stores, every end that a job can come to)
MODELYARD_E2E_NODE_DOWN, _UP   commands with {node} that take a node's power, and give it back: for what the loss of one does
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from modelyard.client import Client
from modelyard.client.access import Access
from tests.e2e.cluster.kube import CHART, Kube, until

HERE = Path(__file__).parent
RELEASE = "yard"
NODE_DOWN, NODE_UP = os.environ.get("MODELYARD_E2E_NODE_DOWN", ""), os.environ.get("MODELYARD_E2E_NODE_UP", "")


_TOKENS = "/etc/modelyard/tokens/tokens.yaml"
_HAS = f"import hashlib,sys; print(hashlib.sha256(sys.argv[1].encode()).hexdigest() in open('{_TOKENS}').read())"


class Installed:
    """A release, the way users meet it: an address, a token, an authority."""

    def __init__(self, kube: Kube, folder: Path) -> None:
        self.kube = kube
        self.name = f"{RELEASE}-modelyard"
        self._folder = folder
        self.options = ["-f", str(CHART / "values-small.yaml"), "-f", str(HERE / "values.yaml")]
        if extra := os.environ.get("MODELYARD_E2E_VALUES"):
            self.options += ["-f", extra]
        prefix, tag = os.environ.get("MODELYARD_E2E_REGISTRY", "docker.io/local"), os.environ.get("MODELYARD_E2E_TAG", "dev")
        self.options += ["--set", f"image.registry={prefix},image.tag={tag}"]

    @property
    def address(self) -> str:
        """host:port of the gateway, where this machine reaches it."""
        service = self.kube.get("service", f"{self.name}-gateway")["spec"]
        return f"{service['clusterIP']}:{service['ports'][0]['port']}"

    @property
    def token(self) -> str:
        """The administrator's."""
        return self.kube.secret(f"{self.name}-admin", "token").decode()

    @property
    def server_name(self) -> str:
        """The name that its certificate must have."""
        return f"{self.name}-gateway"

    @property
    def ca(self) -> Path:
        """The authority's certificate, in a file."""
        path = self._folder / "ca.crt"
        path.write_bytes(self.kube.secret(f"{self.name}-ca", "tls.crt"))
        return path

    def environment(self) -> dict[str, str]:
        """What the command line needs."""
        own = {"MODELYARD_TOKEN": self.token, "MODELYARD_CA": str(self.ca), "MODELYARD_SERVER_NAME": self.server_name}
        return {**os.environ, **own, "MODELYARD_SERVER": self.address}

    def client(self) -> AbstractContextManager[Client]:
        """An administrator's client."""
        access = Access(token=self.token, ca=self.ca, server_name=self.server_name)
        return Client(self.address, access=access, patience_s=180)

    def admit(self, people: dict[str, dict[str, object]]) -> dict[str, str]:
        """More people in the tokens file, each with a new token, by their names; {name: fields beside name and sha256}."""
        tokens = {name: secrets.token_urlsafe(32) for name in people}
        everybody = {"admin": (self.token, {"roles": {"*": "admin"}})} | {name: (tokens[name], people[name]) for name in people}
        entries = [
            {"name": name, "sha256": hashlib.sha256(token.encode()).hexdigest(), **more}
            for name, (token, more) in everybody.items()
        ]
        patch = {"stringData": {"tokens.yaml": json.dumps({"tokens": entries})}}
        self.kube.run("patch", "secret", f"{self.name}-tokens", "--type=merge", "-p", json.dumps(patch))
        mark = secrets.token_hex(6)
        for component in ("dataset", "trainer", "exporter", "evaluator", "serving", "pipeline"):
            for pod in self.kube.pods(component):
                # A kubelet brings a Secret up to date within two minutes by itself, and at once when the pod changes.
                self.kube.run("annotate", "pod", pod, "--overwrite", f"e2e/admitted={mark}")
                look = ("exec", pod, "-c", component, "--", "python3", "-c", _HAS, next(iter(tokens.values())))
                until(f"the new tokens in {pod}", partial(self._says, "True", *look), 180)
        time.sleep(2)  # services look at the file once a second
        return tokens

    def _says(self, text: str, *command: str) -> bool:
        return text in self.kube.run(*command, check=False)

    def ready(self, node: str) -> bool:
        """Whether a node takes pods."""
        conditions = self.kube.get("node", node)["status"]["conditions"]
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def make_room(self) -> str:
        """Leaves workers alone on all nodes but one, whose name it gives: that with the database. The stores cannot move."""
        keeper = self._node_of("postgresql")
        assert self._node_of("minio") == keeper, (
            "the stores are on several nodes; conftest installs them on one where nodes may go"
        )
        others = [node["metadata"]["name"] for node in self.kube.items("nodes") if node["metadata"]["name"] != keeper]
        for node in others:
            self.kube.run("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=300s")
        for service in self.kube.items("deployments"):
            self.kube.run("rollout", "status", f"deployment/{service['metadata']['name']}", "--timeout=300s")
        for node in others:
            self.kube.run("uncordon", node)
        return keeper

    def _node_of(self, component: str) -> str:
        pods = self.kube.items("pods", f"app.kubernetes.io/component={component}")
        return str(pods[0]["spec"]["nodeName"])

    def upgrade(self, *options: str) -> None:
        """helm upgrade to ready."""
        self.kube.helm("upgrade", RELEASE, str(CHART), *self.options, *options, "--wait", "--timeout", "15m")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG is not set; `make e2e-cluster` starts a cluster where ../shared/cluster is at hand")
    if standing := os.environ.get("MODELYARD_E2E_STANDING"):
        yield Installed(Kube(standing), tmp_path_factory.mktemp("cluster"))
        return
    kube = Kube(os.environ.get("MODELYARD_E2E_NAMESPACE", f"yard-{secrets.token_hex(3)}"))
    Kube("default").run("create", "namespace", kube.namespace)
    installed = Installed(kube, tmp_path_factory.mktemp("cluster"))
    try:
        nodes = [node["metadata"]["name"] for node in kube.items("nodes")] if NODE_DOWN else []
        for node in nodes[1:]:  # the stores come to the first: their volumes cannot leave a node that is lost
            kube.run("cordon", node)
        try:
            kube.helm("install", RELEASE, str(CHART), *installed.options, "--wait", "--timeout", "15m")
        finally:
            for node in nodes[1:]:
                kube.run("uncordon", node)
        yield installed
        kube.helm("uninstall", RELEASE, "--wait", "--timeout", "5m")
        left_nothing(kube)
    finally:
        kube.helm("uninstall", RELEASE, "--ignore-not-found", check=False)
        Kube("default").run("delete", "namespace", kube.namespace, "--wait=false", check=False)


def left_nothing(kube: Kube, more: str = "", keep: Sequence[str] = ()) -> None:
    """An uninstalled release leaves no object behind, of any kind that it makes or has made. `more`: kinds (",this,that").
    `keep`: what the test itself has made."""
    kinds = (
        "deployments,statefulsets,jobs,pods,services,secrets,configmaps,persistentvolumeclaims,serviceaccounts,roles,rolebindings,"
        "networkpolicies,poddisruptionbudgets,horizontalpodautoscalers,ingresses"
        f"{more}"
    )
    own: Callable[[str], bool] = lambda name: name not in ("default", "kube-root-ca.crt", *keep)  # noqa: E731

    def left() -> list[str]:
        found = kube.get(kinds)["items"]
        return [f"{one['kind']}/{one['metadata']['name']}" for one in found if own(one["metadata"]["name"])]

    until(f"objects left: {left()}", lambda: not left(), 180)
