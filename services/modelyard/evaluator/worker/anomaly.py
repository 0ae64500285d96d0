"""Scores a detector of anomalies: every reading of a recording gets the score of the first window that ends at it or after it.

The first readings of a recording, which are its reference, are not judged (formats/sensors.py). The examples of the gate are
stretches of recordings, about as long as a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition
from modelyard.evaluator.domain import gaps, picture_scores
from modelyard.evaluator.domain.anomaly import Series, anomaly
from modelyard.evaluator.domain.anomaly_ranges import BALANCED, Stretches, range_metrics, stretches
from modelyard.evaluator.domain.evaluation import TRAIN, VALIDATION
from modelyard.evaluator.domain.scores import ExampleScore, Metric, UsageResult, UsageScore
from modelyard.evaluator.worker.answers import Answers, Columns, Findings, Outputs, TaskScoring
from modelyard.formats.bundle import BundleCard
from modelyard.formats.dataset import DatasetReader
from modelyard.formats.sensors import ALARM, SCORE, Recording, Watch, recordings, watch_of
from modelyard.statistics import intervals
from modelyard.statistics.intervals import Ints

if TYPE_CHECKING:
    import pyarrow as pa

TRAIN_CAP: Final = 50
"""Most training recordings that are scored."""
WINDOWS_AT_ONCE: Final = 256
MAIN: Final = ("f1", BALANCED)
STATES: Final = ("normal", "anomaly")


@dataclass(frozen=True)
class _Scored:
    """A usage: the recordings that are long enough, what was said of them, and their stretches."""

    usage: str
    kept: list[Recording]
    parts: list[Series]
    stretches: Stretches
    watch: Watch


def _watch(card: BundleCard) -> Watch:
    return watch_of({each.name: each.shape for each in card.inputs})


def check(card: BundleCard, reader: DatasetReader) -> None:
    """Raises FailedPrecondition CHANNELS_DIFFER where the recordings have another number of channels than the model takes."""
    has, needs = max(1, len(reader.descriptor.channels)), card.inputs[0].shape[-1]
    if has != needs:
        named = ", ".join(reader.descriptor.channels)
        message = f"the model takes {needs} channels, the recordings have {has} ({named:.200})"
        raise FailedPrecondition("CHANNELS_DIFFER", message, expected=needs, found=has)


def batches(card: BundleCard, reader: DatasetReader, usage: str, positions: Ints) -> Iterator[dict[str, NDArray[Any]]]:
    """The windows of the recordings, one recording after the other."""
    watch = _watch(card)
    for recording in recordings(reader, usage, positions):
        ends = watch.ends(recording.steps)
        for start in range(0, len(ends), WINDOWS_AT_ONCE):
            yield dict(watch.inputs(recording.values, ends[start : start + WINDOWS_AT_ONCE]))


def read(card: BundleCard, answers: Mapping[str, NDArray[Any]]) -> Outputs:
    """Scores [M]. Raises FailedPrecondition WRONG_OUTPUT."""
    if SCORE not in answers:
        named = ", ".join(answers)
        raise FailedPrecondition(
            "WRONG_OUTPUT", f"the model answers {named}; a detector of anomalies answers {SCORE}", found=named
        )
    found = np.asarray(answers[SCORE], np.float32)
    if found.size != len(found):
        message = f"the model answers {list(found.shape[1:])} numbers a window; a detector answers one"
        raise FailedPrecondition("WRONG_OUTPUT", message, found=list(found.shape))
    return found.reshape(-1)


def judge(card: BundleCard, reader: DatasetReader, answers: Sequence[Answers], columns: Columns) -> Findings:
    """Everything there is to say of a detector."""
    parts = [_scored(card, reader, answer) for answer in answers]
    results = [_result(part) for part in parts]
    by_usage = {result.score.usage: result.score for result in results}
    return Findings(
        tuple(results),
        worst_examples=tuple(example for part in parts for example in _worst(part)),
        train_gaps=gaps.train_gaps(by_usage.get(TRAIN), by_usage.get(VALIDATION), MAIN),
    )


def _scored(card: BundleCard, reader: DatasetReader, answer: Answers) -> _Scored:
    watch, place = _watch(card), 0
    kept, parts = [], []
    for recording in recordings(reader, answer.usage, answer.positions):
        count = len(watch.ends(recording.steps))
        if not count:
            continue
        scores = watch.by_reading(answer.outputs[place : place + count], recording.steps)
        place += count
        kept.append(recording)
        parts.append(Series(scores, recording.anomalous[watch.first :]))
    return _Scored(answer.usage, kept, parts, stretches(parts, ALARM, watch.window), watch)


def _result(part: _Scored) -> UsageResult:
    figures, (plain, does) = part.stretches.figures(), part.stretches.baseline
    found = {each.name: each for each in anomaly(part.parts, threshold=ALARM, block=part.watch.window).metrics}
    if not part.stretches.anomalous.any():
        found = {name: found[name] for name in ("false_alarm_rate",) if name in found}
    found |= {each.name: each for each in (picture_scores.mean_of(BALANCED, figures), *range_metrics(part.parts, ALARM))}
    if "f1" in found:
        found["precision"] = _precision(part.parts)
    baseline = UsageScore(part.usage, len(plain), (picture_scores.mean_of(BALANCED, plain),))
    score = UsageScore(part.usage, len(figures), tuple(found[name] for name in _ORDER if name in found))
    return UsageResult(score, baseline, (picture_scores.paired(BALANCED, figures, plain),), does)


_ORDER: Final = (
    *(
        "f1",
        BALANCED,
        "precision",
        "recall",
        "false_alarm_rate",
        "roc_auc",
        "pr_auc",
        "range_f1",
        "range_precision",
        "range_recall",
    ),
    *("detected_share", "detection_delay", "best_f1"),
)


def _precision(parts: Sequence[Series]) -> Metric:
    called = np.concatenate([part.scores >= ALARM for part in parts])
    right = int((called & np.concatenate([part.anomalous for part in parts])).sum())
    total = int(called.sum())
    return Metric("precision", right / total if total else 0.0, *intervals.wilson(right, total))


def _name(part: _Scored, row: int) -> str:
    """The example's id and the readings of the stretch, from 0: "3f9c...:381-445"."""
    number, first, end = part.stretches.places[row].tolist()
    start = part.watch.first
    return f"{part.kept[number].example_id}:{start + first}-{start + end}"


