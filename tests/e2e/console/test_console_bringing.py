"""Bringing data in a browser, as somebody does who reads nothing: the wrong thing first, beside the box, twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.console.browsing import Console, Visitor, console, visitor
from tests.support.sources import breast_cancer_csv, digits_folder

pytest.importorskip("playwright", reason="Playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DROP = """
([at, files]) => {
  const carried = new DataTransfer();
  for (const [name, text] of files) carried.items.add(new File([text], name));
  const event = new DragEvent("drop", {dataTransfer: carried, bubbles: true, cancelable: true});
  document.querySelector(at).dispatchEvent(event);
  return event.defaultPrevented;
}
"""
"""Drops files of a name and a text; whether the browser stays on the page."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with console(tmp_path_factory.mktemp("console")) as opened:
        yield opened


@pytest.fixture
def guest(here: Console, tmp_path: Path) -> Iterator[Visitor]:
    with visitor(here, tmp_path) as opened:
        yield opened


def arrived(guest: Visitor) -> str:
    guest.page.wait_for_function("document.querySelector('[data-sent]').textContent.includes(' here. Press')")
    return str(guest.page.inner_text("[data-sent]"))


def test_what_is_dropped_beside_the_box_goes_into_it(guest: Visitor) -> None:
    guest.go("/p/default/datasets/new")
    assert guest.page.evaluate(DROP, ["h1", [["ages.csv", "age,label\n1,a\n"]]])
    assert arrived(guest).startswith("1 file,")
    assert guest.page.input_value("#name") == "ages"
    guest.go("/p/default/runs")
    assert guest.page.evaluate(DROP, ["h1", [["ages.csv", "age,label\n1,a\n"]]])
    assert guest.page.url.endswith("/runs")


def test_a_folder_without_a_file_is_told(guest: Visitor) -> None:
    guest.go("/p/default/datasets/new")
    guest.page.evaluate("document.querySelector('#folder').dispatchEvent(new Event('change'))")
    guest.page.wait_for_selector(".notice-bad")
    assert "There is no file in" in guest.page.inner_text(".notice-bad")


def test_the_wrong_thing_is_taken_back_and_a_taken_name_is_changed(guest: Visitor, tmp_path: Path) -> None:
    page = guest.page
    digits_folder(tmp_path / "digits", per_class=10)
    table = breast_cancer_csv(tmp_path / "cancer.csv")
    with guest.console.client() as client:
        client.datasets.create_dataset("taken")
        made = client.datasets.create_import("taken", client.artifacts.upload(table), file_name=table.name)
        client.datasets.wait_import(made.name, 120)
    guest.go("/p/default/datasets/new")
    page.set_input_files("#folder", str(tmp_path / "digits"))
    assert arrived(guest).startswith("100 files")
    page.click("text=Start over")
    page.wait_for_function("!document.querySelector('[data-sent]').textContent")
    page.set_input_files("#files", str(table))
    assert arrived(guest).startswith("1 file,")
    assert page.locator(".notice-bad").count() == 0, "the box was made ready twice"
    page.fill("#name", "taken")
    page.click("#import")
    page.wait_for_selector(".state-error")
    assert "There is a dataset taken already" in page.inner_text(".state-error")
    guest.accessible()
    page.fill("#name", "cancer")
    page.click("#import")
    page.wait_for_selector("#imported", timeout=120_000)
    assert "569 examples" in page.inner_text("#imported")
