"""A worker for tests of the job engine: does what its spec says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from modelyard.core.errors import InvalidArgument
from modelyard.core.jobs.worker_link import Assignment, Cancelled, Completion, WorkerLink, run_worker


def work(assignment: Assignment, link: WorkerLink) -> Completion:
    """Counts to spec["steps"], from where an earlier attempt had saved; may fail, die, hang or spawn a child on the way."""
    spec = assignment.spec
    first = int(assignment.saved.get("step", 0))
    if spec.get("spawn"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(spec["spawn"]).write_text(str(child.pid))
    for step in range(first, int(spec["steps"])):
        if link.instruction() == "cancel":
            raise Cancelled
        if link.instruction() == "stop":
            return Completion({"step": step, "first": first}, "STOPPED")
        link.report(
            stage="count", fraction=(step + 1) / spec["steps"], done=step + 1, total=spec["steps"], unit="steps",
            events=[{"step": step}], saved={"step": step + 1},
        )  # fmt: skip
        link.flush()
        if spec.get("say"):
            print(spec["say"], step, flush=True)
        if spec.get("die_at") == step and assignment.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
            os._exit(9)  # in a pod it is process 1, which cannot kill itself
        if spec.get("eat_at") == step:
            eaten = bytearray(int(spec["eat_mib"]) << 20)
            eaten[::4096] = b"x" * len(eaten[::4096])
        if spec.get("fill_mib") and step == first:
            (link.workdir / "filling").write_bytes(b"x" * (int(spec["fill_mib"]) << 20))
        if spec.get("always_die"):
            os._exit(9)
        time.sleep(spec.get("pause_s", 0.01))
    if spec.get("error"):
        raise InvalidArgument("BAD_THING", "thing is 7; it must be below 5", field="thing", value=7)
    if spec.get("bug"):
        raise KeyError("secret inside")
    return Completion({"step": spec["steps"], "first": first, "attempt": assignment.attempt})


if __name__ == "__main__":
    sys.exit(run_worker(work))
