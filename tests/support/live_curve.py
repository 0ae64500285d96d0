"""A training that stands still, and points written for it as its worker would: a page's curve grows as a test wants it to."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.client import Client, JobCancelled
from modelyard.trainer.v1 import trainer_pb2

FIRST_STEP = 10_000_000
"""Above the steps of the training that the points are written for."""
PER_EPOCH = 100


def processes(root: int) -> dict[int, str]:
    """A process and what it started, by their command lines."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parts = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(parts[1]), []).append(int(path.parent.name))
    found, waiting = {}, [root]
    while waiting:
        pid = waiting.pop()
        try:
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        waiting += children.get(pid, [])
    return found


def workers(root: int, of: str) -> list[int]:
    """The processes of a service's workers below a server's: `of` such as "trainer"."""
    return [pid for pid, command in processes(root).items() if f"modelyard.{of}.worker" in command]


@contextmanager
def live_training(server: int, client: Client, dataset_version: str) -> Iterator[str]:
    """A training whose worker is held, so that it stays as it is until the end; `server`: the process that started it."""
    wanted = trainer_pb2.TrainingJob(dataset_version=client.names.dataset_version(dataset_version), display_name="live")
    wanted.model = f"{client.names.parent}/models/live"
    wanted.recipe.recipe_id = "tinynet"
    wanted.recipe.hyperparameters.max_epochs = 10_000
    job = client.training.create_training_job(wanted, repeat_reason="a live curve").name
    while not client.training.get_training_job(job).HasField("latest_point"):
        time.sleep(0.2)
    held = workers(server, "trainer")
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield job
    finally:
        client.training.cancel_training_job(job)
        for pid in held:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        with suppress(JobCancelled):
            client.training.wait_training_job(job, 120)


class CurveWriter:
    """Writes points of a training into the database, as its worker would."""

    def __init__(self, path: Path, job: str) -> None:
        self._path, self._job, self._step = path, job, FIRST_STEP
        self._wave = np.random.default_rng(1)

    @property
    def newest(self) -> str:
        """The newest point's step, as pages say it."""
        return f"{self._step:,}"

    def write(self, count: int) -> None:
        """So many points more, in one transaction."""
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        with sqlite3.connect(self._path, timeout=60) as database:
            (sequence,) = database.execute("SELECT sequence FROM job WHERE name = ?", (self._job,)).fetchone()
            rows = [(self._job, sequence + at + 1, now, json.dumps(self._point())) for at in range(count)]
            database.executemany("INSERT INTO job_event (job, sequence, time, document) VALUES (?, ?, ?, ?)", rows)
            changed = (sequence + count, now, self._job)
            database.execute("UPDATE job SET sequence = ?, heartbeat_time = ? WHERE name = ?", changed)

    def keep_writing(self, count: int, every_s: float, for_s: float) -> None:
        """So many points now and then."""
        end = time.monotonic() + for_s
        while (began := time.monotonic()) < end:
            self.write(count)
            time.sleep(max(every_s - (time.monotonic() - began), 0))

    def _point(self) -> dict[str, Any]:
        self._step += 1
        at = self._step - FIRST_STEP
        loss = 2.3 * float(np.exp(-at / 30_000)) + 0.2 * float(self._wave.random())
        metrics = {"val_accuracy": 1 - loss / 3, "val_loss": loss * 1.1} if at % PER_EPOCH == 0 else {}
        shown = {"step": self._step, "epoch": at / PER_EPOCH, "loss": loss, "learning_rate": 1e-3}
        return {**shown, "metrics": metrics, "time": time.time()}


def until_drawn(page: Any, writer: CurveWriter, timeout_s: float = 300) -> None:
    """Until a browser's page shows the newest point."""
    look = "(step) => [...document.querySelectorAll('svg[data-lines] title')].some((one) => one.textContent.includes(step))"
    page.wait_for_function(look, arg=writer.newest, timeout=1000 * timeout_s)
