"""A client for a command: of the named server, of the one that has the data folder, or of one started for the command."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from modelyard.cli.interrupts import CALL_S, interrupts
from modelyard.cli.options import Common
from modelyard.client import Access, Client, FailedPrecondition, InvalidArgument, Unavailable, Violation
from modelyard.client.access import token_in

# A server that is there answers at once; one that restarts gets this long.
PATIENCE_S: Final = 5.0
# What is watched is waited for so long when its server goes: `modelyard up` may be started again.
WATCH_PATIENCE_S: Final = 30.0
# A server that begins says where it listens within this.
STARTING_S: Final = 30.0
# Log of the servers that commands start, under logs/ in the data folder.
LOG_FILE: Final = "commands.log"
# Once it is longer, the next command begins it anew.
LOG_BYTES: Final = 10 << 20


@dataclass(frozen=True)
class Session:
    """An open client. `embedded` says that its server ends with the command."""

    client: Client
    common: Common
    embedded: bool

    def services(self) -> tuple[str, ...]:
        """The services, which have a log and quotas of their own unless they are one process."""
        return ("dataset", "trainer", "exporter", "evaluator", "serving", "pipeline")

    def watch_command(self, name: str) -> str:
        """The command that watches a run again."""
        where = f"--server {self.common.server}" if self.common.server else f"--data-dir {self.common.data_dir}"
        return f"modelyard runs watch {name} {where}"


@contextmanager
def session(common: Common) -> Iterator[Session]:
    """Opens a session and closes what it opened."""
    running = None
    if common.server:
        address = checked_address(common.server)
    else:
        address, running = _own_server(common)
    borrowed = running is None and not common.server
    try:
        with (
            Client(
                address,
                project=common.project,
                patience_s=PATIENCE_S,
                watch_patience_s=WATCH_PATIENCE_S,
                access=access_of(common, address),
            ) as client,
            interrupts.told(partial(client.hurry, CALL_S), running.give_up if running is not None else _nothing),
        ):
            yield Session(client, common, embedded=running is not None)
    except Unavailable as error:
        if not borrowed or error.reason != "NO_CONNECTION":
            raise
        message = f"the server that had {common.data_dir} has ended; what it was doing goes on when there is one again"
        raise Unavailable(message, reason="SERVER_ENDED", values=error.values) from error
    finally:
        if running is not None:
            _stop(running)


def access_of(common: Common, address: str) -> Access:
    """What the options say; without a token the user's own, for the server that has the data folder."""
    given = Access(common.token, common.ca, common.cert, common.cert_key, os.environ.get("MODELYARD_SERVER_NAME", ""))
    return given if given.token else replace(given, token=token_in(common.data_dir, address))


def _own_server(common: Common) -> tuple[str, Any]:
    """The address of the server on the data folder; started, and given too, when there is none."""
    embedded = services()
    usable(common.data_dir)
    found = embedded.find(common.data_dir)
    if found is not None:
        return found, None
    log_into(common.data_dir, common.debug)
    sys.stderr.write(f"no server has {common.data_dir}; one is started for this command\n")
    ends = time.monotonic() + STARTING_S
    while True:
        try:
            running = embedded.start(common.data_dir)
            return running.address, running
        except Exception as error:
            if getattr(error, "reason", "") != "DATA_DIR_IN_USE":
                raise
            if (found := embedded.find(common.data_dir)) is not None:
                return found, None
            if time.monotonic() > ends:  # another command began at the same moment, and does not say where it listens
                raise
        time.sleep(0.1)


def usable(data_dir: Path) -> None:
    """Makes the data folder. InvalidArgument when it cannot be made or written to."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=data_dir):
            pass
    except OSError as error:
        message = f"data_dir is {str(data_dir)!r}, which cannot be used: {error.strerror}"
        violations = (Violation("data_dir", message),)
        raise InvalidArgument(
            message, reason="UNUSABLE_DATA_DIR", values={"data_dir": str(data_dir)}, violations=violations
        ) from None


def checked_address(server: str) -> str:
    """InvalidArgument when a server is not given as host and port."""
    if ":" not in server:
        message = f"server is {server!r}; give HOST:PORT, such as 127.0.0.1:8970, or https://HOST:PORT"
        violations = (Violation("server", message),)
        raise InvalidArgument(message, reason="INVALID_ADDRESS", values={"server": server}, violations=violations)
    return server


def services() -> Any:
    """The package that starts all services in this process. FailedPrecondition when they are not installed."""
    try:
        import modelyard.embedded
    except ImportError as error:
        message = f"this installation has no services ({error.name} is missing), and no --server was given"
        raise FailedPrecondition(message, reason="NO_SERVICES", values={"module": error.name or ""}) from None
    return modelyard.embedded


def log_into(data_dir: Path, debug: bool) -> None:
    """The log of a server inside a command goes to a file in the data folder; with `debug` to stderr."""
    try:
        import structlog

        from modelyard.core.rpc.logs import configure_logs
    except ImportError:
        return
    if debug:
        configure_logs("console" if sys.stderr.isatty() else "json", "info")
        return
    configure_logs("json", "info")
    path = log_file(data_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    full = path.exists() and path.stat().st_size > LOG_BYTES
    handler = logging.FileHandler(path, mode="w" if full else "a", encoding="utf-8")
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    durable = logging.getLogger("dbos")  # it writes to the terminal unless it has a handler when it is first imported
    durable.handlers[:], durable.propagate = [handler], False
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(handler.stream))


def log_file(data_dir: Path) -> Path:
    """Where the log of a server that a command started is."""
    return data_dir / "logs" / LOG_FILE


def _nothing() -> None:
    """There is no server of this command's own."""


def _stop(running: Any) -> None:
    try:
        with interrupts.told(_nothing, running.give_up):
            try:
                running.stop()
            except KeyboardInterrupt:  # it is on its way; who interrupts again ends it at once
                running.stop()
                raise
    except Exception as error:
        sys.stderr.write(f"warning: the server did not stop cleanly: {error}\n")
