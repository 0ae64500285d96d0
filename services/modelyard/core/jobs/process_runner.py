"""Runs an attempt of a job as a process of its own: own session and process group, own log file, and a lifeline.

The lifeline is a pipe whose write end only this process holds. When this process ends, however it ends, the worker reads
end-of-file and exits. (prctl's PDEATHSIG would not do: it follows the thread that started the process.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LIFELINE = "MODELYARD_LIFELINE_FD"
WORK_FOLDER = "MODELYARD_WORK_FOLDER"


@dataclass
class WorkerProcess:
    """A running attempt."""

    process: subprocess.Popen[bytes]
    lifeline: int

    def running(self) -> bool:
        """Whether it has not exited."""
        return self.process.poll() is None

    def ask_to_end(self) -> None:
        """SIGTERM to the worker alone: it saves what it can and exits."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def end(self, grace_s: float) -> None:
        """End the worker and whatever it started: SIGTERM, then after `grace_s` SIGKILL to the whole group."""
        if self.running():
            self.ask_to_end()
            deadline = time.monotonic() + grace_s
            while self.running() and time.monotonic() < deadline:
                time.sleep(0.02)
        self.clean_up()

    def clean_up(self) -> None:
        """Kill what is left of the group and let go of the lifeline."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1


def start_worker(module: str, environment: Mapping[str, str], log_file: Path) -> WorkerProcess:
    """Start `python -m module` with `environment` on top of this process's own, its output appended to `log_file`."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    read_end, write_end = os.pipe()
    try:
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                env={**os.environ, **environment, LIFELINE: str(read_end)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(read_end,),
            )
    except BaseException:
        os.close(write_end)
        raise
    finally:
        os.close(read_end)
    return WorkerProcess(process, write_end)
