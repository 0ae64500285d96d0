"""Served models, their loader and the store of endpoints, in memory; and a world of them to deploy in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from modelyard.core.errors import Aborted, AlreadyExists, InvalidArgument, ModelyardError, NotFound
from modelyard.formats.bundle import BundleCard
from modelyard.serving.domain.changes import Changed, Line
from modelyard.serving.domain.drift import DriftScore
from modelyard.serving.domain.endpoint import Condition, Deployment, DeploymentEvent, DeploymentState, Endpoint, EventKind
from modelyard.serving.domain.traffic import Routing
from modelyard.serving.domain.version_statistics import Timing, VersionStatistics
from modelyard.serving.handlers.deployer import Deployer
from modelyard.serving.handlers.deployments import Wanted, create_deployment
from modelyard.serving.handlers.endpoints import create_endpoint
from modelyard.serving.handlers.registry import Registry
from modelyard.serving.ports import Answer, Batching, Change, Done, Listed, NewEndpoint, Request, Tensor
from tests.support.serving_fakes import CARD, PROJECT, FakeExports, FakeGates, FakePassports

ENDPOINT = f"{PROJECT}/endpoints/flowers"
READY = Condition(DeploymentState.READY)


@dataclass
class FakeServed:
    """A served model that says `value` for each row at once, unless it is ill or `trouble` is set."""

    version: str = ""
    value: float = 0.0
    card: BundleCard = CARD
    condition: Condition = READY
    statistics: VersionStatistics = field(default_factory=VersionStatistics)
    batching: Batching = field(default_factory=lambda: Batching(True))
    threads: int = 1
    trouble: ModelyardError | None = None
    refusal: Exception | None = None
    kept: list[Callable[[], None]] | None = None
    """With a list answers wait in it until they are called."""
    asked: int = 0
    closed: int = 0

    def memory_bytes(self) -> int:
        return 12_345

    def submit(self, inputs: Sequence[Tensor], rows: int, deadline: float | None, done: Done) -> Callable[[], None]:
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        data = np.full((rows, 1), self.value, np.float32).tobytes()
        result = self.trouble or Answer((Tensor("prediction", "FP32", (rows, 1), data),), Timing(compute_infer_ns=1_000_000))
        if self.kept is None:
            done(result)
        else:
            self.kept.append(lambda: done(result))
        return lambda: None

    def drift(self) -> tuple[DriftScore, ...]:
        return ()

    def close(self) -> None:
        self.closed += 1

    def fall_ill(self, message: str = "signal 11, 5 times in a minute") -> None:
        self.condition = Condition(DeploymentState.UNHEALTHY, message)

    def recover(self) -> None:
        self.condition = READY


@dataclass
class FakeServedLoader:
    """Loads anything but what `broken` names; remembers what it loaded, by the name of the file."""

    broken: set[str] = field(default_factory=set)
    loaded: list[str] = field(default_factory=list)
    models: list[FakeServed] = field(default_factory=list)

    def load(self, bundle: Path, *, model: str, version: str) -> FakeServed:
        if bundle.name in self.broken:
            raise InvalidArgument("INVALID_BUNDLE", f"bundle {bundle.name}: it is broken")
        self.loaded.append(bundle.name)
        self.models.append(FakeServed(version))
        return self.models[-1]


@dataclass
class FakeStore:
    """Endpoints, deployments and events in dictionaries. Each write is a second later than the one before."""

    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    rows: dict[str, Deployment] = field(default_factory=dict)
    record: list[DeploymentEvent] = field(default_factory=list)
    requests: dict[str, tuple[str, str]] = field(default_factory=dict)
    ticks: int = 0
    waiting: dict[str, tuple[Deployment, datetime]] = field(default_factory=dict)

    def now(self) -> datetime:
        self.ticks += 1
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.ticks)

    def create(self, name: str, wanted: NewEndpoint, request: Request) -> Endpoint:
        if name in self.endpoints:
            raise AlreadyExists("RESOURCE_EXISTS", f"{name} exists already.", name=name)
        given = {"policy": wanted.policy, "sticky_header": wanted.sticky_header, "placements": wanted.placements}
        self.endpoints[name] = Endpoint(name, wanted.display_name, self.now(), self.now(), "1", revision=1, **given)  # type: ignore[arg-type]
        return self.endpoints[name]

    def get(self, name: str) -> Endpoint:
        if name not in self.endpoints:
            raise NotFound("RESOURCE_NOT_FOUND", f"{name} does not exist.", name=name)
        return self.endpoints[name]

    def list(self, parent: str, page_size: int, page_token: str) -> Listed[Endpoint]:
        return Listed(tuple(e for name, e in reversed(self.endpoints.items()) if name.startswith(f"{parent}/")), "")

    def all(self) -> Iterable[tuple[Endpoint, Sequence[Deployment]]]:
        return [(endpoint, self.deployments(name)) for name, endpoint in self.endpoints.items()]

    def delete(self, name: str) -> None:
        nothing = dataclasses.replace(self.get(name), routing=Routing())
        for deployment in self.deployments(name):
            self._note(nothing, Line(EventKind.UNDEPLOYED, deployment))
            del self.rows[deployment.name]
        del self.endpoints[name]

    def change(self, name: str, change: Change, etag: str = "") -> Endpoint:
        current = self.get(name)
        if etag and etag != current.etag:
            raise Aborted("ETAG_MISMATCH", "it has changed", field="etag")
        changed = change(current, self.deployments(name))
        return self._write(changed) if changed.endpoint != current or changed.lines else current

    def deploy(self, deployment: Deployment, request: Request, change: Change) -> tuple[Deployment, Endpoint]:
        current = self.get(deployment.endpoint)
        if deployment.name in self.rows:
            raise AlreadyExists("RESOURCE_EXISTS", f"{deployment.name} exists already.", name=deployment.name)
        changed = change(current, self.deployments(current.name))
        self.rows[deployment.name] = dataclasses.replace(deployment, create_time=self.now())
        self.unstage(deployment.name)
        if request.request_id:
            self.requests[request.request_id] = (request.fingerprint, deployment.name)
        return self.rows[deployment.name], self._write(changed)

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

    def deployments(self, endpoint: str = "") -> Sequence[Deployment]:
        return [row for row in self.rows.values() if not endpoint or row.endpoint == endpoint]

    def renew(self, deployment: Deployment) -> Deployment:
        self.rows[self.deployment(deployment.name).name] = deployment
        return deployment

    def undeploy(self, name: str, change: Change) -> Endpoint:
        gone = self.deployment(name)
        changed = change(self.get(gone.endpoint), self.deployments(gone.endpoint))
        del self.rows[name]
        return self._write(changed)

    def note_health(self, name: str, healthy: bool, detail: str) -> bool:
        row = self.deployment(name)
        if row.unhealthy is not healthy:
            return False
        self.rows[name] = dataclasses.replace(row, unhealthy=not healthy)
        self._note(self.get(row.endpoint), Line(EventKind.RECOVERED if healthy else EventKind.UNHEALTHY, row, detail))
        return True

    def stage(self, deployment: Deployment, until: datetime) -> None:
        self.waiting[self.get(deployment.endpoint) and deployment.name] = (deployment, until)

    def unstage(self, name: str) -> None:
        self.waiting.pop(name, None)

    def staged(self, endpoint: str = "") -> Iterable[Deployment]:
        return [each for each, _ in self.waiting.values() if not endpoint or each.endpoint == endpoint]

    def unstage_expired(self, time: datetime) -> None:
        self.waiting = {name: item for name, item in self.waiting.items() if item[1] >= time}

    def events(self, endpoint: str, page_size: int, page_token: str) -> Listed[DeploymentEvent]:
        return Listed(tuple(reversed([e for e in self.record if e.deployment.startswith(f"{endpoint}/")])), "")

    def _write(self, changed: Changed) -> Endpoint:
        revision = changed.endpoint.revision + 1
        written = dataclasses.replace(changed.endpoint, update_time=self.now(), etag=str(revision), revision=revision)
        self.endpoints[written.name] = written
        for line in changed.lines:
            self._note(written, line)
        return written

    def _note(self, endpoint: Endpoint, line: Line) -> None:
        deployment, routing = line.deployment, endpoint.routing
        row = (deployment.name, deployment.artifact.sha256, deployment.model_version, line.detail)
        event = DeploymentEvent(len(self.record) + 1, self.now(), line.kind, *row, routing.shares, routing.labels)
        self.record.append(event)


@dataclass
class World:
    """Everything a deployment needs, faked."""

    store: FakeStore = field(default_factory=FakeStore)
    exports: FakeExports = field(default_factory=FakeExports)
    gates: FakeGates = field(default_factory=FakeGates)
    passports: FakePassports = field(default_factory=FakePassports)
    loader: FakeServedLoader = field(default_factory=FakeServedLoader)
    registry: Registry = field(default_factory=Registry)

    @property
    def deployer(self) -> Deployer:
        return Deployer(self.store, self.exports, self.gates, self.passports, self.loader, self.registry)

    def export(self, number: int, sha256: str) -> None:
        """Export x{number} of version V00{number}, which gate g{number} lets through."""
        self.exports.add(f"x{number}", f"V{number:03d}", sha256)
        self.gates.add(f"g{number}", sha256)

    def deploy(self, number: int, percent: int | None = None, deployment_id: str = "") -> FakeServed:
        """Serves export x{number}; gives its model, where it was loaded."""
        names = f"{PROJECT}/exports/x{number}", f"{PROJECT}/gateDecisions/g{number}"
        before = len(self.loader.models)
        create_deployment(self.deployer, ENDPOINT, Wanted(*names, deployment_id, percent), Request())
        return self.loader.models[-1] if len(self.loader.models) > before else FakeServed()

    def restarted(self) -> World:
        """The same database, nothing in memory."""
        return World(self.store, self.exports, self.gates)


def a_world(versions: int = 4) -> World:
    """An endpoint, and exports of V001, V002... that gates let through."""
    world = World()
    create_endpoint(world.store, PROJECT, "flowers", NewEndpoint("Flowers"), Request())
    for number in range(1, versions + 1):
        world.export(number, "abcdefghij"[number - 1])
    world.registry.set_complete()
    return world
