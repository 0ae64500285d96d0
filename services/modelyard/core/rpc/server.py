"""The server of one or more services: starts, says that it is healthy, drains, stops.

Where a service has natives or answers HTTP, our own front end (core/http/front.py) has the port and calls the servicers' methods
through the same shell; otherwise, and with MODELYARD_FRONT=grpc, a grpc.aio server has it. docs/decisions/0015-front-end.md.
"""

from __future__ import annotations

import asyncio
import gc
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as aio_health
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from modelyard.core.access.authentication import Verifier
from modelyard.core.access.composition import build_guard
from modelyard.core.access.guard import Guard
from modelyard.core.errors import Unavailable
from modelyard.core.http.calls import HttpHandler, HttpRequest, HttpResponse, UnaryHandler
from modelyard.core.http.front import Front
from modelyard.core.http.guarded import guarded_http, guarded_native
from modelyard.core.http.limits import Limits
from modelyard.core.http.methods import Methods
from modelyard.core.rpc.descriptor_pools import DescriptorPools
from modelyard.core.rpc.shell import Admission, Shell
from modelyard.core.rpc.tls import server_context, server_credentials
from modelyard.core.settings import CoreSettings

if TYPE_CHECKING:
    from modelyard.core.access.audit import AuditLog

log = structlog.get_logger()
METADATA_BYTES = 32 * 1024
SOCKET = "rpc"


@dataclass(frozen=True)
class Mount:
    """A servicer at its place: the full name of its service, and the generated function that adds it to a server.

    `pool`: the descriptor pool of its contract, where that is not protobuf's default one.
    """

    full_name: str
    add: Callable[[Any], None]
    pool: Any = None


@dataclass(frozen=True)
class Service:
    """A service as its bootstrap gives it. `start` runs once the server listens, `stop` before it closes.

    `natives`, by "/package.Service/Method", are answered by the front end; each is in a mount too, for MODELYARD_FRONT=grpc.
    `http` answers what comes over HTTP without being gRPC.
    """

    name: str
    mounts: Sequence[Mount]
    start: Callable[[], None] | None = None
    stop: Callable[[], None] | None = None
    natives: Mapping[str, UnaryHandler] = field(default_factory=dict)
    http: HttpHandler | None = None
    verifiers: Sequence[Verifier] = ()
    """Sorts of tokens that this service knows, beside those of core/access."""


