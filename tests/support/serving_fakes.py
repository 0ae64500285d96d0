"""Serving's ports, in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.core.artifacts import Blob
from modelyard.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from modelyard.formats.bundle import BundleCard, Source, TensorSpec
from modelyard.formats.passport import missing
from modelyard.serving.domain.admission import Export, GateDecision
from modelyard.serving.domain.endpoint import Deployment, DeploymentEvent, Endpoint, EventKind
from modelyard.serving.handlers.deployer import Deployer
from modelyard.serving.handlers.registry import Registry
from modelyard.serving.ports import Listed, LoadedModel, Request, Tensors

PROJECT = "projects/default"
CARD = BundleCard(
    task="tabular_regression",
    inputs=(TensorSpec("x", "FP32", (-1, 2)),),
    outputs=(TensorSpec("prediction", "FP32", (-1, 1)),),
    source=Source(),
)


def blob(sha256: str, namespace: str = "exporter") -> Blob:
    """A blob whose sha256 is these characters, repeated."""
    full = (sha256 * 64)[:64]
    return Blob(f"artifact://{namespace}/{full}", full, 10)


@dataclass
class FakeModel:
    """Answers the sum of each row; counts its calls."""

    bundle: Path = Path()
    card: BundleCard = CARD
    inline_examples: int = 0
    calls: int = 0

    def run(self, inputs: Tensors) -> dict[str, NDArray[Any]]:
        self.calls += 1
        return {"prediction": np.asarray(inputs["x"]).sum(axis=1, keepdims=True)}


@dataclass
class FakeLoader:
    """Loads anything but what `broken` names; remembers what it loaded."""

    broken: set[str] = field(default_factory=set)
    loaded: list[str] = field(default_factory=list)

    def load(self, bundle: Path) -> LoadedModel:
        if bundle.name in self.broken:
            raise InvalidArgument("INVALID_BUNDLE", f"bundle {bundle.name}: it is broken")
        self.loaded.append(bundle.name)
        return FakeModel(bundle)


@dataclass
class FakeExports:
    """Exports by name; their bytes' path is their sha256."""

    exports: dict[str, Export] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)

    def add(self, id_: str, version: str, sha256: str, state: str = "SUCCEEDED") -> str:
        name = f"{PROJECT}/exports/{id_}"
        self.exports[name] = Export(name, f"{PROJECT}/models/m/versions/{version}", state, blob(sha256))
        return name

    def get(self, name: str) -> Export:
        if name not in self.exports:
            raise NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist.", name=name)
        return self.exports[name]

    def fetch(self, artifact: Blob) -> Blob:
        self.fetched.append(artifact.sha256)
        return Blob(artifact.uri.replace("exporter", "serving"), artifact.sha256, artifact.size_bytes)

    def path(self, artifact: Blob) -> Path:
        return Path(artifact.sha256)


@dataclass
class FakeGates:
    """Decisions by name."""

    decisions: dict[str, GateDecision] = field(default_factory=dict)

    def add(
        self, id_: str, sha256: str, verdict: str = "DEPLOY", reasons: tuple[str, ...] = (), passport: Blob | None = None
    ) -> str:
        name = f"{PROJECT}/gateDecisions/{id_}"
        self.decisions[name] = GateDecision(
            name, verdict, reasons, blob(sha256).sha256, passport or blob(f"1{sha256}", "evaluator")
        )
        return name

    def get(self, name: str) -> GateDecision:
        if name not in self.decisions:
            raise NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist.", name=name)
        return self.decisions[name]


@dataclass
class FakePassports:
    """Lets every artifact through that has a passport, but those whose sha256 is `refused`; remembers what it checked."""

    refused: set[str] = field(default_factory=set)
    checked: list[str] = field(default_factory=list)

    def fetch(self, passport: Blob) -> Blob:
        return Blob(passport.uri.replace("evaluator", "serving"), passport.sha256, passport.size_bytes)

    def check(self, artifact: Blob, path: Path, passport: Blob | None) -> None:
        self.checked.append(artifact.sha256)
        if passport is None:
            raise missing(artifact.sha256, "it was deployed before there were passports")
        if artifact.sha256 in self.refused:
            raise FailedPrecondition("PASSPORT_UNTRUSTED_KEY", "the key is not trusted any more")


