"""Recordings of sensors: times, channels, and columns or ranges that say what is the matter when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.dataset.domain.columns import type_text
from modelyard.formats.annotations import Interval
from modelyard.formats.dataset import NUMERIC

TIME_NAMES = ("datetime", "timestamp", "time", "date", "t", "ts")
MOMENT_NAMES = ("anomaly", "is_anomaly", "changepoint", "outlier", "fault")
"""Columns of 0 and 1 that are taken as labels by their names."""

ROW_NAMES = ("", "rownames", "rowname", "index", "row", "unnamed: 0")
"""Columns that count the rows, by their names."""

LABEL_NAMES = ("label", "class", "state", "target")
NORMAL = ("", "normal", "none", "ok", "0", "0.0", "false", "no")
"""Values (lower case) of a label column that say that nothing is the matter."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Floats = npt.NDArray[np.float64]


def times(texts: pa.ChunkedArray, *, comma_allowed: bool = False) -> tuple[Floats, bool, int]:
    """Times as float64 [N] (seconds since 1970 for dates, else the numbers), whether they are dates, how many are unread."""
    column = type_text("time", texts.cast(pa.string()), comma_allowed=comma_allowed)
    if column.type == NUMERIC:
        numbers = np.asarray(column.values.to_numpy(), dtype=np.float64)
        return numbers, False, int(np.isnan(numbers).sum())
    found = [seconds(text) for text in texts.cast(pa.string()).to_pylist()]
    return np.asarray(found, dtype=np.float64), True, sum(math.isnan(value) for value in found)


def seconds(text: str | None) -> float:
    """Seconds since 1970 of an ISO 8601 date ("2020-02-08 18:47:32"), taken as UTC where it names no zone; NaN otherwise."""
    try:
        moment = datetime.fromisoformat((text or "").strip())
    except ValueError:
        return math.nan
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) / timedelta(seconds=1)


def date_text(value: float) -> str:
    """The date of seconds since 1970, as ISO 8601 without a zone; "" for NaN."""
    if math.isnan(value):
        return ""
    moment = _EPOCH + timedelta(seconds=value)
    return moment.replace(tzinfo=None).isoformat(sep=" ")


def is_binary(texts: pa.ChunkedArray) -> bool:
    """Whether a column holds nothing but 0 and 1."""
    found = {str(value).strip().lower() for value in pc.unique(texts).to_pylist() if value is not None}
    return found <= {"0", "1", "0.0", "1.0", "true", "false", ""}


def label_intervals(name: str, texts: pa.ChunkedArray) -> list[Interval]:
    """Where a label column says something: its own name for 1, else each value that is not normal."""
    values = [str(value or "").strip() for value in texts.to_pylist()]
    if is_binary(texts):
        values = ["" if value.lower() in NORMAL else name for value in values]
    return runs(["" if value.lower() in NORMAL else value for value in values])


def runs(values: Sequence[str]) -> list[Interval]:
    """The runs of equal values but ""."""
    out: list[Interval] = []
    start = 0
    for place in range(1, len(values) + 1):
        if place == len(values) or values[place] != values[start]:
            if values[start]:
                out.append(Interval(start, place, values[start]))
            start = place
    return out


def merged(intervals: Sequence[Interval]) -> list[Interval]:
    """The same steps for each label, as few intervals as can be: those that overlap or touch are one."""
    out: dict[str, list[Interval]] = {}
    for each in sorted(intervals, key=lambda one: (one.label, one.start)):
        known = out.setdefault(each.label, [])
        if known and each.start <= known[-1].end:
            known[-1] = Interval(known[-1].start, max(known[-1].end, each.end), each.label)
        else:
            known.append(each)
    return sorted((each for found in out.values() for each in found), key=lambda one: (one.start, one.label))


def interval(start: str, end: str, label: str, at: Floats | None, dates: bool, steps: int) -> Interval | None:
    """A range as steps: its ends are times (the end included) where there are times, else steps (the end not included)."""
    first, last = (seconds(text) if dates else _number(text) for text in (start, end))
    if math.isnan(first) or math.isnan(last) or last < first:
        return None
    if at is None:
        found = max(0, int(first)), min(steps, int(last))
    else:
        found = int(np.searchsorted(at, first, "left")), int(np.searchsorted(at, last, "right"))
    return Interval(*found, label) if found[1] > found[0] else None


def leaves(start: str, end: str, at: Floats | None, dates: bool, steps: int) -> bool:
    """Whether a range that holds a step also reaches beyond the recording, so that `interval` cut it. Arguments as of
    `interval`."""
    first, last = (seconds(text) if dates else _number(text) for text in (start, end))
    if at is None:
        return first < 0 or last > steps
    known = at[~np.isnan(at)]
    # Half a step of slack: a range may well begin when the recording was switched on.
    slack = float(np.median(np.diff(known))) / 2 if len(known) > 1 else 0.0
    return bool(len(known)) and bool(first < known.min() - slack or last > known.max() + slack)


def joined(values: Mapping[str, Floats], names: Sequence[str], at: Floats | None) -> Floats:
    """The channels as float64 [steps, channels], the times before them where there are any."""
    columns = [*([at] if at is not None else []), *(values[name] for name in names)]
    return np.stack(columns, axis=1)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
