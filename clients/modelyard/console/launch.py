"""Holds the console's port, and starts the process of its pages when somebody opens one. Standard library only.

The pages are a process of their own: a fault or a slow page of theirs takes nothing of the services with it, and who never opens
the console pays for a socket. The listening socket stays here, so a process that died is started again by the next visitor, who
waits for it instead of being refused. It ends with this process: the pipe that it was started with closes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from modelyard.console.door import Links

DEFAULT_PORT: Final = 8980
STATE_FILE: Final = "console.json"
MODULE: Final = "modelyard.console.server"
_LONGEST_PAUSE_S: Final = 30.0
_STEADY_S: Final = 30.0
"""A process that lived so long was no failed start."""


@dataclass(frozen=True)
class Behind:
    """The server that the pages show, and who shows it. Paths are PEM files, as in client.Access."""

    server: str
    token: str = field(default="", repr=False)
    ca: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""
    project: str = "default"


def installed() -> bool:
    """Whether the pages can be started here."""
    return importlib.util.find_spec("nicegui") is not None


class Console:
    """The door. `folder` keeps its links and says where it is; it is made so that nobody else can look into it."""

    def __init__(self, behind: Behind, folder: Path, port: int = DEFAULT_PORT, *, log: Path | None = None) -> None:
        self._behind, self._folder, self._log = behind, folder, log
        self._key = secrets.token_hex(32)
        self._links = Links(folder)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        self._socket = _listen(port)
        self.port: int = self._socket.getsockname()[1]
        self._ending = threading.Event()
        self._bell, self._rope = os.pipe()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name="modelyard-console", daemon=True)
        self._announce()
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def link(self) -> str:
        """A link that lets in once."""
        return link_of(self.address, self._links)

    def stop(self) -> None:
        """Closes the port and ends the pages."""
        self._ending.set()
        os.write(self._rope, b"!")
        self._thread.join(timeout=10)
        self._socket.close()
        for descriptor in (self._bell, self._rope):
            os.close(descriptor)
        state = read_state(self._folder)
        if state.get("pid") == os.getpid():
            (self._folder / STATE_FILE).unlink(missing_ok=True)

    def _announce(self) -> None:
        path = self._folder / STATE_FILE
        temporary = path.with_name(f"{STATE_FILE}.{os.getpid()}")
        temporary.write_text(json.dumps({"address": self.address, "pid": os.getpid()}))
        temporary.replace(path)

    def _watch(self) -> None:
        pause = 0.0
        while not self._ending.is_set():
            waited: list[Any] = [self._socket, self._bell]
            ready, _, _ = select.select(waited, [], [])
            if self._ending.is_set():
                break
            if self._socket not in ready:
                continue
            began = time.monotonic()
            self._child = child = self._start()
            while child.poll() is None and not self._ending.is_set():
                self._ending.wait(0.25)
            if self._ending.is_set():
                _end(child)
                break
            pause = 0.0 if time.monotonic() - began > _STEADY_S else min(max(2 * pause, 1.0), _LONGEST_PAUSE_S)
            self._ending.wait(pause)

    def _start(self) -> subprocess.Popen[bytes]:
        said = {
            **asdict(self._behind),
            "descriptor": self._socket.fileno(),
            "session_key": self._key,
            "folder": str(self._folder),
        }
        said["port"] = self.port
        with contextlib.ExitStack() as files:
            out: Any = subprocess.DEVNULL
            if self._log is not None:
                self._log.parent.mkdir(parents=True, exist_ok=True)
                out = files.enter_context(self._log.open("ab"))
            child = subprocess.Popen(
                [sys.executable, "-m", MODULE],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                pass_fds=(self._socket.fileno(),),
                env=_environment(),
                start_new_session=True,
            )
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps(said).encode() + b"\n")
            child.stdin.flush()  # and stays open: it closes when this process ends, however it ends
        return child


def link_of(address: str, links: Links) -> str:
    """A link that lets in once, into the console at an address."""
    return f"{address}/open?code={links.make()}"


def read_state(folder: Path) -> Mapping[str, Any]:
    """Where the console of a folder is, and whose process holds it; empty when there is none."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((folder / STATE_FILE).read_text())
        os.kill(int(found["pid"]), 0)
        return dict(found)
    return {}


def _listen(port: int) -> socket.socket:
    """The port, or a free one when it is taken. This machine's own address only."""
    for wanted in (port, 0):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", wanted))
            listening.listen(128)
        except OSError:
            listening.close()
            if wanted == 0:
                raise
            continue
        return listening
    raise AssertionError("unreachable")


def _environment() -> dict[str, str]:
    """What the pages are told beside stdin: no token, nothing that NiceGUI would take for its own."""
    hidden = ("MODELYARD_TOKEN", "MODELYARD_SERVICE_TOKEN")
    kept = {name: value for name, value in os.environ.items() if name not in hidden and not name.startswith("NICEGUI_")}
    return {**kept, "GRPC_VERBOSITY": "NONE", "PYTHONUNBUFFERED": "1"}


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.stdin is not None:
        with contextlib.suppress(OSError):
            child.stdin.close()
    try:
        child.wait(3)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
