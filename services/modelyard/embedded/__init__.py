"""All services in one process on one port: a laptop's Modelyard. Same servicers, SQLite and files.

    running = start(Path("~/.modelyard").expanduser())
    Client(running.address)
    running.stop()

Importing this package is cheap; the services are imported when one starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TextIO, TypeVar

from modelyard.core.errors import FailedPrecondition

T = TypeVar("T")
SERVICES = ("dataset", "trainer", "exporter", "evaluator", "serving", "pipeline")
NAME = "modelyard"
SERVER_FILE = "server.json"
LOCK_FILE = "server.lock"


def find(data_dir: Path) -> str | None:
    """Address of the server that has this data folder, or None when no living process has it."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        with (data_dir / LOCK_FILE).open() as lock:
            if _take(lock):
                return None
        return str(json.loads((data_dir / SERVER_FILE).read_text())["address"])
    return None


class Running:
    """A server on a thread of its own."""

    def __init__(self, data_dir: Path, port: int = 0, host: str = "127.0.0.1") -> None:
        self._owned = contextlib.ExitStack()
        self._loop = _new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="modelyard-server", daemon=True)
        self._owned.enter_context(own(data_dir))
        try:
            self._host = _host(data_dir, host, port)
            self._thread.start()
            self._call(self._host.start())
            self.address: str = self._host.local_address
        except BaseException:
            self._owned.close()
            raise
        announce(data_dir, self.address)

    def stop(self) -> None:
        """Drain and close. Jobs that run go on at the next start."""
        self._call(self._host.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._owned.close()

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result()


def start(data_dir: Path, port: int = 0, host: str = "127.0.0.1") -> Running:
    """Start on a free port (or the given one). Raises FailedPrecondition DATA_DIR_IN_USE, Unavailable PORT_TAKEN."""
    return Running(data_dir, port, host)


def main(data_dir: Path, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `on_ready` is given host:port. Raises as `start` does."""
    from modelyard.core.platform import serve_until_signalled
    from modelyard.core.rpc.loop import run

    def ready(address: str) -> None:
        announce(data_dir, built.local_address)
        on_ready(address)

    with own(data_dir):
        built = _host(data_dir, host, port)
        run(serve_until_signalled(built, ready))


@contextlib.contextmanager
def own(data_dir: Path) -> Iterator[None]:
    """Hold a data folder: two servers on one would run its jobs twice. The lock ends with the process, however it ends."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (data_dir / LOCK_FILE).open("w") as lock:
        if not _take(lock):
            address = find(data_dir) or "unknown"
            message = (
                f"{data_dir} is in use by the Modelyard server at {address}; use that (--server {address}), or another folder"
            )
            raise FailedPrecondition("DATA_DIR_IN_USE", message, data_dir=data_dir, address=address)
        try:
            yield
        finally:
            (data_dir / SERVER_FILE).unlink(missing_ok=True)


def announce(data_dir: Path, address: str) -> None:
    """Leave the address where `find` looks."""
    temporary = data_dir / f"{SERVER_FILE}.{os.getpid()}"
    temporary.write_text(json.dumps({"address": address, "pid": os.getpid()}))
    temporary.replace(data_dir / SERVER_FILE)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    from modelyard.core.rpc.loop import new_event_loop

    return new_event_loop()


def _take(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _host(data_dir: Path, host: str, port: int) -> Any:
    import importlib

    from modelyard.core.platform import Host, open_platform
    from modelyard.core.settings import CoreSettings

    settings = CoreSettings(data_dir=data_dir, host=host, port=port)
    platform = open_platform(settings, NAME)
    built = [importlib.import_module(f"modelyard.{name}.bootstrap").build(platform.for_service(name)) for name in SERVICES]
    return Host(platform, built, SERVICES)
