"""The server's side of the process that forks the others (serving/worker/zygote.py).

Forked, a version's process shares the pages of Python, numpy and onnxruntime with all others, and begins in milliseconds. The
zygote is a program of its own, not a fork of the server: nothing of the server's memory, keys or connections is in it.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from modelyard.core.errors import Unavailable

log = structlog.get_logger()

START_S: Final = 60.0
"""Longest that the zygote may take to begin, or to fork."""
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "TZ", "CUDA_VISIBLE_DEVICES")
"""What a worker's environment keeps of the server's: no settings, no keys."""


@dataclass(frozen=True)
class Child:
    """A forked process: its channel, where the zygote tells how it ended, and a handle that means it and no other."""

    channel: socket.socket
    status: socket.socket
    pid: int
    pidfd: int

    def kill(self) -> None:
        """Ends it now. Fine when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def has_ended(self) -> bool:
        """Whether it is over. From any thread."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def ended(self, timeout_s: float) -> str:
        """How it ended, for people; waits for that. "it ended" where nobody knows."""
        try:
            self.status.settimeout(timeout_s)
            message = self.status.recv(64)
            return how_it_ended(int(message)) if message else "its process ended"
        except (OSError, ValueError):
            return "its process ended"

    def close(self) -> None:
        """Lets go of it; it ends by that, since its channel closes."""
        self.channel.close()
        self.status.close()
        with contextlib.suppress(OSError):
            os.close(self.pidfd)


class Zygote:
    """Forks processes; started when first needed, and again when it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._lifeline: int | None = None

    @property
    def pid(self) -> int:
        """Its number; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    def fork(self, order: Mapping[str, Any]) -> Child:
        """A new process that does what `order` says. Raises Unavailable MODEL_CRASHED when there is no way to make one."""
        with self._lock:
            for _ in range(2):
                try:
                    return self._fork(order)
                except OSError:
                    log.warning("the process that starts the models' processes is gone; it is started again")
                    self._stop()
        raise Unavailable("MODEL_CRASHED", "no process can be started for the model", retry_after_s=5.0)

    def close(self) -> None:
        """Ends it. The processes it made go on, until their channels close."""
        with self._lock:
            self._stop()
            if self._lifeline is not None:
                os.close(self._lifeline)
                self._lifeline = None

    def _fork(self, order: Mapping[str, Any]) -> Child:
        if self._control is None:
            self._start()
        assert self._control is not None
        channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        status, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs, told:
                socket.send_fds(self._control, [json.dumps(order).encode()], [theirs.fileno(), told.fileno()])
            pid, pidfd = _told_pid(status)
        except BaseException:
            channel.close()
            status.close()
            raise
        return Child(channel, status, pid, pidfd)

    def _start(self) -> None:
        if self._lifeline is None:
            read, self._lifeline = os.pipe2(os.O_CLOEXEC)
            self._read = read
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = (theirs.fileno(), self._read)
        command = [sys.executable, "-m", "modelyard.serving.worker.zygote", *map(str, fds)]
        try:
            self._process = subprocess.Popen(command, pass_fds=fds, env=_environment(), stdin=subprocess.DEVNULL)
        finally:
            theirs.close()
        control.settimeout(START_S)
        self._control = control

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


def how_it_ended(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with contextlib.suppress(ValueError):
            return f"its process was ended by {signal.Signals(number).name}"
        return f"its process was ended by signal {number}"
    code = os.waitstatus_to_exitcode(status)
    return "its process ran out of memory" if code == OUT_OF_MEMORY else f"its process ended with status {code}"


OUT_OF_MEMORY: Final = 77
"""Exit status of a worker that could get no more memory."""


def _told_pid(status: socket.socket) -> tuple[int, int]:
    status.settimeout(START_S)
    data, ancillary, _, _ = status.recvmsg(64, socket.CMSG_LEN(4))
    fds = array.array("i")
    for level, kind, raw in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
    if not data or len(fds) != 1:
        raise ConnectionResetError("the zygote did not answer")
    return int(data), fds[0]


def _environment() -> dict[str, str]:
    """Without the server's settings and keys. onnxruntime 1.31 sends telemetry, from a thread, unless it is told not to."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "MALLOC_ARENA_MAX": "1",  # what one thread loaded and another frees would stay behind in a heap of its own
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
