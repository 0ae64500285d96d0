"""Connections to the pods of one endpoint, and which of them is asked next. On the event loop, but for `show`."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from modelyard.core.http.client import GrpcConnection, connect
from modelyard.core.http.head import Field
from modelyard.serving.domain.placement import Pod, PodState

log = structlog.get_logger()

MODEL_INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
RETRY_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Pauses between tries to connect to a pod that is there and cannot be reached."""
SWEEP_S: Final = 1.0
DISTRUST_S: Final = 5.0
"""A pod that refuses a version which it said it had is not asked for it again until it says so anew, or for so long."""


@dataclass(frozen=True)
class Line:
    """How pods are reached. `tls` gives the context of the next connection; `server_name`: whom their certificate must name,
    where it is not their address."""

    tls: Callable[[], ssl.SSLContext | None] = lambda: None
    server_name: str = ""
    metadata: Sequence[Field] = ()
    most_bytes: int = 64 << 20


class Route:
    """A pod and the connection to it. `pod` is replaced when there is news of it."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.connection: GrpcConnection | None = None
        self.head = b""
        self.connecting = False
        self.tries = 0
        self.trouble = ""
        self.refused: dict[str, float] = {}

    def is_usable(self, version: str, now: float) -> bool:
        """Whether a request for a version can be sent now."""
        connection = self.connection
        if connection is None or not connection.usable or connection.is_full:
            return False
        return self.pod.answers(version) and self.refused.get(version, 0.0) <= now


class PodConnections:
    """The pods of an endpoint as its requests see them."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._pods: Sequence[Pod] = ()
        self._routes: dict[str, Route] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._turn = 0
        self._closed = False
        self.changed: list[Callable[[], None]] = []
        """Called on the loop when a pod can be asked that could not be before."""

    @property
    def pods(self) -> Sequence[Pod]:
        """As they were told last. From any thread."""
        return self._pods

    def show(self, pods: Sequence[Pod]) -> None:
        """What there is now. From any thread."""
        self._pods = pods
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._update)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop on which requests come from now on."""
        if self._loop is not loop:
            self._loop, self._routes, self._sweeper = loop, {}, None
            self._update()

    def close(self) -> None:
        """Ends the connections once what is on them was answered. From any thread."""
        self._closed = True
        loop = self._loop
        if loop is not None and not loop.is_closed() and loop.is_running():
            loop.call_soon_threadsafe(self._end)

    def pick(self, version: str, tried: Collection[Route]) -> Route | None:
        """The pod with the fewest requests on their way that answers for a version and was not tried; equals in turn."""
        now, best, least = time.monotonic(), None, 0
        routes = list(self._routes.values())
        self._turn += 1
        count = len(routes)
        for offset in range(count):
            route = routes[(self._turn + offset) % count]
            if route in tried or not route.is_usable(version, now):
                continue
            assert route.connection is not None
            waiting = len(route.connection)
            if best is None or waiting < least:
                best, least = route, waiting
        return best

    def refused(self, route: Route, version: str) -> None:
        """A pod said that it has not got a version."""
        route.refused[version] = time.monotonic() + DISTRUST_S

    def trouble(self) -> str:
        """Why pods cannot be reached, for people; empty when they can."""
        return next((f"{route.pod.name}: {route.trouble}" for route in self._routes.values() if route.trouble), "")

    def _update(self) -> None:
        if self._closed:
            return
        told = {pod.address: pod for pod in self._pods if pod.address}
        for address in [address for address in self._routes if address not in told]:
            connection = self._routes.pop(address).connection
            if connection is not None:
                connection.close()
        news = False
        for address, pod in told.items():
            route = self._routes.get(address)
            if route is None:
                route = self._routes[address] = Route(pod)
            elif route.pod is not pod:
                news = news or pod.versions != route.pod.versions
                route.pod = pod
                route.refused.clear()
            self._connect(route)
        if self._sweeper is None and self._loop is not None and self._routes:
            self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)
        if news:
            self._tell()

    def _connect(self, route: Route) -> None:
        if route.connection is None and not route.connecting and route.pod.state in (PodState.RUNNING, PodState.READY):
            route.connecting = True
            assert self._loop is not None
            self._loop.create_task(self._connected(route))

    async def _connected(self, route: Route) -> None:
        host, _, port = route.pod.address.rpartition(":")
        line = self._line
        try:
            made = await connect(
                host.strip("[]"),
                int(port),
                tls=line.tls(),
                server_name=line.server_name or None,
                most_bytes=line.most_bytes,
                on_lost=lambda connection: self._lost(route, connection),
            )
        except (OSError, ValueError) as error:  # also TimeoutError, ssl.SSLError
            route.connecting = False
            route.trouble = f"it cannot be reached: {error or type(error).__name__}"
            self._again(route)
            return
        route.connecting, route.tries, route.trouble = False, 0, ""
        if self._closed or self._routes.get(route.pod.address) is not route:
            made.close()
            return
        route.connection, route.head = made, made.head(MODEL_INFER, line.metadata)
        self._tell()

    def _lost(self, route: Route, connection: GrpcConnection) -> None:
        if route.connection is connection:
            route.connection = None
            self._again(route)

    def _again(self, route: Route) -> None:
        if self._closed or self._routes.get(route.pod.address) is not route or self._loop is None:
            return
        wait = RETRY_S[min(route.tries, len(RETRY_S) - 1)]
        route.tries += 1
        self._loop.call_later(wait, self._retry, route)

    def _retry(self, route: Route) -> None:
        if not self._closed and self._routes.get(route.pod.address) is route:
            self._connect(route)

    def _tell(self) -> None:
        for told in list(self.changed):
            told()

    def _sweep(self) -> None:
        assert self._loop is not None
        self._sweeper = None
        now = self._loop.time()
        for route in self._routes.values():
            if route.connection is not None:
                route.connection.sweep(now)
        if self._routes and not self._closed:
            self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def _end(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        for route in self._routes.values():
            if route.connection is not None:
                route.connection.close()
        self._routes = {}
