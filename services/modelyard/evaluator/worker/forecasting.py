"""Scores a forecaster: at origins of a usage it sees what came before and is held against what came.

Origins are at most MOST_ORIGINS a series, spread evenly. The examples of the gate are origins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition
from modelyard.evaluator.domain import gaps, picture_scores
from modelyard.evaluator.domain.evaluation import TRAIN, VALIDATION
from modelyard.evaluator.domain.forecasts import SKILL, Forecasts, forecast_metrics
from modelyard.evaluator.domain.scores import ExampleScore, UsageResult, UsageScore
from modelyard.evaluator.worker.answers import Answers, Columns, Findings, Outputs, TaskScoring
from modelyard.formats.bundle import BundleCard
from modelyard.formats.dataset import USAGES, DatasetReader
from modelyard.formats.forecasts import (
    COVERAGE,
    OUTPUTS,
    Span,
    Track,
    coming,
    naive,
    naive_error,
    origins,
    season,
    seen,
    span_of,
    tracks,
)
from modelyard.statistics.intervals import Ints

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ORIGINS: Final = 400
AT_ONCE: Final = 256
MAIN: Final = ("mase", "mae")


@dataclass(frozen=True)
class _Scored:
    """A usage: the series with their origins, and the forecasts in that order."""

    usage: str
    placed: list[tuple[Track, Ints]]
    held: Forecasts
    span: Span


def _placed(card: BundleCard, reader: DatasetReader, usage: str) -> tuple[list[tuple[Track, Ints]], Span]:
    """The series with the origins of a usage, and the span; its season is that of the data, which the naive forecast repeats."""
    found = tracks(reader, USAGES)
    learned = [track.values[: max(part.last for part in track.of(TRAIN))] for track in found if track.of(TRAIN)]
    shapes = [{each.name: each.shape for each in specs} for specs in (card.inputs, card.outputs)]
    span = span_of(shapes[0], shapes[1])
    period = season(learned)
    span = Span(span.context, span.horizon, period if period <= span.context else 1)
    return [(track, origins(track, usage, span, MOST_ORIGINS)) for track in found], span


def check(card: BundleCard, reader: DatasetReader) -> None:
    """Raises FailedPrecondition CHANNELS_DIFFER where the series have another number of channels than the model takes."""
    has, needs = max(1, len(reader.descriptor.channels)), card.inputs[0].shape[-1]
    if has != needs:
        named = ", ".join(reader.descriptor.channels)
        message = f"the model takes {needs} channels, the series have {has} ({named:.200})"
        raise FailedPrecondition("CHANNELS_DIFFER", message, expected=needs, found=has)


def batches(card: BundleCard, reader: DatasetReader, usage: str, positions: Ints) -> Iterator[dict[str, NDArray[Any]]]:
    """What the model sees at the origins of a usage. Raises FailedPrecondition NO_ORIGINS where there are none."""
    placed, span = _placed(card, reader, usage)
    if len(positions) and not any(len(at) for _, at in placed):
        message = (
            f"no series has a {usage} part of {span.horizon} readings with {span.context} before it: give a shorter horizon "
            "(hyperparameters.horizon), or longer series"
        )
        raise FailedPrecondition("NO_ORIGINS", message, usage=usage, horizon=span.horizon, context=span.context)
    for track, at in placed:
        for start in range(0, len(at), AT_ONCE):
            yield dict(seen(track, at[start : start + AT_ONCE], span))


def read(card: BundleCard, answers: Mapping[str, NDArray[Any]]) -> Outputs:
    """Forecast, lower and upper, [M, 3, horizon, channels]. Raises FailedPrecondition WRONG_OUTPUT."""
    if not set(OUTPUTS) <= set(answers):
        named, needed = ", ".join(answers), ", ".join(OUTPUTS)
        raise FailedPrecondition("WRONG_OUTPUT", f"the model answers {named}; a forecaster answers {needed}", found=named)
    return np.stack([np.asarray(answers[name], np.float32) for name in OUTPUTS], axis=1)


def judge(card: BundleCard, reader: DatasetReader, answers: Sequence[Answers], columns: Columns) -> Findings:
    """Everything there is to say of a forecaster."""
    parts = [_scored(card, reader, answer) for answer in answers]
    results = [_result(part) for part in parts]
    by_usage = {result.score.usage: result.score for result in results}
    return Findings(
        tuple(results),
        worst_examples=tuple(example for part in parts for example in _worst(part)),
        train_gaps=gaps.train_gaps(by_usage.get(TRAIN), by_usage.get(VALIDATION), MAIN),
    )


def _scored(card: BundleCard, reader: DatasetReader, answer: Answers) -> _Scored:
    placed, span = _placed(card, reader, answer.usage)
    used = [(track, at) for track, at in placed if len(at)]
    said, lower, upper = (answer.outputs[:, place].astype(np.float64) for place in range(len(OUTPUTS)))
    came, plain = (np.concatenate([of(track, at, span) for track, at in used]) for of in (coming, naive))
    scale = np.concatenate([np.repeat(naive_error(track, span)[None], len(at), axis=0) for track, at in used])
    return _Scored(answer.usage, used, Forecasts(said, lower, upper, came, plain, scale), span)


def _result(part: _Scored) -> UsageResult:
    held = part.held
    plain = Forecasts(held.naive, held.naive, held.naive, held.came, held.naive, held.scale)
    figures, plain_figures = held.skill(), np.full(len(held.said), 0.5)
    baseline = [each for each in forecast_metrics(plain, COVERAGE) if each.name not in ("pinball", "coverage")]
    season_text = f"repeating the last {part.span.period} readings" if part.span.period > 1 else "repeating the last reading"
    return UsageResult(
        UsageScore(part.usage, len(figures), tuple(forecast_metrics(held, COVERAGE))),
        UsageScore(part.usage, len(figures), tuple(baseline)),
        (picture_scores.paired(SKILL, figures, plain_figures),),
        season_text,
    )


def _names(part: _Scored) -> list[str]:
    """The series and the origin's place in it: "pump.csv@412"."""
    return [f"{track.name}@{place}" for track, at in part.placed for place in at.tolist()]


def _words(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{each:.4g}" for each in values[:4, 0].tolist()) + (" ..." if len(values) > 4 else "")


def _worst(part: _Scored) -> tuple[ExampleScore, ...]:
    """Origins with the lowest skill; what was said and what came of the first channel's first readings."""
    skill, names = part.held.skill(), _names(part)
    order = [int(row) for row in np.argsort(skill, kind="stable")[: picture_scores.MOST_WORST]]
    return tuple(
        ExampleScore(
            names[row],
            part.usage,
            _words(part.held.came[row]),
            _words(part.held.said[row]),
            float(skill[row]),
            1 - float(skill[row]),
        )
        for row in order
    )


def rows(card: BundleCard, reader: DatasetReader, answer: Answers) -> pa.Table:
    """Columns example_id (series@origin), usage, label and prediction (the first values), score (forecast_skill)."""
    import pyarrow as pa

    part = _scored(card, reader, answer)
    return pa.table(
        {
            "example_id": pa.array(_names(part), pa.string()),
            "usage": pa.array([answer.usage] * len(part.held.said), pa.string()),
            "label": pa.array([_words(each) for each in part.held.came], pa.string()),
            "prediction": pa.array([_words(each) for each in part.held.said], pa.string()),
            "score": pa.array(part.held.skill(), pa.float64()),
        }
    )


FORECASTING: Final = TaskScoring(check, read, judge, rows, batches=batches)
