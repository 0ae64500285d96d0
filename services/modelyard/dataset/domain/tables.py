"""From the columns of a source to the table of a dataset: types, target, task, usage, roles, and which rows stay."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.core.errors import InvalidArgument
from modelyard.core.words import several
from modelyard.dataset.domain import columns as typing_
from modelyard.dataset.domain.columns import TypedColumn
from modelyard.dataset.domain.layout import USAGE_NAMES
from modelyard.dataset.domain.leakage import Leak, find_leaks
from modelyard.dataset.domain.records import LISTED_EXAMPLES, Finding, RejectedInput
from modelyard.formats.dataset import (
    CATEGORICAL,
    FEATURE,
    NUMERIC,
    SET_ASIDE,
    TABULAR_CLASSIFICATION,
    TABULAR_REGRESSION,
    TARGET,
    USAGE,
    Column,
)

USAGE_COLUMN = "dataset_import.usage_column"
"""The request field that names the usage column."""


@dataclass(frozen=True)
class RawTable:
    """A table as read: columns by name in their order, the number of each row in the source (1 is the first after the header),
    rows that could not be read, and what was assumed."""

    columns: Mapping[str, pa.ChunkedArray]
    row_numbers: npt.NDArray[np.int64]
    rejected: tuple[RejectedInput, ...] = ()
    rejected_count: int = 0
    assumptions: tuple[str, ...] = ()
    comma_allowed: bool = False
    delimiter: str = ""  # of delimited text


@dataclass(frozen=True)
class TableContent:
    """A table ready to be written: typed columns, labels (null for regression), usages (null where none), content hashes."""

    table: pa.Table
    columns: tuple[Column, ...]
    task: str
    target: str
    classes: tuple[str, ...]
    labels: pa.Array
    usages: pa.Array
    row_numbers: npt.NDArray[np.int64]
    sha256: list[str]
    rejected: tuple[RejectedInput, ...]
    rejected_count: int
    assumptions: tuple[str, ...]
    findings: tuple[Finding, ...]


TO_BE_LABELLED = "label"
"""The target of rows that people are to label, where no column is named."""


def build(raw: RawTable, *, task: str, label_column: str, usage_column: str, unlabelled: bool = False) -> TableContent:
    """Types the columns, finds target, task and usage, leaves out rows without a target, and gives each column its role.

    unlabelled: people are to say the class of each row; rows without one stay, and the target's column need not be there.

    Raises InvalidArgument NO_EXAMPLES, TARGET_COLUMN_MISSING, TARGET_ALL_MISSING, TARGET_NOT_NUMERIC, ONE_CLASS,
    TOO_MANY_CLASSES, USAGE_COLUMN_MISSING, USAGE_VALUE_UNKNOWN, NO_FEATURES, BAD_TASK.
    """
    if not len(raw.row_numbers):
        raise InvalidArgument(
            "NO_EXAMPLES", "the table has a header but no rows that could be read; at least two rows are needed"
        )
    if unlabelled:
        raw, label_column = _with_target(raw, task, label_column)
    target_name, target_note = typing_.choose_target(list(raw.columns), label_column)
    typed, nested = _type_all(raw)
    target = _target_of(typed, target_name)
    if unlabelled:
        count = len(target.values) - target.missing_count
        chosen = TABULAR_CLASSIFICATION
        task_note = f'People are to label the rows: "{target_name}" says the class of {count} of {len(target.values)} so far.'
    else:
        chosen, task_note = typing_.choose_task(target, _table_task(task))
    usage_name, usages, usage_note = _usages(typed, usage_column, target_name)
    kept = pc.or_(pc.is_valid(target.values), pa.scalar(unlabelled))
    labels = typing_.class_labels(target, raw.columns[target_name]).filter(kept)
    classes = _classes(labels, unlabelled=unlabelled) if chosen == TABULAR_CLASSIFICATION else ()
    typed = {name: replace(column, values=column.values.filter(kept)) for name, column in typed.items()}
    if chosen == TABULAR_CLASSIFICATION:
        typed[target_name] = TypedColumn(target_name, CATEGORICAL, labels)
    roles, leaks = _roles(typed, target_name, usage_name, classes)
    table = pa.table({name: column.values for name, column in typed.items()})
    without = raw.row_numbers[~_mask(kept)]
    notes = (
        *raw.assumptions,
        target_note,
        task_note,
        usage_note,
        *(f'Column "{name}" was read as numbers with decimal commas.' for name, column in typed.items() if column.decimal_comma),
        *(f'Column "{name}" holds {kind}, which is not read; it was left out.' for name, kind in nested),
    )
    return TableContent(
        table=table,
        columns=roles,
        task=chosen,
        target=target_name,
        classes=classes,
        labels=_one_chunk(labels) if chosen == TABULAR_CLASSIFICATION else pa.nulls(table.num_rows, pa.string()),
        usages=_one_chunk(usages.filter(kept)),
        row_numbers=raw.row_numbers[_mask(kept)],
        sha256=row_hashes(table.drop_columns([usage_name]) if usage_name else table),
        rejected=(*raw.rejected, *(_unlabelled(int(number), target_name) for number in without[:1000])),
        rejected_count=raw.rejected_count + len(without),
        assumptions=tuple(note for note in notes if note),
        findings=(*_mixed_findings(typed), *leak_findings(leaks, chosen)),
    )


def row_hashes(table: pa.Table) -> list[str]:
    """SHA-256 of each row: the values of all columns as text, in their order; what is missing differs from any text."""
    texts = [pc.fill_null(pc.cast(table[name], pa.string()), "\x00") for name in table.column_names]
    joined = pc.binary_join_element_wise(*texts, "\x1f") if len(texts) > 1 else texts[0]
    return [hashlib.sha256(row.encode("utf-8", "surrogatepass")).hexdigest() for row in joined.to_pylist()]


def feature_arrays(table: pa.Table, names: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
    """Columns as float64 [N], NaN where missing; categories as codes in the order of their first appearance."""
    return {name: _as_floats(table[name]) for name in names}


def target_array(table: pa.Table, target: str, classes: Sequence[str]) -> npt.NDArray[np.int64] | npt.NDArray[np.float64]:
    """Class index int64 [N], or the number float64 [N] where there are no classes."""
    if not classes:
        return np.asarray(table[target].to_numpy(), dtype=np.float64)
    return np.asarray(pc.index_in(table[target], value_set=pa.array(classes)).to_numpy(), dtype=np.int64)


def leak_findings(leaks: Sequence[Leak], task: str) -> list[Finding]:
    """A finding for each column that predicts the target alone."""
    measure = "R2" if task == TABULAR_REGRESSION else "balanced accuracy"
    return [_leak_finding(leak, measure) for leak in leaks]


def contradictions(table: pa.Table, columns: Sequence[Column], target: str, paths: Sequence[str]) -> list[Finding]:
    """Rows that are equal in every feature but not in the class; the finding lists them side by side."""
    features = [column.name for column in columns if column.role == FEATURE]
    if not features:
        return []
    seen: dict[str, list[int]] = {}
    for row, content in enumerate(row_hashes(table.select(features))):
        seen.setdefault(content, []).append(row)
    labels = table[target].to_pylist()
    rows = [row for group in seen.values() if len({labels[row] for row in group}) > 1 for row in group]
    if not rows:
        return []
    message = f"{len(rows)} rows are equal to another row in every feature, but not in the target {target!r}."
    action = "No model can tell them apart: correct wrong labels, or add a column that makes the difference."
    return [
        Finding(
            "CONFLICTING_LABELS",
            "warning",
            message,
            tuple(paths[row] for row in rows[:LISTED_EXAMPLES]),
            len(rows),
            action=action,
            cost="Whatever a model says of them, some count as wrong: no score above their share is possible.",
        )
    ]


def _leak_finding(leak: Leak, measure: str) -> Finding:
    message = f'Column "{leak.column}" alone predicts the target with {measure} {leak.score:.4f}'
    rest = f"{leak.rest_score:.4f}"
    cost = "The scores are too good, and the model fails where the column is not known before the target is."
    if leak.set_aside:
        message += f"; the other columns together reach {rest}. It gives the answer away."
        action, severity = "It is set aside. If it is known before the target is, publish with --keep-leaking.", "error"
    elif leak.perfect:
        message += f", but so do the others together ({rest}): the task is easy, or they leak too."
        action, severity = "It is kept. Exclude it if it is not known before the target is.", "warning"
    else:
        message += f", far better than the other columns together ({rest}): it may be the answer, noted with a few mistakes."
        action, severity = "It is kept. Exclude it if it is not known before the target is.", "warning"
    return Finding("LEAKING_COLUMN", severity, message, column=leak.column, action=action, cost=cost)


def _with_target(raw: RawTable, task: str, label_column: str) -> tuple[RawTable, str]:
    """A table of which people are to label the rows, with a column for what they say; and the column's name."""
    if task not in ("", TABULAR_CLASSIFICATION):
        message = f"task is {task!r}; people label the rows of a table for {TABULAR_CLASSIFICATION}: they say one class of each"
        raise InvalidArgument("BAD_TASK", message, field="dataset_import.task", task=task)
    name = label_column or TO_BE_LABELLED
    if name in raw.columns:
        return raw, name
    empty = pa.chunked_array([pa.nulls(len(raw.row_numbers), pa.string())])
    return replace(raw, columns={**raw.columns, name: empty}), name


