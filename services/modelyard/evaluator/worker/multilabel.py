"""Scores answers of several labels a picture: average precision of each class, F1 at thresholds chosen on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.evaluator.domain import gaps, picture_scores
from modelyard.evaluator.domain.evaluation import TEST, TRAIN, VALIDATION
from modelyard.evaluator.domain.scores import Metric, SliceScore, UsageResult, UsageScore
from modelyard.evaluator.domain.slices import score_slices
from modelyard.evaluator.worker import classification
from modelyard.evaluator.worker.answers import Answers, Columns, Findings, Outputs, TaskScoring, chosen_ids
from modelyard.evaluator.worker.classification import all_classes, check
from modelyard.formats.bundle import BundleCard
from modelyard.formats.dataset import DatasetReader
from modelyard.formats.thresholds import best_threshold
from modelyard.statistics import intervals
from modelyard.statistics.intervals import Floats, Ints

if TYPE_CHECKING:
    import pyarrow as pa

PAIRED: Final = "picture_f1"
MAIN: Final = ("mean_average_precision", PAIRED, "f1_macro")
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class _Part:
    """A usage: which classes are there and their probabilities [N, K]."""

    answer: Answers
    there: Bools
    likely: Floats


def read(card: BundleCard, answers: Mapping[str, NDArray[Any]]) -> Outputs:
    """Probabilities [N, K]; see classification.read."""
    return classification.read(card, answers)


def judge(card: BundleCard, reader: DatasetReader, answers: Sequence[Answers], columns: Columns) -> Findings:
    """Everything there is to say of it."""
    classes = all_classes(card.classes, reader.descriptor.classes)
    parts = {answer.usage: _part(answer, card, reader, classes) for answer in answers}
    thresholds = _thresholds(card, parts.get(VALIDATION), len(classes))
    usual = _usual(reader, classes)
    results = {usage: _result(part, classes, thresholds, usual) for usage, part in parts.items()}
    scores = {usage: result.score for usage, result in results.items()}
    return Findings(
        tuple(results.values()),
        _slices(parts[TEST], thresholds, columns) if TEST in parts else (),
        tuple(example for part in parts.values() for example in _worst(part, reader, classes, thresholds)),
        train_gaps=gaps.train_gaps(scores.get(TRAIN), scores.get(VALIDATION), MAIN),
    )


def _part(answer: Answers, card: BundleCard, reader: DatasetReader, classes: Sequence[str]) -> _Part:
    known = reader.annotations(answer.usage).several_labels()[answer.positions]
    there, likely = np.zeros((2, len(known), len(classes)))
    for index, name in enumerate(reader.descriptor.classes):
        there[:, classes.index(name)] = known[:, index]
    likely[:, : len(card.classes)] = answer.outputs
    return _Part(answer, there.astype(np.bool_), likely)


def _thresholds(card: BundleCard, part: _Part | None, classes: int) -> Floats:
    """By class the card's, else the best on validation, else a half."""
    out = np.full(classes, 0.5)
    if card.thresholds:
        out[: len(card.thresholds)] = card.thresholds
    elif part is not None:
        for index in np.flatnonzero(part.there.any(axis=0)).tolist():
            out[index] = best_threshold(part.likely[:, index], part.there[:, index])
    return out


def _usual(reader: DatasetReader, classes: Sequence[str]) -> Bools:
    """Classes that more than half of the training pictures have; the most frequent one where none has."""
    known = reader.annotations(TRAIN).several_labels()
    if not len(known):
        return np.zeros(len(classes), np.bool_)
    shares = np.zeros(len(classes))
    for index, name in enumerate(reader.descriptor.classes):
        shares[classes.index(name)] = known[:, index].mean()
    often = shares > 0.5
    return often if often.any() else np.asarray(shares == shares.max())


def _result(part: _Part, classes: Sequence[str], thresholds: Floats, usual: Bools) -> UsageResult:
    called, plain = part.likely >= thresholds, np.broadcast_to(usual, part.there.shape)
    figures, plain_figures = _picture_f1(part.there, called), _picture_f1(part.there, np.asarray(plain))
    usage, count = part.answer.usage, len(part.there)
    areas = {name: area for i, name in enumerate(classes) if (area := _area(part.there[:, i], part.likely[:, i]))}
    by_class = picture_scores.rates(_counts(part.there, called), classes, {name: (area,) for name, area in areas.items()})
    metrics = (*_mean_area(tuple(areas.values())), *_metrics(part.there, called, figures))
    return UsageResult(
        UsageScore(usage, count, metrics, by_class),
        UsageScore(usage, count, _metrics(part.there, np.asarray(plain), plain_figures)),
        (picture_scores.paired(PAIRED, figures, plain_figures),),
        f"always answering {_text(usual, classes)}",
    )


