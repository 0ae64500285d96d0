"""Edits of a table's columns: outliers cut to a limit, missing values filled in. The number filled in is that of the rows to
train on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.records import Edit
from modelyard.formats.dataset import FEATURE, NUMERIC, SET_ASIDE, TARGET, Column

CAP, IMPUTE = "cap", "impute"
COLUMN_ACTIONS = (CAP, IMPUTE)
LONGEST_FILL = 200

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ChangedColumn:
    """A column after an edit: its values, its facts, which rows changed (bool [N]), and what was done in a sentence."""

    values: pa.ChunkedArray
    column: Column
    changed: Flags
    note: str


def check_column_edit(edit: Edit, path: str) -> None:
    """What can be said of CAP and IMPUTE without the table. Raises InvalidArgument BAD_EDIT."""
    if not edit.column:
        raise _bad(f"{path}.column is empty; {edit.action.upper()} names the column that it changes", f"{path}.column")
    if edit.examples or edit.of_class:
        raise _bad(f"{path} names examples; {edit.action.upper()} changes a column in all rows", f"{path}.example_ids")
    if len(edit.fill) > LONGEST_FILL:
        raise _bad(f"{path}.fill has {len(edit.fill)} characters; at most {LONGEST_FILL}", f"{path}.fill")
    if edit.action == IMPUTE:
        return
    if edit.lower is None and edit.upper is None:
        raise _bad(f"{path} has neither lower nor upper; CAP needs at least one of them", path)
    for name, limit in (("lower", edit.lower), ("upper", edit.upper)):
        if limit is not None and not math.isfinite(limit):
            raise _bad(f"{path}.{name} is {limit}; a limit is a finite number", f"{path}.{name}")
    if edit.lower is not None and edit.upper is not None and edit.lower > edit.upper:
        raise _bad(f"{path}.lower is {edit.lower:g}, above upper, which is {edit.upper:g}", f"{path}.lower")


def change_column(
    edit: Edit, values: pa.ChunkedArray, column: Column, kept: Flags, open_: Flags, trained: Flags, path: str
) -> ChangedColumn:
    """Makes one edit. values [N] of the column. kept bool [N]: rows that are there; open_ bool [N]: those of them that may
    change; trained bool [N]: rows that a filling is learned from. Raises InvalidArgument BAD_EDIT.
    """
    if column.role not in (FEATURE, TARGET, SET_ASIDE):
        message = f"{path}.column is {column.name!r}, which says the usage of the rows; features and targets are edited"
        raise _bad(message, f"{path}.column")
    whole = values.combine_chunks()
    if edit.action == CAP:
        made, note = _capped(edit, whole, column, path)
    else:
        made, note = _filled(edit, whole, column, kept & trained, path)
    made = pc.if_else(pa.array(open_), made, whole)
    changed = _differ(whole, made)
    note = f'Column "{column.name}": {int(changed.sum())} values {note}.'
    if spared := int((kept & ~open_).sum()):
        note += f" {spared} rows of the frozen test set stay as they are."
    return ChangedColumn(pa.chunked_array([made]), facts_of(column, made.filter(pa.array(kept))), changed, note)


def facts_of(column: Column, values: pa.Array) -> Column:
    """The column with what is known of its values [rows]."""
    categories = column.categories
    if column.type != NUMERIC and categories:
        categories = tuple(sorted(pc.unique(values.drop_null()).to_pylist()))
    return replace(
        column,
        missing_count=int(values.null_count),
        distinct_count=int(pc.count_distinct(values, mode="only_valid").as_py()),
        categories=categories,
    )


def _capped(edit: Edit, values: pa.Array, column: Column, path: str) -> tuple[pa.Array, str]:
    if column.type != NUMERIC:
        raise _bad(f"{path}.column is {column.name!r}, which holds text; CAP is for numbers", f"{path}.column")
    made, said = values, []
    if edit.lower is not None:
        made = pc.if_else(pc.less(made, edit.lower), edit.lower, made)
        said.append(f"below {edit.lower:g}")
    if edit.upper is not None:
        made = pc.if_else(pc.greater(made, edit.upper), edit.upper, made)
        said.append(f"above {edit.upper:g}")
    return made, f"{' or '.join(said)} were cut to that"


def _filled(edit: Edit, values: pa.Array, column: Column, trained: Flags, path: str) -> tuple[pa.Array, str]:
    if edit.fill:
        filling: float | str = _number(edit.fill, column.name, path) if column.type == NUMERIC else edit.fill
        return pc.fill_null(values, filling), f"that were missing became {edit.fill[:60]}, as asked"
    known = values.filter(pa.array(trained)).drop_null()
    if not len(known):
        message = f"{path}.column is {column.name!r}, which has no value to train on, so none to fill in; give fill"
        raise _bad(message, f"{path}.column")
    if column.type == NUMERIC:
        middle = float(np.median(known.to_numpy(zero_copy_only=False)))
        return pc.fill_null(values, middle), f"that were missing became {middle:g}, the median of train"
    counts = pc.value_counts(known)
    most = np.asarray(counts.field("counts").to_numpy(zero_copy_only=False))
    # The first by name of those that are equally frequent: the order of rows is to change nothing.
    candidates = counts.field("values").filter(pa.array(most == most.max())).to_pylist()
    chosen = min(str(value) for value in candidates)
    return pc.fill_null(values, chosen), f'that were missing became "{chosen[:60]}", the most frequent of train'


def _differ(before: pa.Array, after: pa.Array) -> Flags:
    same = pc.or_(pc.and_(pc.is_null(before), pc.is_null(after)), pc.fill_null(pc.equal(before, after), False))
    return ~np.asarray(same.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _number(text: str, column: str, path: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _bad(f"{path}.fill is {text[:60]!r}; column {column!r} holds numbers", f"{path}.fill")
    return value


def _bad(message: str, field: str) -> InvalidArgument:
    return InvalidArgument("BAD_EDIT", message, field=field)