def _classes(labels: pa.ChunkedArray, *, unlabelled: bool) -> tuple[str, ...]:
    if not unlabelled:
        return typing_.sort_classes(labels)
    names = [name for name in pc.unique(labels).to_pylist() if name is not None]
    if len(names) > 1:  # with fewer, people have only begun
        typing_.check_classes(names)
    return typing_.sorted_classes(names)


def _table_task(task: str) -> str:
    if task and task not in (TABULAR_CLASSIFICATION, TABULAR_REGRESSION):
        message = f"the source is a table; task is {task!r}, but {TABULAR_CLASSIFICATION} or {TABULAR_REGRESSION} fits a table"
        raise InvalidArgument("BAD_TASK", message, field="dataset_import.task", task=task)
    return task


def _type_all(raw: RawTable) -> tuple[dict[str, TypedColumn], list[tuple[str, str]]]:
    typed: dict[str, TypedColumn] = {}
    nested = []
    for name, values in raw.columns.items():
        column = typing_.type_column(name, values, comma_allowed=raw.comma_allowed)
        if column is None:
            nested.append((name, str(values.type)))
        elif column.missing_count == len(column.values):  # one type for nothing, whatever the format it came in
            typed[name] = TypedColumn(name, CATEGORICAL, pa.chunked_array([pa.nulls(len(values), pa.string())]))
        else:
            typed[name] = column
    return typed, nested


