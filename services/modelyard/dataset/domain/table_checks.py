"""Findings that only tables give: missing values, outliers, columns that carry nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain.records import LISTED_EXAMPLES, Finding
from modelyard.formats.dataset import FEATURE, NUMERIC, TARGET, Column

MISSING_WARNING = 0.3
"""Share of missing values from which a column is worth a warning."""

FAR_OUT = 3.0
"""A value is an outlier beyond this many interquartile ranges from the quartiles (Tukey's outer fences)..."""

ROBUST_Z = 8.0
"""...and this many robust standard deviations (1.4826 times the median absolute deviation) from the median."""


def column_findings(columns: Sequence[Column], rows: int) -> list[Finding]:
    """Missing values of each column in use, and columns set aside because they carry nothing."""
    findings = [_missing(column, rows) for column in columns if column.missing_count and column.role in (FEATURE, TARGET)]
    return findings + [finding for column in columns if (finding := _set_aside(column, rows))]


def outlier_findings(
    numbers: Mapping[str, npt.NDArray[np.float64]], columns: Sequence[Column], paths: Sequence[str]
) -> list[Finding]:
    """Numeric features and targets with values far from the rest. numbers: float64 [N] by column, NaN where missing."""
    used = [column.name for column in columns if column.type == NUMERIC and column.role in (FEATURE, TARGET)]
    found = ((name, outliers(numbers[name])) for name in used)
    return [_outlier(name, members, numbers[name], paths) for name, members in found if len(members)]


def outliers(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Positions of the values of float64 [N] beyond both the outer fences and the robust z-score; [] where half are equal."""
    present = values[~np.isnan(values)]
    if len(present) < 20:
        return np.empty(0, np.int64)
    low, median, high = np.quantile(present, [0.25, 0.5, 0.75])
    deviation = 1.4826 * float(np.median(np.abs(present - median)))
    if high == low or deviation == 0:
        return np.empty(0, np.int64)
    fences = (values < low - FAR_OUT * (high - low)) | (values > high + FAR_OUT * (high - low))
    return np.flatnonzero(fences & (np.abs(values - median) > ROBUST_Z * deviation)).astype(np.int64)


def _missing(column: Column, rows: int) -> Finding:
    share = column.missing_count / rows
    message = f'Column "{column.name}" has no value in {column.missing_count} of {rows} rows ({share:.1%}).'
    severity = "warning" if share >= MISSING_WARNING else "info"
    action = "Models take missing values as such; fill them at the source where they can be known."
    return Finding("MISSING_VALUES", severity, message, example_count=column.missing_count, column=column.name, action=action)


def _set_aside(column: Column, rows: int) -> Finding | None:
    if column.set_aside_reason == "ALL_MISSING":
        message = f'Column "{column.name}" has no value in any row.'
        return Finding("MISSING_VALUES", "warning", message, (), rows, column.name, "It is set aside.")
    if column.set_aside_reason == "CONSTANT":
        message = f'Column "{column.name}" has the same value in every row.'
        return Finding("CONSTANT_COLUMN", "info", message, (), rows, column.name, "It is set aside.")
    if column.set_aside_reason == "IDENTIFIER":
        message = f'Column "{column.name}" only tells rows apart ({column.distinct_count} different values in {rows} rows).'
        return Finding("IDENTIFIER_COLUMN", "info", message, (), rows, column.name, "It is set aside.")
    return None


def _outlier(name: str, members: npt.NDArray[np.int64], values: npt.NDArray[np.float64], paths: Sequence[str]) -> Finding:
    middle = float(np.nanmedian(values))
    extreme = float(values[members][np.argmax(np.abs(values[members] - middle))])
    message = f'Column "{name}" has {len(members)} values far from the rest, such as {extreme:g} (median {middle:g}).'
    listed = tuple(paths[int(i)] for i in members[:LISTED_EXAMPLES])
    return Finding("OUTLIERS", "info", message, listed, len(members), name, "Check whether these values are right.")