class RpcServer:
    """Serves mounts, natives and HTTP on one port, on one event loop."""

    def __init__(
        self,
        mounts: Sequence[Mount],
        settings: CoreSettings,
        natives: Mapping[str, UnaryHandler] | None = None,
        http: HttpHandler | None = None,
        *,
        guard: Guard | None = None,
        audit: AuditLog | None = None,
        admission: Admission | None = None,
    ) -> None:
        """`guard` None: one from the settings alone, which knows neither jobs nor documents."""
        self._mounts = mounts
        self._settings = settings
        self._natives = natives or {}
        self._http = http
        self._guard, self._audit = guard or build_guard(settings), audit
        self._health = aio_health.HealthServicer()
        self._threads = ThreadPoolExecutor(settings.rpc_threads, thread_name_prefix="rpc")
        self._shell = Shell(self._threads, self._guard, audit, admission)
        self.front: Front | None = None
        """Once it listens, where it is used."""
        self._server: Any = None
        self._metrics: Any = None
        self._probed: Any = None
        self._folder: Path | None = None

    async def start(self) -> int:
        """Listen; gives the port. Health says NOT_SERVING until `ready`.

        Raises Unavailable PORT_TAKEN, InvalidArgument BAD_TLS.
        """
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        # grpc.aio cannot look at client certificates without demanding them: where they may come, the front end serves.
        wanted = bool(self._natives or self._http) or self._settings.tls_ca is not None
        fronted = self._settings.front == "auto" and wanted
        if self._settings.tls_certificate is not None:
            # For this user alone (0700), without TLS. A socket's path must be short (108 bytes), so it is not in the data folder.
            self._folder = Path(tempfile.mkdtemp(prefix="modelyard-"))
        try:
            port = await (self._start_front() if fronted else self._start_grpc())
        except BaseException:
            self._remove_folder()
            raise
        if self._settings.health_port:
            self._probed = await self._start_probed()
        if self._settings.metrics_port:
            await self._start_metrics()
        return port

    @property
    def local_address(self) -> str:
        """Where this machine's own processes of the same user call without TLS; empty when that is the public port."""
        return f"unix:{self._folder / SOCKET}" if self._folder is not None else ""

    async def ready(self) -> None:
        """Say SERVING."""
        # What is here now stays. To look through it takes a full collection 50 ms, in which nobody is answered.
        gc.collect()
        gc.freeze()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Say NOT_SERVING, so that no new work is sent here."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Let running calls end for at most `grace_s`, then close."""
        await self.drain()
        if self.front is not None:
            await self.front.stop(grace_s)
        if self._server is not None:
            await self._server.stop(grace_s)
        if self._probed is not None:
            await self._probed.stop(None)
        self._remove_folder()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._metrics is not None:
            await self._metrics.stop(0.0)
        gc.unfreeze()

    async def _set_health(self, status: Any) -> None:
        for name in ["", *(mount.full_name for mount in self._mounts)]:
            await self._health.set(name, status)

    def _add_all(self, server: Any) -> None:
        """The servicers, health and reflection, to whatever carries them."""
        for mount in self._mounts:
            mount.add(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [mount.full_name for mount in self._mounts]
        pools = DescriptorPools([mount.pool for mount in self._mounts if mount.pool is not None])
        health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflected = reflection.aio.ReflectionServicer([*names, health], pools)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflected, server)

    async def _start_front(self) -> int:
        settings, methods = self._settings, Methods()
        self._add_all(methods)
        natives, http = self._natives, self._http
        if (guard := self._guard) is not None:
            natives = {path: self._guarded(path, handler, guard, methods) for path, handler in natives.items()}
            http = guarded_http(http, guard, self._audit) if http is not None else None
        self.front = Front(natives, methods, self._shell.intercept_service, http, _limits(settings))
        tls = server_context(settings)
        try:
            port = await self.front.start(settings.host, settings.port, tls)
        except OSError as error:
            raise _port_taken(f"{settings.host}:{settings.port}") from error
        if self._folder is not None:
            await self.front.start_local(self._folder / SOCKET)
        return port

    def _guarded(self, path: str, handler: UnaryHandler, guard: Guard, methods: Methods) -> UnaryHandler:
        found = methods.find(path)
        return guarded_native(path, handler, guard, self._audit, found.request_deserializer if found is not None else None)

    async def _start_metrics(self) -> None:
        """Prometheus' port: the same TLS as the other, and a token where that asks for one."""
        settings = self._settings
        http: HttpHandler = metrics_http
        if self._guard is not None and settings.metrics_auth == "auto" and settings.auth == "token":
            http = guarded_http(http, self._guard, self._audit)
        self._metrics = Front({}, Methods(), self._shell.intercept_service, http, _limits(settings))
        try:
            await self._metrics.start(settings.host, settings.metrics_port, server_context(settings))
        except OSError as error:
            raise _port_taken(f"{settings.host}:{settings.metrics_port}") from error

    async def _start_grpc(self) -> int:
        options = [
            ("grpc.max_receive_message_length", self._settings.max_message_bytes),
            ("grpc.max_send_message_length", self._settings.max_message_bytes),
            ("grpc.max_metadata_size", METADATA_BYTES),
            ("grpc.so_reuseport", 0),
        ]
        self._server = grpc.aio.server(interceptors=[self._shell], options=options)
        self._add_all(self._server)
        port = self._bind()
        if self._folder is not None:
            self._server.add_insecure_port(self.local_address)
        await self._server.start()
        return port

    async def _start_probed(self) -> Any:
        """Health alone, on a port of its own: kubelet's gRPC probes speak no TLS and have no certificate."""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 4096)])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        address = f"{self._settings.host}:{self._settings.health_port}"
        try:
            server.add_insecure_port(address)
        except RuntimeError as error:
            raise _port_taken(address) from error
        await server.start()
        return server

    def _bind(self) -> int:
        address = f"{self._settings.host}:{self._settings.port}"
        credentials = server_credentials(self._settings)
        try:
            if credentials is not None:
                return int(self._server.add_secure_port(address, credentials))
            return int(self._server.add_insecure_port(address))
        except RuntimeError as error:
            raise _port_taken(address) from error

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


async def metrics_http(request: HttpRequest) -> HttpResponse:
    """GET /metrics, and nothing else."""
    if request.path.rstrip("/") not in ("", "/metrics") or request.method not in ("GET", "HEAD"):
        return HttpResponse(404, b"the metrics are under /metrics\n", "text/plain")
    return HttpResponse(200, await asyncio.to_thread(generate_latest), CONTENT_TYPE_LATEST)


def _limits(settings: CoreSettings) -> Limits:
    return Limits(
        message_bytes=settings.max_message_bytes,
        held_bytes=4 * settings.max_message_bytes,
        connections=settings.max_connections,
        header_bytes=METADATA_BYTES,
        idle_s=settings.idle_s,
    )


def _port_taken(address: str) -> Unavailable:
    message = f"{address} cannot be listened on: another process has the port, or the address is not this machine's"
    return Unavailable("PORT_TAKEN", message, address=address)
