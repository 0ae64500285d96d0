"""python -m modelyard.serving.worker.zygote CONTROL LIFELINE: forks the processes that models compute in.

It imports what nearly every one of them needs, once, and then only forks: it has one thread, loads no model, and reads nothing
of what callers send. An order is JSON with two file descriptors: the new process's channel, and where to tell its number, a
handle to it (pidfd), and later how it ended. It ends when the server closes its side.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final

from modelyard.core.errors import ModelyardError
from modelyard.formats.bundle import BundleCard, Parity, PictureInput, Source, TensorSpec, card_json, parse_card
from modelyard.serving.worker import process

PRELOADED: Final = (
    "numpy",
    "onnxruntime",
    "PIL.Image",
    "safetensors.numpy",
    "modelyard.formats.pictures",
    "modelyard.runtime.onnx",
    "modelyard.serving.worker.observing",
)
MOST_ORDER: Final = 1 << 16


class Zygote:
    """Takes orders and buries the dead."""

    def __init__(self, control: socket.socket, lifeline: int, can_fork: bool) -> None:
        self._control = control
        self._lifeline = lifeline
        self._can_fork = can_fork
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._children: dict[int, tuple[int, socket.socket]] = {}

    def run(self) -> None:
        """Until the server is gone."""
        while True:
            for fd, _ in self._poll.poll():
                if fd != self._control.fileno():
                    self._bury(fd)
                elif not self._order():
                    return

    def _order(self) -> bool:
        try:
            data, fds, _, _ = socket.recv_fds(self._control, MOST_ORDER, 2)
        except OSError:
            return False
        if not data:
            return False
        channel, status = fds
        pid = os.fork()
        if pid == 0:
            self._become(json.loads(data), channel, status)
        os.close(channel)
        self._born(pid, socket.socket(fileno=status))
        return True

    def _become(self, order: dict[str, Any], channel: int, status: int) -> None:
        """The new process: nothing of the others stays open in it. Does not return."""
        code = 1
        try:
            os.close(status)
            self._control.close()
            for pidfd, (_, other) in self._children.items():
                os.close(pidfd)
                other.close()
            if not self._can_fork:
                process.execute_again(order, channel, self._lifeline)
            code = process.run(order, socket.socket(fileno=channel), self._lifeline)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _born(self, pid: int, status: socket.socket) -> None:
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = (pid, status)
        self._poll.register(pidfd, select.POLLIN)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pidfd]))]
        with contextlib.suppress(OSError):
            status.sendmsg([str(pid).encode()], rights)

    def _bury(self, pidfd: int) -> None:
        pid, status = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, ended = os.waitpid(pid, 0)
        with status, contextlib.suppress(OSError):
            status.send(str(ended).encode())


def main(arguments: list[str]) -> int:
    """Entry point."""
    control, lifeline = map(int, arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the server's terminal; the server ends us
    preload()
    Zygote(socket.socket(fileno=control), lifeline, thread_count() == 1).run()
    return 0


def preload() -> None:
    """Imports, and has cattrs write the code that reads a card: the forks have both already."""
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    spec = (TensorSpec("x", "FP32", (-1, 1)),)
    card = BundleCard("", spec, spec, Source(), picture=PictureInput(1, 1, 1), parity=Parity(1, 0.0, 1.0, 0.0, ""))
    with contextlib.suppress(ModelyardError):
        parse_card(card_json(card), Path("none"))
    gc.collect()
    gc.freeze()  # collections in the forks leave these objects alone, so their pages stay shared


def thread_count() -> int:
    """Threads of this process. A fork has only the one that called it, so what others hold (locks) stays held for ever."""
    return len(os.listdir("/proc/self/task"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
