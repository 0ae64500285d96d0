"""Services on a real server of this process, for the length of a test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from modelyard.core.platform import Host, Platform
from modelyard.core.rpc.server import Service


@contextmanager
def hosted(
    platform: Platform, services: Sequence[Service], new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
) -> Iterator[str]:
    """host:port of a server that carries the services; stopped at the end. Only one at a time (DBOS is one to a process)."""
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    host = Host(platform, services, [service.name for service in services])
    try:
        yield asyncio.run_coroutine_threadsafe(host.start(), loop).result(60)
    finally:
        asyncio.run_coroutine_threadsafe(host.stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
