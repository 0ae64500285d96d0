"""An RpcServer of this process, on a loop of its own, for the length of a test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from modelyard.core.http.calls import HttpHandler, HttpRequest, HttpResponse, UnaryCall, UnaryHandler
from modelyard.core.rpc.loop import new_event_loop
from modelyard.core.rpc.server import Mount, RpcServer
from modelyard.core.settings import CoreSettings

ECHO = "/inference.GRPCInferenceService/Echo"


def echo(call: UnaryCall, message: bytes) -> None:
    """A native that answers with what it was asked."""
    call.answer(message)


async def hello(request: HttpRequest) -> HttpResponse:
    """HTTP that answers with what it was asked."""
    return HttpResponse(200, request.body or request.path.encode(), "text/plain", {"x-method": request.method})


class Served:
    """The server, its address and its loop."""

    def __init__(self, server: RpcServer, loop: asyncio.AbstractEventLoop) -> None:
        self.server, self.loop = server, loop
        self.port = int(self.run(server.start()))
        self.run(server.ready())
        self.address = f"127.0.0.1:{self.port}"

    def run(self, coroutine: Any, within_s: float = 60.0) -> Any:
        """Run a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(within_s)

    def call(self, function: Any) -> Any:
        """Run a function on the server's loop."""

        async def run() -> Any:
            return function()

        return self.run(run())


@contextmanager
def served(
    natives: Mapping[str, UnaryHandler] | None = None,
    http: HttpHandler | None = None,
    mounts: Sequence[Mount] = (),
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = new_event_loop,
    **settings: Any,
) -> Iterator[Served]:
    """A running server; the natives are an echo when none are given."""
    loop = loop_factory()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = RpcServer(mounts, CoreSettings(**{"drain_s": 0.2, **settings}), {ECHO: echo} if natives is None else natives, http)
    try:
        yield Served(server, loop)
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(0.2), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
