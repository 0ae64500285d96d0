"""Has versions live in pods: stages them, waits until every pod answers for them, and gives what forwards requests there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from modelyard.core.database import now
from modelyard.core.errors import ModelyardError, NotFound
from modelyard.core.rpc import tracing
from modelyard.formats.bundle import open_bundle
from modelyard.serving.adapters.pod_connections import Line, PodConnections
from modelyard.serving.adapters.remote_model import RemoteLimits, RemoteModel
from modelyard.serving.adapters.traced_models import TracedModel
from modelyard.serving.domain.endpoint import Deployment, Endpoint, PlacementView
from modelyard.serving.domain.names import endpoint_model
from modelyard.serving.domain.placement import USUAL, Placement, Pod
from modelyard.serving.handlers.pod_board import EndpointPods, PodBoard
from modelyard.serving.ports import EndpointStore, ServedModel

log = structlog.get_logger()

LOOK_S: Final = 0.5
DELETED_S: Final = 2.0
"""Seconds between two looks whether the endpoint of a deployment under way is still there."""
ALIGN_EVERY: Final = 20
"""Looks between two comparisons of what there is with what is written down."""
GRACE: Final = timedelta(seconds=60)


@dataclass
class PodVersions:
    """See ports.PodVersions. `start` begins to look after the pods, `close` ends that; the pods stay."""

    store: EndpointStore
    board: PodBoard
    line: Line
    limits: RemoteLimits = field(default_factory=RemoteLimits)
    usual: Sequence[Placement] = (USUAL,)
    """Where an endpoint lives that says nothing."""
    _connections: dict[str, PodConnections] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins; does not wait."""
        self._thread = threading.Thread(target=self._look, name="serving-pods", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """See ports.PodVersions."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(10)
        self.board.close()
        with self._guard:
            connections, self._connections = list(self._connections.values()), {}
        for each in connections:
            each.close()

    def load(self, deployment: Deployment, bundle: Path) -> ServedModel:
        """See ports.PodVersions."""
        card = open_bundle(bundle).card
        pods = self.board.of(deployment.endpoint) if self._is_written(deployment) else self._bring(deployment)
        model = endpoint_model(deployment.endpoint)
        made = RemoteModel(card, model, deployment.version, self._to(pods), pods, self.limits)
        return TracedModel(made, model, deployment.version) if tracing.active() else made

    def place(self, endpoint: Endpoint) -> None:
        """See ports.PodVersions."""
        self.board.place(endpoint.name, endpoint.placements or tuple(self.usual))

    def give_up(self, endpoint: str) -> None:
        """See ports.PodVersions."""
        pods = self.board.seen(endpoint)
        if pods is not None:
            pods.given_up = time.monotonic()

    def forget(self, deployment: Deployment) -> None:
        """See ports.PodVersions. Where no version is left the pods go too."""
        self.board.of(deployment.endpoint).forget(deployment.version)
        if not list(self.store.deployments(deployment.endpoint)) and not list(self.store.staged(deployment.endpoint)):
            self._drop(deployment.endpoint)

    def drop(self, endpoint: str) -> None:
        """See ports.PodVersions."""
        self._drop(endpoint)

    def view(self, endpoint: Endpoint) -> tuple[tuple[Pod, ...], tuple[PlacementView, ...]]:
        """See ports.PodVersions."""
        name, fleet, pods = endpoint.name, self.board.fleet, self.board.seen(endpoint.name)
        if pods is None:
            return (), ()
        placed = [
            PlacementView(each, fleet.wanted(name, each.target), pods.cold_start_s, fleet.address(name, each.target))
            for each in endpoint.placements or tuple(self.usual)
        ]
        return pods.pods, tuple(placed)

    def _is_written(self, deployment: Deployment) -> bool:
        try:
            return self.store.deployment(deployment.name).artifact.sha256 == deployment.artifact.sha256
        except NotFound:
            return False

    def _bring(self, deployment: Deployment) -> EndpointPods:
        """Into the pods before anybody is sent there. When it does not get there nothing has changed."""
        endpoint = deployment.endpoint
        first = not list(self.store.deployments(endpoint))
        self.board.of(endpoint).forget(deployment.version)
        self.store.stage(deployment, now() + timedelta(seconds=self.board.times.ready) + GRACE)
        try:
            pods = self.board.place(endpoint, self._placements(endpoint))
            self.board.wait_live(pods, deployment.version, self._worth_waiting(endpoint))
        except BaseException:
            self._take_back(deployment, gone=first)
            raise
        return pods

    def _worth_waiting(self, endpoint: str) -> Callable[[], bool]:
        """Whether this server goes on. Gives the pods up when another server of the same database has deleted the endpoint."""
        asked = time.monotonic()

        def going() -> bool:
            nonlocal asked
            if time.monotonic() - asked > DELETED_S:
                asked = time.monotonic()
                try:
                    self.store.get(endpoint)
                except NotFound:
                    self.give_up(endpoint)
                except Exception as error:  # the database is away: it may say so later
                    log.debug("whether an endpoint is still there cannot be told", endpoint=endpoint, error=str(error))
            return not self._stopped.is_set()

        return going

    def _take_back(self, deployment: Deployment, *, gone: bool) -> None:
        try:
            self.store.unstage(deployment.name)
            if gone:
                self.board.drop(deployment.endpoint)
        except ModelyardError as error:  # what is staged ends by itself, and what is not wanted goes at the next comparison
            log.warning("a version cannot be taken back from its pods", deployment=deployment.name, error=error.message)

    def _to(self, pods: EndpointPods) -> PodConnections:
        with self._guard:
            found = self._connections.get(pods.endpoint)
            if found is None:
                found = self._connections[pods.endpoint] = PodConnections(self.line)
            if found.show not in pods.listeners:
                pods.listeners.append(found.show)
                found.show(pods.pods)
            return found

    def _placements(self, endpoint: str) -> Sequence[Placement]:
        return self.store.get(endpoint).placements or tuple(self.usual)

    def _look(self) -> None:
        looks = 0
        while True:
            try:
                if looks % ALIGN_EVERY == 0:
                    self.align()
            except ModelyardError as error:
                log.warning("pods cannot be brought in line", reason=error.reason, error=error.message)
            except Exception:  # the database may be away for a while; pods go on answering
                log.exception("pods cannot be brought in line")
            self.board.look()
            looks += 1
            if self._stopped.wait(LOOK_S):
                return

    def align(self) -> None:
        """Brings pods in line with what is written down: also after another server of the same database changed it."""
        self.store.unstage_expired(now())
        there = self.board.fleet.endpoints() | {pods.endpoint for pods in self.board.known()}  # before what is written is read
        wanted = {each.endpoint for each in self.store.staged()}
        for endpoint, deployments in self.store.all():
            if deployments or endpoint.name in wanted:
                wanted.add(endpoint.name)
                _tried(lambda name=endpoint.name, placed=endpoint.placements: self.board.place(name, placed or tuple(self.usual)))  # type: ignore[misc]
        for endpoint_name in there:
            if endpoint_name not in wanted:
                self._drop(endpoint_name)

    def _drop(self, endpoint: str) -> None:
        try:
            self.board.drop(endpoint)
        except ModelyardError as error:  # what is not written down any more goes at the next comparison
            log.warning("pods cannot be taken away yet", endpoint=endpoint, reason=error.reason, error=error.message)
        with self._guard:
            connections = self._connections.pop(endpoint, None)
        if connections is not None:
            connections.close()


def _tried(work: Callable[[], object]) -> None:
    """One endpoint that cannot be placed keeps no other from its turn."""
    try:
        work()
    except ModelyardError as error:
        log.warning("pods cannot be placed", reason=error.reason, error=error.message)
