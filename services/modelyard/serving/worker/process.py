"""The process of one version: loads its bundle, says what it found, and answers calls until its channel closes.

python -m modelyard.serving.worker.process ORDER CHANNEL LIFELINE    where forking is not safe
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import fcntl
import gc
import json
import os
import resource
import signal
import socket
import sys
import threading
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from modelyard.core.errors import ModelyardError, ResourceExhausted
from modelyard.serving.domain.channel import Kind, error_json
from modelyard.serving.handlers.execution import Execution
from modelyard.serving.handlers.proven_model import LoadOptions, ProvenModel, load_proven
from modelyard.serving.worker.calls import OUT_OF_MEMORY, Calls
from modelyard.serving.worker.loading import Loading
from modelyard.serving.worker.observing import observer_of

OOM_SCORE: Final = 600
"""The kernel ends models before the server when memory runs out (proc(5), oom_score_adj: -1000 to 1000)."""
_F_SETSIG: Final = 10
_PR_SET_PDEATHSIG: Final = 1


def run(order: dict[str, Any], channel: socket.socket, lifeline: int) -> int:
    """Until the server closes the channel; the exit status.

    `order`: bundle, options (LoadOptions), memory_bytes, gives_way (whether loading has a lower priority than answering).
    """
    settle(lifeline, order["memory_bytes"])
    try:
        proven = _loaded(Path(order["bundle"]), LoadOptions(**order["options"]), order["gives_way"])
    except ModelyardError as error:
        channel.send(bytes((Kind.REFUSED,)) + error_json(error))
        return 0
    except MemoryError:
        channel.send(bytes((Kind.REFUSED,)) + error_json(_no_memory()))
        return OUT_OF_MEMORY
    trim()
    channel.send(bytes((Kind.LOADED,)) + json.dumps(asdict(proven.facts)).encode())
    answer(proven, channel)
    return 0


def _loaded(bundle: Path, options: LoadOptions, gives_way: bool) -> ProvenModel:
    if not gives_way:
        return load_proven(bundle, options)
    loading = Loading()
    return loading.run(partial(load_proven, bundle, options, loading.make))


def answer(proven: ProvenModel, channel: socket.socket) -> None:
    """As many threads as calls may be made at once wait on the one channel: whoever is free gets the next call."""
    calls = Calls(Execution(proven.model, observer_of(proven.bundle)), channel)
    for _ in range(proven.facts.calls - 1):
        threading.Thread(target=calls.run, daemon=True).start()
    calls.run()


def trim() -> None:
    """Gives back what loading needed and answering does not: the file's bytes, test vectors, trials (malloc_trim(3), glibc)."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def settle(lifeline: int, memory_bytes: int) -> None:
    """What the process is allowed, and by what it ends."""
    os.setpgid(0, 0)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    _end_with(lifeline)


def _end_with(lifeline: int) -> None:
    """Has the kernel end this process when the last writer of the pipe is gone, which is the server, whatever it does then.

    PR_SET_PDEATHSIG would look at the zygote instead, and at the thread that started it. The owner of a signal belongs to the
    open file, which forks share, so the pipe is opened anew.
    """
    own = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.close(lifeline)
    try:
        fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(own, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    except OSError:  # a kernel that is none (gVisor): then it ends with the zygote, which ends with the server
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(BlockingIOError):
        if not os.read(own, 1):
            os._exit(1)  # it died before we asked


def execute_again(order: dict[str, Any], channel: int, lifeline: int) -> None:
    """Becomes a fresh interpreter. Does not return."""
    for fd in (channel, lifeline):
        os.set_inheritable(fd, True)
    command = [sys.executable, "-m", "modelyard.serving.worker.process", json.dumps(order), str(channel), str(lifeline)]
    os.execv(sys.executable, command)  # noqa: S606  # no shell is wanted


def _no_memory() -> ResourceExhausted:
    return ResourceExhausted("NOT_ENOUGH_MEMORY", "loading the model needs more memory than one model may use here")


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3])))