def _target_of(typed: Mapping[str, TypedColumn], name: str) -> TypedColumn:
    if name not in typed:
        message = f"the target column {name!r} holds lists or bytes; a number or a text per row is needed"
        raise InvalidArgument("TARGET_NOT_READABLE", message, field="dataset_import.label_column", column=name)
    return typed[name]


def _usages(typed: Mapping[str, TypedColumn], wanted: str, target: str) -> tuple[str, pa.ChunkedArray, str]:
    """Name of the usage column ("" when there is none), the usage of each row (null where none), and what was assumed."""
    rows = len(next(iter(typed.values())).values)
    none = "", pa.chunked_array([pa.nulls(rows, pa.string())]), ""
    if wanted and wanted not in typed:
        listed = ", ".join(list(typed)[:100])
        message = f"the data have no column {wanted!r}; usage_column is one of: {listed}"
        raise InvalidArgument("USAGE_COLUMN_MISSING", message, field=USAGE_COLUMN, column=wanted, columns=listed)
    if wanted and wanted == target:
        raise InvalidArgument("USAGE_COLUMN_MISSING", f"column {wanted!r} is the target", field=USAGE_COLUMN, column=wanted)
    name = wanted or next((each for each in typed if each.strip().lower() == "usage" and each != target), "")
    if not name:
        return none
    lowered = pc.utf8_lower(typed[name].values.cast(pa.string()))
    known = pc.index_in(lowered, value_set=pa.array(list(USAGE_NAMES)))
    unknown = pc.unique(lowered.filter(pc.and_(pc.is_null(known), pc.is_valid(lowered)))).to_pylist()
    if unknown and wanted:
        shown = ", ".join(repr(value) for value in unknown[:5])
        message = f"the usage column {name!r} holds {shown}; its values are train, validation or test"
        raise InvalidArgument("USAGE_VALUE_UNKNOWN", message, field=USAGE_COLUMN, column=name, values_found=shown)
    if unknown or lowered.null_count == len(lowered):
        return none
    usages = pc.take(pa.array(list(USAGE_NAMES.values())), known)
    return name, usages, "" if wanted else f'The column "{name}" was taken as the usage (train, validation, test) of each row.'


