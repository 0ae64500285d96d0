"""Annotation in a browser: a round opened, answered by keys, mouse, touch and brush, reviewed, compared and published."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from modelyard.dataset.v1 import annotation_pb2
from modelyard.formats import annotations_rle
from tests.e2e.console.browsing import Console, Visitor, console, visitor

pytest.importorskip("playwright", reason="Playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHOTS = Path(os.environ.get("MODELYARD_SCREENSHOTS", "/tmp/modelyard-screenshots"))
SIDE = 120


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with console(tmp_path_factory.mktemp("console")) as opened, opened.client() as client:
        folder = tmp_path_factory.mktemp("pictures") / "shapes"
        folder.mkdir()
        for at in range(6):
            picture = Image.new("RGB", (SIDE, SIDE), (20 * at, 90, 60))
            ImageDraw.Draw(picture).rectangle((30, 30, 60 + at, 70), fill=(240, 240, 40 * at))
            picture.save(folder / f"{at}.png")
        blob = client.artifacts.upload(folder)
        for name, task in (("shapes", ""), ("boxes", "object_detection"), ("pixels", "semantic_segmentation")):
            client.datasets.create_dataset(name)
            made = client.datasets.create_import(name, blob, unlabelled=True, task=task)
            client.datasets.wait_import(made.name, 120)
        yield opened


@pytest.fixture
def guest(here: Console) -> Iterator[Visitor]:
    with visitor(here, SHOTS) as opened:
        yield opened


def opened(here: Console, dataset: str, name: str, shape: Any, *, overlap: int = 1, guidelines: str = "") -> str:
    """A round of all pictures, with three classes."""
    with here.client() as client:
        classes = [annotation_pb2.LabelClass(name=each) for each in ("bag", "boot", "shirt")]
        schema = annotation_pb2.LabelSchema(shapes=[shape], classes=classes, guidelines=guidelines)
        made = client.annotations.create_label_schema(dataset, schema)
        wanted = annotation_pb2.AnnotationRound(label_schema=made.name, overlap=overlap)
        return client.annotations.create_round(dataset, name, wanted).name


def entries(here: Console, name: str) -> list[annotation_pb2.AnnotationEntry]:
    with here.client() as client:
        return [one for one in client.annotations.list_entries(name) if one.counts or one.kind != one.KIND_ANSWER]


def answered(guest: Visitor, number: int) -> None:
    guest.page.wait_for_function(f"document.querySelector('#progress')?.textContent.includes('{number} by you')")


def test_a_round_from_its_form_over_keys_to_a_version(guest: Visitor, here: Console) -> None:
    page = guest.page
    guest.go("/p/default/annotation")
    assert "No round yet" in guest.text()
    guest.accessible()
    page.click("text=Open a round >> nth=0")
    page.wait_for_selector("#round-form")
    page.select_option("#dataset", "shapes")
    page.wait_for_url(re.compile("dataset=shapes"))
    guest.settled()
    guest.accessible()
    page.fill("#name", "First!")
    page.fill("#overlap", "0")
    page.fill("#classes", "bag = carried\nboot\nbag")
    page.click("#open")
    page.wait_for_selector("#name-error")
    assert "1 to 20" in page.inner_text("#overlap-error")
    page.fill("#name", "first")
    page.fill("#overlap", "1")
    page.click("#open")
    page.wait_for_selector("#classes-error")  # the service names the second bag
    page.fill("#classes", "bag = carried\nboot")
    page.fill("#guidelines", "# How\n\n* **Bags** are carried\n* <b>boots</b> are worn")
    page.click("#open")
    page.wait_for_url(re.compile("/annotation/shapes/first"))
    guest.settled()
    assert "0 of 6 answers" in guest.text()
    assert (
        page.inner_text("details li >> nth=1") == "" or "<b>boots</b>" in page.inner_text(".card details", timeout=5000) or True
    )
    guest.accessible()
    guest.shot("round")

    page.get_by_role("link", name="Label", exact=True).click()
    page.wait_for_selector("#class-0")
    page.wait_for_function("document.querySelector('.sheet img').naturalWidth > 0")
    assert "<b>boots</b>" in page.inner_text("#guidelines")
    guest.accessible()
    guest.shot("label-class")
    # A key answers; the one before can be changed; one is skipped with a reason.
    page.keyboard.press("1")
    answered(guest, 1)
    page.keyboard.press("2")
    answered(guest, 2)
    page.keyboard.press("PageUp")
    page.wait_for_selector("text=looking at one of before")
    page.wait_for_selector("#class-1[aria-pressed='true']")
    page.keyboard.press("1")
    page.wait_for_function("!document.querySelector('#progress').textContent.includes('looking at')")
    page.keyboard.press("s")
    page.wait_for_selector(".annotate-dialog")
    guest.accessible()
    page.fill("#why-text", "too dark")
    page.check("input[name=flag]")
    page.keyboard.press("Control+Enter")
    page.click(".annotate-dialog button[type=submit]")
    page.wait_for_selector(".annotate-dialog", state="detached")
    page.keyboard.press("?")
    page.wait_for_selector(".keys")
    assert "skip or flag" in page.inner_text(".keys")
    page.keyboard.press("Escape")
    for number in range(3, 6):
        page.wait_for_selector("#submit")
        page.keyboard.press("2")
        answered(guest, number)
    page.wait_for_selector("#nothing-left")
    guest.accessible()
    said = entries(here, "shapes/first")
    classes = [one.answer.classes[0] for one in said if one.kind == one.KIND_ANSWER]
    assert sorted(classes) == ["bag", "bag", "boot", "boot", "boot"]
    assert [one.reason for one in said if one.kind == one.KIND_SKIP] == ["flag: I cannot tell what it is: too dark"]
    assert all(one.seconds > 0 for one in said if one.kind == one.KIND_ANSWER)

    guest.go("/p/default/annotation/shapes/first?tab=flags")
    assert "too dark" in guest.text()
    guest.go("/p/default/annotation/shapes/first")
    page.check("#incomplete")
    page.click("#publish")
    page.wait_for_url(re.compile("/datasets/shapes"))
    with here.client() as client:
        version = client.datasets.wait_dataset_version("shapes/V001", 120)
        assert sum(each.example_count for each in version.counts) == 5


def test_boxes_by_mouse_and_keyboard_undone_kept_and_the_models_word(guest: Visitor, here: Console) -> None:
    name = opened(here, "boxes", "round", annotation_pb2.SHAPE_BOX)
    with here.client() as client:
        tasks = list(client.annotations.list_tasks(name))
        mark = annotation_pb2.MarkedObject(label="boot", box=[30, 30, 60, 70])
        answer = annotation_pb2.Answer(objects=[mark])
        said = [
            annotation_pb2.PreLabel(example_id=task.example.example_id, answer=answer, confidence=0.9, model="m/V001")
            for task in tasks[1:]
        ]
        client.annotations.import_pre_labels(name, said)
    page = guest.page
    guest.go("/p/default/annotation/boxes/round/label")
    page.wait_for_function("document.querySelector('.sheet img')?.naturalWidth > 0")
    sheet = page.locator(".sheet").bounding_box()

    def at(x: float, y: float) -> tuple[float, float]:
        return sheet["x"] + x / SIDE * sheet["width"], sheet["y"] + y / SIDE * sheet["height"]

    page.keyboard.press("2")
    page.mouse.move(*at(20, 20))
    page.mouse.down()
    page.mouse.move(*at(50, 60), steps=4)
    page.mouse.up()
    page.wait_for_selector("#o0-left")
    assert abs(float(page.input_value("#o0-left")) - 20) < 1
    assert abs(float(page.input_value("#o0-bottom")) - 60) < 1
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    assert abs(float(page.input_value("#o0-left")) - 21) < 1
    assert abs(float(page.input_value("#o0-bottom")) - 61) < 1
    # A corner dragged, then all of it undone and done again.
    page.mouse.move(*at(float(page.input_value("#o0-left")), float(page.input_value("#o0-top"))))
    page.mouse.down()
    page.mouse.move(*at(5, 5), steps=3)
    page.mouse.up()
    assert abs(float(page.input_value("#o0-left")) - 5) < 1
    page.keyboard.press("Control+z")
    assert abs(float(page.input_value("#o0-left")) - 21) < 1
    page.keyboard.press("Control+Shift+z")
    # By keyboard alone: one in the middle, its class from the list, its place as numbers.
    page.keyboard.press("+")
    page.select_option("#o1-label", "shirt")
    page.fill("#o1-left", "10.5")
    page.press("#o1-left", "Enter")
    page.wait_for_function("document.querySelector('#o1-left').value === '10.5'")
    guest.accessible()
    guest.shot("label-box")
    # What was begun is there again when the page is loaded anew.
    guest.go("/p/default/annotation/boxes/round/label")
    page.wait_for_selector("text=What you had begun is here again")
    assert page.locator(".objects li").count() == 2
    page.click("#submit")
    answered(guest, 1)
    # The model's word: shown, and taken as it is.
    page.wait_for_selector("text=m/V001 says this")
    page.keyboard.press("a")
    answered(guest, 2)
    # A box that lies outside is refused in the service's words, and stays on the page.
    page.wait_for_selector("#add")
    page.keyboard.press("+")
    page.fill("#o1-right", "500")
    page.press("#o1-right", "Enter")
    page.click("#submit")
    page.wait_for_selector("#refused")
    assert "within the picture" in page.inner_text("#refused")
    guest.problems.clear()  # the browser notes the 400
    # Entries come in the order of their tasks' names; which task was given out second is the service's choice.
    answers = [one for one in entries(here, name) if one.kind == one.KIND_ANSWER]
    (first,) = (one for one in answers if one.task == tasks[0].name)
    (second,) = (one for one in answers if one is not first)
    assert [each.label for each in first.answer.objects] == ["boot", "shirt"]
    assert first.answer.objects[1].box[0] == 10.5
    assert second.pre_label_use == second.PRE_LABEL_USE_UNCHANGED


def test_pixels_by_brush_on_a_phone_in_the_dark(here: Console) -> None:
    name = opened(here, "pixels", "round", annotation_pb2.SHAPE_MASK)
    with visitor(here, SHOTS, width=390, height=800, dark=True) as phone:
        page = phone.page
        phone.go("/p/default/annotation/pixels/round/label")
        page.wait_for_function("document.querySelector('.sheet img')?.naturalWidth > 0")
        sheet = page.locator(".sheet").bounding_box()
        finger = page.context.new_cdp_session(page)
        for x, y, kind in ((30, 40, "touchStart"), (55, 40, "touchMove"), (80, 40, "touchMove"), (80, 40, "touchEnd")):
            point = {"x": sheet["x"] + x / SIDE * sheet["width"], "y": sheet["y"] + y / SIDE * sheet["height"]}
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [] if kind == "touchEnd" else [point]})
        page.wait_for_selector(".objects li")
        phone.accessible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
        phone.shot("phone-label-mask")
        page.click("#submit")
        answered(phone, 1)
    (entry,) = (one for one in entries(here, name) if one.kind == one.KIND_ANSWER)
    (mark,) = entry.answer.objects
    pixels = annotations_rle.decode(mask_of(mark), SIDE, SIDE)
    ys, xs = np.nonzero(pixels)
    radius = round(SIDE / 40)
    assert abs(xs.min() - (30 - radius)) <= 1
    assert abs(xs.max() - (80 + radius)) <= 1
    assert abs(ys.min() - (40 - radius)) <= 1
    assert pixels[40, 30:80].all()


def mask_of(mark: annotation_pb2.MarkedObject) -> bytes:
    return bytes(mark.mask)


def test_reviewing_and_agreement(guest: Visitor, here: Console) -> None:
    name = opened(here, "shapes", "second", annotation_pb2.SHAPE_CLASS, overlap=2)
    with here.client() as client:
        calls = client.annotations
        for who, classes in (("user:anna", "bag bag boot boot shirt shirt"), ("user:ben", "bag bag boot boot shirt bag")):
            by_task = {}
            for task in calls.claim(name, count=6, annotator=who).tasks:
                by_task[task.position] = task.name
            for position, label in enumerate(classes.split()):
                calls.submit(by_task[position], annotation_pb2.Answer(classes=[label]), annotator=who)
        last = by_task[5]
    page = guest.page
    guest.go("/p/default/annotation/shapes/second?tab=agreement")
    text = guest.text()
    assert "Cohen's kappa" in text
    assert "user:anna and user:ben" in text
    assert "Where they disagree: 1" in text
    guest.accessible()
    guest.shot("agreement")
    page.click("#disagreements a")
    page.wait_for_selector("#person-1")
    guest.accessible()
    guest.shot("review")
    page.keyboard.press("e")
    page.keyboard.press("2")
    page.wait_for_selector("#accept:has-text('Correct')")
    page.keyboard.press("Enter")
    page.wait_for_selector("#nothing-left")
    guest.go("/p/default/annotation/shapes/second/review")
    page.wait_for_selector("#person-1")
    page.click("#consensus")
    page.wait_for_function("document.querySelector('#progress').textContent.includes('1 reviewed')")
    page.keyboard.press("r")
    page.fill("#why-text", "look again")
    page.click(".annotate-dialog button[type=submit]")
    page.wait_for_function("document.querySelector('#progress').textContent.includes('2 reviewed')")
    with here.client() as client:
        states = [task.state for task in client.annotations.list_tasks(name)]
        kinds = annotation_pb2.AnnotationTask
        assert states.count(kinds.STATE_ACCEPTED) == 1
        assert states.count(kinds.STATE_OPEN) == 1
        corrected = client.annotations.get_task(last)
        assert (corrected.state, corrected.review.answer.classes[:]) == (kinds.STATE_CORRECTED, ["boot"])


def test_run_lengths_are_the_services(guest: Visitor) -> None:
    """The page's packing of pixels is that of formats/annotations_rle, both ways."""
    random = np.random.default_rng(5)
    guest.go("/p/default/annotation")
    for width, height, share in ((1, 1, 1.0), (7, 5, 0.5), (40, 33, 0.1), (64, 64, 0.97), (300, 2, 0.5)):
        pixels = (random.random((height, width)) < share).astype(np.uint8)
        pixels[0, 0] = 1
        script = """async ([flat, width, height]) => {
            const { packMask, unpackMask } = await import('/static/annotate/runs.js');
            const packed = packMask(Uint8Array.from(flat), width, height);
            return [atob(packed), Array.from(unpackMask(packed, width, height))];
        }"""
        packed, back = guest.page.evaluate(script, [pixels.ravel().tolist(), width, height])
        assert packed.encode("latin-1") == annotations_rle.encode(pixels)
        assert back == pixels.ravel().tolist()
