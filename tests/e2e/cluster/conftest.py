"""An installation of the chart on the cluster of KUBECONFIG, for all the tests of this folder.

MODELYARD_E2E_REGISTRY   prefix of the images (docker.io/local); they must be there for the cluster to pull
MODELYARD_E2E_TAG        their tag (dev)
MODELYARD_E2E_VALUES     one more values file, such as images of PostgreSQL and MinIO
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from modelyard.client import Client
from modelyard.client.access import Access
from tests.e2e.cluster.kube import CHART, Kube, until

HERE = Path(__file__).parent
RELEASE = "yard"


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
    def ca(self) -> Path:
        """The authority's certificate, in a file."""
        path = self._folder / "ca.crt"
        path.write_bytes(self.kube.secret(f"{self.name}-ca", "tls.crt"))
        return path

    def environment(self) -> dict[str, str]:
        """What the command line needs."""
        own = {"MODELYARD_TOKEN": self.token, "MODELYARD_CA": str(self.ca), "MODELYARD_SERVER_NAME": f"{self.name}-gateway"}
        return {**os.environ, **own, "MODELYARD_SERVER": self.address}

    def client(self) -> AbstractContextManager[Client]:
        """An administrator's client."""
        access = Access(token=self.token, ca=self.ca, server_name=f"{self.name}-gateway")
        return Client(self.address, access=access, patience_s=180)

    def upgrade(self, *options: str) -> None:
        """helm upgrade to ready."""
        self.kube.helm("upgrade", RELEASE, str(CHART), *self.options, *options, "--wait", "--timeout", "15m")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG is not set; `make e2e-cluster` starts a cluster where ../shared/cluster is at hand")
    kube = Kube(os.environ.get("MODELYARD_E2E_NAMESPACE", f"yard-{secrets.token_hex(3)}"))
    Kube("default").run("create", "namespace", kube.namespace)
    installed = Installed(kube, tmp_path_factory.mktemp("cluster"))
    try:
        kube.helm("install", RELEASE, str(CHART), *installed.options, "--wait", "--timeout", "15m")
        yield installed
        kube.helm("uninstall", RELEASE, "--wait", "--timeout", "5m")
        left_nothing(kube)
    finally:
        kube.helm("uninstall", RELEASE, "--ignore-not-found", check=False)
        Kube("default").run("delete", "namespace", kube.namespace, "--wait=false", check=False)


def left_nothing(kube: Kube) -> None:
    """An uninstalled release leaves no object behind, of any kind that it makes or has made."""
    kinds = (
        "deployments,statefulsets,jobs,pods,services,secrets,configmaps,persistentvolumeclaims,serviceaccounts,roles,rolebindings,"
        "networkpolicies,poddisruptionbudgets,horizontalpodautoscalers,ingresses"
    )
    own: Callable[[str], bool] = lambda name: name not in ("default", "kube-root-ca.crt")  # noqa: E731

    def left() -> list[str]:
        found = kube.get(kinds)["items"]
        return [f"{one['kind']}/{one['metadata']['name']}" for one in found if own(one["metadata"]["name"])]

    until(f"objects left: {left()}", lambda: not left(), 180)
