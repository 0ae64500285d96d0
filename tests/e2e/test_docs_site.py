"""The docs site: built strictly, and a browser that opens it asks nobody else for anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.console.browsing import chromium

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / ".build" / "docs" / "site"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_site_is_built_and_loads_nothing_from_elsewhere() -> None:
    from playwright.sync_api import sync_playwright

    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/site/build.py")], capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {str(path.relative_to(SITE)) for path in SITE.rglob("*.html")}
    assert {"index.html", "tutorials/tables.html", "reference/cli.html", "reference/modelyard.trainer.v1.html"} <= pages
    assert "WatchTrainingJob" in (SITE / "reference" / "modelyard.trainer.v1.html").read_text()
    assert "MODELYARD_DATABASE_URL" in (SITE / "reference" / "settings.html").read_text()
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        for name in ("index.html", "architecture.html", "reference/cli.html"):
            page.goto((SITE / name).as_uri())
            assert page.locator("h1").first.is_visible()
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
