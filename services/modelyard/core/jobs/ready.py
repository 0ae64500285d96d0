"""python -m modelyard.core.jobs.ready MODULE CONTROL BYTES: a worker's process that has imported what it needs and waits.

The start of a process, and of what it imports, takes longer than many a job. So where a job is about to come (an upload has
begun) its process begins already. The order comes over a socket: a file with the environment as JSON, and the log to write to;
then this is the worker as if it had been started with both. It ends when the server does, or lets go of it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import socket
import sys


def main(arguments: list[str]) -> int:
    """Entry point. BYTES: how much the job may have to read, 0 where nobody knows."""
    module, control, size = arguments
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(f"{module}.ready").prepare(int(size))
    with socket.socket(fileno=int(control)) as own:
        try:
            told, fds, _, _ = socket.recv_fds(own, 1, 2)
        except OSError:
            return 0
    if not told:
        return 0
    order, log = fds
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    with os.fdopen(order, "rb") as file:
        file.seek(0)
        environment = json.load(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
