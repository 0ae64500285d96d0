"""Series that are to be forecast: cut in time at import, joined again where a forecast looks back over a cut.

An example is a part of a series: its first seven tenths are for training, the next tenth for validation, the last two tenths for
the test. A forecast is made at an origin: it sees the `context` readings before it and says the `horizon` ones from it on. It is
of the usage in which all that it says lies; what it sees may lie before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import InvalidArgument
from modelyard.formats.dataset_descriptor import TEST, TRAIN, USAGES, VALIDATION
from modelyard.formats.series import SERIES as SERIES

if TYPE_CHECKING:
    from modelyard.formats.dataset import DatasetReader

FORECAST, LOWER, UPPER = "forecast", "lower", "upper"
OUTPUTS: Final = (FORECAST, LOWER, UPPER)
COVERAGE: Final = 0.9
"""Share of what comes that is meant to lie between `lower` and `upper`."""
SERIES_NAME, START = "series", "start"
"""Attributes of an example: of which series it is a part, and the place of its first reading in it."""
SHARES: Final = ((TRAIN, 0.7), (VALIDATION, 0.1), (TEST, 0.2))
LEAST_STEPS: Final = 20
"""A series with fewer readings cannot be cut in three."""
LARGEST_CONTEXT: Final = 512
LARGEST_HORIZON: Final = 64
LONGEST_PERIOD: Final = 400
LEAST_SEASONAL: Final = 0.3
"""Autocorrelation from which on a series counts as seasonal."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """A part of a series: readings first to last (exclusive) of it, for a usage, and the example that holds them."""

    first: int
    last: int
    usage: str
    example_id: str


@dataclass(frozen=True)
class Track:
    """A series, its parts joined: values float64 [steps, channels], NaN where nothing is known."""

    name: str
    values: Floats
    parts: tuple[Part, ...]

    def of(self, usage: str) -> tuple[Part, ...]:
        """Its parts of a usage."""
        return tuple(part for part in self.parts if part.usage == usage)


@dataclass(frozen=True)
class Span:
    """What a model looks back on and says, in readings, and the season (1: none) it reckons with."""

    context: int
    horizon: int
    period: int = 1


def cut_points(steps: int) -> list[tuple[str, int, int]]:
    """Usage, first reading and one past the last of each part of a series. Raises InvalidArgument SERIES_TOO_SHORT."""
    if steps < LEAST_STEPS:
        message = f"the series has {steps} readings; at least {LEAST_STEPS} are needed to learn, validate and test on"
        raise InvalidArgument("SERIES_TOO_SHORT", message, steps=steps)
    test = max(2, round(steps * SHARES[2][1]))
    validation = max(1, round(steps * SHARES[1][1]))
    first, second = steps - test - validation, steps - test
    return [(TRAIN, 0, first), (VALIDATION, first, second), (TEST, second, steps)]


def tracks(reader: DatasetReader, usages: Sequence[str] = USAGES) -> list[Track]:
    """The series of a dataset version, as far as those usages hold them, in the order of their names."""
    found: dict[str, list[tuple[Part, Floats]]] = {}
    for usage in usages:
        annotated, ids = reader.annotations(usage), reader.example_ids(usage)
        paths = reader.paths(usage)
        for position, example in enumerate(ids):
            said = annotated.annotation(position).attributes
            values = annotated.series(position)
            first = int(said.get(START, "0") or 0)
            part = Part(first, first + len(values), usage, example)
            found.setdefault(said.get(SERIES_NAME, paths[position]), []).append((part, values))
    return [_joined(name, found[name]) for name in sorted(found)]


def _joined(name: str, held: Sequence[tuple[Part, Floats]]) -> Track:
    ordered = sorted(held, key=lambda each: each[0].first)
    values = np.full((max(part.last for part, _ in ordered), ordered[0][1].shape[1]), np.nan)
    for part, own in ordered:
        values[part.first : part.last] = own
    return Track(name, values, tuple(part for part, _ in ordered))


def origins(track: Track, usage: str, span: Span, most: int = 0) -> Ints:
    """The origins of a usage, rising; at most `most` of them (0: all), spread evenly."""
    found = [np.arange(max(part.first, span.context), part.last - span.horizon + 1) for part in track.of(usage)]
    whole = np.concatenate([np.empty(0, np.int64), *found]).astype(np.int64)
    if most and len(whole) > most:
        whole = whole[np.unique(np.linspace(0, len(whole) - 1, most).round().astype(np.int64))]
    return whole


def seen(track: Track, at: Ints, span: Span) -> dict[str, npt.NDArray[np.float32]]:
    """What a model is asked at origins: float32 [M, context, channels]."""
    rows = track.values.astype(np.float32)
    return {SERIES: np.ascontiguousarray(rows[(at - span.context)[:, None] + np.arange(span.context)])}


def coming(track: Track, at: Ints, span: Span) -> Floats:
    """What comes at origins: float64 [M, horizon, channels]."""
    return np.asarray(track.values[at[:, None] + np.arange(span.horizon)], np.float64)


def naive(track: Track, at: Ints, span: Span) -> Floats:
    """The seasonal naive forecast: what was one period before (the last value without a season), [M, horizon, channels]."""
    back = np.arange(span.horizon) % span.period - span.period
    return np.asarray(track.values[at[:, None] + back], np.float64)


def naive_error(track: Track, span: Span) -> Floats:
    """The mean absolute error of the one-season-back forecast over the training part, by channel [channels]; what MASE is a
    multiple of (Hyndman and Koehler 2006). NaN where it is 0 or nothing is known."""
    kept = [track.values[part.first : part.last] for part in track.of(TRAIN)] or [track.values]
    errors = [np.abs(each[span.period :] - each[: -span.period]) for each in kept if len(each) > span.period]
    if not errors:
        return np.full(track.values.shape[1], np.nan)
    whole = np.concatenate(errors)
    known = ~np.isnan(whole)
    count = known.sum(axis=0)
    mean = np.where(known, whole, 0.0).sum(axis=0) / np.maximum(count, 1)
    return np.where((count > 0) & (mean > 0), mean, np.nan)


def plan(found: Sequence[Track], horizon: int = 0, context: int = 0) -> Span:
    """What to look back on and say, from the training parts: a season ahead, two seasons back; without a season ten readings
    ahead, and three times as many back. No further ahead than the validation part reaches (a seventh of the training part where
    there is none), no further back than a third of the training part. Given values stand. Raises InvalidArgument
    HORIZON_TOO_LONG, CONTEXT_TOO_LONG, SERIES_TOO_SHORT."""
    known = [track for track in found if track.of(TRAIN)]
    learned = min((sum(part.last - part.first for part in track.of(TRAIN)) for track in known), default=0)
    room = min((sum(part.last - part.first for part in track.of(VALIDATION)) or learned // 7 for track in known), default=0)
    if learned < 8 or room < 1:
        message = f"the shortest series has {learned} readings to learn from; at least 8 are needed"
        raise InvalidArgument("SERIES_TOO_SHORT", message, steps=learned)
    period = season([track.values[: max(part.last for part in track.of(TRAIN))] for track in known])
    ahead = horizon or max(1, min(LARGEST_HORIZON, period if period > 3 else 10, room))
    if ahead > room:
        message = f"horizon is {ahead}; the validation part of the shortest series has {room} readings, so 1 to {room} are right"
        raise InvalidArgument("HORIZON_TOO_LONG", message, field="hyperparameters.horizon", value=ahead)
    longest = learned - ahead - 1
    usual = max(2 * period, 3 * ahead if period == 1 else 2 * ahead)
    back = context or max(2, min(LARGEST_CONTEXT, usual, max(learned // 3, 2)))
    if not 2 <= back <= min(longest, LARGEST_CONTEXT):
        message = f"context_length is {back}; 2 to {min(longest, LARGEST_CONTEXT)} are right for {learned} readings to learn from"
        raise InvalidArgument("CONTEXT_TOO_LONG", message, field="hyperparameters.context_length", value=back)
    return Span(back, ahead, period if period <= back else 1)


def season(values: Sequence[Floats]) -> int:
    """The period in readings that series share: the lag at which their autocorrelation, without a straight line, has its highest
    peak, from LEAST_SEASONAL on; 1 where there is none."""
    shortest = min((len(each) for each in values), default=0)
    lags = min(shortest // 3, LONGEST_PERIOD)
    if lags < 3:
        return 1
    total = np.mean([_autocorrelation(each, lags) for each in values], axis=0)
    inner = np.arange(2, lags)
    peaks = inner[(total[inner] >= total[inner - 1]) & (total[inner] > total[inner + 1]) & (total[inner] >= LEAST_SEASONAL)]
    if not len(peaks):
        return 1
    best = total[peaks].max()
    return int(peaks[total[peaks] >= 0.9 * best][0])  # of a season and its multiples the season


def _autocorrelation(values: Floats, lags: int) -> Floats:
    """Mean over the channels, for lags 0 to `lags`."""
    steps = np.arange(len(values), dtype=np.float64)
    out = []
    for column in values.T:
        known = ~np.isnan(column)
        if known.sum() < 3:
            continue
        line = np.polyfit(steps[known], column[known], 1)
        flat = np.where(known, column - np.polyval(line, steps), 0.0)
        whole = float(flat @ flat)
        out.append([float(flat[: len(flat) - lag] @ flat[lag:]) / whole if whole > 0 else 0.0 for lag in range(lags + 1)])
    return np.mean(out, axis=0) if out else np.zeros(lags + 1)


def span_of(inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]], period: int = 1) -> Span:
    """The span of a model with those shapes. Raises InvalidArgument NOT_A_FORECASTER."""
    if SERIES not in inputs or FORECAST not in outputs or len(inputs[SERIES]) != 3 or len(outputs[FORECAST]) != 3:
        both = f"{', '.join(inputs)} and answers {', '.join(outputs)}"
        message = f"the model takes {both}; a forecaster takes {SERIES} and answers {FORECAST}"
        raise InvalidArgument("NOT_A_FORECASTER", message, inputs=", ".join(inputs), outputs=", ".join(outputs))
    return Span(inputs[SERIES][1], outputs[FORECAST][1], period)


def joined(values: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Several outputs [N, ...] side by side, [N, all]; in the order given."""
    return np.concatenate([each.reshape(len(each), -1) for each in values.values()], axis=1)
