"""Scores a detector's answers: COCO's mean average precision, and a figure a picture. Classes are matched by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition
from modelyard.evaluator.domain import gaps, picture_scores
from modelyard.evaluator.domain.detection import DetectionScore, FoundBoxes, TrueBoxes, detection
from modelyard.evaluator.domain.evaluation import TEST, TRAIN, VALIDATION
from modelyard.evaluator.domain.picture_scores import Hits
from modelyard.evaluator.domain.scores import Metric, SliceScore, UsageResult, UsageScore
from modelyard.evaluator.domain.slices import score_slices
from modelyard.evaluator.worker.answers import Answers, Columns, Findings, TaskScoring, chosen_ids
from modelyard.evaluator.worker.classification import all_classes, check
from modelyard.formats.agreement import BOXES, CLASSES, SCORES
from modelyard.formats.bundle import BundleCard
from modelyard.formats.dataset import DatasetReader
from modelyard.statistics.intervals import Floats, Ints

if TYPE_CHECKING:
    import pyarrow as pa

PAIRED: Final = "picture_ap50"
MAIN: Final = ("map_50", "map_50_95", PAIRED)
BASELINE: Final = "finding nothing at all"


@dataclass(frozen=True)
class _Scored:
    """A usage: pictures' true and found boxes, what was hit, the figure of each picture."""

    answer: Answers
    truths: list[TrueBoxes]
    found: list[FoundBoxes]
    hits: list[Hits]
    figures: Floats


