"""Curves of a classifier against scikit-learn's, and what is kept of single examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from modelyard.core.artifacts import Blob
from modelyard.evaluator.adapters.evidence import StoredPredictions
from modelyard.evaluator.domain.curves import BINS, MOST_SHOWN, POINTS, calibration, precision_recall, residuals
from modelyard.evaluator.domain.scores import DetectedExample
from tests.support.datasets import file_store


@pytest.mark.parametrize(("count", "ties"), [(10, False), (500, False), (500, True), (3000, False)])
def test_precision_over_recall_is_scikit_learns(count: int, ties: bool) -> None:
    draw = np.random.default_rng(count + ties)
    positive = draw.random(count) < 0.3
    positive[0] = True
    scores = np.clip(positive * 0.3 + draw.random(count), 0, 1)
    scores = np.round(scores, 1) if ties else scores
    found = precision_recall(scores, positive)
    assert found.average == pytest.approx(average_precision_score(positive, scores))
    assert len(found.recall) <= POINTS
    assert (np.diff(found.recall) >= 0).all()
    assert (found.recall[0], found.recall[-1]) == (0.0, 1.0)
    if count < POINTS / 2:
        precision, recall, _ = precision_recall_curve(positive, scores)
        expected = {(round(r, 9), round(p, 9)) for r, p in zip(recall[:-1], precision[:-1], strict=True)}
        assert expected <= {(round(r, 9), round(p, 9)) for r, p in zip(found.recall, found.precision, strict=True)}


def test_bins_hold_all_examples_and_rise() -> None:
    draw = np.random.default_rng(0)
    sure = draw.random(1000)
    bins = calibration(sure, draw.random(1000) < sure)
    assert sum(one.count for one in bins) == 1000
    assert [one.confidence for one in bins] == sorted(one.confidence for one in bins)
    assert max(abs(one.confidence - one.accuracy) for one in bins) < 0.15
    assert len(calibration(sure[:3], np.ones(3, bool))) == 3 < BINS
    assert calibration(sure[:0], np.ones(0, bool)) == []


def test_a_cell_of_the_confusion_lists_its_examples_the_surest_first(tmp_path: Path) -> None:
    table = pa.table(
        {
            "example_id": ["1", "2", "3", "4", "5"],
            "usage": ["test", "test", "test", "test", "train"],
            "label": ["a", "a", "b", "a", "a"],
            "prediction": ["b", "b", "b", "a", "b"],
            "probability:a": pa.array([0.4, 0.1, 0.2, 0.9, 0.3], pa.float32()),
            "probability:b": pa.array([0.6, 0.9, 0.8, 0.1, 0.7], pa.float32()),
        }
    )
    pq.write_table(table, tmp_path / "p.parquet")
    store = file_store(tmp_path / "store", "evaluator")
    blob = store.put_file(tmp_path / "p.parquet")
    kept = StoredPredictions(store)
    found, total = kept.page("e", blob, ("test", "a", "b"), 0, 10)
    assert [(one.example_id, round(one.probability, 3)) for one in found] == [("2", 0.9), ("1", 0.6)]
    assert total == 2
    assert found[0].loss == pytest.approx(-np.log(0.1), rel=1e-5)
    assert kept.page("e", blob, ("test", "", ""), 1, 2)[1] == 4
    chances = kept.chances("e", blob, "test")
    assert chances is not None
    assert (chances.classes, chances.chances.shape) == (("a", "b"), (4, 2))


def stored(tmp_path: Path, columns: dict[str, object]) -> tuple[StoredPredictions, Blob]:
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    store = file_store(tmp_path / "store", "evaluator")
    return StoredPredictions(store), store.put_file(tmp_path / "p.parquet")


@pytest.mark.parametrize("count", [1, 2, 30, 5000])
def test_residuals_count_everybody_and_show_the_worst(count: int) -> None:
    draw = np.random.default_rng(count)
    labels = draw.normal(size=count)
    predictions = labels + 0.5 + 0.1 * draw.normal(size=count)
    worst = int(draw.integers(count))
    predictions[worst] += 1000.0
    found = residuals(labels, predictions)
    off = predictions - labels
    assert (found.count, int(found.counts.sum())) == (count, count)
    assert (np.diff(found.edges) > 0).all()
    assert len(found.edges) == len(found.counts) + 1
    assert found.mean == pytest.approx(off.mean())
    assert found.deviation == pytest.approx(off.std())
    assert found.median_absolute == pytest.approx(np.median(np.abs(off)))
    assert worst in found.rows
    assert len(found.rows) == len(set(found.rows.tolist())) <= MOST_SHOWN
    assert (np.diff(labels[found.rows]) >= 0).all()
    if count == 5000:
        assert found.edges[-1] < 10, "one wild prediction does not flatten the histogram"


def test_what_is_no_number_counts_for_nothing() -> None:
    found = residuals(np.array([1.0, np.nan, 2.0]), np.array([1.5, 3.0, np.inf]))
    assert (found.count, found.rows.tolist(), found.mean) == (1, [0], 0.5)
    assert residuals(np.array([np.nan]), np.array([1.0])).count == 0


def test_a_regressions_examples_have_their_absolute_error(tmp_path: Path) -> None:
    kept, blob = stored(
        tmp_path, {"example_id": ["1", "2"], "usage": ["test"] * 2, "label": [1.0, 2.0], "prediction": [1.5, 0.0]}
    )
    found, total = kept.page("e", blob, ("test", "", ""), 0, 10)
    assert (total, [one.loss for one in found]) == (2, [0.5, 2.0])
    numbers = kept.numbers("e", blob, "test")
    assert numbers is not None
    assert (numbers.ids, numbers.predictions.tolist()) == (("1", "2"), [1.5, 0.0])
    assert kept.chances("e", blob, "test") is None


def test_boxes_come_with_the_examples_that_are_asked_for(tmp_path: Path) -> None:
    columns = {
        "example_id": ["1", "2", "3"],
        "usage": ["test"] * 3,
        "label": ["cat", "", "cat"],
        "prediction": ["cat × 2", "", "cat"],
        "boxes": [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [], [9.0, 9.0, 10.0, 10.0]],
        "scores": [[0.4, 0.9], [], [0.7]],
        "classes": [["cat", "dog"], [], ["cat"]],
    }
    kept, blob = stored(tmp_path, columns)
    found, total = kept.page("e", blob, ("test", "", ""), 0, 10, {"1", "2", "nobody"})
    assert total == 2
    boxes = {one.example_id: [(each.label, each.box) for each in one.boxes] for one in found if isinstance(one, DetectedExample)}
    assert boxes == {"1": [("dog", (4.0, 5.0, 6.0, 7.0)), ("cat", (0.0, 1.0, 2.0, 3.0))], "2": []}
    assert kept.numbers("e", blob, "test") is None
    everything, _ = kept.page("e", blob, ("test", "", ""), 0, 10)
    assert not any(isinstance(one, DetectedExample) for one in everything)