@dataclass
class FakeStore:
    """Endpoints, deployments and events in dictionaries. Each write is a second later than the one before."""

    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    rows: dict[str, Deployment] = field(default_factory=dict)
    record: list[DeploymentEvent] = field(default_factory=list)
    requests: dict[str, tuple[str, str]] = field(default_factory=dict)
    ticks: int = 0

    def now(self) -> datetime:
        self.ticks += 1
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.ticks)

    def create(self, name: str, display_name: str, request: Request) -> Endpoint:
        if name in self.endpoints:
            raise AlreadyExists("RESOURCE_EXISTS", f"{name} exists already.", name=name)
        self.endpoints[name] = Endpoint(name, display_name, self.now(), self.now(), "1")
        return self.endpoints[name]

    def get(self, name: str) -> Endpoint:
        if name not in self.endpoints:
            raise NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist.", name=name)
        return self.endpoints[name]

    def list(self, parent: str, page_size: int, page_token: str) -> Listed[Endpoint]:
        return Listed(tuple(e for name, e in reversed(self.endpoints.items()) if name.startswith(f"{parent}/")), "")

    def delete(self, name: str) -> None:
        self.get(name)
        for deployment in self.deployments(name):
            self.undeploy(deployment.name)
        del self.endpoints[name]

    def deploy(self, deployment: Deployment, request: Request) -> Deployment:
        self.get(deployment.endpoint)
        if deployment.name in self.rows:
            raise AlreadyExists("RESOURCE_EXISTS", f"{deployment.name} exists already.", name=deployment.name)
        self.rows[deployment.name] = dataclasses.replace(deployment, create_time=self.now())
        if request.request_id:
            self.requests[request.request_id] = (request.fingerprint, deployment.name)
        self._note(deployment, EventKind.DEPLOYED)
        return self.rows[deployment.name]

    def repeated(self, request: Request) -> Deployment | None:
        if request.request_id not in self.requests:
            return None
        fingerprint, name = self.requests[request.request_id]
        if fingerprint != request.fingerprint:
            raise InvalidArgument("REQUEST_ID_REUSED", "taken", field="request_id")
        return self.deployment(name)

    def deployment(self, name: str) -> Deployment:
        if name not in self.rows:
            raise NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist.", name=name)
        return self.rows[name]

    def deployments(self, endpoint: str = "") -> Iterable[Deployment]:
        return [row for row in self.rows.values() if not endpoint or row.endpoint == endpoint]

    def renew(self, deployment: Deployment) -> Deployment:
        self.rows[self.deployment(deployment.name).name] = deployment
        return deployment

    def undeploy(self, name: str) -> None:
        self._note(self.deployment(name), EventKind.UNDEPLOYED)
        del self.rows[name]

    def events(self, endpoint: str, page_size: int, page_token: str) -> Listed[DeploymentEvent]:
        return Listed(tuple(reversed([e for e in self.record if e.deployment.startswith(f"{endpoint}/")])), "")

    def _note(self, deployment: Deployment, kind: EventKind) -> None:
        row = (deployment.name, deployment.artifact.sha256, deployment.model_version)
        self.record.append(DeploymentEvent(len(self.record) + 1, self.now(), kind, *row))


@dataclass
class World:
    """Everything a deployment needs, faked."""

    store: FakeStore = field(default_factory=FakeStore)
    exports: FakeExports = field(default_factory=FakeExports)
    gates: FakeGates = field(default_factory=FakeGates)
    passports: FakePassports = field(default_factory=FakePassports)
    loader: FakeLoader = field(default_factory=FakeLoader)
    registry: Registry = field(default_factory=Registry)

    @property
    def deployer(self) -> Deployer:
        return Deployer(self.store, self.exports, self.gates, self.passports, self.loader, self.registry)
