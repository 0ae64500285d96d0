"""The server of one or more services: starts, says that it is healthy, drains, stops.

Behind: a grpc.aio server with all mounts. Before it, where a service has natives or answers HTTP, our own front end
(core/http/front.py) on the public port; the grpc.aio server then listens on a socket in a private folder. Otherwise grpc.aio has
the public port itself.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as aio_health
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from modelyard.core.errors import Unavailable
from modelyard.core.http.calls import HttpHandler, UnaryHandler
from modelyard.core.http.front import Front
from modelyard.core.http.limits import Limits
from modelyard.core.rpc.shell import Shell
from modelyard.core.rpc.tls import server_context, server_credentials
from modelyard.core.settings import CoreSettings

log = structlog.get_logger()
METADATA_BYTES = 32 * 1024


@dataclass(frozen=True)
class Mount:
    """A servicer at its place: the full name of its service, and the generated function that adds it to a server."""

    full_name: str
    add: Callable[[Any], None]


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


class RpcServer:
    """Serves mounts, natives and HTTP on one port, on one event loop."""

    def __init__(
        self,
        mounts: Sequence[Mount],
        settings: CoreSettings,
        natives: Mapping[str, UnaryHandler] | None = None,
        http: HttpHandler | None = None,
    ) -> None:
        self._mounts = mounts
        self._settings = settings
        self._natives = natives or {}
        self._http = http
        self._health = aio_health.HealthServicer()
        self._threads = ThreadPoolExecutor(settings.rpc_threads, thread_name_prefix="rpc")
        self._server: Any = None
        self._metrics: Any = None
        self._front: Front | None = None
        self._channel: Any = None
        self._folder: Path | None = None

    async def start(self) -> int:
        """Listen; gives the port. Health says NOT_SERVING until `ready`.

        Raises Unavailable PORT_TAKEN, InvalidArgument BAD_TLS.
        """
        self._server = grpc.aio.server(interceptors=[Shell(self._threads)], options=self._options())
        for mount in self._mounts:
            mount.add(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [mount.full_name for mount in self._mounts]
        reflection.enable_server_reflection([*names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name], self._server)
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        try:
            port = await self._listen()
        except BaseException:
            self._remove_folder()
            raise
        if self._settings.metrics_port:
            self._metrics = start_http_server(self._settings.metrics_port, addr=self._settings.host)
        return port

    @property
    def local_address(self) -> str:
        """Where this machine's own processes of the same user reach the mounts without TLS; empty when it is the public port."""
        return f"unix:{self._folder / 'rpc'}" if self._folder is not None else ""

    async def ready(self) -> None:
        """Say SERVING."""
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Say NOT_SERVING, so that no new work is sent here."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Let running calls end for at most `grace_s`, then close."""
        await self.drain()
        if self._front is not None:
            await self._front.stop(grace_s)
            await self._channel.close()
            grace_s = min(grace_s, 1.0)
        await self._server.stop(grace_s)
        self._remove_folder()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._metrics is not None:
            await asyncio.to_thread(self._metrics[0].shutdown)

    async def _set_health(self, status: Any) -> None:
        for name in ["", *(mount.full_name for mount in self._mounts)]:
            await self._health.set(name, status)

    def _options(self) -> list[tuple[str, int]]:
        return [
            ("grpc.max_receive_message_length", self._settings.max_message_bytes),
            ("grpc.max_send_message_length", self._settings.max_message_bytes),
            ("grpc.max_metadata_size", METADATA_BYTES),
            ("grpc.so_reuseport", 0),
        ]

    async def _listen(self) -> int:
        fronted = self._settings.front == "auto" and bool(self._natives or self._http)
        if fronted or self._settings.tls_certificate is not None:
            self._bind_local()
        if not fronted:
            port = self._bind()
            await self._server.start()
            return port
        await self._server.start()
        return await self._start_front()

    def _bind_local(self) -> None:
        """The grpc.aio server's socket for this user alone: the folder is 0700. Its path must be short (108 bytes)."""
        self._folder = Path(tempfile.mkdtemp(prefix="modelyard-"))
        self._server.add_insecure_port(self.local_address)

    def _bind(self) -> int:
        address = f"{self._settings.host}:{self._settings.port}"
        credentials = server_credentials(self._settings)
        try:
            if credentials is not None:
                return int(self._server.add_secure_port(address, credentials))
            return int(self._server.add_insecure_port(address))
        except RuntimeError as error:
            raise _port_taken(address) from error

    async def _start_front(self) -> int:
        settings = self._settings
        options = [*self._options(), ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.aio.insecure_channel(self.local_address, options=options)
        self._front = Front(self._natives, self._http, self._channel, _limits(settings))
        try:
            return await self._front.start(settings.host, settings.port, server_context(settings))
        except OSError as error:
            await self._channel.close()
            raise _port_taken(f"{settings.host}:{settings.port}") from error

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


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
