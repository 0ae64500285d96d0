"""A gRPC server of one or more services: starts, says that it is healthy, drains, stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as aio_health
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from modelyard.core.errors import Unavailable
from modelyard.core.rpc.shell import Shell
from modelyard.core.settings import CoreSettings

log = structlog.get_logger()


@dataclass(frozen=True)
class Mount:
    """A servicer at its place: the full name of its service, and the generated function that adds it to a server."""

    full_name: str
    add: Callable[[Any], None]


@dataclass(frozen=True)
class Service:
    """A service as its bootstrap gives it. `start` runs once the server listens, `stop` before it closes."""

    name: str
    mounts: Sequence[Mount]
    start: Callable[[], None] | None = None
    stop: Callable[[], None] | None = None


class RpcServer:
    """Serves mounts on one port, on one event loop."""

    def __init__(self, mounts: Sequence[Mount], settings: CoreSettings) -> None:
        self._mounts = mounts
        self._settings = settings
        self._health = aio_health.HealthServicer()
        self._threads = ThreadPoolExecutor(settings.rpc_threads, thread_name_prefix="rpc")
        self._server: Any = None
        self._metrics: Any = None

    async def start(self) -> int:
        """Listen; gives the port. Health says NOT_SERVING until `ready`. Raises Unavailable PORT_TAKEN."""
        options = [
            ("grpc.max_receive_message_length", self._settings.max_message_bytes),
            ("grpc.max_send_message_length", self._settings.max_message_bytes),
            ("grpc.max_metadata_size", 32 * 1024),
            ("grpc.so_reuseport", 0),
        ]
        self._server = grpc.aio.server(interceptors=[Shell(self._threads)], options=options)
        for mount in self._mounts:
            mount.add(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [mount.full_name for mount in self._mounts]
        reflection.enable_server_reflection([*names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name], self._server)
        port = self._bind()
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.start()
        if self._settings.metrics_port:
            self._metrics = start_http_server(self._settings.metrics_port, addr=self._settings.host)
        return port

    async def ready(self) -> None:
        """Say SERVING."""
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Say NOT_SERVING, so that no new work is sent here."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Let running calls end for at most `grace_s`, then close."""
        await self.drain()
        await self._server.stop(grace_s)
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._metrics is not None:
            await asyncio.to_thread(self._metrics[0].shutdown)

    async def _set_health(self, status: Any) -> None:
        for name in ["", *(mount.full_name for mount in self._mounts)]:
            await self._health.set(name, status)

    def _bind(self) -> int:
        address = f"{self._settings.host}:{self._settings.port}"
        try:
            return int(self._server.add_insecure_port(address))
        except RuntimeError as error:
            message = f"{address} cannot be listened on: another process has the port, or the address is not this machine's"
            raise Unavailable("PORT_TAKEN", message, address=address) from error
