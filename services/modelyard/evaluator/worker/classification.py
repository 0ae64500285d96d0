"""Scores a classifier's answers. Classes are matched by name: a model may know them in another order, or not all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition
from modelyard.evaluator.domain import examples, gaps, metrics
from modelyard.evaluator.domain.evaluation import TEST, TRAIN, VALIDATION
from modelyard.evaluator.domain.examples import Classified
from modelyard.evaluator.domain.scores import Metric, SliceScore, UsageResult
from modelyard.evaluator.domain.slices import score_slices
from modelyard.evaluator.worker.answers import Answers, Columns, Findings, Outputs, TaskScoring, chosen_ids
from modelyard.formats.bundle import BundleCard
from modelyard.formats.dataset import DatasetReader
from modelyard.formats.thresholds import best_threshold
from modelyard.runtime.inputs import PROBABILITIES
from modelyard.statistics.intervals import Floats, Ints

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST_CONFUSION: Final = 200
"""A confusion matrix of more classes than this stays out of the result: the predictions hold the same, and more compactly."""
_ROUNDING: Final = 0.02
"""How far from 0 and 1 a probability may lie: eight bits round to about 0.004."""


def check(card: BundleCard, reader: DatasetReader) -> None:
    """Raises FailedPrecondition CLASSES_DIFFER where the model knows no class of the data by its name."""
    known, occurring = card.classes, reader.descriptor.classes
    if not set(known) & set(occurring):
        message = (
            f"the model answers {_listed(known)}, the data are labelled {_listed(occurring)}; classes are matched by name, and "
            "none is the same: name the model's classes as the data does"
        )
        raise FailedPrecondition("CLASSES_DIFFER", message, model_classes=_listed(known), data_classes=_listed(occurring))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "(no classes)"


def read(card: BundleCard, answers: Mapping[str, NDArray[Any]]) -> Outputs:
    """Probabilities [N, K]. Raises FailedPrecondition WRONG_OUTPUT where they are not of the card's classes, or not of 0 to 1."""
    if PROBABILITIES not in answers:
        named = ", ".join(answers)
        raise FailedPrecondition("WRONG_OUTPUT", f"the model answers {named}; a classifier answers {PROBABILITIES}", found=named)
    found = np.asarray(answers[PROBABILITIES], dtype=np.float32)
    if found.ndim != 2 or found.shape[1] != len(card.classes):
        message = f"the model answers {list(found.shape[1:])} numbers an example, its card names {len(card.classes)} classes"
        raise FailedPrecondition("WRONG_OUTPUT", message, found=list(found.shape), classes=len(card.classes))
    if found.size and (found.min() < -_ROUNDING or found.max() > 1 + _ROUNDING):
        message = f"the model answers from {found.min():.4g} to {found.max():.4g}; probabilities are from 0 to 1"
        raise FailedPrecondition("WRONG_OUTPUT", message, lowest=found.min(), largest=found.max())
    return found


def judge(card: BundleCard, reader: DatasetReader, answers: Sequence[Answers], columns: Columns) -> Findings:
    """Everything there is to say of a classifier."""
    classes = all_classes(card.classes, reader.descriptor.classes)
    parts = {answer.usage: _classified(answer, card, reader, classes) for answer in answers}
    shares = _training_shares(reader, classes)
    results = {usage: _result(part, shares) for usage, part in parts.items()}
    scores = {usage: result.score for usage, result in results.items()}
    unseen = [parts[usage] for usage in (VALIDATION, TEST) if usage in parts]
    return Findings(
        tuple(_smaller(result) for result in results.values()),
        _slices(parts[TEST], columns) if TEST in parts else (),
        tuple(example for part in parts.values() for example in examples.worst_classified(part)),
        examples.suspects(unseen, [parts[TRAIN]] if TRAIN in parts else []),
        gaps.train_gaps(scores.get(TRAIN), scores.get(VALIDATION), metrics.MAIN_CLASSIFICATION),
        _threshold(parts.get(VALIDATION)),
    )


def all_classes(known: Sequence[str], occurring: Sequence[str]) -> tuple[str, ...]:
    """The model's classes, then those of the data that it does not know: of these no example can be right."""
    return (*known, *(name for name in occurring if name not in known))


def _classified(answer: Answers, card: BundleCard, reader: DatasetReader, classes: Sequence[str]) -> Classified:
    probabilities = np.zeros((len(answer.positions), len(classes)), np.float32)
    probabilities[:, : len(card.classes)] = answer.outputs
    labels = _own_labels(reader, answer.usage, classes)[answer.positions]
    return Classified(answer.usage, chosen_ids(answer, reader), labels, probabilities, classes, len(card.classes))


def _own_labels(reader: DatasetReader, usage: str, classes: Sequence[str]) -> Ints:
    """Labels of a usage as indices into `classes`."""
    place = np.array([classes.index(name) for name in reader.descriptor.classes], dtype=np.int64)
    return np.asarray(place[reader.labels(usage)], dtype=np.int64)


def _training_shares(reader: DatasetReader, classes: Sequence[str]) -> Floats | None:
    """Shares of the classes in the training usage; None where it holds no examples."""
    learned = _own_labels(reader, TRAIN, classes)
    return metrics.class_shares(learned, len(classes)) if len(learned) else None


def _result(part: Classified, shares: Floats | None) -> UsageResult:
    if shares is None:
        shares = metrics.class_shares(part.labels, len(part.classes))
    return metrics.against_majority(part.usage, part.labels, part.probabilities.astype(np.float64), part.classes, shares)


def _smaller(result: UsageResult) -> UsageResult:
    """Without what nobody reads: the baseline's classes, and a confusion matrix too large for a document."""
    score = replace(result.score, confusion=()) if len(result.score.classes) > LARGEST_CONFUSION else result.score
    return replace(result, score=score, baseline=replace(result.baseline, classes=(), confusion=()))


def _slices(part: Classified, columns: Columns) -> tuple[SliceScore, ...]:
    def score(rows: Ints) -> tuple[Metric, ...]:
        return metrics.main_classification(part.labels[rows], part.probabilities[rows].astype(np.float64))

    return score_slices(columns, score)


def _threshold(part: Classified | None) -> float:
    """For two classes, chosen on validation; 0 otherwise."""
    if part is None or len(part.classes) != 2:
        return 0.0
    return best_threshold(part.probabilities[:, 1].astype(np.float64), part.labels == 1)


def rows(card: BundleCard, reader: DatasetReader, answer: Answers) -> pa.Table:
    """Columns example_id, usage, label, prediction, then `probability:{class}` (float32) by class."""
    import pyarrow as pa

    labels = reader.labels(answer.usage)[answer.positions]
    table: dict[str, Any] = {
        "example_id": pa.array(chosen_ids(answer, reader), pa.string()),
        "usage": pa.array([answer.usage] * len(labels), pa.string()),
        "label": pa.array([reader.descriptor.classes[label] for label in labels.tolist()], pa.string()),
        "prediction": pa.array([card.classes[index] for index in answer.outputs.argmax(axis=1).tolist()], pa.string()),
    }
    return pa.table(table | {f"probability:{name}": answer.outputs[:, i] for i, name in enumerate(card.classes)})


CLASSIFICATION: Final = TaskScoring(check, read, judge, rows)