def _roles(
    typed: Mapping[str, TypedColumn], target: str, usage: str, classes: Sequence[str]
) -> tuple[tuple[Column, ...], list[Leak]]:
    reasons = {name: _reason(column) for name, column in typed.items() if name not in (target, usage)}
    candidates = [name for name, reason in reasons.items() if not reason]
    table = pa.table({name: typed[name].values for name in (*candidates, target)})
    table = table.filter(pc.is_valid(table[target]))  # of rows that people are to label, those that have one
    leaks = (
        find_leaks(feature_arrays(table, candidates), target_array(table, target, classes), classification=bool(classes))
        if len(table)
        else []
    )
    reasons |= {leak.column: "LEAKS_TARGET" for leak in leaks if leak.set_aside}
    if not reasons:
        raise InvalidArgument(
            "NO_FEATURES",
            f"the table has no column beside the target {target!r} to predict it from; give one with a column for each thing "
            "that is known when a prediction is asked for",
            column=target,
        )
    return tuple(_column(column, target, usage, reasons.get(name, "")) for name, column in typed.items()), leaks


def _reason(column: TypedColumn) -> str:
    if column.missing_count == len(column.values):
        return "ALL_MISSING"
    if column.distinct_count == 1 and not column.missing_count:
        return "CONSTANT"
    return "IDENTIFIER" if typing_.is_identifier(column) else ""


def _column(column: TypedColumn, target: str, usage: str, reason: str) -> Column:
    role = TARGET if column.name == target else USAGE if column.name == usage else SET_ASIDE if reason else FEATURE
    return Column(
        name=column.name,
        type=column.type,
        role=role,
        set_aside_reason=reason,
        missing_count=column.missing_count,
        distinct_count=column.distinct_count,
        categories=typing_.categories(column),
    )


def _mixed_findings(typed: Mapping[str, TypedColumn]) -> list[Finding]:
    return [_mixed_finding(column) for column in typed.values() if column.odd_count]


def _mixed_finding(column: TypedColumn) -> Finding:
    shown = ", ".join(repr(value) for value in column.odd_values)
    if column.type == NUMERIC:
        odd = several(column.odd_count, "row holds", "rows hold")
        message = f'Column "{column.name}" holds numbers, but {odd} text ({shown}), read as missing.'
    else:
        odd = several(column.odd_count, "row")
        message = f'Column "{column.name}" mixes text and numbers ({odd}, such as {shown}); it is read as text.'
    action = "Correct the values at the source if they are mistakes."
    cost = "What is read as missing is lost; what is read as text is a category for each number, with no order."
    return Finding("MIXED_TYPES", "warning", message, column.odd_values, column.odd_count, column.name, action, cost=cost)


def _unlabelled(number: int, target: str) -> RejectedInput:
    return RejectedInput(f"row {number}", "NO_LABEL", f"row {number} has no value in the target column {target!r}")


def _as_floats(values: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    if pa.types.is_string(values.type):
        codes = _one_chunk(values).dictionary_encode().indices
        return np.asarray(codes.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    return np.asarray(values.to_numpy(), dtype=np.float64)


def _mask(flags: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.asarray(flags.to_numpy(), dtype=np.bool_)


def _one_chunk(values: pa.ChunkedArray) -> pa.Array:
    combined = values.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)
