"""Within limits: plain forms of networks whose answers are many things, judged by the figure that the gate pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from modelyard.evaluator.domain import keypoints as evaluated
from modelyard.evaluator.domain import picture_scores
from modelyard.evaluator.domain.detection import FoundBoxes, TrueBoxes
from modelyard.exporter.domain.compression import CompressionLimits
from modelyard.exporter.worker import picture_figures, planner
from modelyard.exporter.worker.picture_graph import untrained_model
from modelyard.formats.bundle import Source, open_bundle
from modelyard.formats.dataset import SEMANTIC_SEGMENTATION
from modelyard.formats.model import PictureInput
from tests.support.datasets import file_store, open_reader
from tests.support.shapes import SIDE, publish_shapes


@pytest.mark.parametrize(("size", "precision"), [(400_000, "dynamic_int8"), (1000, "fp32")])
def test_the_form_that_keeps_to_the_limits_or_the_float_model(size: int, precision: str, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    torch.manual_seed(0)
    store = file_store(tmp_path / "artifacts")
    reader = open_reader(store, publish_shapes(store, SEMANTIC_SEGMENTATION, {"train": 8, "validation": 4}))
    picture = PictureInput(SIDE, SIDE, 3)
    model = untrained_model("modelyard:pyramid_micro", picture, 3, task=SEMANTIC_SEGMENTATION)
    limits = CompressionLimits(max_size_bytes=size, max_loss=0.9)
    plan = planner.Plan("litert", "", limits, SEMANTIC_SEGMENTATION, np.empty(0), figures=True)
    source = Source("projects/p/models/m/versions/V001")
    found = planner.compress(planner.Context(model, picture, reader, tmp_path, source, lambda _: None, plan))
    assert found.accepted is (size > 1000)
    assert open_bundle(found.path).card.precision == found.step.precision == precision
    roads = [step.road for step in found.trail]
    assert roads[:2] == ["float", "int8 weights, ranges as they come"]
    assert not any("trained" in road or "pruned" in road or "training," in road for road in roads[:2])
    assert all(step.metric is not None and step.metric.name == "picture_iou" for step in found.trail)
    reader.close()


def test_boxes_are_judged_as_the_evaluator_judges_them() -> None:
    random = np.random.default_rng(0)

    def boxes(count: int) -> np.ndarray:
        corner = random.uniform(0, 60, (count, 2))
        return np.concatenate([corner, corner + random.uniform(5, 40, (count, 2))], axis=1)

    figures = []
    for _ in range(100):
        true = boxes(int(random.integers(0, 5)))
        labels = random.integers(0, 3, len(true))
        more = boxes(int(random.integers(0, 5)))
        found = np.concatenate([true + random.normal(0, 4, true.shape), more])
        said, scores = np.concatenate([labels, random.integers(0, 3, len(more))]), random.uniform(0, 1, len(found))
        ours = picture_figures._average_precision(true, labels, found, said, scores)
        truth = TrueBoxes(true, labels, np.zeros(len(true), np.bool_))
        assert ours == pytest.approx(picture_scores.picture_ap(picture_scores.hits_of(truth, FoundBoxes(found, said, scores), 3)))
        figures.append(ours)
    assert 0.3 < np.mean(figures) < 0.95


def test_points_are_judged_as_the_evaluator_judges_them() -> None:
    random = np.random.default_rng(0)
    points = np.concatenate([random.uniform(0, 1, (20, 4, 2)), random.integers(0, 2, (20, 4, 1))], axis=2)
    extents, sizes = random.uniform(0.2, 0.9, (20, 2)), random.uniform(50, 90, (20, 2))
    found = np.concatenate([points[..., :2] + random.normal(0, 0.05, (20, 4, 2)), np.ones((20, 4, 1))], axis=2)
    pairs = evaluated.PointPairs(
        points[..., :2] * sizes[:, None],
        points[..., 2] > 0,
        found[..., :2] * sizes[:, None],
        found[..., 2],
        np.sqrt((extents * sizes).prod(axis=1)),
    )
    assert picture_figures._oks(points, extents, sizes, found) == pytest.approx(evaluated.picture_oks(pairs))
