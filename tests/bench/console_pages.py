"""What pages of the console cost: with a data set of 70,000 pictures and 1,000 runs.

    PYTHONPATH=. .venv/bin/python tests/bench/console_pages.py [--pictures 70000] [--runs 1000] [--rounds 3]

One server, one browser. What the pages show is made through the services once (a data set, a journey from data to an endpoint);
that journey is then written to the database as often as is asked for, under other names: lists read rows, and do not ask how they
came to be. Prints of each page, in the browser's own clock, ms until it is seen whole (nothing waits any more, the pictures in
the window are there): the first time, with an empty cache, and with a warm one (least, median, largest; on a machine that others
use the least says most); the median's ratio to an empty page's; and processor seconds of the console's and of the server's
processes for one warm load. A page that changes while it is looked at: console_curve.py.

Needs Playwright and the system's Chromium; the pictures are Fashion-MNIST's where MODELYARD_DATA has them, else noise.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import struct
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from modelyard.client import Client
from modelyard.pipeline.v1 import pipeline_pb2
from tests.e2e.console.browsing import Console, Visitor, console, visitor
from tests.support.live_curve import processes
from tests.support.sources import digits_folder

TICK = os.sysconf("SC_CLK_TCK")
ID_DIGITS = 6
WHOLE = """() => document.querySelector('.frame-body') && !document.querySelector('.skeleton')
  && [...document.images].every((one) => one.complete || one.getBoundingClientRect().top > innerHeight) && performance.now()"""


class Journey(NamedTuple):
    """The names of what one run made."""

    run: str
    training: str
    version: str
    export: str
    evaluation: str
    decision: str


def source(folder: Path, count: int) -> Path:
    """A folder with pictures as MNIST has them."""
    real = Path(os.environ.get("MODELYARD_DATA", "../shared/data")) / "fashion_mnist"
    if count == 70_000 and real.is_dir():
        return real
    draw = np.random.default_rng(0)
    labels = (np.arange(count) % 10).astype(np.uint8)
    pixels = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes())
    (folder / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())
    return folder


def prepare(of: Console, folder: Path, pictures: int, runs: int) -> None:
    """What the pages show."""
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {what}", flush=True)

    with of.client() as client:
        client.datasets.create_dataset("many")
        blob = client.artifacts.upload(source(folder / "many", pictures))
        client.datasets.wait_import(client.datasets.create_import("many", blob).name, 600)
        client.datasets.wait_dataset_version(client.datasets.create_dataset_version("many").name, 600)
        say(f"a data set of {pictures:,} pictures")
        report = client.datasets.create_quality_report("many", depth="quick")
        client.datasets.wait_quality_report(report.name, 600)
        say("its quality report")
        client.datasets.create_dataset("few")
        blob = client.artifacts.upload(digits_folder(folder / "few", per_class=40))
        client.datasets.wait_import(client.datasets.create_import("few", blob).name, 600)
        names = {kind: f"{client.names.parent}/{kind}s/few" for kind in ("dataset", "model", "endpoint")}
        wanted = pipeline_pb2.PipelineRun(**names)
        wanted.recipe.recipe_id = "tinynet"
        wanted.recipe.hyperparameters.max_epochs = 5
        made = client.pipelines.wait_pipeline_run(client.pipelines.create_pipeline_run(wanted).name, 900)
        say("a journey from data to an endpoint")
        multiply(of.data_dir / "modelyard.db", journey_of(client), runs)
        say(f"{runs:,} of it")
    assert made.result.evaluation, made


def journey_of(client: Client) -> Journey:
    """The newest run that came to its end."""
    for run in client.pipelines.list_pipeline_runs():
        one = run.result
        if one.evaluation:
            return Journey(run.name, one.training_job, one.model_version, one.export, one.evaluation, one.gate_decision.name)
    raise AssertionError("no run came to its end")


def multiply(path: Path, one: Journey, count: int) -> None:
    """The rows of a journey `count` - 1 times more, each a second earlier than the one before."""
    with sqlite3.connect(path, timeout=60) as database:
        database.row_factory = sqlite3.Row
        for table in ("job", "resource"):
            marks = ", ".join("?" * len(one))
            for row in database.execute(f"SELECT * FROM {table} WHERE name IN ({marks})", one).fetchall():
                columns = ", ".join(row.keys())
                rows = [_again(dict(row), one, at) for at in range(1, count)]
                database.executemany(f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(row))})", rows)


def _again(row: dict[str, Any], one: Journey, at: int) -> list[Any]:
    row["create_time"] = _time(datetime.fromisoformat(row["create_time"]) - timedelta(seconds=at))
    new = [
        f"{each.rpartition('/')[0]}/V{at + 1:03}" if each == one.version else f"{each[:-ID_DIGITS]}{at:0{ID_DIGITS}}"
        for each in one
    ]
    for column, value in row.items():
        if isinstance(value, str):
            for before, after in zip(one, new, strict=True):
                value = value.replace(before, after)
            row[column] = value
    return list(row.values())


def _time(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="microseconds")


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


def load(page: Any, address: str) -> float:
    """Milliseconds until a page is seen whole."""
    page.goto(address, wait_until="commit")
    return float(page.wait_for_function(WHOLE, timeout=120_000).json_value())


def cold(guest: Visitor, path: str) -> float:
    """The same in a browser that has kept nothing but who it is."""
    kept = guest.page.context.storage_state()
    context = guest.page.context.browser.new_context(viewport=guest.page.viewport_size, storage_state=kept)
    try:
        return load(context.new_page(), guest.console.root + path)
    finally:
        context.close()


class Warm(NamedTuple):
    """A load with a warm cache: milliseconds, processor seconds of console and server."""

    ms: float
    console: float
    server: float


def measure(guest: Visitor, pages: dict[str, str], rounds: int) -> None:
    """Every page in turn, round by round."""
    every = processes(guest.console.process.pid)
    own = [pid for pid, command in every.items() if "modelyard.console" in command]
    rest = [pid for pid in every if pid not in own]
    first = {name: cold(guest, path) for name, path in pages.items()}
    taken: dict[str, list[Warm]] = {name: [] for name in pages}
    for _ in range(rounds + 1):
        for name, path in pages.items():
            before = used(own), used(rest)
            seen = load(guest.page, guest.console.root + path)
            time.sleep(0.3)
            taken[name].append(Warm(seen, used(own) - before[0], used(rest) - before[1]))
    empty = statistics.median(one.ms for one in taken["empty"][1:])
    titles = f"{'cold ms':>8} {'least':>7} {'median':>7} {'most':>7} {'of empty':>9} {'console s':>10} {'server s':>9}"
    print(f"{'page':28} {titles}")
    for name, found in taken.items():
        found = found[1:]
        ms, mine, theirs = (statistics.median(each) for each in zip(*found, strict=True))
        least, most = min(one.ms for one in found), max(one.ms for one in found)
        times = f"{first[name]:8.0f} {least:7.0f} {ms:7.0f} {most:7.0f} {ms / empty:9.2f} {mine:10.3f} {theirs:9.3f}"
        print(f"{name:28} {times}", flush=True)


def pages_of(client: Client) -> dict[str, str]:
    """Addresses by what they are."""
    journey = journey_of(client)
    run, training, _, export, evaluation, _ = (name.rpartition("/")[2] for name in journey)
    versions = sorted(one.name.rpartition("/")[2] for one in client.models.list_model_versions("few", page_size=1000))
    picture = client.examples.page("many/V001", page_size=1, skip=40_000).examples[0].example_id
    trainings = [one.name.rpartition("/")[2] for one in client.training.list_training_jobs(page_size=8)][:8]
    return {
        "empty": "/p/empty/models",
        "overview": "/p/default",
        "datasets": "/p/default/datasets",
        "pictures": "/p/default/datasets/many",
        "pictures, one class": "/p/default/datasets/many?label=3&usage=train",
        "pictures, page 1000": "/p/default/datasets/many?skip=60000",
        "one picture": f"/p/default/datasets/many?example={picture}",
        "dataset versions": "/p/default/datasets/many?tab=versions",
        "quality": "/p/default/datasets/many?tab=quality",
        "annotation": "/p/default/annotation",
        "training dialog": "/p/default/train?dataset=many",
        "runs": "/p/default/runs",
        "runs, page 19": "/p/default/runs?skip=900",
        "run": f"/p/default/runs/{run}",
        "trainings": "/p/default/runs?tab=jobs",
        "trainings, page 19": "/p/default/runs?tab=jobs&skip=900",
        "training": f"/p/default/jobs/{training}",
        "eight trainings compared": f"/p/default/compare?jobs={','.join(trainings)}",
        "models": "/p/default/models",
        "model": "/p/default/models/few",
        "model version, the newest": f"/p/default/models/few/{versions[0]}",
        "model version, the oldest": f"/p/default/models/few/{versions[-1]}",
        "export": f"/p/default/exports/{export}",
        "evaluation": f"/p/default/evaluations/{evaluation}",
        "its examples": f"/p/default/evaluations/{evaluation}?tab=examples",
        "endpoints": "/p/default/endpoints",
        "endpoint": "/p/default/endpoints/few",
        "devices": "/p/default/devices",
        "audit": "/p/default/audit",
        "settings": "/p/default/settings",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=70_000)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="a data folder to keep and use again")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with console(folder) as opened:
            with opened.client() as client:
                if not any(True for _ in client.datasets.list_datasets()):
                    prepare(opened, folder, asked.pictures, asked.runs)
                pages = pages_of(client)
            with visitor(opened, folder / "shots") as guest:
                measure(guest, pages, asked.rounds)


if __name__ == "__main__":
    main()
