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
import secrets
import stat
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any, TextIO, TypeVar

from modelyard.client.access import SERVER_FILE, TOKEN_FILE, forget_token, remember_token
from modelyard.core.errors import DeadlineExceeded, FailedPrecondition

T = TypeVar("T")
SERVICES = ("dataset", "trainer", "exporter", "evaluator", "serving", "pipeline")
NAME = "modelyard"
SHORTEST_TOKEN = 32
LOCK_FILE = "server.lock"


def find(data_dir: Path) -> str | None:
    """Address of the server that has this data folder, or None when no living process has it."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        with (data_dir / LOCK_FILE).open() as lock:
            if _take(lock):
                return None
        return str(json.loads((data_dir / SERVER_FILE).read_text())["address"])
    return None


def ends_with_its_command(data_dir: Path) -> bool:
    """Whether the server that has this data folder is a command's, or a program's, own (`start`), and will end with that."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return bool(json.loads((data_dir / SERVER_FILE).read_text())["ends_with_its_command"])
    return False


class Running:
    """A server on a thread of its own."""

    def __init__(self, data_dir: Path, port: int = 0, host: str = "127.0.0.1") -> None:
        self._owned = contextlib.ExitStack()
        self._data_dir = data_dir
        self._stopping: Future[None] | None = None
        self._loop = _new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="modelyard-server", daemon=True)
        self._owned.enter_context(own(data_dir))
        try:
            self.token = user_token(data_dir)
            self._host = _host(data_dir, host, port, self.token)
            self._thread.start()
            listening = self._call(self._host.start())
            self.address: str = self._host.local_address
        except BaseException:
            self._owned.close()
            raise
        announce(data_dir, self.address, listening, ends_with_its_command=True)
        remember_token(self.address, self.token)

    def stop(self) -> None:
        """Drain and close. Jobs that run go on at the next start. May be called again when it was interrupted.

        Raises DeadlineExceeded NOT_STOPPED, when something hangs.
        """
        self._stopping = self._stopping or asyncio.run_coroutine_threadsafe(self._host.stop(), self._loop)
        within_s = self._host.stops_within_s
        try:
            self._stopping.result(within_s)
        except FutureTimeout:
            message = f"the server on {self._data_dir} has not stopped within {within_s:g} s; its log says where it hangs"
            raise DeadlineExceeded("NOT_STOPPED", message, data_dir=self._data_dir, seconds=within_s) from None
        forget_token(self.address)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(within_s)
        self._owned.close()

    @staticmethod
    def give_up() -> None:
        """Before this process ends without `stop`: the log says where it hangs, and no worker is left."""
        from modelyard.core.leaving import give_up

        give_up()

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
        announce(data_dir, built.local_address, address)
        on_ready(address)

    with own(data_dir):
        built = _host(data_dir, host, port, user_token(data_dir))
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


def user_token(data_dir: Path) -> str:
    """The token of the user whose data folder it is; made at the first start, in a file that only they can read.

    Raises FailedPrecondition UNSAFE_TOKEN_FILE when others could read it.
    """
    path = data_dir / TOKEN_FILE
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            message = f"{path} holds the token of this server, and others can read or change it; remove it, or chmod 600 it"
            raise FailedPrecondition("UNSAFE_TOKEN_FILE", message, file=path) from None
        token = path.read_text().strip()
        if len(token) >= SHORTEST_TOKEN:
            return token
        path.unlink()  # a start that was ended before it had written
        return user_token(data_dir)
    token = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
    return token


def announce(data_dir: Path, address: str, listening: str, *, ends_with_its_command: bool = False) -> None:
    """Leave the address where `find` looks: the one for this user's processes, and the one that everybody sees."""
    temporary = data_dir / f"{SERVER_FILE}.{os.getpid()}"
    said = {"address": address, "listening": listening, "pid": os.getpid(), "ends_with_its_command": ends_with_its_command}
    temporary.write_text(json.dumps(said))
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


def _host(data_dir: Path, host: str, port: int, token: str) -> Any:
    import importlib

    from modelyard.core.access.composition import check_embedded
    from modelyard.core.platform import Host, open_platform
    from modelyard.core.settings import CoreSettings

    settings = CoreSettings(data_dir=data_dir, host=host, port=port)
    check_embedded(settings)
    platform = open_platform(settings, NAME)
    built = [importlib.import_module(f"modelyard.{name}.bootstrap").build(platform.for_service(name)) for name in SERVICES]
    return Host(platform, built, SERVICES, user_token=token)
