"""Values of a table that are unlike the rest: outliers, placeholders for what is missing, and numbers that were cut off.

An outlier is far out by two robust rules at once (Tukey's outer fences, and 8 robust standard deviations), and where a column is
positive also by the fences of its logarithm, so that prices and counts, whose long tails are their nature, are left alone.
decisions/0031 compares this with an isolation forest.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from modelyard.core.words import several
from modelyard.dataset.domain.column_edits import CAP
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.listing import Text, of_examples
from modelyard.dataset.domain.records import Edit, Finding
from modelyard.dataset.domain.table_view import TableView
from modelyard.formats.dataset import NUMERIC

FAR_OUT = 3.0
"""A value is an outlier beyond this many interquartile ranges from the quartiles (Tukey's outer fences)..."""

ROBUST_Z = 8.0
"""...and this many robust standard deviations (1.4826 times the median absolute deviation) from the median."""

LEAST_VALUES = 20
"""Columns with fewer values are not judged."""

MOSTLY_POSITIVE = 0.99
"""Share of values that are positive (or not negative), from which a column's logarithm is looked at."""

NATURAL = 0.05
"""Where so large a share of the values is far out, that is how the column is."""

PLACEHOLDERS = (999999.0, -99999.0, 99999.0, -9999.0, 9999.0, -999.0, 999.0, -99.0, 99.0, -9.0, -1.0)
"""Numbers that people write where there is none; taken as such only where they are repeated and stand apart: the only negative
ones, or twice as far away as all other values spread."""

LEAST_REPEATED = 3

PILED = 0.01
"""Share of rows at the largest (or smallest) value, from which it may be a limit at which numbers were cut off..."""

PILED_TIMES = 5.0
"""...when it is also this many times as frequent as the values next to it."""

_NEIGHBOURS = 5
_DISTINCT = 20

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def value_findings(view: TableView, names: Names) -> list[Finding]:
    """Outliers, placeholders and cut-off numbers of each numeric feature, and of a numeric target."""
    found: list[Finding] = []
    for name in view.used(NUMERIC):
        values = view.array(name)
        filler = placeholders(values)
        rest = values.copy()
        for value in filler:
            rest[values == value] = np.nan
            found.append(_placeholder(name, value, np.flatnonzero(values == value), names))
        members = outliers(rest)
        if 0 < len(members) <= NATURAL * len(view):
            found.append(_outlier(name, members, rest, names, target=name == view.target))
        found += [_piled(name, end, values, names, target=name == view.target) for end in piled_ends(rest)]
    return found


def outliers(values: Floats) -> Ints:
    """Positions of the values of float64 [N] (NaN where missing) that are far out; [] where half are equal."""
    present = values[~np.isnan(values)]
    if len(present) < LEAST_VALUES:
        return np.empty(0, np.int64)
    median = float(np.median(present))
    deviation = 1.4826 * float(np.median(np.abs(present - median)))
    if deviation == 0:
        return np.empty(0, np.int64)
    far = _beyond_fences(values, present) & (np.abs(values - median) > ROBUST_Z * deviation)
    logs = _logarithms(values, present, median)
    if logs is not None:
        far &= np.isnan(logs) | _beyond_fences(logs, logs[~np.isnan(logs)])
    return np.flatnonzero(far).astype(np.int64)


def placeholders(values: Floats) -> list[float]:
    """Values of float64 [N] that stand for "no value": repeated, one of PLACEHOLDERS, and apart from everything else."""
    rest = values[~np.isnan(values)]
    found = []
    for value in PLACEHOLDERS:
        others = rest[rest != value]
        count = len(rest) - len(others)
        if count < LEAST_REPEATED or len(others) < LEAST_VALUES:
            continue
        low, high = float(others.min()), float(others.max())
        negative = value < 0 <= low and count >= PILED * len(rest)
        beyond = max(low - value, value - high) > 2 * (high - low)
        if negative or beyond:
            found.append(value)
            rest = others
    return found


def piled_ends(values: Floats) -> list[str]:
    """Which ends ("largest", "smallest") of float64 [N] hold far more rows than the values next to them."""
    present = values[~np.isnan(values)]
    distinct, counts = np.unique(present, return_counts=True)
    if len(distinct) <= _DISTINCT:
        return []
    ends = []
    for end, count, beside in (
        ("largest", counts[-1], counts[-1 - _NEIGHBOURS : -1]),
        ("smallest", counts[0], counts[1 : 1 + _NEIGHBOURS]),
    ):
        zero = end == "smallest" and distinct[0] == 0  # many have none of something: no limit
        if not zero and count >= max(PILED * len(present), 10) and count >= PILED_TIMES * beside.max():
            ends.append(end)
    return ends


def _logarithms(values: Floats, present: Floats, median: float) -> Floats | None:
    """The logarithm of a positive column, of 1 + value / median where zeros are common; NaN for what is negative. None for
    others."""
    if np.mean(present > 0) >= MOSTLY_POSITIVE:
        return np.log(values, out=np.full(len(values), np.nan), where=values > 0)
    if median > 0 and np.mean(present >= 0) >= MOSTLY_POSITIVE:
        return np.log1p(values / median, out=np.full(len(values), np.nan), where=values >= 0)
    return None


def _beyond_fences(values: Floats, present: Floats) -> npt.NDArray[np.bool_]:
    low, high = np.quantile(present, [0.25, 0.75])
    if high == low:
        return np.zeros(len(values), np.bool_)
    far = (values < low - FAR_OUT * (high - low)) | (values > high + FAR_OUT * (high - low))
    return np.asarray(far, dtype=np.bool_)


def _outlier(name: str, members: Ints, values: Floats, names: Names, *, target: bool) -> Finding:
    middle = float(np.nanmedian(values))
    distance = np.abs(values[members] - middle)
    extreme = float(values[members][np.argmax(distance)])
    what = several(len(members), "value")
    message = f'Column "{name}" has {what} far from the rest, such as {extreme:g} (median {middle:g}).'
    scores = distance / distance.max()
    if target:
        text = Text(
            "TARGET_OUTLIERS",
            "warning",
            message.replace("Column", "The target"),
            "Squared errors of a few such rows outweigh those of all others, in training and in every score.",
            "Check whether these values are right; drop the rows where they are not.",
        )
        return of_examples(text, names, members, scores, drop=True, column=name)
    text = Text(
        "OUTLIERS",
        "info",
        message,
        "Models that scale or weigh numbers, such as linear ones, are bent by them; trees are not.",
        "Check whether these values are right. Where they are mistakes of unknown size, cap them.",
    )
    return replace(of_examples(text, names, members, scores), column=name, fix=_cap(name, members, values))


def _cap(name: str, members: Ints, values: Floats) -> Edit:
    """Cuts the outliers to the furthest value that is none."""
    others = np.delete(values, members)
    low, high = float(np.nanmin(others)), float(np.nanmax(others))
    return Edit(
        CAP,
        column=name,
        lower=low if bool((values[members] < low).any()) else None,
        upper=high if bool((values[members] > high).any()) else None,
        reason="OUTLIERS",
    )


def _placeholder(name: str, value: float, members: Ints, names: Names) -> Finding:
    text = Text(
        "PLACEHOLDER_VALUES",
        "warning",
        f'Column "{name}" is {value:g} in {several(len(members), "row")}, apart from all other values: it seems to '
        'mean "no value".',
        "The number is learned as a measurement; means and scales are wrong by it.",
        "Leave the field empty at the source, and import again.",
    )
    return of_examples(text, names, members, column=name)


def _piled(name: str, end: str, values: Floats, names: Names, *, target: bool) -> Finding:
    value = float(np.nanmax(values) if end == "largest" else np.nanmin(values))
    members = np.flatnonzero(values == value)
    share = len(members) / max(int(np.sum(~np.isnan(values))), 1)
    subject = f'The target "{name}"' if target else f'Column "{name}"'
    message = (
        f"{subject} is {value:g}, its {end} value, in {several(len(members), 'row')} ({share:.1%}): numbers beyond "
        "seem to be cut off."
    )
    if target:
        text = Text(
            "CAPPED_TARGET",
            "warning",
            message,
            "The true values of these rows are unknown, so the model learns to stop short there, and its errors "
            "there say nothing.",
            "Get the true values, or drop the rows and say that the model is not for values beyond.",
        )
        return of_examples(text, names, members, drop=True, column=name)
    text = Text(
        "CAPPED_VALUES",
        "info",
        message,
        "Rows beyond the limit look alike to the model.",
        "Get the true values where they matter.",
    )
    return of_examples(text, names, members, column=name)
