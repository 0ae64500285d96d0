"""Detection, segmentation and anomaly scores on real labels, against references."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from sklearn import metrics as sk

from modelyard.evaluator.domain.anomaly import Series, anomaly
from modelyard.evaluator.domain.detection import FoundBoxes, TrueBoxes, detection
from modelyard.evaluator.domain.segmentation import segmentation, tally
from modelyard.statistics.intervals import Floats
from tests.support.coco import coco_figures, our_figures

DATA = Path(os.environ.get("MODELYARD_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")
CELLS = ("RBC", "WBC", "Platelets")
VOID = 11

pytestmark = pytest.mark.data


def _folder(*parts: str) -> Path:
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"the data set {'/'.join(parts)} is not here; set MODELYARD_DATA")
    return path


def _cells(path: Path) -> TrueBoxes:
    """The boxes of a VOC file, the degenerate ones left out."""
    objects = ET.parse(path).getroot().iter("object")
    corners = ("xmin", "ymin", "xmax", "ymax")
    rows = [
        [CELLS.index(one.findtext("name", "")), *(float(one.findtext(f"bndbox/{at}", "0")) for at in corners)] for one in objects
    ]
    table = np.array([row for row in rows if row[3] > row[1] and row[4] > row[2]], dtype=np.float64).reshape(-1, 5)
    return TrueBoxes(table[:, 1:], table[:, 0].astype(np.int64), np.zeros(len(table), np.bool_))


def test_blood_cells_are_scored_as_pycocotools_does() -> None:
    """True boxes moved a little, some lost, some of another class: what a detector might say."""
    rng = np.random.default_rng(0)
    truths = [_cells(path) for path in sorted(_folder("bccd", "BCCD", "Annotations").glob("*.xml"))[:120]]
    found = []
    for truth in truths:
        kept = rng.random(len(truth.labels)) < 0.9
        size = np.tile(truth.boxes[kept, 2:] - truth.boxes[kept, :2], 2)
        boxes = truth.boxes[kept] + rng.normal(0, 0.06, size.shape) * size
        labels = np.where(rng.random(len(boxes)) < 0.95, truth.labels[kept], rng.integers(0, 3, len(boxes)))
        found.append(FoundBoxes(boxes, labels, rng.random(len(boxes))))
    score = detection(truths, found, CELLS, rounds=100)
    assert our_figures(score) == pytest.approx(coco_figures(truths, found, CELLS), abs=1e-9)
    assert all(metric.lower < metric.value < metric.upper for metric in score.metrics)
    assert [entry.label for entry in score.classes] == list(CELLS)


def test_street_scenes_are_scored_as_scikit_learn_does() -> None:
    """A frame as the answer for one a little later."""
    from PIL import Image

    paths = sorted(_folder("camvid", "valannot").glob("*.png"))[:20]
    frames = [np.asarray(Image.open(path)) for path in paths]
    classes = [str(index) for index in range(VOID)]
    pairs = [(truth, np.where(said == VOID, 0, said)) for truth, said in zip(frames[1:], frames[:-1], strict=True)]
    score = segmentation([tally(truth, said, VOID, VOID) for truth, said in pairs], classes)
    ours = np.concatenate([truth[truth != VOID] for truth, _ in pairs])
    theirs = np.concatenate([said[truth != VOID] for truth, said in pairs])
    labels = [int(entry.label) for entry in score.classes]
    expected = sk.jaccard_score(ours, theirs, labels=labels, average=None)
    assert [entry.iou.value for entry in score.classes] == pytest.approx(expected)
    values = {metric.name: metric.value for metric in score.metrics}
    assert 0 < values["boundary_f1"] < values["pixel_accuracy"] < 1


def _readings(path: Path) -> tuple[Floats, Floats]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    channels = [name for name in rows[0] if name not in ("datetime", "anomaly", "changepoint")]
    return np.array([[float(row[name]) for name in channels] for row in rows]), np.array([float(row["anomaly"]) for row in rows])


def test_pump_readings_are_scored_as_scikit_learn_does() -> None:
    """Distance from the first 400 readings, as an anomaly score."""
    parts = []
    for path in sorted(_folder("skab", "data").glob("valve*/*.csv")):
        values, marks = _readings(path)
        usual = values[:400]
        distance = np.abs((values[400:] - usual.mean(axis=0)) / (usual.std(axis=0) + 1e-9)).mean(axis=1)
        parts.append(Series(distance, marks[400:] > 0))
    scores, anomalous = (np.concatenate([getattr(part, name) for part in parts]) for name in ("scores", "anomalous"))
    score = anomaly(parts, threshold=2.0, block=100)
    found = {metric.name: metric.value for metric in score.metrics}
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(anomalous, scores))
    assert found["f1"] == pytest.approx(sk.f1_score(anomalous, scores >= 2.0))
    assert score.event_count >= len(parts)
    assert 0 <= found["detected_share"] <= 1
    assert all(metric.lower <= metric.value <= metric.upper for metric in score.metrics)
