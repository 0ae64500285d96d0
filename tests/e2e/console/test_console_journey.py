"""The console in a browser: from dropped pictures over the training dialog to a prediction on the page; every page's states."""

from __future__ import annotations

import gzip
import os
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.console.browsing import Console, Visitor, console, visitor
from tests.support.sources import breast_cancer_csv, digits_folder

pytest.importorskip("playwright", reason="Playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SHOTS = Path(os.environ.get("MODELYARD_SCREENSHOTS", "/tmp/modelyard-screenshots"))
CLASSES = {0: "shirt", 1: "trousers", 8: "bag", 9: "boot"}
PER_CLASS = 150
EMPTY_PAGES = {
    "": "From a folder of data",
    "/datasets": "No data yet",
    "/datasets/new": "Drop a folder",
    "/annotation": "No round yet",
    "/annotation/new": "There is nothing to label yet",
    "/runs": "No run yet",
    "/runs?tab=crossings": "No cross-validation yet",
    "/runs?tab=jobs": "No training yet",
    "/compare": "Nothing to compare",
    "/train": "There is nothing to train on yet",
    "/models": "No model yet",
    "/endpoints": "Nothing is served yet",
    "/devices": "No device yet",
    "/settings": "Who you are",
    "/audit": "Nothing here",
}
MISSING_PAGES = (
    "/datasets/none",
    "/runs/none",
    "/jobs/none",
    "/crossings/none",
    "/annotation/none/none",
    "/annotation/none/none/label",
    "/models/none/V001",
    "/evaluations/none",
    "/exports/none",
    "/endpoints/none",
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with console(tmp_path_factory.mktemp("console")) as opened:
        yield opened


@pytest.fixture
def guest(here: Console) -> Iterator[Visitor]:
    with visitor(here, SHOTS) as opened:
        yield opened


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real pictures: a part of Fashion-MNIST where it is at hand, else scikit-learn's digits."""
    folder = tmp_path_factory.mktemp("pictures") / "fashion"
    data = Path(os.environ.get("MODELYARD_DATA", "../shared/data")) / "fashion_mnist"
    if not data.is_dir():
        return digits_folder(folder, per_class=PER_CLASS)
    pixels, labels = (_idx(next(data.glob(f"train-{kind}*"))) for kind in ("images", "labels"))
    for number, name in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for at in np.flatnonzero(labels == number)[:PER_CLASS]:
            Image.fromarray(pixels[at]).save(folder / name / f"{at:05}.png")
    return folder


def _idx(path: Path) -> np.ndarray:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def test_pages_without_anything_say_what_to_do(guest: Visitor) -> None:
    for path, words in EMPTY_PAGES.items():
        guest.go(f"/p/empty{path}")
        assert words in guest.text(), path
        guest.accessible()
    guest.go("/p/empty")
    guest.shot("empty-overview")


def test_what_is_not_there_is_told_in_the_services_words(guest: Visitor) -> None:
    for path in MISSING_PAGES:
        guest.go(f"/p/default{path}")
        said = guest.text()
        assert re.search(r"does not exist|no such|NOT_FOUND|no deployment|not found", said, re.IGNORECASE), (path, said[:400])
        assert "Traceback" not in said
        guest.page.get_by_role("button", name="Try again").first.click()
        guest.settled()
        guest.accessible()
    guest.problems.clear()
    guest.go("/nowhere")
    assert "This address leads nowhere" in guest.text()
    guest.problems.clear()


def test_a_link_lets_in_once_and_nobody_else(here: Console) -> None:
    import urllib.error
    import urllib.request

    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(here.root, timeout=30)
    assert caught.value.code == 401
    link = here.new_link()
    assert urllib.request.urlopen(link, timeout=30).status == 200
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(link, timeout=30)
    assert caught.value.code == 403


def test_from_dropped_pictures_to_a_prediction_on_the_page(guest: Visitor, pictures: Path) -> None:
    page = guest.page
    # Bring the data.
    guest.go("/p/default/datasets/new")
    page.set_input_files("#folder", str(pictures))
    page.wait_for_function("document.querySelector('[data-sent]').textContent.includes('are here')")
    page.fill("#name", "Fashion!")
    page.click("#import")
    page.wait_for_selector("#name-error")
    assert "'Fashion!'" in page.inner_text("#name-error")
    page.fill("#name", "fashion")
    page.click("#import")
    page.wait_for_selector("#imported", timeout=120_000)
    assert "image classification" in page.inner_text("#imported")
    guest.accessible()
    guest.shot("imported")

    # Look at it before anything is split.
    page.click("text=Look at it")
    guest.settled()
    page.wait_for_function("[...document.images].some(one => one.complete && one.naturalWidth > 0)")
    guest.accessible()
    guest.shot("dataset")
    page.click(".grid-pictures a >> nth=3")
    page.wait_for_selector("#look")
    guest.accessible()

    # The training dialog: wrong values are named, then a page to confirm.
    guest.go("/p/default/train?dataset=fashion")
    page.wait_for_selector("#dialog")
    guest.accessible()
    guest.shot("train")
    page.fill("#ratio", "1.5")
    page.fill("#max_ms", "0")
    page.click("#continue")
    page.wait_for_selector("#ratio-error")
    assert "one to five decimals" in page.inner_text("#ratio-error")
    assert "1 to 20000" in page.inner_text("#max_ms-error")
    guest.accessible()
    page.fill("#ratio", "0.75")
    page.fill("#max_ms", "100")
    page.fill("#hours", "0.2")
    page.get_by_role("button", name="Full").click()
    page.wait_for_selector("#epochs")
    page.fill("#recipe", "tinynet")
    page.fill("#epochs", "6")
    guest.accessible()
    page.get_by_role("button", name="JSON").click()
    page.wait_for_selector("#json")
    assert '"train_ratio": "0.75"' in page.input_value("#json")
    assert '"max_epochs": 6' in page.input_value("#json")
    guest.accessible()
    page.get_by_role("button", name="Quick").click()
    page.wait_for_selector("#ratio")
    page.click("#continue")
    page.wait_for_selector("#confirm")
    confirmation = page.inner_text("#confirm")
    assert "V001, published when training starts" in confirmation
    assert "0.75 : 0.25" in confirmation
    guest.accessible()
    guest.shot("confirm")
    page.click("#start")
    page.wait_for_url(re.compile(r"/runs/"))
    guest.settled()
    run = page.url

    # It goes on when the page is closed; live curves come when it is opened again.
    page.goto("about:blank")
    time.sleep(2)
    page.goto(run)
    page.wait_for_selector("#run")
    page.wait_for_selector("svg[data-lines]", timeout=300_000)
    guest.shot("run-live")
    page.wait_for_selector("#run[data-state='done']", timeout=400_000)
    page.wait_for_selector("#verdict")
    text = guest.text()
    assert "Completed" in text
    assert "Deploy" in page.inner_text("#verdict")
    guest.accessible()
    guest.shot("run")

    # Ask it, on the page, with a picture.
    page.get_by_role("link", name="Ask it").click()
    guest.settled()
    guest.accessible()
    bag = next((pictures / ("bag" if (pictures / "bag").is_dir() else "0")).iterdir())
    page.set_input_files("#picture", str(bag))
    page.wait_for_selector("#answer .answer", timeout=60_000)
    assert page.inner_text("#answer .answer") == bag.parent.name
    assert "%" in page.inner_text("#answer")
    guest.accessible()
    guest.shot("endpoint")


def pages_of_the_journey(here: Console) -> dict[str, str]:
    """Addresses of what the journey made, by the name of their picture; the test is skipped where it made nothing."""
    with here.client() as client:
        run = next(iter(client.pipelines.list_pipeline_runs()), None)
        if run is None or not run.result.evaluation:
            pytest.skip("the journey made no run")
        result = run.result
        if not list(client.datasets.list_quality_reports("fashion")):
            report = client.datasets.create_quality_report("fashion", depth="quick")
            client.datasets.wait_quality_report(report.name, 300)
    ids = {name: getattr(result, name).rpartition("/")[2] for name in ("training_job", "export", "evaluation", "endpoint")}
    return {
        "overview": "",
        "datasets": "/datasets",
        "dataset-v1": "/datasets/fashion?usage=test",
        "versions": "/datasets/fashion?tab=versions",
        "quality": "/datasets/fashion?tab=quality",
        "runs": "/runs",
        "jobs": "/runs?tab=jobs",
        "job": f"/jobs/{ids['training_job']}",
        "compare": f"/compare?jobs={ids['training_job']}",
        "models": "/models",
        "model": "/models/fashion",
        "model-version": "/models/fashion/V001",
        "evaluation": f"/evaluations/{ids['evaluation']}",
        "evaluation-examples": f"/evaluations/{ids['evaluation']}?tab=examples",
        "evaluation-slices": f"/evaluations/{ids['evaluation']}?tab=slices",
        "export": f"/exports/{ids['export']}",
        "endpoints": "/endpoints",
        "settings": "/settings",
        "audit": "/audit",
    }


def test_every_page_of_what_was_made(guest: Visitor, here: Console) -> None:
    """Runs after the journey."""
    pages = pages_of_the_journey(here)
    for name, path in pages.items():
        guest.go(f"/p/default{path}")
        guest.accessible()
        assert guest.page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"), f"{name} is wider than the window"
        guest.shot(name)
    # A cell of the confusion opens its examples.
    guest.go(f"/p/default{pages['evaluation']}")
    guest.page.click(".matrix a.cell >> nth=0")
    guest.page.wait_for_selector("#cell")
    assert "that were called" in guest.page.inner_text("#cell")


def test_every_page_on_a_phone_in_the_dark(here: Console) -> None:
    """Runs after the journey."""
    pages = pages_of_the_journey(here)
    with visitor(here, SHOTS, width=390, height=800, dark=True) as phone:
        for name, path in pages.items():
            phone.go(f"/p/default{path}")
            phone.accessible()
            assert phone.page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"), f"{name} is wider than a phone"
            phone.shot(f"phone-{name}")
        phone.page.get_by_role("button", name="Menu").click()
        phone.page.get_by_role("link", name="Endpoints", exact=True).click()
        phone.page.wait_for_url(re.compile(r"/endpoints"))
        phone.settled()


def test_a_table_is_asked_by_its_values_and_traffic_by_keyboard(guest: Visitor, here: Console, tmp_path: Path) -> None:
    """A second endpoint, of a table; everything here by keyboard."""
    page = guest.page
    source = breast_cancer_csv(tmp_path / "cancer.csv")
    guest.go("/p/default/datasets/new")
    page.click("summary")
    page.fill("#place", str(source))
    page.fill("#name", "cancer")
    page.press("#name", "Enter")
    page.wait_for_selector("#imported", timeout=120_000)
    guest.go("/p/default/datasets/cancer")
    assert "mean radius" in guest.text()
    guest.accessible()
    guest.shot("table")
    guest.go("/p/default/train?dataset=cancer")
    page.wait_for_selector("#dialog")
    page.focus("#continue")
    page.keyboard.press("Enter")
    page.wait_for_selector("#confirm")
    page.focus("#start")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/runs/"))
    page.wait_for_selector("#run[data-state='done']", timeout=300_000)
    guest.go("/p/default/endpoints/cancer")
    page.fill("[id='v-mean radius']", "a lot")
    page.click("#ask")
    page.wait_for_selector(".notice-bad")
    assert "'a lot'" in page.inner_text(".notice-bad")
    page.fill("[id='v-mean radius']", "12.5")
    page.press("[id='v-mean radius']", "Enter")
    page.wait_for_selector("#answer .answer")
    assert page.inner_text("#answer .answer") in ("benign", "malignant")
    guest.shot("endpoint-table")
