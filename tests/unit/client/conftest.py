"""Clients of both kinds and servers of fakes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from modelyard.client import AsyncClient, Client
from tests.support.client_fakes import Blocking, Connect, Server


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    running = asyncio.new_event_loop()
    thread = threading.Thread(target=running.run_forever, daemon=True)
    thread.start()
    yield running
    running.call_soon_threadsafe(running.stop)
    thread.join(5)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts a server with the given mounts; all are stopped at the end."""
    servers: list[Server] = []

    def start(*mounts: Callable[[grpc.Server], None]) -> Server:
        servers.append(Server(*mounts))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(params=["sync", "asyncio"])
def connect(request: pytest.FixtureRequest, loop: asyncio.AbstractEventLoop) -> Iterator[Connect]:
    """Makes a client of either kind with the face of the sync one."""
    opened: list[Any] = []

    def make(address: Any, **settings: Any) -> Any:
        settings = {"patience_s": 5.0, "timeout_s": 10.0, **settings}
        if request.param == "sync":
            opened.append(Client(address, **settings))
        else:

            async def build() -> AsyncClient:
                return AsyncClient(address, **settings)

            opened.append(Blocking(asyncio.run_coroutine_threadsafe(build(), loop).result(10), loop))
        return opened[-1]

    yield make
    for client in opened:
        client.close()
