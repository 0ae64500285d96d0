"""The server's side of processes that wait for a job (core/jobs/ready.py): one a module, for a while."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

from modelyard.core.jobs import groups

WAITS_S: Final = 300.0
"""How long a process waits for its job before it is let go."""


@dataclass(frozen=True)
class ReadyProcess:
    """A process that waits; the write end of its lifeline, and the number of the other end in the process itself."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    lifeline: int
    lifeline_name: str

    def begin(self, environment: Mapping[str, str], log: BinaryIO) -> bool:
        """Tells it what to do; False where it has ended meanwhile."""
        with tempfile.TemporaryFile() as order:
            order.write(json.dumps(dict(environment)).encode())
            order.flush()
            try:
                socket.send_fds(self.control, [b"1"], [order.fileno(), log.fileno()])
            except OSError:
                return False
        self.control.close()
        return self.process.poll() is None

    def end(self) -> None:
        """Lets go of it."""
        self.control.close()
        os.close(self.lifeline)
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()  # it has nothing to save, and one that is stopped would not see a SIGTERM
        self.process.wait()
        groups.ended(self.process.pid)


class ReadyProcesses:
    """Processes that wait for their jobs, by module. From any thread."""

    def __init__(self, environment: Mapping[str, str], lifeline_name: str) -> None:
        """environment: on top of this process's own. lifeline_name: the variable that says which the lifeline is."""
        self._environment, self._lifeline_name = dict(environment), lifeline_name
        self._lock = threading.Lock()
        self._waiting: dict[str, ReadyProcess] = {}
        self._timers: dict[str, threading.Timer] = {}
        self._closed = False

    def want(self, module: str, size_bytes: int) -> None:
        """Has a process wait for a job of a module; fine when one does. size_bytes: what the job may have to read; 0: unknown."""
        with self._lock:
            if self._closed or module in self._waiting:
                return
            with contextlib.suppress(OSError):  # without one a job's process starts as any other
                self._waiting[module] = self._start(module, size_bytes)
                self._timers[module] = threading.Timer(WAITS_S, self._let_go, (module,))
                self._timers[module].daemon = True
                self._timers[module].start()

    def take(self, module: str, environment: Mapping[str, str]) -> ReadyProcess | None:
        """The process that waits for a job of a module, which is the caller's from now on; None where there is none, or where
        what it has imported saw another environment."""
        same = all(self._environment.get(name) == value for name, value in environment.items())
        with self._lock:
            if not same or module not in self._waiting:
                return None
            self._timers.pop(module).cancel()
            found = self._waiting.pop(module)
        if found.process.poll() is None:
            return found
        found.end()
        return None

    def close(self) -> None:
        """Lets go of all of them."""
        with self._lock:
            self._closed = True
            modules = list(self._waiting)
        for module in modules:
            self._let_go(module)

    def _let_go(self, module: str) -> None:
        with self._lock:
            found = self._waiting.pop(module, None)
            timer = self._timers.pop(module, None)
        if timer is not None:
            timer.cancel()
        if found is not None:
            found.end()

    def _start(self, module: str, size_bytes: int) -> ReadyProcess:
        control, theirs = socket.socketpair()
        read_end, write_end = os.pipe()
        command = [sys.executable, "-m", "modelyard.core.jobs.ready", module, str(theirs.fileno()), str(size_bytes)]
        try:
            process = subprocess.Popen(
                command,
                env={**os.environ, **self._environment, self._lifeline_name: str(read_end)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(read_end, theirs.fileno()),
            )
        except BaseException:
            control.close()
            os.close(write_end)
            raise
        finally:
            theirs.close()
            os.close(read_end)
        groups.began(process.pid)
        return ReadyProcess(process, control, write_end, str(read_end))
