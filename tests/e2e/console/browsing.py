"""A browser before a console of its own: an embedded server, a link, the system's Chromium. Whatever it asks for is noted."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from modelyard.client import Client
from modelyard.client.access import Access, token_in

READY_S = 120.0
SERIOUS = ("serious", "critical")


def chromium() -> str:
    """The system's browser; the test is skipped without one, and fails in CI."""
    found = os.environ.get("MODELYARD_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        why = "no chromium on the PATH (apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return found


@dataclass
class Console:
    """A server with its console."""

    data_dir: Path
    address: str
    link: str
    process: subprocess.Popen[str]

    @property
    def root(self) -> str:
        return self.link.partition("/open")[0]

    def new_link(self) -> str:
        """What `modelyard console` prints beside this server."""
        command = [sys.executable, "-m", "modelyard.cli", "console", "--no-browser", "--data-dir", str(self.data_dir)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    def client(self) -> Client:
        return Client(self.address, access=Access(token_in(self.data_dir, self.address)))


@contextmanager
def console(folder: Path, python: str = sys.executable) -> Iterator[Console]:
    """`modelyard up` on free ports."""
    data_dir = folder / "data"
    command = [python, "-m", "modelyard.cli", "up", "--port", "0", "--console-port", "0", "--data-dir", str(data_dir)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MODELYARD_SERVER")}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env={**environment, "MODELYARD_DRAIN_S": "1"}
        )
    try:
        said = _said(process)
        address = re.search(r"ready at (\S+)", said)
        link = re.search(r"console: (\S+)", said)
        assert address, said
        assert link, said
        yield Console(data_dir, address[1], link[1], process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines: list[str] = []
    end = time.monotonic() + READY_S
    while time.monotonic() < end and process.poll() is None:
        lines.append(process.stdout.readline())
        if lines[-1].startswith("console"):
            break
    return "".join(lines)


@dataclass
class Visitor:
    """A page of a browser that came in by a link."""

    page: Any
    console: Console
    shots: Path
    asked: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        """To an address below the console's own, until it is there and connected."""
        self.page.goto(self.console.root + path, wait_until="load")
        self.settled()

    def settled(self) -> None:
        """Until what the page waits for has come."""
        self.page.wait_for_selector(".frame-body", state="attached")
        self.page.wait_for_function("!document.querySelector('.skeleton')", timeout=60_000)

    def shot(self, name: str, *, whole: bool = True) -> None:
        """A picture of the page, kept beside the tests' other results."""
        self.shots.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(self.shots / f"{name}.png"), full_page=whole)

    def accessible(self) -> None:
        """No serious finding of axe on the page as it is."""
        from axe_playwright_python.sync_playwright import Axe

        found = [one for one in Axe().run(self.page).response["violations"] if one["impact"] in SERIOUS]
        told = [f"{one['id']}: {one['help']}: {[node['html'][:160] for node in one['nodes'][:4]]}" for one in found]
        assert not told, f"{self.page.url}\n" + "\n".join(told)

    def text(self) -> str:
        return str(self.page.inner_text("body"))


@contextmanager
def visitor(of: Console, shots: Path, *, width: int = 1280, height: int = 860, dark: bool = False) -> Iterator[Visitor]:
    """A browser that opened the console by a new link. Fails when anything but 127.0.0.1 was asked, or a page's script failed."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"])
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light")
        page = context.new_page()
        page.set_default_timeout(60_000)
        made = Visitor(page, of, shots)
        page.on("request", lambda request: made.asked.append(request.url))
        page.on("pageerror", lambda error: made.problems.append(str(error)))
        page.on("console", lambda said: made.problems.append(said.text) if said.type == "error" else None)
        page.goto(of.new_link())
        page.wait_for_url(re.compile(r"/p/"))
        made.settled()
        try:
            yield made
        finally:
            context.close()
            browser.close()
        elsewhere = [url for url in made.asked if not url.startswith((of.root, "data:", "blob:"))]
        assert not elsewhere, elsewhere
        assert not made.problems, made.problems
