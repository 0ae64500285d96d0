"""What pages of the console cost: with a data set of 70,000 pictures, 1,000 runs, and a training of 100,000 points.

    PYTHONPATH=. .venv/bin/python tests/bench/console_pages.py [--pictures 70000] [--runs 1000] [--points 100000] [--rounds 5]

One server, one browser, one run: every page is loaded in turn with an empty page (one without data) beside. Prints of each page
the browser's own timing in ms (median and largest over the rounds, first load apart), its ratio to the empty page, and processor
seconds of the console's and the server's processes for one load. Needs Playwright and the system's Chromium.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import struct
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.client.drawing.curves import training_charts
from modelyard.console.parts.live import Curves
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.trainer.v1 import trainer_pb2
from tests.e2e.console.browsing import Console, Visitor, console, visitor

TICK = os.sysconf("SC_CLK_TCK")
READY = "(() => { const t = performance.getEntriesByType('navigation')[0]; return t.loadEventEnd - t.startTime; })()"
SEEN = "[...document.images].every((one) => one.complete || one.getBoundingClientRect().top > innerHeight)"


def idx(folder: Path, count: int) -> Path:
    """Pictures of 28 by 28 as MNIST has them: noise over one of ten patterns."""
    draw = np.random.default_rng(0)
    labels = (np.arange(count) % 10).astype(np.uint8)
    pixels = (draw.integers(0, 256, (10, 28, 28))[labels] // 2 + draw.integers(0, 128, (count, 28, 28))).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes())
    (folder / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())
    return folder


def many_runs(of: Console, count: int) -> None:
    """A short training and a run that is cancelled, each as many times in the database as are wanted: lists read rows, and do not
    ask how they came to be."""
    with of.client() as client:
        wanted = trainer_pb2.TrainingJob(dataset_version=client.names.dataset_version("many/V001"), display_name="run")
        wanted.model = client.names.parent + "/models/many"
        wanted.recipe.recipe_id = "tinynet"
        wanted.recipe.hyperparameters.max_steps = 10
        job = client.training.create_training_job(wanted)
        client.training.wait_training_job(job.name, 400)
        run = client.pipelines.create_pipeline_run(
            pipeline_pb2.PipelineRun(dataset_version=wanted.dataset_version, model=wanted.model, endpoint="")
        )
        client.pipelines.cancel_pipeline_run(run.name)
        time.sleep(2)
    for name in (job.name, run.name):
        copy_row(of.data_dir, name, count)


def copy_row(data_dir: Path, name: str, count: int) -> None:
    """The row of a job, again under other names, a second earlier each."""
    for path in data_dir.rglob("*.db"):
        with sqlite3.connect(path, timeout=60) as database:
            database.row_factory = sqlite3.Row
            try:
                row = database.execute("SELECT * FROM job WHERE name = ?", (name,)).fetchone()
            except sqlite3.OperationalError:
                continue
            if row is None:
                continue
            columns, first = row.keys(), datetime.fromisoformat(row["create_time"])
            marks = ", ".join("?" * len(columns))
            rows = [
                [
                    f"{name[:-6]}{at:06}"
                    if column == "name"
                    else (first - timedelta(seconds=at + 1)).isoformat()
                    if column == "create_time"
                    else row[column]
                    for column in columns
                ]
                for at in range(count - 1)
            ]
            database.executemany(f"INSERT INTO job ({', '.join(columns)}) VALUES ({marks})", rows)


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


def used(pids: list[int]) -> float:
    """Processor seconds."""
    total = 0
    for pid in pids:
        try:
            parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(parts[11]) + int(parts[12])
    return total / TICK


def load(guest: Visitor, path: str, own: list[int], rest: list[int]) -> tuple[float, float, float, float]:
    """Milliseconds to the load event, to what is seen; processor seconds of console and server."""
    before = used(own), used(rest)
    began = time.perf_counter()
    guest.page.goto(guest.console.root + path, wait_until="load")
    loaded = float(guest.page.evaluate(READY))
    guest.settled()
    guest.page.wait_for_function(SEEN)
    seen = (time.perf_counter() - began) * 1000
    time.sleep(0.2)
    return loaded, seen, used(own) - before[0], used(rest) - before[1]


def measure(guest: Visitor, pages: dict[str, str], rounds: int) -> None:
    every = processes(guest.console.process.pid)
    own = [pid for pid, command in every.items() if "modelyard.console" in command]
    rest = [pid for pid in every if pid not in own]
    taken: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in pages}
    for _ in range(rounds + 1):
        for name, path in pages.items():
            taken[name].append(load(guest, path, own, rest))
    empty = statistics.median(one[1] for one in taken["empty"][1:])
    print(f"{'page':24} {'first':>7} {'load':>7} {'seen':>7} {'most':>7} {'of empty':>9} {'console s':>10} {'server s':>9}")
    for name, found in taken.items():
        later = found[1:]
        loaded, seen, mine, theirs = (statistics.median(one[at] for one in later) for at in range(4))
        most = max(one[1] for one in later)
        print(
            f"{name:24} {found[0][1]:7.0f} {loaded:7.0f} {seen:7.0f} {most:7.0f} {seen / empty:9.2f} {mine:10.3f} {theirs:9.3f}",
            flush=True,
        )


def curves(count: int) -> None:
    """A live curve of so many points: what a point costs at the beginning and at the end, and what one drawing weighs."""

    def points(start: int, size: int) -> list[Any]:
        made = [
            trainer_pb2.TrainingPoint(step=at, loss=1 + np.sin(at / 999), learning_rate=1e-3) for at in range(start, start + size)
        ]
        return made

    kept, part = Curves(), count // 10
    costs = []
    for start in range(0, count, part):
        given = points(start, part)
        began = time.process_time()
        kept.take(given)
        costs.append((time.process_time() - began) / part)
    began = time.process_time()
    text = training_charts(kept)
    drawn = time.process_time() - began
    print(f"curve of {count} points: {1e6 * costs[0]:.1f} us a point at first, {1e6 * costs[-1]:.1f} at the end;", end=" ")
    print(f"one drawing {1000 * drawn:.1f} ms, {len(text) // 1000} kB, {len(kept.loss.points())} points of {kept.loss.count}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=70_000)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="a data folder to keep and use again")
    asked = parser.parse_args()
    curves(asked.points)
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with console(folder) as opened:
            with opened.client() as client:
                if not any(True for _ in client.datasets.list_datasets()):
                    client.datasets.create_dataset("many")
                    blob = client.artifacts.upload(idx(folder / "source", asked.pictures))
                    client.datasets.wait_import(client.datasets.create_import("many", blob).name, 600)
                    client.datasets.wait_dataset_version(client.datasets.create_dataset_version("many").name, 600)
                    many_runs(opened, asked.runs)
            pages = {
                "empty": "/p/empty/models",
                "home": "/p/default",
                "datasets": "/p/default/datasets",
                "pictures": "/p/default/datasets/many",
                "pictures, one class": "/p/default/datasets/many?label=3&usage=train",
                "pictures, page 1000": "/p/default/datasets/many?skip=60000",
                "runs": "/p/default/runs",
                "trainings": "/p/default/runs?tab=jobs",
                "trainings, page 19": "/p/default/runs?tab=jobs&skip=900",
            }
            with visitor(opened, folder / "shots") as guest:
                measure(guest, pages, asked.rounds)


if __name__ == "__main__":
    main()
