"""Numbers to predict that are wrong, and classes of boxes that are wrong: planted, precision and recall."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from sklearn.datasets import make_friedman2

from modelyard.dataset.domain import label_checks, target_noise
from modelyard.dataset.domain.findings import Names
from modelyard.formats.pictures import encode_png
from tests.support.shapes import SIDE, shapes
from tests.unit.dataset.test_dataset_report_publish import Bench


def rows(count: int = 1500, noise: float = 20.0, share: float = 0.05) -> tuple[bytes, set[str]]:
    """A table of a number to predict; the share of rows that say another row's, by what a report calls them."""
    values, target = make_friedman2(count, noise=noise, random_state=0)
    rng = np.random.default_rng(1)
    moved = rng.choice(count, int(share * count), replace=False)
    target[moved] = target[rng.permutation(count)[: len(moved)]]
    out = io.StringIO("")
    out.write("a,b,c,d,y\n")
    for row, number in zip(values, target, strict=True):
        out.write(",".join(f"{value:.6g}" for value in (*row, number)) + "\n")
    return out.getvalue().encode(), {f"row {place + 1}" for place in moved.tolist()}


def test_numbers_that_are_other_rows_are_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    data, planted = rows()
    bench = Bench(tmp_path_factory.mktemp("t"))
    imported = bench.imported(data, label_column="y")
    finding = bench.report(imported)["LABEL_ERRORS"][0]
    assert finding.column == "y"
    assert finding.fix is not None
    assert len(finding.fix.examples) == finding.example_count
    assert np.mean([path in planted for path in finding.examples]) >= 0.9
    assert finding.example_count >= 0.6 * len(planted)


def test_nobody_is_accused_where_none_is_wrong_or_where_models_know_too_little(tmp_path_factory: pytest.TempPathFactory) -> None:
    bench = Bench(tmp_path_factory.mktemp("t"))
    data, _ = rows(share=0.0)
    assert "LABEL_ERRORS" not in bench.report(bench.imported(data, label_column="y"))
    data, _ = rows(noise=600.0)
    assert "LABEL_ERRORS" not in bench.report(bench.imported(data, label_column="y"))
    assert any("too little to call a number wrong" in note for note in bench.made.notes)


@pytest.mark.parametrize("shape", ["normal", "heavy", "growing"])
def test_errors_of_every_shape_are_not_taken_for_wrong_numbers(shape: str) -> None:
    rng = np.random.default_rng(0)
    predicted = rng.gamma(2.0, 50.0, 4000)
    errors = {
        "normal": rng.normal(size=4000),
        "heavy": rng.standard_t(3, 4000),
        "growing": rng.normal(size=4000) * predicted / 50,
    }
    given = predicted + 3 * errors[shape]
    assert (target_noise.fit(predicted, given).wrong >= 0.5).mean() < 0.003
    moved = rng.choice(4000, 200, replace=False)
    given[moved] = given[rng.permutation(4000)[:200]]
    noise = target_noise.fit(predicted, given)
    wrong = np.flatnonzero(noise.wrong >= 0.5)
    assert np.isin(wrong, moved).mean() > 0.85
    assert np.isin(moved, wrong).mean() > 0.7
    assert label_checks.accuses(noise)


def coco(count: int, moved: int) -> tuple[dict[str, bytes], set[str]]:
    """Discs and squares in pictures, as COCO; so many objects of them under the other class."""
    pictures, boxes, _ = shapes(count)
    files = {f"{place:03d}.png": encode_png(picture) for place, picture in enumerate(pictures)}
    objects = [(place, *box) for place, found in enumerate(boxes) for box in found]
    chosen = set(np.random.default_rng(0).choice(len(objects), moved, replace=False).tolist())
    said = {
        "images": [{"id": place, "file_name": name, "width": SIDE, "height": SIDE} for place, name in enumerate(files)],
        "categories": [{"id": 0, "name": "disc"}, {"id": 1, "name": "square"}],
        "annotations": [
            {
                "id": number,
                "image_id": place,
                "category_id": 1 - kind if number in chosen else kind,
                "bbox": [left, top, right - left, bottom - top],
            }
            for number, (place, kind, left, top, right, bottom) in enumerate(objects)
        ],
    }
    return {**files, "labels.json": json.dumps(said).encode()}, {f"{objects[number][0]:03d}.png" for number in chosen}


def test_objects_under_another_class_are_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    bench = Bench(tmp_path_factory.mktemp("t"))
    files, planted = coco(150, 9)
    finding = bench.report(bench.imported(files, "c.zip"))["BOX_CLASS_ERRORS"][0]
    assert set(finding.examples) == planted
    assert '"disc" that looks like "square"' in finding.message
    files, _ = coco(150, 0)
    assert "BOX_CLASS_ERRORS" not in bench.report(bench.imported(files, "c.zip"))


def test_boxes_far_outside_a_picture_are_no_bomb(tmp_path_factory: pytest.TempPathFactory) -> None:
    files, _ = coco(60, 0)
    said = json.loads(files["labels.json"])
    for each in said["annotations"][::3]:
        each["bbox"] = [-1e7, -1e7, 3e7, 3e7]
    bench = Bench(tmp_path_factory.mktemp("t"))
    assert "BOX_OUTSIDE" in bench.report(bench.imported({**files, "labels.json": json.dumps(said).encode()}, "c.zip"))


def test_who_holds_the_object_is_named() -> None:
    noise = label_checks.LabelNoise(np.array([[0.1, 0.9], [0.9, 0.1], [0.2, 0.8]], np.float32), np.array([0.9, 0.0, 0.7]), 0.3)
    found = label_checks.object_findings(
        np.zeros(3, np.int64), noise, np.array([4, 4, 7]), ("a", "b"), Names([f"{k}.png" for k in range(8)])
    )
    assert (found[0].examples, found[0].scores) == (("4.png", "7.png"), (0.9, 0.7))
    assert '4.png: box 1, "a" that looks like "b"; 7.png: box 1' in found[0].message
