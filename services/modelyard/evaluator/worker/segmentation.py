"""Scores a segmenter's answers: intersection over union, Dice, boundaries. Classes must be the model's, in any order, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition
from modelyard.evaluator.domain import gaps, picture_scores
from modelyard.evaluator.domain.evaluation import TEST, TRAIN, VALIDATION
from modelyard.evaluator.domain.scores import ClassScore, Metric, SliceScore, UsageResult, UsageScore
from modelyard.evaluator.domain.segmentation import IGNORED, SegmentationClass, Tally, segmentation, tally
from modelyard.evaluator.domain.slices import score_slices
from modelyard.evaluator.worker.answers import Answers, Columns, Findings, TaskScoring, chosen_ids
from modelyard.evaluator.worker.classification import all_classes, check
from modelyard.formats.agreement import MASK
from modelyard.formats.bundle import BundleCard
from modelyard.formats.dataset import DatasetReader
from modelyard.statistics.intervals import Floats, Ints

if TYPE_CHECKING:
    import pyarrow as pa

PAIRED: Final = "picture_iou"
MAIN: Final = ("mean_iou", PAIRED, "pixel_accuracy")
TRAIN_CAP: Final = 300
"""Most training pictures that are scored: boundaries take time."""

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class _Scored:
    """A usage: tallies of its pictures, those of always the most frequent class, and the figures of each picture."""

    answer: Answers
    tallies: list[Tally]
    plain: list[Tally]
    figures: Floats
    plain_figures: Floats


def read(card: BundleCard, answers: Mapping[str, NDArray[Any]]) -> Mask:
    """Class indices [N, H, W]. Raises FailedPrecondition WRONG_OUTPUT."""
    if MASK not in answers:
        named = ", ".join(answers)
        raise FailedPrecondition("WRONG_OUTPUT", f"the model answers {named}; a segmenter answers {MASK}", found=named)
    found = np.asarray(answers[MASK], np.uint8)
    if found.ndim != 3 or (found.size and found.max() >= len(card.classes)):
        most = int(found.max(initial=0))
        message = (
            f"the model answers {list(found.shape)} with classes to {most}; [N, H, W] of {len(card.classes)} classes is right"
        )
        raise FailedPrecondition("WRONG_OUTPUT", message, found=most, classes=len(card.classes))
    return found


def judge(card: BundleCard, reader: DatasetReader, answers: Sequence[Answers], columns: Columns) -> Findings:
    """Everything there is to say of a segmenter."""
    classes = all_classes(card.classes, reader.descriptor.classes)
    usual = _most_frequent(reader, classes)
    parts = {answer.usage: _scored(answer, reader, classes, usual) for answer in answers}
    results = {usage: _result(part, classes, usual) for usage, part in parts.items()}
    scores = {usage: result.score for usage, result in results.items()}
    return Findings(
        tuple(results.values()),
        _slices(parts[TEST], columns) if TEST in parts else (),
        tuple(example for part in parts.values() for example in _worst(part, reader, classes)),
        train_gaps=gaps.train_gaps(scores.get(TRAIN), scores.get(VALIDATION), MAIN),
    )


def _scored(answer: Answers, reader: DatasetReader, classes: Sequence[str], usual: int) -> _Scored:
    tallies, plain = [], []
    for truth, said in _pairs(answer, reader, classes):
        tallies.append(tally(truth, said, len(classes)))
        plain.append(_without_edges(truth, usual, len(classes)))
    return _Scored(answer, tallies, plain, *(np.array([_picture_iou(one) for one in each]) for each in (tallies, plain)))


def _pairs(answer: Answers, reader: DatasetReader, classes: Sequence[str]) -> Any:
    """True and predicted classes of each picture, at the size of the true ones."""
    annotated, table = reader.annotations(answer.usage), _table(reader, classes)
    for position, said in zip(answer.positions.tolist(), answer.outputs, strict=True):
        truth = table[annotated.mask(position)]
        yield truth, _resized(said, *truth.shape)


def _table(reader: DatasetReader, classes: Sequence[str]) -> Mask:
    """The data's class indices as indices into `classes`; whatever else is ignored."""
    table = np.full(256, IGNORED, np.uint8)
    for index, name in enumerate(reader.descriptor.classes):
        table[index] = classes.index(name)
    return table


def _resized(mask: Mask, height: int, width: int) -> Mask:
    rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(np.int64)
    return np.asarray(mask[rows[:, None], columns])


def _without_edges(truth: Mask, usual: int, classes: int) -> Tally:
    """The tally of an answer that is one class everywhere; it has no boundary."""
    there = np.bincount(truth[truth != IGNORED].astype(np.int64), minlength=classes).astype(np.float64)
    right, said = np.zeros(classes), np.zeros(classes)
    right[usual], said[usual] = there[usual], there.sum()
    return Tally(right, there, said, np.where(there + said > 0, 0.0, np.nan))


