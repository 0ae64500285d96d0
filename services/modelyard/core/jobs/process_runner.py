"""Runs an attempt of a job as a process of its own: own session and process group, own log file, and a lifeline.

The lifeline is a pipe whose write end only this process holds. When this process ends, however it ends, the worker reads
end-of-file and exits. (prctl's PDEATHSIG would not do: it follows the thread that started the process.)
So nothing is left to adopt after a restart: an attempt ends with its server, and the next one goes on from what it saved.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelyard.core.jobs import groups
from modelyard.core.jobs.ready_processes import ReadyProcess, ReadyProcesses
from modelyard.core.jobs.runner import IDENTITY, RUNNING, Order, Output, RunStatus, Stage

LIFELINE = "MODELYARD_LIFELINE_FD"
WORK_FOLDER = "MODELYARD_WORK_FOLDER"
OUTPUT_AT_ONCE = 1 << 16


@dataclass
class WorkerProcess:
    """A running attempt: a Run. Its output is in `log_file` from `log_start` on."""

    process: subprocess.Popen[bytes]
    lifeline: int
    log_file: Path
    log_start: int
    work_folder: Path
    log_read: int = 0

    def running(self) -> bool:
        """Whether it has not exited."""
        return self.process.poll() is None

    def status(self) -> RunStatus:
        """See Run. What ended a process that said nothing cannot be told from here."""
        return RUNNING if self.running() else RunStatus(Stage.ENDED, message=f"exit status {self.process.returncode}")

    def output(self) -> Sequence[Output]:
        """See Run."""
        with contextlib.suppress(OSError), self.log_file.open("rb") as log:
            log.seek(self.log_start + self.log_read)
            if data := log.read(OUTPUT_AT_ONCE):
                self.log_read += len(data)
                return [Output(0, self.log_read - len(data), data)]
        return []

    def ask_to_end(self) -> None:
        """SIGTERM to the worker alone: it saves what it can and exits."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def end(self, grace_s: float, *, decided: bool = False) -> None:
        """End the worker and whatever it started: SIGTERM, then after `grace_s` SIGKILL to the whole group."""
        if self.running():
            self.ask_to_end()
            deadline = time.monotonic() + grace_s
            while self.running() and time.monotonic() < deadline:
                time.sleep(0.02)
        self._clean_up()

    def leave(self, grace_s: float) -> None:
        """See Run: a worker ends with its server."""
        self.end(grace_s)

    def _clean_up(self) -> None:
        """Kill what is left of the group, let go of the lifeline, remove what it wrote."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        groups.ended(self.process.pid)
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1
        shutil.rmtree(self.work_folder, ignore_errors=True)


class ProcessRunner:
    """A Runner on this machine."""

    def __init__(self, environment: Mapping[str, str], *, log_dir: Path, work_dir: Path) -> None:
        self._environment = dict(environment)
        self._ready = ReadyProcesses(environment, LIFELINE)
        self._log_dir = log_dir
        self._work_dir = work_dir

    def prepare(self) -> None:
        """See Runner: removes what attempts left that were killed together with their server."""
        shutil.rmtree(self._work_dir, ignore_errors=True)

    def start(self, order: Order) -> WorkerProcess:
        """See Runner."""
        name = order.job.replace("/", "_")
        folder = self._work_dir / f"{name}.{order.attempt}"
        own = {IDENTITY: order.identity, WORK_FOLDER: str(folder)}
        environment = {**self._environment, **order.environment, **own}
        log_file = self._log_dir / f"{name}.log"
        ready = self._ready.take(order.module, {**self._environment, **order.environment})
        begun = begin_ready(ready, environment, log_file, folder) if ready is not None else None
        return begun or start_worker(order.module, environment, log_file, folder)

    def adopt(self, order: Order, stored: Mapping[int, int]) -> None:
        """See Runner: the lifeline has ended it."""
        return

    def discard(self, order: Order) -> None:
        """See Runner: the lifeline has ended it."""

    def expect(self, module: str, size_bytes: int) -> None:
        """See Runner: a process for it starts, and imports what it needs."""
        self._ready.want(module, size_bytes)

    def close(self) -> None:
        """See Runner."""
        self._ready.close()


def begin_ready(ready: ReadyProcess, environment: Mapping[str, str], log_file: Path, work_folder: Path) -> WorkerProcess | None:
    """Have a process that waits be the worker; None where it has ended."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        log_start = log.tell()
        if ready.begin({**os.environ, **environment, LIFELINE: ready.lifeline_name}, log):
            return WorkerProcess(ready.process, ready.lifeline, log_file, log_start, work_folder)
    ready.end()
    return None


def start_worker(module: str, environment: Mapping[str, str], log_file: Path, work_folder: Path) -> WorkerProcess:
    """Start `python -m module` with `environment` on top of this process's own, its output appended to `log_file`."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    read_end, write_end = os.pipe()
    try:
        with log_file.open("ab") as log:
            log_start = log.tell()
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
    groups.began(process.pid)
    return WorkerProcess(process, write_end, log_file, log_start, work_folder)
