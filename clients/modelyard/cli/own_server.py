"""The server on a command's data folder: found, started for it, or started in the place of another command's that ended."""

from __future__ import annotations

import logging
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

from modelyard.cli.interrupts import interrupts
from modelyard.cli.options import Common
from modelyard.client import FailedPrecondition, InvalidArgument, Violation

# A server that begins says where it listens within this.
STARTING_S: Final = 30.0
# How often it is looked whether another command's server is there yet.
LOOK_EVERY_S: Final = 0.5
# Log of the servers that commands start, under logs/ in the data folder.
LOG_FILE: Final = "commands.log"
# Once it is longer, the next command begins it anew.
LOG_BYTES: Final = 10 << 20


class OwnServer:
    """Where a command finds its services, from the beginning to the end of the command."""

    def __init__(self, common: Common) -> None:
        self._common = common
        self._embedded = services()
        self._running: Any = None
        self._ends = threading.Event()
        self._heir: threading.Thread | None = None
        usable(common.data_dir)
        self.address: str = self._embedded.find(common.data_dir) or self._start()
        if not self.started and self._embedded.ends_with_its_command(common.data_dir):
            self._heir = threading.Thread(target=self._take_its_place, name="modelyard-heir", daemon=True)
            self._heir.start()

    @property
    def started(self) -> bool:
        """Whether it is this command's own, and ends with it."""
        return self._running is not None

    @property
    def replaceable(self) -> bool:
        """Whether it is another command's, in whose place one is started when that ends."""
        return self._heir is not None

    def give_up(self) -> None:
        """Before this process ends without `close`: no worker is left."""
        if self._running is not None:
            self._running.give_up()

    def close(self) -> None:
        """Ends it, if it is this command's own."""
        self._ends.set()
        if self._heir is not None:
            self._heir.join(STARTING_S)
        if self._running is None:
            return
        try:
            with interrupts.told(lambda: None, self.give_up):
                try:
                    self._running.stop()
                except KeyboardInterrupt:  # it is on its way; who interrupts again ends it at once
                    self._running.stop()
                    raise
        except Exception as error:
            sys.stderr.write(f"warning: the server did not stop cleanly: {error}\n")
            self.give_up()

    def _start(self) -> str:
        """Starts one; its address, or that of another command's which was faster."""
        data_dir, embedded = self._common.data_dir, self._embedded
        log_into(data_dir, self._common.debug)
        sys.stderr.write(f"no server has {data_dir}; one is started for this command\n")
        ends = time.monotonic() + STARTING_S
        while True:
            try:
                self._running = embedded.start(data_dir)
                return str(self._running.address)
            except Exception as error:
                if getattr(error, "reason", "") != "DATA_DIR_IN_USE":
                    raise
                if (found := embedded.find(data_dir)) is not None:
                    return str(found)
                if time.monotonic() > ends:  # another command began at the same moment, and does not say where it listens
                    raise
            time.sleep(0.1)

    def _take_its_place(self) -> None:
        """Waits until the other command has ended, then starts a server where its server was, so that calls go on."""
        data_dir, port = self._common.data_dir, int(self.address.rpartition(":")[2])
        while not self._ends.wait(LOOK_EVERY_S):
            if self._embedded.find(data_dir) is not None:
                continue
            log_into(data_dir, self._common.debug)
            try:
                self._running = self._embedded.start(data_dir, port)
            except Exception as error:
                if getattr(error, "reason", "") == "DATA_DIR_IN_USE":  # a third command was faster, at the same address
                    continue
                sys.stderr.write(f"warning: no server could be started in the place of the one that ended: {error}\n")
                return
            sys.stderr.write("the command whose server this one used has ended; a server of its own goes on in its place\n")
            return


def services() -> Any:
    """The package that starts all services in this process. FailedPrecondition when they are not installed."""
    try:
        import modelyard.embedded
    except ImportError as error:
        message = f"this installation has no services ({error.name} is missing), and no --server was given"
        raise FailedPrecondition(message, reason="NO_SERVICES", values={"module": error.name or ""}) from None
    return modelyard.embedded


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
