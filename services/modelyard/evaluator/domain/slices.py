"""Scores of parts of the test usage: where the model is worse than its figure for the whole says.

A column of text cuts by its values, the 50 most frequent; numbers are cut at their quartiles, or by value where there are at most
four different ones. Missing values are a slice of their own. A slice of fewer than 10 examples says nothing and is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.evaluator.domain.scores import Metric, SliceScore
from modelyard.statistics.intervals import Floats, Ints

MOST_COLUMNS: Final = 8
MOST_VALUES: Final = 50
FEWEST_EXAMPLES: Final = 10
MISSING: Final = "(missing)"
PICTURE_COLUMNS: Final = ("width", "height", "bytes")
"""What is known of every picture: its size in pixels before it is resized, and the length of its file."""
_QUARTERS: Final = 4

Slices = list[tuple[str, Ints]]
Scorer = Callable[[Ints], tuple[Metric, ...]]
"""Main metrics of the examples at these positions, the main one first."""


def check_columns(asked: Sequence[str], known: Sequence[str], holder: str) -> None:
    """Raises InvalidArgument TOO_MANY_SLICE_COLUMNS, DUPLICATE_SLICE_COLUMN or UNKNOWN_SLICE_COLUMN, naming what is possible."""
    field = "evaluation.slice_columns"
    if len(asked) > MOST_COLUMNS:
        message = f"slice_columns names {len(asked)} columns; at most {MOST_COLUMNS} are possible"
        raise InvalidArgument("TOO_MANY_SLICE_COLUMNS", message, field=field, count=len(asked))
    for index, name in enumerate(asked):
        if name in asked[:index]:
            message = f"slice_columns[{index}] is {name!r:.80}, which is there already"
            raise InvalidArgument("DUPLICATE_SLICE_COLUMN", message, field=f"{field}[{index}]", column=name)
        if name not in known:
            possible = ", ".join(known[:50]) + (f" and {len(known) - 50} more" if len(known) > 50 else "")
            message = f"slice_columns[{index}] is {name!r:.80}; {holder} can be sliced by {possible}"
            raise InvalidArgument("UNKNOWN_SLICE_COLUMN", message, field=f"{field}[{index}]", column=name, possible=possible)


def by_value(values: Sequence[str | None]) -> Slices:
    """Text [N]: each value with the positions that hold it, the most frequent first."""
    counted = Counter(MISSING if value is None else value for value in values).most_common(MOST_VALUES)
    names = np.array([MISSING if value is None else value for value in values], dtype=object)
    return [(name, np.flatnonzero(names == name).astype(np.int64)) for name, count in counted if count >= FEWEST_EXAMPLES]


def by_quartile(values: Floats) -> Slices:
    """Numbers [N], NaN where missing: the quarters, as "[lower, upper)", the last one with its upper end."""
    present = values[~np.isnan(values)]
    different = np.unique(present)
    if len(different) <= _QUARTERS:
        named = [(f"{value:g}", values == value) for value in different]
    else:
        named = list(_quarters(values, np.unique(np.quantile(present, (0, 0.25, 0.5, 0.75, 1)))))
    named.append((MISSING, np.isnan(values)))
    found = [(name, np.flatnonzero(held).astype(np.int64)) for name, held in named]
    return [(name, positions) for name, positions in found if len(positions) >= FEWEST_EXAMPLES]


def _quarters(values: Floats, edges: Floats) -> Iterable[tuple[str, NDArray[np.bool_]]]:
    """Edges [2 to 5], all different; equal quartiles leave fewer than four parts."""
    last = len(edges) - 2
    for index, (lower, upper) in enumerate(pairwise(edges)):
        if index == last:
            yield f"[{lower:.4g}, {upper:.4g}]", (values >= lower) & (values <= upper)
        else:
            yield f"[{lower:.4g}, {upper:.4g})", (values >= lower) & (values < upper)


def cut(values: Sequence[Any], numeric: bool) -> Slices:
    """The slices of a column: numbers (None where missing) or text."""
    if numeric:
        return by_quartile(np.array([np.nan if value is None else value for value in values], dtype=np.float64))
    return by_value([None if value is None else str(value) for value in values])


def score_slices(columns: Iterable[tuple[str, Slices]], score: Scorer) -> tuple[SliceScore, ...]:
    """Every slice with its main metrics, the worst by the first of them first; of equals the larger first."""
    scored = [
        SliceScore(column, value, len(positions), score(positions)) for column, slices in columns for value, positions in slices
    ]
    return tuple(sorted(scored, key=_badness))


def _badness(entry: SliceScore) -> tuple[float, int]:
    first = entry.metrics[0]
    return first.value if first.higher_is_better else -first.value, -entry.example_count