def read(card: BundleCard, answers: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Boxes found [N, K, 6]: left, top, right, bottom (0 to 1), score, class (-1: none). Raises FailedPrecondition
    WRONG_OUTPUT."""
    if not {BOXES, SCORES, CLASSES} <= answers.keys():
        named = ", ".join(answers)
        message = f"the model answers {named}; a detector answers {BOXES}, {SCORES} and {CLASSES}"
        raise FailedPrecondition("WRONG_OUTPUT", message, found=named)
    labels = np.asarray(answers[CLASSES])
    if labels.size and labels.max() >= len(card.classes):
        message = f"the model answers class {labels.max()}; its card names {len(card.classes)} classes"
        raise FailedPrecondition("WRONG_OUTPUT", message, found=int(labels.max()), classes=len(card.classes))
    parts = (answers[BOXES], answers[SCORES][..., None], labels[..., None])
    return np.concatenate([np.asarray(part, np.float32) for part in parts], axis=2)


def judge(card: BundleCard, reader: DatasetReader, answers: Sequence[Answers], columns: Columns) -> Findings:
    """Everything there is to say of a detector."""
    classes = all_classes(card.classes, reader.descriptor.classes)
    parts = {answer.usage: _scored(answer, reader, classes) for answer in answers}
    chosen = parts.get(VALIDATION) or parts.get(TEST) or next(iter(parts.values()))
    threshold = picture_scores.best_score_threshold(chosen.hits)
    results = {usage: _result(part, classes, threshold) for usage, part in parts.items()}
    scores = {usage: result.score for usage, result in results.items()}
    return Findings(
        tuple(results.values()),
        _slices(parts[TEST], columns) if TEST in parts else (),
        tuple(example for part in parts.values() for example in _worst(part, reader, classes, threshold)),
        train_gaps=gaps.train_gaps(scores.get(TRAIN), scores.get(VALIDATION), MAIN),
        suggested_threshold=threshold,
    )


def _scored(answer: Answers, reader: DatasetReader, classes: Sequence[str]) -> _Scored:
    truths, sizes = _truths(reader, answer, classes)
    found = [_found(one, size) for one, size in zip(answer.outputs, sizes, strict=True)]
    hits = [picture_scores.hits_of(truth, one, len(classes)) for truth, one in zip(truths, found, strict=True)]
    return _Scored(answer, truths, found, hits, np.array([picture_scores.picture_ap(one) for one in hits]))


def _truths(reader: DatasetReader, answer: Answers, classes: Sequence[str]) -> tuple[list[TrueBoxes], Floats]:
    marks, facts = reader.annotations(answer.usage).marks(), reader.picture_facts(answer.usage)
    place = np.array([classes.index(name) for name in reader.descriptor.classes], dtype=np.int64)
    usable = marks.usable
    truths, sizes = [], []
    for position in answer.positions.tolist():
        rows = np.arange(marks.starts[position], marks.starts[position + 1])
        rows = rows[usable[rows]]
        labels = place[marks.labels[rows]] if len(place) else np.empty(0, np.int64)
        truths.append(TrueBoxes(marks.boxes[rows].astype(np.float64), labels, np.zeros(len(rows), np.bool_)))
        sizes.append((facts["width"][position], facts["height"][position]))
    return truths, np.array(sizes, np.float64).reshape(-1, 2)


def _found(one: NDArray[np.float32], size: Floats) -> FoundBoxes:
    kept = one[(one[:, 4] > 0) & (one[:, 5] >= 0)].astype(np.float64)
    return FoundBoxes(kept[:, :4] * np.tile(size, 2), kept[:, 5].astype(np.int64), kept[:, 4])


def _result(part: _Scored, classes: Sequence[str], threshold: float) -> UsageResult:
    score = detection(part.truths, part.found, classes)
    nothing = np.array([0.0 if len(truth.labels) else 1.0 for truth in part.truths])
    metrics = (*_ordered(score), picture_scores.mean_of(PAIRED, part.figures))
    extra = {one.label: (one.map_50, one.map_50_95) for one in score.classes}
    by_class = picture_scores.class_scores(part.hits, classes, threshold, extra)
    zero = tuple(Metric(one.name, 0.0, 0.0, 0.0) for one in metrics if one.name != PAIRED)
    usage, count = part.answer.usage, len(part.truths)
    return UsageResult(
        UsageScore(usage, count, metrics, by_class),
        UsageScore(usage, count, (*zero, picture_scores.mean_of(PAIRED, nothing))),
        (picture_scores.paired(PAIRED, part.figures, nothing),),
        BASELINE,
    )


def _ordered(score: DetectionScore) -> tuple[Metric, ...]:
    """The one that people go by first."""
    return tuple(sorted(score.metrics, key=lambda metric: metric.name != "map_50"))


def _slices(part: _Scored, columns: Columns) -> tuple[SliceScore, ...]:
    def score(rows: Ints) -> tuple[Metric, ...]:
        return (picture_scores.mean_of(PAIRED, part.figures[rows]),)

    return score_slices(columns, score)


def _worst(part: _Scored, reader: DatasetReader, classes: Sequence[str], threshold: float) -> Any:
    said = [picture_scores.counted_text(one.labels[one.scores >= threshold], classes) for one in part.found]
    true = [picture_scores.counted_text(one.labels, classes) for one in part.truths]
    sure = np.array([one.scores.max(initial=0.0) for one in part.found])
    return picture_scores.worst(part.answer.usage, chosen_ids(part.answer, reader), part.figures, said, true, sure)


def rows(card: BundleCard, reader: DatasetReader, answer: Answers) -> pa.Table:
    """Columns example_id, usage, label and prediction (how many of which class, from a score of 0.5), score (picture_ap50), and
    lists by box: boxes (pixels of the picture), scores, classes."""
    import pyarrow as pa

    classes = all_classes(card.classes, reader.descriptor.classes)
    part = _scored(answer, reader, classes)
    sure = [one.labels[one.scores >= 0.5] for one in part.found]
    return pa.table(
        {
            "example_id": pa.array(chosen_ids(answer, reader), pa.string()),
            "usage": pa.array([answer.usage] * len(part.found), pa.string()),
            "label": pa.array([picture_scores.counted_text(one.labels, classes) for one in part.truths], pa.string()),
            "prediction": pa.array([picture_scores.counted_text(labels, classes) for labels in sure], pa.string()),
            "score": pa.array(part.figures, pa.float64()),
            "boxes": pa.array([one.boxes.astype(np.float32).ravel().tolist() for one in part.found], pa.list_(pa.float32())),
            "scores": pa.array([one.scores.astype(np.float32).tolist() for one in part.found], pa.list_(pa.float32())),
            "classes": pa.array([[classes[i] for i in one.labels.tolist()] for one in part.found], pa.list_(pa.string())),
        }
    )


DETECTION: Final = TaskScoring(check, read, judge, rows)
