"""A report in a real browser: axe has no serious finding in light and dark, at both widths, and nothing is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.client.drawing.report import report_page
from tests.e2e.console.browsing import SERIOUS, chromium
from tests.support.report_facts import facts_of

pytestmark = [pytest.mark.slow]


def test_a_report_can_be_read_by_all_and_asks_for_nothing(tmp_path: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    pages = {task: tmp_path / f"{task}.html" for task in ("image_classification", "object_detection", "series_classification")}
    for task, path in pages.items():
        path.write_text(report_page(facts_of(task), "Written for a test."))
    found, asked = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-dev-shm-usage"])
        for dark, width, task in (
            (False, 1280, "image_classification"),
            (True, 390, "object_detection"),
            (True, 1280, "series_classification"),
        ):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
            page.on("request", lambda request: asked.append(request.url))
            page.goto(pages[task].as_uri())
            found += [
                f"{task}, {width} px: {one['id']}: {[node['html'][:120] for node in one['nodes'][:3]]}"
                for one in Axe().run(page).response["violations"]
                if one["impact"] in SERIOUS
            ]
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{task}: {wide} px wider than the window"
            page.close()
        browser.close()
    assert found == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
