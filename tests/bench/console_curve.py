"""How smooth a training's page is while its curve of 100,000 points grows: its frames as a ratio to those of an idle page.

    PYTHONPATH=. .venv/bin/python tests/bench/console_curve.py [--points 100000] [--rounds 10] [--seconds 4] [--rate 20]

A machine that others use delays every frame, so a number of milliseconds says little of the page. Here two pages lie in one
browser, each in a process of its own: a list where nothing happens, and the page of a training with all its points. In turn,
round by round, the time between frames is taken of the idle page, of the training's page while nothing comes, and of the
training's page while points come (`--rate` a second; no training sends more than one): what others do to the machine, they do
to all three. Prints the quantiles of each, their ratios to the idle page's, and the processor time of the page's main thread
for one drawing (the browser's own count, which waiting for a processor does not lengthen), parted in script, style and layout.

Before that, what a point and a drawing cost the console's process; after it, the same page while points come in far faster than
any training sends them. Needs Playwright and the system's Chromium.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.client import Client
from modelyard.client.drawing.curves import training_charts
from modelyard.console.parts.live import Curves
from modelyard.trainer.v1 import trainer_pb2
from tests.bench.console_pages import load, used
from tests.e2e.console.browsing import Console, console, visitor
from tests.support.live_curve import CurveWriter, live_training, processes, until_drawn
from tests.support.sources import digits_folder

BETWEEN_S = 0.2
"""From one batch of points to the next: shorter than the console's own pace, so that each drawing has something new."""
LATE_MS = 25.0
"""A frame that was not there for the next turn of a screen of 60 Hz."""
WATCH = """() => {
  const seen = (globalThis.seen = { frames: [], drawn: 0 });
  let before = null;
  requestAnimationFrame(function look(now) {
    if (globalThis.seen !== seen) return;
    if (before !== null) seen.frames.push(now - before);
    before = now;
    requestAnimationFrame(look);
  });
  globalThis.drawing?.disconnect();
  globalThis.drawing = new MutationObserver(() => { seen.drawn += 1; });
  globalThis.drawing.observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
}"""
"""Notes the time between frames, and how often the page was changed, until it is called again."""
SEEN = """() => {
  const { frames, drawn } = globalThis.seen;
  globalThis.seen = null;
  globalThis.drawing.disconnect();
  return { frames, drawn };
}"""
METRICS = {"all": "TaskDuration", "script": "ScriptDuration", "style": "RecalcStyleDuration", "layout": "LayoutDuration"}


