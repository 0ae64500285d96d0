"""python -m tests.support.two_nodes: stands for an Indexed Job of two pods. Two torchrun agents, each a node on the loopback;
one for a job whose name ends in "one-node".

An engine runs it as a job's worker; what it starts is what the pods run (see core.jobs: the command line of several nodes).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

from modelyard.core.jobs.process_runner import LIFELINE
from tests.support.training_groups import free_port

CONF = "last_call_timeout=3,keep_alive_interval=1,keep_alive_max_attempt=3,join_timeout=120"


def agent(number: int, nodes: int, port: int) -> list[str]:
    """The command line of a node. Each has an address of its own, by which the agents number themselves; the first
    holds the meeting place, as pod 0 does (by themselves both would take the loopback for their own)."""
    conf = f"{CONF},is_host={number == 0}"
    return [
        *(sys.executable, "-m", "torch.distributed.run", f"--nnodes=1:{nodes}", "--nproc-per-node=1", "--max-restarts=20"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=test", f"--rdzv-conf={conf}"),
        *("--monitor-interval=0.2", f"--local-addr=127.0.0.{number + 1}", "-m", "modelyard.trainer.worker"),
    ]


def end_with_server(lifeline: int) -> None:
    """As a worker of one process does."""
    with contextlib.suppress(OSError):
        os.read(lifeline, 1)
    os.killpg(os.getpid(), signal.SIGKILL)


def main() -> int:
    """The worst of the agents' exit statuses."""
    threading.Thread(target=end_with_server, args=(int(os.environ.pop(LIFELINE)),), daemon=True).start()
    port = free_port()
    count = 1 if json.loads(os.environ["MODELYARD_JOB"])["job"].endswith("one-node") else 2
    lines = [agent(number, count, port) for number in range(count)]
    nodes = [subprocess.Popen(line, env={**os.environ, "NODE": str(number)}) for number, line in enumerate(lines)]
    signal.signal(signal.SIGTERM, lambda *_: [node.terminate() for node in nodes])  # as a Job that is deleted ends its pods
    return max(abs(node.wait()) for node in nodes)


if __name__ == "__main__":
    sys.exit(main())
