"""A centre and its devices, over loopback."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from modelyard.client import Client
from modelyard.serving.served_models import in_process_loader
from modelyard.serving.settings import ServingSettings
from modelyard.serving.v1 import device_pb2
from modelyard.serving.v1 import device_service_pb2 as pb
from modelyard.serving.v1.device_service_pb2_grpc import DeviceServiceStub
from tests.support.bundles import mlp_bundle
from tests.support.followers import FollowerProcess, started
from tests.support.serving_server import ServingWorld, serving

PARENT = "projects/default"
ENDPOINT = "projects/default/endpoints/net"
QUICK = {"fleet_report_s": 0.3, "rollout_step_s": 0.1}


@dataclass
class Lenient:
    """Loads with another loader; some files stand in for others: what the centre takes and devices do not."""

    loader: Any
    instead: dict[str, Path] = field(default_factory=dict)

    def load(self, bundle: Path, *, model: str, version: str) -> Any:
        return self.loader.load(self.instead.get(bundle.name, bundle), model=model, version=version)

    def close(self) -> None:
        self.loader.close()


@dataclass
class Fleet:
    """A centre; `address` is where devices look for it (a proxy, for tests of broken lines)."""

    world: ServingWorld
    folder: Path
    client: Client
    people: DeviceServiceStub
    loader: Lenient
    devices: dict[str, FollowerProcess] = field(default_factory=dict)
    address: str = ""

    def deploy(self, version: str, seed: int, bundle: Path | None = None) -> str:
        """A deployment's name; it has a share of nothing."""
        bundle = bundle or mlp_bundle(self.folder / f"{version}.zip", seed=seed)
        export, gate = self.world.exports.add(version.lower(), version, bundle)
        return self.client.endpoints.create_deployment(ENDPOINT, export=export, gate_decision=gate).name

    def deploy_unproved(self, version: str, bundle: Path) -> str:
        """A version that passes at the centre, and nowhere else."""
        sha256 = hashlib.sha256(bundle.read_bytes()).hexdigest()
        self.loader.instead[sha256] = mlp_bundle(self.folder / f"{version}-sound.zip", seed=9)
        return self.deploy(version, 0, bundle)

    def token(self, **more: Any) -> str:
        wanted = device_pb2.EnrolmentToken(**more)
        made = self.people.CreateEnrolmentToken(pb.CreateEnrolmentTokenRequest(parent=PARENT, enrolment_token=wanted))
        return str(made.token)

    def start(self, name: str, token: str = "", **settings: str) -> FollowerProcess:
        """A device, in a process of its own; enrols with a new token unless it has before."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        file = folder / "token"
        if not file.exists() or token:
            file.write_text(token or self.token())
        arguments = ("--follow", self.address or self.world.address, "--device-id", name, "--enrol-token-file", str(file))
        quick = {"MODELYARD_FOLLOW_BACKOFF_S": "1", "MODELYARD_FOLLOW_RETRY_S": "0.5"}
        port = self.devices[name].port if name in self.devices else 0
        self.devices[name] = started(folder, *arguments, port=port, **quick, **settings)
        return self.devices[name]

    def device(self, name: str) -> device_pb2.Device:
        return self.people.GetDevice(pb.GetDeviceRequest(name=f"{PARENT}/devices/{name}"))

    def rollout(self, name: str) -> device_pb2.Rollout:
        return self.people.GetRollout(pb.GetRolloutRequest(name=f"{PARENT}/rollouts/{name}"))

    def roll_out(self, name: str, deployment: str, **more: Any) -> device_pb2.Rollout:
        selector = more.pop("selector", device_pb2.DeviceSelector())
        wanted = device_pb2.Rollout(deployment=deployment, selector=selector, **more)
        return self.people.CreateRollout(pb.CreateRolloutRequest(parent=PARENT, rollout=wanted, rollout_id=name))

    def state(self, name: str) -> str:
        return device_pb2.Rollout.State.Name(self.rollout(name).state).removeprefix("STATE_")

    def has_succeeded(self, name: str) -> bool:
        return self.state(name) == "SUCCEEDED"

    def progress(self, name: str) -> Mapping[str, str]:
        """State by device."""
        return {
            each.device.rpartition("/")[2]: device_pb2.RolloutDevice.State.Name(each.state).removeprefix("STATE_")
            for each in self.rollout(name).devices
        }

    def stop(self) -> None:
        for process in self.devices.values():
            if process.process.poll() is None:
                process.process.terminate()
        for process in self.devices.values():
            process.stop()


@contextmanager
def fleet(folder: Path, *, earlier: ServingWorld | None = None, **settings: Any) -> Iterator[Fleet]:
    """A centre with an endpoint `net`."""
    wanted = {"isolation": "none", "inference_threads": 1, **QUICK, **settings}
    loader = Lenient(in_process_loader(ServingSettings(data_dir=folder / "centre", **wanted)))
    with (
        serving(folder / "centre", earlier=earlier, loader=loader, **wanted) as world,
        Client(world.address) as client,
        grpc.insecure_channel(world.address) as channel,
    ):
        if earlier is None:
            client.endpoints.create_endpoint("net")
        made = Fleet(world, folder, client, DeviceServiceStub(channel), loader)
        try:
            yield made
        finally:
            made.stop()


def trial(seconds: float, **more: Any) -> Any:
    """How long devices watch."""
    from modelyard.serving.v1 import fleet_pb2

    made = fleet_pb2.Trial(max_error_rate=0.05, min_requests=20, **more)
    made.window.FromMilliseconds(int(seconds * 1000))
    return made
