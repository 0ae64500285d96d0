"""Values that are missing from a table: how many in each column, and whether one class lacks more of them than another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain.column_edits import IMPUTE
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.listing import Text, of_column, of_examples
from modelyard.dataset.domain.records import Edit, Finding
from modelyard.dataset.domain.table_view import TableView
from modelyard.formats.dataset import FEATURE, TARGET, Column

MISSING_WARNING = 0.3
"""Share of missing values from which a column is worth a warning."""

UNEVEN = 0.1
"""Difference of the shares missing in two classes, from which it is reported..."""

GIVES_AWAY = 0.9
"""...and from which the lack of a value all but says the class."""

LEAST_ROWS = 10
"""Classes with fewer rows are not compared."""

SURE = 0.01
"""Largest probability, for all columns together (Bonferroni), that a difference reported is chance."""

Floats = npt.NDArray[np.float64]


def missing_findings(view: TableView, names: Names) -> list[Finding]:
    """Missing values of each column in use, and those that one class has more of than another."""
    found = [_missing(column, view) for column in view.columns if column.missing_count and column.role in (FEATURE, TARGET)]
    return found + _uneven(view, names)


def shares_by_class(missing: npt.NDArray[np.bool_], of: npt.NDArray[np.int64], classes: int) -> tuple[Floats, Floats]:
    """Share missing in each class, float64 [classes] (NaN for fewer than ten rows), and rows of each. missing bool [N], of
    int64 [N]."""
    rows = np.bincount(of, minlength=classes).astype(np.float64)
    lacking = np.bincount(of, weights=missing, minlength=classes)
    return np.where(rows >= LEAST_ROWS, lacking / np.maximum(rows, 1), np.nan), rows


def chance_of(shares: Floats, rows: Floats) -> float:
    """Probability of shares so uneven when the classes do not differ: Pearson's chi-squared test. NaN shares are left out."""
    from scipy.special import chdtrc

    known = ~np.isnan(shares)
    lacking, sizes = shares[known] * rows[known], rows[known]
    overall = lacking.sum() / max(sizes.sum(), 1.0)
    if known.sum() < 2 or overall in (0.0, 1.0):
        return 1.0
    statistic = (((lacking - sizes * overall) ** 2) / (sizes * overall * (1 - overall))).sum()
    return float(chdtrc(known.sum() - 1, statistic))


def _uneven(view: TableView, names: Names) -> list[Finding]:
    lacking = [c.name for c in view.columns if c.missing_count and (c.role == FEATURE or c.set_aside_reason == "LEAKS_TARGET")]
    if not lacking or len(view.strata_names) < 2:
        return []
    found = []
    for name in lacking:
        missing = view.is_missing(name)
        shares, rows = shares_by_class(missing, view.strata, len(view.strata_names))
        if np.isnan(shares).all():
            continue
        if np.nanmax(shares) - np.nanmin(shares) >= UNEVEN and chance_of(shares, rows) * len(lacking) < SURE:
            found.append(_uneven_finding(name, shares, view.strata_names, missing, names))
    return found


def _uneven_finding(name: str, shares: Floats, classes: Sequence[str], missing: npt.NDArray[np.bool_], names: Names) -> Finding:
    most, least = int(np.nanargmax(shares)), int(np.nanargmin(shares))
    apart = float(shares[most] - shares[least])
    text = Text(
        "MISSING_BY_CLASS",
        "error" if apart >= GIVES_AWAY else "warning",
        f'Column "{name}" has no value in {shares[most]:.0%} of "{classes[most]}" but in {shares[least]:.0%} of '
        f'"{classes[least]}".',
        "A model learns who lacks the value instead of what it says; where values are collected otherwise, it is wrong.",
        f'Find out why they are missing. If it is known only after the target, publish with --exclude "{name}".',
    )
    return of_examples(text, names, np.flatnonzero(missing), column=name)


def _missing(column: Column, view: TableView) -> Finding:
    share = column.missing_count / max(len(view), 1)
    text = Text(
        "MISSING_VALUES",
        "warning" if share >= MISSING_WARNING else "info",
        f'Column "{column.name}" has no value in {column.missing_count} of {len(view)} rows ({share:.1%}).',
        "Where the value is missing the model knows less; where it is missing more often than here, it is wrong more often.",
        "Fill them at the source where they can be known. Models take missing values as such; imputing is for "
        "those that shall not.",
    )
    return of_column(text, column.name, column.missing_count, Edit(IMPUTE, column=column.name, reason="MISSING_VALUES"))