def _metrics(there: Bools, called: Bools, figures: Floats) -> tuple[Metric, ...]:
    counts = _counts(there, called)
    whole, samples = counts.sum(axis=0)[None], intervals.bootstrap_means(counts.reshape(len(counts), -1))
    samples = samples.reshape(-1, *counts.shape[1:])
    found = [picture_scores.mean_of(PAIRED, figures)]
    for name, of in (("f1_macro", _macro), ("f1_micro", _micro)):
        value = float(of(whole)[0])
        found.append(Metric(name, value, *intervals.percentiles(of(samples), value)))
    return (*found, picture_scores.mean_of("exact_match", (there == called).all(axis=1).astype(np.float64)))


def _counts(there: Bools, called: Bools) -> Floats:
    return np.stack([there & called, called, there], axis=2).astype(np.float64)


def _macro(counts: Floats) -> Floats:
    both = counts[..., 1] + counts[..., 2]
    f1 = np.divide(2 * counts[..., 0], both, out=np.zeros_like(both), where=both > 0)
    occurs = both > 0
    return np.asarray(f1.sum(axis=1) / np.maximum(occurs.sum(axis=1), 1), dtype=np.float64)


def _micro(counts: Floats) -> Floats:
    return _macro(counts.sum(axis=1, keepdims=True))


def _picture_f1(there: Bools, called: Bools) -> Floats:
    """2 right / (called + there); 1 where nothing is there and nothing was called."""
    both = there.sum(axis=1) + called.sum(axis=1)
    right = (there & called).sum(axis=1)
    return np.asarray(np.divide(2.0 * right, both, out=np.ones(len(both)), where=both > 0), dtype=np.float64)


def _area(there: Bools, likely: Floats) -> Metric | None:
    """Average precision of a class; None where all or none are of it."""
    if not there.any() or there.all():
        return None
    area, influence = intervals.Ranking(likely, there).average_precision()
    fewest = int(min(there.sum(), (~there).sum()))
    return Metric("average_precision", area, *intervals.area_interval(area, influence, fewest))


def _mean_area(areas: Sequence[Metric]) -> tuple[Metric, ...]:
    if not areas:
        return ()
    parts = [np.mean([getattr(area, side) for area in areas]) for side in ("value", "lower", "upper")]
    return (Metric("mean_average_precision", *(float(part) for part in parts)),)


def _slices(part: _Part, thresholds: Floats, columns: Columns) -> tuple[SliceScore, ...]:
    figures = _picture_f1(part.there, part.likely >= thresholds)

    def score(rows: Ints) -> tuple[Metric, ...]:
        return (picture_scores.mean_of(PAIRED, figures[rows]),)

    return score_slices(columns, score)


def _text(there: Bools, classes: Sequence[str]) -> str:
    return ", ".join(classes[index] for index in np.flatnonzero(there).tolist()) or "nothing"


def _worst(part: _Part, reader: DatasetReader, classes: Sequence[str], thresholds: Floats) -> Any:
    called = part.likely >= thresholds
    said, true = ([_text(row, classes) for row in each] for each in (called, part.there))
    figures = _picture_f1(part.there, called)
    ids = chosen_ids(part.answer, reader)
    return picture_scores.worst(part.answer.usage, ids, figures, said, true, part.likely.max(axis=1, initial=0.0))


def rows(card: BundleCard, reader: DatasetReader, answer: Answers) -> pa.Table:
    """Columns example_id, usage, label and prediction (names with commas), score (picture_f1), then `probability:{class}`.
    Thresholds are the card's, else a half."""
    import pyarrow as pa

    classes = all_classes(card.classes, reader.descriptor.classes)
    part = _part(answer, card, reader, classes)
    called = part.likely >= _thresholds(card, None, len(classes))
    table: dict[str, Any] = {
        "example_id": pa.array(chosen_ids(answer, reader), pa.string()),
        "usage": pa.array([answer.usage] * len(part.there), pa.string()),
        "label": pa.array([_text(row, classes) for row in part.there], pa.string()),
        "prediction": pa.array([_text(row, classes) for row in called], pa.string()),
        "score": pa.array(_picture_f1(part.there, called), pa.float64()),
    }
    return pa.table(table | {f"probability:{name}": answer.outputs[:, i] for i, name in enumerate(card.classes)})


MULTILABEL: Final = TaskScoring(check, read, judge, rows)
