"""`python -m modelyard.serving --follow`: a pod of an endpoint, whose desired state comes from the centre."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from modelyard.client import Client
from modelyard.serving.fleet import fleet_access, fleet_keys
from modelyard.serving.served_models import in_process_loader
from modelyard.serving.settings import ServingSettings
from modelyard.serving.v1 import fleet_service_pb2 as pb
from modelyard.serving.v1.fleet_service_pb2_grpc import FleetServiceStub
from tests.support.bundles import mlp_bundle
from tests.support.followers import follower, until
from tests.support.serving_server import ServingWorld, serving

ENDPOINT = "projects/default/endpoints/net"


@dataclass
class Centre:
    """A centre with an endpoint, and the token of its pods."""

    world: ServingWorld
    folder: Path
    client: Client
    token_file: Path

    def deploy(self, id_: str, version: str, seed: int, percent: int | None = None) -> None:
        bundle = mlp_bundle(self.folder / f"{id_}.zip", seed=seed)
        export, gate = self.world.exports.add(id_, version, bundle)
        self.client.endpoints.create_deployment(ENDPOINT, export=export, gate_decision=gate, percent=percent)

    def pod(self, *more: str) -> tuple[str, ...]:
        where = ("--follow", self.world.address, "--endpoint", ENDPOINT, "--target", "cpu")
        return (*where, "--token-file", str(self.token_file), *more)


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    settings = ServingSettings(data_dir=tmp_path / "centre", isolation="none", inference_threads=1)
    with serving(tmp_path / "centre", loader=in_process_loader(settings)) as world, Client(world.address) as client:
        client.endpoints.create_endpoint("net")
        token = fleet_access(fleet_keys(settings)).pod_token(ENDPOINT, "cpu")
        token_file = tmp_path / "token"
        token_file.write_text(token + "\n")
        yield Centre(world, tmp_path, client, token_file)


def test_a_pod_serves_what_its_endpoint_says(centre: Centre, tmp_path: Path) -> None:
    """Versions, labels and shares, as they change; SERVING only once all of it answers; REST beside gRPC."""
    centre.deploy("x1", "V001", 1)
    with follower(tmp_path / "pod", *centre.pod()) as pod:
        until(lambda: pod.health() == "SERVING")
        assert pod.version("net") == "V001"
        with urllib.request.urlopen(f"http://{pod.address}/v2/models/net/ready", timeout=10) as answer:
            assert answer.status == 200
        centre.deploy("x2", "V002", 2, percent=0)
        until(lambda: pod.version("net", "V002"))
        assert {pod.version("net") for _ in range(20)} == {"V001"}
        assert pod.version("net", "canary") == "V002"
        centre.client.endpoints.update_endpoint(ENDPOINT, traffic={"V002": 100})
        until(lambda: pod.version("net") == "V002")
        centre.client.endpoints.delete_deployment(f"{ENDPOINT}/deployments/V001")
        until(lambda: not pod.version("net", "V001"))
        assert pod.version("net") == "V002"


def test_a_pod_is_not_ready_before_its_version_is(centre: Centre, tmp_path: Path) -> None:
    """A bundle that does not come whole from anywhere is not served, and health says so; then it is, from the centre."""
    centre.deploy("x1", "V001", 1)
    with follower(tmp_path / "pod", "--follow", "127.0.0.1:1", *centre.pod()[2:]) as pod:
        until(lambda: pod.health() == "NOT_SERVING")
        assert pod.version("net") == ""
    with follower(tmp_path / "other", *centre.pod("--cache", "127.0.0.1:1")) as pod:
        until(lambda: pod.health() == "SERVING")
        assert pod.version("net") == "V001"


@pytest.mark.parametrize(
    ("token", "reason"),
    [("", "NO_TOKEN"), ("myf1.e30.AAAA", "BAD_TOKEN"), ("other", "BAD_TOKEN")],
)
def test_without_its_token_nobody_is_told_anything(centre: Centre, token: str, reason: str) -> None:
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.insecure_channel(centre.world.address) as channel:
        stub = FleetServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetDesiredState(pb.GetDesiredStateRequest(), metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.DownloadBundle(pb.DownloadBundleRequest(sha256="0" * 64), metadata=metadata))
        assert reason.encode() in dict(caught.value.trailing_metadata())["grpc-status-details-bin"]


def test_a_pod_gets_no_bytes_but_its_own(centre: Centre) -> None:
    with grpc.insecure_channel(centre.world.address) as channel:
        metadata = (("authorization", f"Bearer {centre.token_file.read_text().strip()}"),)
        with pytest.raises(grpc.RpcError) as caught:
            list(FleetServiceStub(channel).DownloadBundle(pb.DownloadBundleRequest(sha256="0" * 64), metadata=metadata))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
