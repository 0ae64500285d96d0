"""Requests for what this server does not know, or not yet: another server of the same database may have just deployed it.

Several servers answer behind one address, and each follows the database once in a while. Who has just been told that a version
is deployed asks for it at once, and may reach a server that has not looked yet: that one looks before it says that there is none.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Final

from modelyard.serving.domain.endpoint import DeploymentState
from modelyard.serving.handlers.registry import Registry

MOST_S: Final = 5.0
"""Longest wait of a request: for the look, and for the version to be loaded. One that lives in pods is there in seconds."""
MOST_WAITING: Final = 64
"""Requests that wait at once; others get their answer without a look, so that wrong names cannot fill the memory."""
MOST_BYTES: Final = 64 << 20
"""The same in bytes of all of them."""
BETWEEN_S: Final = 0.1
"""Shortest time between two looks, however many ask."""
POLL_S: Final = 0.02


class SecondLook:
    """`look` brings the registry's names in line with what is written down; it is called in a thread, by `run`."""

    def __init__(self, registry: Registry, look: Callable[[], None]) -> None:
        self._registry = registry
        self._look = look
        self._wanted = threading.Event()
        self._stopped = False
        self._begun = self._ended = 0
        self._waiting = self._bytes = 0

    def wait(self, model: str, version: str, size: int, then: Callable[[], None]) -> Callable[[], None] | None:
        """Calls `then` on this event loop when the registry says all that it can; gives what takes that back.

        `size`: bytes of the request. None, and no call, when too many wait already.
        """
        if self._waiting >= MOST_WAITING or self._bytes + size > MOST_BYTES:
            return None
        self._waiting += 1
        self._bytes += size
        request = _Waiting(self, model, version, size, then, self._begun + 1)
        self._wanted.set()
        asyncio.get_running_loop().call_later(POLL_S, request.look_again)  # never at once: the caller has not got this answer yet
        return request.take_back

    async def awaited(self, model: str, version: str, size: int = 0) -> None:
        """Ends when the registry says all that it can, or at once when too many wait. Cancelled: its place is free again."""
        told = asyncio.Event()
        take_back = self.wait(model, version, size, told.set)
        if take_back is None:
            return
        try:
            await told.wait()
        finally:
            take_back()

    def run(self) -> None:
        """Looks whenever it is wanted, until `stop`."""
        while self._wanted.wait() and not self._stopped:
            self._wanted.clear()
            self._begun += 1
            try:
                self._look()
            finally:
                self._ended = self._begun
            time.sleep(BETWEEN_S)

    def stop(self) -> None:
        """Ends `run`."""
        self._stopped = True
        self._wanted.set()

    def settled(self, model: str, version: str, look: int) -> bool:
        """Whether waiting has no more use: the look is over, and the version is not there or not being loaded."""
        entry = self._registry.meant(model, version)
        if entry is None:
            return self._ended >= look
        return entry.health.state is not DeploymentState.LOADING

    def left(self, size: int) -> None:
        """One waits no more."""
        self._waiting -= 1
        self._bytes -= size


class _Waiting:
    """One request."""

    def __init__(self, all_: SecondLook, model: str, version: str, size: int, then: Callable[[], None], look: int) -> None:
        self._all, self._model, self._version, self._size, self._then, self._look = all_, model, version, size, then, look
        self._ends = time.monotonic() + MOST_S
        self._going = True

    def look_again(self) -> None:
        if not self._going:
            return
        if time.monotonic() < self._ends and not self._all.settled(self._model, self._version, self._look):
            asyncio.get_running_loop().call_later(POLL_S, self.look_again)
            return
        self.take_back()
        self._then()

    def take_back(self) -> None:
        if self._going:
            self._going = False
            self._all.left(self._size)
