"""What an export says of its training data: from the training usage, answers for what was held out, the same draw each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelyard.exporter.worker.drift_statistics import MOST_PICTURES, sample_size, training_statistics, write_statistics
from modelyard.formats.bundle import open_bundle
from modelyard.formats.dataset import DatasetReader
from modelyard.formats.training_statistics import CATEGORY, NUMBER
from tests.support.datasets import file_store, open_reader, publish_pictures, publish_table
from tests.support.small_bundles import brightness_classifier, table_classifier


def table(folder: Path, rows: int = 1000, seed: int = 0) -> DatasetReader:
    """Column x differs between usages, so that one can tell which were drawn: train below 0, the rest above."""
    rng = np.random.default_rng(seed)
    usage = ["train" if row % 2 else "validation" if row % 4 else "test" for row in range(rows)]
    x = [(-1 if each == "train" else 1) * float(value) for each, value in zip(usage, rng.uniform(0.1, 3, rows), strict=True)]
    words = [None if row % 10 == 0 else ["red", "green"][row % 3 == 0] for row in range(rows)]
    store = file_store(folder / "artifacts")
    columns = {"x": x, "word": words, "target": ["yes" if value > 0 else "no" for value in rng.normal(size=rows)]}
    return open_reader(store, publish_table(store, columns, "target", task="tabular_classification", usage=usage))


def test_a_table(tmp_path: Path) -> None:
    path = table_classifier(tmp_path / "m.bundle")
    reader = table(tmp_path)
    write_statistics(path, reader)
    found = open_bundle(path).statistics()
    assert found is not None
    assert (found.examples, found.answered) == (500, 500)
    features = {each.name: each for each in found.features}
    assert list(features) == ["x", "word", "label", "probabilities.top", "probabilities.entropy"]
    assert features["x"].kind == NUMBER
    assert max(features["x"].edges) < 0  # of training
    assert features["word"].kind == CATEGORY
    assert set(features["word"].values) == {"red", "green"}
    assert features["label"].values == ("yes",)  # the model says yes above 0, which only held out examples are
    assert features["label"].direction == "OUTPUT"


def test_the_same_draw_gives_the_same_bytes(tmp_path: Path) -> None:
    reader = table(tmp_path)
    files = []
    for name in ("a", "b"):
        path = table_classifier(tmp_path / name)
        write_statistics(path, reader)
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_few_training_examples_give_no_statistics(tmp_path: Path) -> None:
    path = table_classifier(tmp_path / "m.bundle")
    before = path.read_bytes()
    write_statistics(path, table(tmp_path, rows=60))
    assert path.read_bytes() == before
    assert open_bundle(path).statistics() is None


def test_few_held_out_examples_do_not_answer_for_all(tmp_path: Path) -> None:
    found = training_statistics(open_bundle(table_classifier(tmp_path / "m.bundle")), table(tmp_path, rows=300))
    labels = next(each for each in found.features if each.name == "label")
    assert found.answered == 150
    assert labels.values == ("no",)


def test_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (120, 20, 30), dtype=np.uint8)
    store = file_store(tmp_path / "artifacts")
    usage = ["train"] * 100 + ["test"] * 20
    reader = open_reader(store, publish_pictures(store, images, ["bright", "dark"] * 60, usage=usage))
    path = brightness_classifier(tmp_path / "m.bundle")
    write_statistics(path, reader)
    found = open_bundle(path).statistics()
    assert found is not None
    features = {each.name: each for each in found.features}
    assert features["image.brightness"].reference.sum() == 100
    assert features["image.pixels"].counts == (0, 100, 0)
    assert features["image.pixels"].bin_text(1) == "image.pixels = 600"
    assert features["image.aspect"].bin_text(1) == "image.aspect = 1.5"
    assert "image.saturation" not in features


@pytest.mark.parametrize(("side", "pictures"), [(28, MOST_PICTURES), (96, 888), (224, 500)])
def test_large_pictures_are_fewer(tmp_path: Path, side: int, pictures: int) -> None:
    from dataclasses import replace

    card = open_bundle(brightness_classifier(tmp_path / "m.bundle")).card
    assert card.picture is not None
    assert sample_size(replace(card, picture=replace(card.picture, height=side, width=side))) == pictures