def _worst(part: _Scored) -> tuple[ExampleScore, ...]:
    """Stretches by the share of them that is called wrongly."""
    wrong = np.where(part.stretches.anomalous, 1 - part.stretches.called, part.stretches.called)
    order = [int(row) for row in np.argsort(-wrong, kind="stable")[: picture_scores.MOST_WORST] if wrong[row] > 0]
    truth, said = part.stretches.anomalous, part.stretches.called
    return tuple(
        ExampleScore(_name(part, row), part.usage, STATES[int(truth[row])], _said(said[row]), float(said[row]), float(wrong[row]))
        for row in order
    )


def _said(share: float) -> str:
    return STATES[int(share >= 0.5)]


def rows(card: BundleCard, reader: DatasetReader, answer: Answers) -> pa.Table:
    """Columns example_id (with the readings of the stretch), usage, label, prediction (normal or anomaly), score."""
    import pyarrow as pa

    part = _scored(card, reader, answer)
    count = len(part.stretches.called)
    return pa.table(
        {
            "example_id": pa.array([_name(part, row) for row in range(count)], pa.string()),
            "usage": pa.array([answer.usage] * count, pa.string()),
            "label": pa.array([STATES[int(each)] for each in part.stretches.anomalous], pa.string()),
            "prediction": pa.array([_said(each) for each in part.stretches.called.tolist()], pa.string()),
            "score": pa.array(part.stretches.figures(), pa.float64()),
        }
    )


ANOMALY: Final = TaskScoring(check, read, judge, rows, train_cap=TRAIN_CAP, batches=batches)