def _most_frequent(reader: DatasetReader, classes: Sequence[str]) -> int:
    """The class of most pixels of the training masks (of at most 200 of them)."""
    counts, table = np.zeros(256), _table(reader, classes)
    usage = TRAIN if len(reader.indices(TRAIN)) else TEST
    annotated = reader.annotations(usage)
    for position in np.unique(np.linspace(0, max(len(annotated) - 1, 0), min(len(annotated), 200)).astype(int)).tolist():
        counts += np.bincount(table[annotated.mask(position)].ravel(), minlength=256)
    return int(counts[: len(classes)].argmax())


def _picture_iou(one: Tally) -> float:
    """Mean over the classes that are in the picture or were said to be; 1 where no pixel is judged."""
    union = one.there + one.predicted - one.right
    known = union > 0
    return float((one.right[known] / union[known]).mean()) if known.any() else 1.0


def _result(part: _Scored, classes: Sequence[str], usual: int) -> UsageResult:
    score, plain = segmentation(part.tallies, classes), segmentation(part.plain, classes)
    usage, count = part.answer.usage, len(part.tallies)
    both = [
        (*each.metrics[:1], picture_scores.mean_of(PAIRED, figures), *each.metrics[1:])
        for each, figures in ((score, part.figures), (plain, part.plain_figures))
    ]
    return UsageResult(
        UsageScore(usage, count, both[0], _classes(part.tallies, classes, score.classes)),
        UsageScore(usage, count, both[1]),
        (picture_scores.paired(PAIRED, part.figures, part.plain_figures),),
        f"calling every pixel {classes[usual]}",
    )


def _classes(tallies: Sequence[Tally], classes: Sequence[str], scores: Sequence[SegmentationClass]) -> tuple[ClassScore, ...]:
    """Of pixels: precision, recall and F1 (Dice), and IoU and boundary F1 beside them."""
    counts = np.stack([np.stack([one.right, one.predicted, one.there], axis=1) for one in tallies])
    return picture_scores.rates(counts, classes, {one.label: (one.iou, one.boundary_f1) for one in scores})


def _slices(part: _Scored, columns: Columns) -> tuple[SliceScore, ...]:
    def score(rows: Ints) -> tuple[Metric, ...]:
        return (picture_scores.mean_of(PAIRED, part.figures[rows]),)

    return score_slices(columns, score)


def _worst(part: _Scored, reader: DatasetReader, classes: Sequence[str]) -> Any:
    said, true = ([_shares(getattr(one, name), classes) for one in part.tallies] for name in ("predicted", "there"))
    ids = chosen_ids(part.answer, reader)
    return picture_scores.worst(part.answer.usage, ids, part.figures, said, true, np.zeros(len(ids)))


def _shares(pixels: Floats, classes: Sequence[str]) -> str:
    """ "41% Road, 20% Sky": the three classes of most pixels."""
    whole = max(float(pixels.sum()), 1.0)
    best = [int(index) for index in np.argsort(-pixels, kind="stable")[:3] if pixels[index]]
    return ", ".join(f"{100 * pixels[index] / whole:.0f}% {classes[index]}" for index in best) or "nothing"


def rows(card: BundleCard, reader: DatasetReader, answer: Answers) -> pa.Table:
    """Columns example_id, usage, label and prediction (shares of the most frequent classes), score (picture_iou)."""
    import pyarrow as pa

    classes = all_classes(card.classes, reader.descriptor.classes)
    tallies = [
        Tally(*_counts(truth, said, len(classes)), np.full(len(classes), np.nan))
        for truth, said in _pairs(answer, reader, classes)
    ]
    return pa.table(
        {
            "example_id": pa.array(chosen_ids(answer, reader), pa.string()),
            "usage": pa.array([answer.usage] * len(tallies), pa.string()),
            "label": pa.array([_shares(one.there, classes) for one in tallies], pa.string()),
            "prediction": pa.array([_shares(one.predicted, classes) for one in tallies], pa.string()),
            "score": pa.array([_picture_iou(one) for one in tallies], pa.float64()),
        }
    )


def _counts(truth: Mask, said: Mask, classes: int) -> tuple[Floats, Floats, Floats]:
    counted = truth != IGNORED
    ours, theirs = truth[counted].astype(np.int64), said[counted].astype(np.int64)
    kinds = (ours[ours == theirs], ours, theirs)
    right, there, predicted = (np.bincount(each, minlength=classes).astype(np.float64) for each in kinds)
    return right, there, predicted


SEGMENTATION: Final = TaskScoring(check, read, judge, rows, train_cap=TRAIN_CAP)
