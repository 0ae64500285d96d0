"""Pages of a server that does not answer: first that they wait, then why they cannot, and a button to try again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.console.launch import Behind, Console
from tests.e2e.console.browsing import chromium

pytest.importorskip("playwright", reason="Playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
NOBODY = "127.0.0.1:1"


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Console]:
    console = Console(Behind(NOBODY), tmp_path / "console", 0, log=tmp_path / "log")
    yield console
    console.stop()


def test_a_server_that_does_not_answer_is_waited_for_and_told(closed: Console) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(closed.link())
        page.wait_for_url(re.compile(r"/p/default"))
        for path in ("/models", "/runs", "/datasets/flowers", "/evaluations/e", "/endpoints/e", "/train", "/settings"):
            page.goto(f"{closed.address}/p/default{path}")
            page.wait_for_selector(".skeleton, .state-error")
            page.wait_for_selector(".state-error")
            said = page.inner_text(".state-error")
            assert "The server does not answer" in said, path
            assert NOBODY in said, path
            assert "modelyard up" in said, path
            assert "Traceback" not in page.content()
        page.get_by_role("button", name="Try again").first.click()
        page.wait_for_selector(".skeleton")
        page.wait_for_selector(".state-error")
        browser.close()
