"""Scores a regression's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition
from modelyard.evaluator.domain import examples, gaps, metrics
from modelyard.evaluator.domain.evaluation import TEST, TRAIN, VALIDATION
from modelyard.evaluator.domain.examples import Estimated
from modelyard.evaluator.domain.scores import Metric, SliceScore
from modelyard.evaluator.domain.slices import score_slices
from modelyard.evaluator.worker.answers import Answers, Columns, Findings, Outputs, TaskScoring, chosen_ids
from modelyard.formats.bundle import BundleCard
from modelyard.formats.dataset import DatasetReader
from modelyard.statistics.intervals import Ints

if TYPE_CHECKING:
    import pyarrow as pa


def check(card: BundleCard, reader: DatasetReader) -> None:
    """Numbers fit numbers."""


def read(card: BundleCard, answers: Mapping[str, NDArray[Any]]) -> Outputs:
    """Predictions [N]. Raises FailedPrecondition WRONG_OUTPUT where there is more than one number an example."""
    found = np.asarray(answers[card.outputs[0].name], dtype=np.float32)
    if found.size != len(found):
        message = f"the model answers {list(found.shape[1:])} numbers an example; a regression answers one"
        raise FailedPrecondition("WRONG_OUTPUT", message, found=list(found.shape))
    return found.reshape(-1)


def judge(card: BundleCard, reader: DatasetReader, answers: Sequence[Answers], columns: Columns) -> Findings:
    """Everything there is to say of a regression. Of a number nobody can say that its label is wrong: the worst examples show."""
    parts = {answer.usage: _estimated(answer, reader) for answer in answers}
    learned = reader.labels(TRAIN)
    results = {
        usage: metrics.against_mean(
            usage, part.targets, part.predictions, float((learned if len(learned) else part.targets).mean())
        )
        for usage, part in parts.items()
    }
    scores = {usage: result.score for usage, result in results.items()}
    return Findings(
        tuple(results.values()),
        _slices(parts[TEST], columns) if TEST in parts else (),
        tuple(example for part in parts.values() for example in examples.worst_estimated(part)),
        train_gaps=gaps.train_gaps(scores.get(TRAIN), scores.get(VALIDATION), metrics.MAIN_REGRESSION),
    )


def _estimated(answer: Answers, reader: DatasetReader) -> Estimated:
    targets = reader.labels(answer.usage)[answer.positions]
    return Estimated(answer.usage, chosen_ids(answer, reader), targets, answer.outputs.astype(np.float64))


def _slices(part: Estimated, columns: Columns) -> tuple[SliceScore, ...]:
    def score(rows: Ints) -> tuple[Metric, ...]:
        return metrics.main_regression(part.targets[rows], part.predictions[rows])

    return score_slices(columns, score)


def rows(card: BundleCard, reader: DatasetReader, answer: Answers) -> pa.Table:
    """Columns example_id, usage, label, prediction."""
    import pyarrow as pa

    labels = reader.labels(answer.usage)[answer.positions]
    return pa.table(
        {
            "example_id": pa.array(chosen_ids(answer, reader), pa.string()),
            "usage": pa.array([answer.usage] * len(labels), pa.string()),
            "label": labels,
            "prediction": answer.outputs.astype(np.float64),
        }
    )


REGRESSION: Final = TaskScoring(check, read, judge, rows)
