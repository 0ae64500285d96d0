"""Pages that change while somebody looks at them, or does not: a curve that grows, a log, an import that is under way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.client import Client
from modelyard.trainer.v1 import trainer_pb2
from tests.e2e.console.browsing import Console, Visitor, console, visitor
from tests.support.live_curve import CurveWriter, live_training, until_drawn, workers
from tests.support.sources import digits_folder

pytest.importorskip("playwright", reason="Playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TITLES = "[...document.querySelectorAll('svg[data-lines] title')].map((one) => one.textContent).join()"
SEEN = """(seen) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => !seen });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
"""Another tab comes in front of the page, or goes away again: a browser without a window has no such thing."""
LOG = """() => {
  const room = document.createElement("div");
  room.innerHTML = "<pre data-follow class=log style='height: 100px'></pre>";
  document.body.append(room);
  const log = room.firstChild;
  globalThis.grow = (lines) => { log.append("a line\\n".repeat(lines)); modelyard.shown(room); return left(); };
  globalThis.left = () => Math.round(log.scrollHeight - log.scrollTop - log.clientHeight);
  globalThis.scroll = (to) => new Promise((done) => { log.onscroll = () => requestAnimationFrame(done); log.scrollTop = to; });
}"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with console(tmp_path_factory.mktemp("console")) as opened:
        yield opened


@pytest.fixture
def guest(here: Console, tmp_path: Path) -> Iterator[Visitor]:
    with visitor(here, tmp_path) as opened:
        yield opened


@pytest.fixture
def client(here: Console) -> Iterator[Client]:
    with here.client() as opened:
        yield opened


def test_an_import_under_way_is_followed_to_its_end(here: Console, client: Client, guest: Visitor, tmp_path: Path) -> None:
    client.datasets.create_dataset("digits")
    blob = client.artifacts.upload(digits_folder(tmp_path / "digits", per_class=20))
    while not (held := workers(here.process.pid, "dataset")):
        time.sleep(0.1)
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    try:
        made = client.datasets.create_import("digits", blob)
        guest.go("/p/default/datasets/digits")
        guest.page.wait_for_selector("[role=progressbar]")
    finally:
        for pid in held:
            os.kill(pid, signal.SIGCONT)
    client.datasets.wait_import(made.name, 120)
    guest.page.wait_for_selector("text=200 examples")


def test_a_curve_that_grows(here: Console, client: Client, guest: Visitor, tmp_path: Path) -> None:
    page = guest.page
    client.datasets.create_dataset("few")
    blob = client.artifacts.upload(digits_folder(tmp_path / "few", per_class=20))
    client.datasets.wait_import(client.datasets.create_import("few", blob).name, 120)
    client.datasets.wait_dataset_version(client.datasets.create_dataset_version("few").name, 120)
    with live_training(here.process.pid, client, "few/V001") as job:
        writer = CurveWriter(here.data_dir / "modelyard.db", job)
        writer.write(1000)
        guest.go(f"/p/default/jobs/{job.rpartition('/')[2]}")
        until_drawn(page, writer, 60)

        # What is read under the pointer stays while points come.
        page.hover("svg[data-lines] >> nth=0", position={"x": 600, "y": 60})
        assert "training loss" in page.inner_text(".chart.read .reading")
        writer.write(500)
        until_drawn(page, writer, 60)
        assert "training loss" in page.inner_text(".chart.read .reading")
        assert page.get_attribute(".chart.read .pointer", "visibility") == "visible"
        page.hover("h1")
        page.wait_for_selector(".chart.read", state="detached")

        # What nobody sees is not drawn; the newest is there when the page is seen again.
        page.evaluate(SEEN, False)
        before = page.evaluate(TITLES)
        writer.write(10)
        time.sleep(2)
        assert page.evaluate(TITLES) == before
        page.evaluate(SEEN, True)
        assert writer.newest in page.evaluate(TITLES)

        # So are lists of what is under way; what is ticked stays ticked, wherever the list moves it.
        guest.go("/p/default/runs?tab=jobs")
        picked = f"#pick-{job.rpartition('/')[2]}"
        page.check(picked)
        other = client.training.create_training_job(
            trainer_pb2.TrainingJob(
                dataset_version=client.names.dataset_version("few/V001"), model=f"{client.names.parent}/models/other"
            )
        )
        page.wait_for_selector(f"#pick-{other.name.rpartition('/')[2]}")
        assert page.is_checked(picked)
        client.training.cancel_training_job(other.name)


def test_a_log_shows_its_end_until_somebody_scrolls_up(guest: Visitor) -> None:
    page = guest.page
    page.evaluate(LOG)
    assert page.evaluate("grow(100)") == 0
    assert page.evaluate("grow(100)") == 0
    page.evaluate("scroll(300)")
    before = page.evaluate("left()")
    assert page.evaluate("grow(100)") > before > 0
    page.evaluate("scroll(100000)")
    assert page.evaluate("grow(100)") == 0
