"""Objects that nobody marked: planted, precision and recall; and the parts of the detector that finds them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from modelyard.core.errors import Cancelled
from modelyard.dataset.domain import missing_boxes
from modelyard.dataset.domain.box_detector import STRIDE, Detections, peaks, targets
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.near import equal_groups
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import pretrained, report_missing_boxes
from modelyard.formats.dataset import load_manifest, manifest_schema
from tests.support.planted import Tally
from tests.unit.dataset.test_dataset_report_publish import Bench
from tests.unit.dataset.test_quality_targets import coco

PICTURES = 150
needs_network = pytest.mark.skipif(not pretrained.available(), reason="needs the extra modelyard[embedding]")


def without(share: float, seed: int = 0) -> tuple[dict[str, bytes], set[str]]:
    """Discs and squares in pictures, as COCO, with a share of the boxes taken out; the pictures where they were."""
    files, _ = coco(PICTURES, 0)
    said = json.loads(files["labels.json"])
    every = said["annotations"]
    gone = np.random.default_rng(seed).choice(len(every), round(share * len(every)), replace=False).tolist()
    planted = {f"{every[place]['image_id']:03d}.png" for place in gone}
    said["annotations"] = [each for place, each in enumerate(every) if place not in gone]
    return {**files, "labels.json": json.dumps(said).encode()}, planted


@needs_network
def test_objects_without_a_box_are_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    bench = Bench(tmp_path_factory.mktemp("t"))
    files, planted = without(0.08)
    finding = bench.report(bench.imported(files, "c.zip"))["MISSING_BOX"][0]
    tally = Tally()
    tally.add(planted, finding.examples)
    tally.is_as_stated("MISSING_BOX")
    assert '"disc"' in finding.message
    assert '"square"' in finding.message
    assert finding.example_ids
    assert any("Objects that nobody marked were looked for in 150 pictures" in note for note in bench.made.notes)


@needs_network
def test_nothing_is_missing_where_all_is_marked(tmp_path_factory: pytest.TempPathFactory) -> None:
    bench = Bench(tmp_path_factory.mktemp("t"))
    files, _ = without(0.0)
    assert "MISSING_BOX" not in bench.report(bench.imported(files, "c.zip"))


@needs_network
def test_it_can_be_stopped_and_tells_how_far_it_is(tmp_path_factory: pytest.TempPathFactory) -> None:
    bench = Bench(tmp_path_factory.mktemp("t"))
    files, _ = without(0.0)
    content = bench.imported(files, "c.zip").content
    manifest = load_manifest(bench.store, content, manifest_schema(content.kind, content.task).names)
    told: list[float] = []
    work = Work(lambda *said: told.append(said[-1]), lambda: len(told) > 5)
    names = Names(manifest["path"].to_pylist(), manifest["example_id"].to_pylist())
    groups = equal_groups(manifest["sha256"].to_pylist())
    with pytest.raises(Cancelled):
        report_missing_boxes.check_missing_boxes(bench.store, content, manifest, groups, names, bench.folder(), work, (0.2, 0.9))
    assert len(told) == 6
    assert told == sorted(told)
    assert 0.2 <= told[0] < told[-1] < 0.9


def test_few_boxes_are_not_judged(tmp_path_factory: pytest.TempPathFactory) -> None:
    bench = Bench(tmp_path_factory.mktemp("t"))
    files, _ = coco(60, 0)
    bench.report(bench.imported(files, "c.zip"))
    assert not any("nobody marked" in note for note in bench.made.notes)


def detections(matched: np.ndarray, scores: np.ndarray) -> Detections:
    count = len(scores)
    return Detections(
        np.arange(count), np.tile([0.0, 0.0, 9.0, 9.0], (count, 1)), scores, np.zeros(count, np.int64), matched, ~matched
    )


@pytest.mark.parametrize("missing", [0.02, 0.05, 0.15])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_probability_of_a_missing_object_is_what_it_says(missing: float, seed: int) -> None:
    """Objects and other things with scores that overlap; a share of the objects is not marked."""
    rng = np.random.default_rng(seed)
    real = np.concatenate([np.ones(6000, bool), np.zeros(6000, bool)])
    scores = np.where(real, rng.normal(1.0, 0.25, 12_000), rng.normal(0.2, 0.25, 12_000))
    found = detections(real & (rng.random(12_000) >= missing), scores)
    assert missing_boxes.completeness(found) == pytest.approx(1 - missing, abs=0.02)
    probability = missing_boxes.objects_unmarked(found)
    named = probability >= 0.5
    assert not (named & found.matched).any()
    assert real[named].mean() >= 0.75
    assert real[named].mean() == pytest.approx(probability[named].mean(), abs=0.1)
    assert (named & real).sum() >= 0.6 * (real & ~found.matched).sum()


def test_a_detector_that_is_never_sure_names_nothing() -> None:
    rng = np.random.default_rng(0)
    found = detections(rng.random(1000) < 0.5, rng.random(1000))
    assert missing_boxes.completeness(found) < missing_boxes.LEAST_COMPLETE
    assert not missing_boxes.objects_unmarked(found).any()


def test_what_cells_are_to_say_gives_the_boxes_back() -> None:
    boxes = np.array([[20.0, 30.0, 84.0, 110.0], [150.0, 10.0, 200.0, 60.0], [90.0, 90.0, 90.0, 120.0]])
    near, moves = targets(boxes, (8, 14))
    assert near.reshape(8, 14)[4, 3] == near.max() > 0.6  # the cell around (56, 72), where the first box has its middle
    found, _ = peaks(near, moves, (8, 14))
    assert np.allclose(found[found[:, 0].argsort()], boxes[:2], atol=1e-3)
    assert STRIDE == 16
