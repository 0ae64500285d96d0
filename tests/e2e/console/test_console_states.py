"""Pages of a server that does not answer: first that they wait, then why they cannot, and a button to try again."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelyard.client.access import token_in
from modelyard.console.launch import Behind, Console
from tests.e2e.console.browsing import chromium, console

pytest.importorskip("playwright", reason="Playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
NOBODY = "127.0.0.1:1"
ASKING_PAGES = (
    "",  # the overview: several services at once
    "/datasets/d?tab=quality",  # a page with tabs, which are there at once
    "/train",  # a dialog, which asks more once it is open
    "/annotation/d/r/label",  # with a script of its own
    "/runs?tab=jobs",  # a list
    "/runs/r",  # its title is asked for too
    "/endpoints/e",  # what is followed while it is shown
    "/settings",  # every service, one answer each
)
"""Pages that load differently; that all others wait and fail in the same place: tests/unit/console/test_console_pages.py."""


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Console]:
    console = Console(Behind(NOBODY), tmp_path / "console", 0, log=tmp_path / "log")
    yield console
    console.stop()


def test_a_server_that_does_not_answer_is_waited_for_and_told(closed: Console) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_context().new_page()
        page.set_default_timeout(60_000)
        page.goto(closed.link())
        page.wait_for_url(re.compile(r"/p/default"))
        tabs = {path: page.context.new_page() for path in ASKING_PAGES}
        for path, tab in tabs.items():
            tab.goto(f"{closed.address}/p/default{path}", wait_until="commit")
        for path, tab in tabs.items():
            tab.wait_for_selector(".state-error")
            said = tab.inner_text(".state-error")
            assert "The server does not answer" in said, path
            assert NOBODY in said, path
            assert "modelyard up" in said, path
            assert "Traceback" not in tab.content(), path
            tab.close()
        page.goto(f"{closed.address}/p/default/models")
        page.wait_for_selector(".skeleton, .state-error")
        page.wait_for_selector(".state-error")
        answer = page.request.get(f"{closed.address}/report?of=projects/default/pipelineRuns/r")
        assert (answer.status, NOBODY in answer.text(), "Traceback" in answer.text()) == (503, True, False)
        page.get_by_role("button", name="Try again").first.click()
        page.wait_for_selector(".skeleton")
        page.wait_for_selector(".state-error")
        browser.close()


def test_a_shared_console_is_entered_with_a_token_and_left(tmp_path: Path) -> None:
    """`python -m modelyard.console` beside a server, as the chart runs it: signing in, the pages as that person, signing out."""
    from playwright.sync_api import sync_playwright

    with console(tmp_path) as served, socket.socket() as free:
        token = token_in(served.data_dir, served.address)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        told = {"SERVER": served.address, "ADDRESS": "https://console.example", "HOST": "127.0.0.1", "PORT": str(port)}
        environment = {**os.environ, **{f"MODELYARD_CONSOLE_{name}": value for name, value in told.items()}}
        environment.pop("MODELYARD_TOKEN", None)
        shared = subprocess.Popen([sys.executable, "-m", "modelyard.console"], env=environment)
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"])
                page = browser.new_page()
                page.set_default_timeout(60_000)
                root = f"http://localhost:{port}"
                until(lambda: socket.create_connection(("127.0.0.1", port)).close() is None)
                page.goto(f"{root}/p/default/settings")
                assert "/sign-in?next=" in page.url
                page.fill("#token", "wrong" * 9)
                page.press("#token", "Enter")
                page.wait_for_selector("[role=alert]")
                page.fill("#token", token)
                page.press("#token", "Enter")
                page.wait_for_url(f"{root}/p/default/settings")
                page.wait_for_selector("text=Who you are")
                page.wait_for_selector(".facts")
                assert token not in page.content()
                page.goto(f"{root}/p/default/datasets/new")
                page.click("summary")
                assert page.locator("#place").count() == 0, "the pod's files are nobody's"
                # What a page does goes through the socket, as the same person.
                page.fill("#name", "Wrong!")
                page.click("#import")
                page.wait_for_selector("#name-error")
                page.get_by_role("button", name=re.compile("Sign out")).click()
                page.wait_for_url(f"{root}/sign-in")
                page.goto(f"{root}/p/default")
                assert "/sign-in?next=" in page.url
                browser.close()
        finally:
            shared.terminate()
            assert shared.wait(30) in (0, -15)


def until(works: Callable[[], bool]) -> None:
    """Until a call works that may fail at first."""
    end = time.monotonic() + 60
    while True:
        try:
            if works():
                return
        except OSError:
            assert time.monotonic() < end
        time.sleep(0.1)
