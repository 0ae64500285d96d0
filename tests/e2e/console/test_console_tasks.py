"""Pages of what is no class of a picture: residuals of a regression, boxes of a detector, cross-validation; and reports."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from modelyard.client import Client, last_part
from modelyard.trainer.v1 import trainer_pb2
from tests.e2e.console.browsing import Console, Visitor, console, visitor
from tests.support.shapes import write_shapes
from tests.support.sources import diabetes_csv

pytest.importorskip("playwright", reason="Playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SHOTS = Path(os.environ.get("MODELYARD_SCREENSHOTS", "/tmp/modelyard-screenshots"))


class World(NamedTuple):
    """A console, and the ids of what was made: a training, an evaluation of each model."""

    opened: Console
    training: str
    regression: str
    detector: str
    check: str


def made(client: Client, name: str, source: Path, recipe: str, **hyperparameters: int) -> tuple[str, str]:
    """A data set, a model of it, its export, its scores: the ids of training and evaluation."""
    client.datasets.create_dataset(name)
    blob = client.artifacts.upload(source)
    client.datasets.wait_import(client.datasets.create_import(name, blob, file_name=source.name).name, 300)
    version = client.datasets.wait_dataset_version(client.datasets.create_dataset_version(name).name, 300)
    wanted = trainer_pb2.Recipe(recipe_id=recipe, hyperparameters=trainer_pb2.Hyperparameters(**hyperparameters))
    job = client.training.create_training_job(dataset_version=version.name, model=name, recipe=wanted)
    job = client.training.wait_training_job(job.name, 300)
    export = client.exports.wait_export(client.exports.create_export(job.model_version).name, 300)
    found = client.evaluations.wait_evaluation(client.evaluations.create_evaluation(export.name).name, 300)
    return last_part(job.name), last_part(found.name)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("sources")
    write_shapes(folder / "shapes", {"train": 60, "val": 12, "test": 20})
    with console(tmp_path_factory.mktemp("console")) as opened, opened.client() as client:
        training, regression = made(client, "diabetes", diabetes_csv(folder / "diabetes.csv"), "linear")
        check = client.datasets.create_quality_report("diabetes", dataset_version="diabetes/V001", depth="quick")
        _, detector = made(client, "shapes", folder / "shapes", "detector-micro", max_steps=12)
        client.datasets.wait_quality_report(check.name, 300)
        yield World(opened, training, regression, detector, check.name)


@pytest.fixture
def guest(world: World) -> Iterator[Visitor]:
    with visitor(world.opened, SHOTS) as opened:
        yield opened


def fits(guest: Visitor) -> None:
    guest.accessible()
    assert guest.page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"), guest.page.url


def test_a_regression_shows_how_far_it_is_off(guest: Visitor, world: World) -> None:
    page, path = guest.page, f"/p/default/evaluations/{world.regression}"
    guest.go(path)
    with world.opened.client() as client:
        residuals = client.evaluations.get_curves(world.regression).residuals
    assert page.locator("#residuals .scatter circle").count() == len(residuals.points) == residuals.example_count > 20
    assert page.locator("#residuals rect.bar-column").count() == len(residuals.counts)
    rows = page.locator("table", has_text="95 % interval").locator("tbody tr").all_inner_texts()
    assert [row for row in rows if "less is better" in row and row.startswith(("RMSE", "MAE"))]
    assert not [row for row in rows if "less is better" in row and row.startswith("Residual")]
    fits(guest)
    guest.shot("residuals")
    page.click("#residuals .scatter a >> nth=0")
    page.wait_for_selector("#look")
    guest.go(f"{path}?tab=examples")
    assert "Off by" in guest.text()
    fits(guest)


def test_what_a_detector_found_is_drawn_over_what_is_there(guest: Visitor, world: World) -> None:
    page = guest.page
    guest.go(f"/p/default/evaluations/{world.detector}")
    assert "mAP at 0.5" in guest.text()
    assert "Accuracy" not in page.inner_text("thead >> nth=0"), "boxes are right or wrong, not classes of pictures"
    guest.go(f"/p/default/evaluations/{world.detector}?tab=examples")
    assert page.locator("#worst .picture").count() == 20
    with world.opened.client() as client:
        ids = [one.example_id for one in client.examples.page("shapes/V001", usage="test", page_size=50).examples]
        found = client.evaluations.get_evaluation(world.detector)
        listed = client.evaluations.list_predictions(world.detector, example_ids=ids, page_size=50).predictions
    threshold = found.suggested_threshold or 0.5
    assert page.locator("#worst rect.found").count() == sum(box.score >= threshold for one in listed for box in one.boxes)
    page.wait_for_function("[...document.querySelectorAll('#worst img')].some((one) => one.complete && one.naturalWidth > 0)")
    fits(guest)
    guest.shot("detections")


def test_a_training_is_cross_validated_and_reported(guest: Visitor, world: World) -> None:
    page = guest.page
    guest.go(f"/p/default/jobs/{world.training}")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Report").click()
    report = opened.value
    report.wait_for_load_state()
    assert "Experiment" in report.content()
    assert report.locator("script").count() == 0
    report.screenshot(path=str(SHOTS / "report.png"))
    report.close()
    page.fill("#folds", "2")
    page.click("#cross")
    page.wait_for_url(re.compile("/crossings/"))
    page.wait_for_selector(".badge:has-text('Completed') >> nth=2", timeout=120_000)
    assert page.locator(".fold-dots").count() == page.locator(".figures .figure").count() == 3
    assert page.locator(".fold-dots .dot").count() == 6
    assert "drawn once" in guest.text()
    fits(guest)
    guest.shot("crossing")


def test_a_version_leads_to_the_report_of_its_check(guest: Visitor, world: World) -> None:
    page = guest.page
    for path in ("/p/default/datasets/diabetes?version=V001", "/p/default/datasets/diabetes?tab=versions"):
        guest.go(path)
        fits(guest)
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="Report").click()
        opened.value.wait_for_load_state()
        assert "diabetes" in opened.value.content()
        opened.value.close()
    answer = page.request.get(f"{world.opened.root}/report?of=projects/default/trainingJobs/none")
    assert answer.status == 404
    assert "Traceback" not in answer.text()


def test_they_are_read_on_a_phone_in_the_dark(world: World) -> None:
    with visitor(world.opened, SHOTS, width=390, height=800, dark=True) as phone:
        for name, path in {
            "residuals": f"/evaluations/{world.regression}",
            "detections": f"/evaluations/{world.detector}?tab=examples",
            "crossings": "/runs?tab=crossings",
            "versions": "/datasets/diabetes?tab=versions",
        }.items():
            phone.go(f"/p/default{path}")
            fits(phone)
            phone.shot(f"phone-{name}")