class Tab:
    """A page that is watched: its frames, and the processor time of its main thread."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self._session = page.context.new_cdp_session(page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def watch(self, during: Callable[[], None]) -> tuple[list[float], int, np.ndarray]:
        """Milliseconds between frames, drawings, and seconds of processor time (METRICS) while something is done."""
        self.page.bring_to_front()
        self.page.evaluate(WATCH)
        before = self._used()
        during()
        spent = self._used() - before
        seen = self.page.evaluate(SEEN)
        return seen["frames"][1:], seen["drawn"], spent

    def _used(self) -> np.ndarray:
        said = {one["name"]: one["value"] for one in self._session.send("Performance.getMetrics")["metrics"]}
        return np.array([said[name] for name in METRICS.values()])


def prepare(client: Client, folder: Path) -> None:
    """A data set to train on."""
    client.datasets.create_dataset("few")
    blob = client.artifacts.upload(digits_folder(folder / "few", per_class=40))
    client.datasets.wait_import(client.datasets.create_import("few", blob).name, 600)
    client.datasets.wait_dataset_version(client.datasets.create_dataset_version("few").name, 600)


def smoothness(idle: Tab, curve: Tab, writer: CurveWriter, rounds: int, seconds: float, rate: float) -> None:
    """The three kinds of frames in turn, and what they come to."""
    each = max(round(rate * BETWEEN_S), 1)
    kinds: dict[str, tuple[Tab, Callable[[], None]]] = {
        "an idle page": (idle, lambda: time.sleep(seconds)),
        "the curve, nothing comes": (curve, lambda: time.sleep(seconds)),
        f"the curve, {each / BETWEEN_S:.0f} points/s": (curve, lambda: writer.keep_writing(each, BETWEEN_S, seconds)),
    }
    frames: dict[str, list[float]] = {name: [] for name in kinds}
    drawn = dict.fromkeys(kinds, 0)
    spent = {name: np.zeros(len(METRICS)) for name in kinds}
    took = dict.fromkeys(kinds, 0.0)
    for _ in range(rounds):
        for name, (tab, during) in kinds.items():
            began = time.monotonic()
            found, changes, used_s = tab.watch(during)
            took[name] += time.monotonic() - began
            frames[name] += found
            drawn[name] += changes
            spent[name] += used_s
        until_drawn(curve.page, writer)
    print(f"load average {os.getloadavg()[0]:.1f}; {rounds} rounds of {seconds:g} s each, in turn")
    titles = ("frames/s", "mean ms", "p50", "p95", "p99", "most", "late %", "drawings/s", "busy %")
    print(f"{'':28} " + " ".join(f"{title:>10}" for title in titles))
    base: np.ndarray | None = None
    for name, found in frames.items():
        times = np.array(found)
        row = np.array([times.mean(), *np.percentile(times, (50, 95, 99))])
        late = 100 * np.mean(times > LATE_MS)
        said = [len(times) / took[name], *row, times.max(), late, drawn[name] / took[name], 100 * spent[name][0] / took[name]]
        print(f"{name:28} " + " ".join(f"{value:10.1f}" for value in said), flush=True)
        if base is None:
            base = row
        else:
            ratios = " ".join(f"{value:10.2f}" for value in row / base)
            print(f"{'  of the idle page':28} {'':>10} {ratios}", flush=True)
    last, still = list(kinds)[-1], list(kinds)[1]
    one = 1000 * (spent[last] - spent[still] * took[last] / took[still]) / max(drawn[last], 1)
    parts = ", ".join(f"{name} {value:.2f}" for name, value in zip(METRICS, one, strict=True))
    print(f"processor time of the page's main thread for one drawing, ms: {parts}", flush=True)


def stress(of: Console, tab: Tab, writer: CurveWriter, points: int) -> None:
    """Points that come far faster than a training sends them: what the page and the console's process do."""

    def rest() -> None:
        for _ in range(80):
            began = time.monotonic()
            writer.write(points // 80)
            time.sleep(max(0.25 - (time.monotonic() - began), 0))
        until_drawn(tab.page, writer)

    own = [pid for pid, command in processes(of.process.pid).items() if "modelyard.console" in command]
    before, began = used(own), time.monotonic()
    frames, drawn, _ = tab.watch(rest)
    took = time.monotonic() - began
    p50, p95, p99 = np.percentile(frames, (50, 95, 99))
    print(f"{points:,} points more in {took:.0f} s: {len(frames) / took:.1f} frames/s, {p50:.1f} ms p50, {p95:.1f} p95,", end=" ")
    print(f"{p99:.1f} p99, {max(frames):.0f} at most; {drawn} drawings; the console's process used {used(own) - before:.1f} s")


def drawing(count: int) -> None:
    """What a point costs at the beginning and at the end, and what one drawing weighs."""

    def points(start: int, size: int) -> list[Any]:
        steps = range(start, start + size)
        return [trainer_pb2.TrainingPoint(step=at, loss=1 + np.sin(at / 999), learning_rate=1e-3) for at in steps]

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
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=20.0, help="points a second; no training sends more than one")
    asked = parser.parse_args()
    drawing(asked.points)
    with tempfile.TemporaryDirectory() as temporary, console(Path(temporary)) as opened, opened.client() as client:
        prepare(client, Path(temporary))
        with live_training(opened.process.pid, client, "few/V001") as job, visitor(opened, Path(temporary)) as guest:
            writer = CurveWriter(opened.data_dir / "modelyard.db", job)
            for _ in range(10):
                writer.write(asked.points // 10)
            seen = load(guest.page, f"{opened.root}/p/default/jobs/{job.rpartition('/')[2]}")
            began = time.monotonic()
            until_drawn(guest.page, writer)
            print(f"the page is there after {seen:.0f} ms, its {asked.points:,} points {time.monotonic() - began:.1f} s later")
            kept = guest.page.context.storage_state()
            apart = guest.page.context.browser.new_context(viewport=guest.page.viewport_size, storage_state=kept)
            other = apart.new_page()
            load(other, f"{opened.root}/p/empty/models")
            curve = Tab(guest.page)
            smoothness(Tab(other), curve, writer, asked.rounds, asked.seconds, asked.rate)
            stress(opened, curve, writer, asked.points // 10)
            apart.close()


if __name__ == "__main__":
    main()
