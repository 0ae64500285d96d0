"""Edits made to stored content: the manifest's rows that stay, with their classes, values and usages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import tables
from modelyard.dataset.domain.edits import Edited, MarkedClasses, make_edits
from modelyard.dataset.domain.records import Edit
from modelyard.dataset.worker.stored import Stored
from modelyard.formats import dataset as files
from modelyard.formats.annotations import Annotation, Interval, content_hash, mark_from

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class EditedContent:
    """What is left, what was decided (in sentences), and how many examples each edit changed. `table`: a table's columns where
    an edit changed what they hold; its rows are those that the manifest names."""

    stored: Stored
    content: files.DatasetDescriptor
    notes: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    table: pa.Table | None = None


def edit(
    store: ArtifactStore, stored: Stored, content: files.DatasetDescriptor, edits: Sequence[Edit], frozen: Flags | None = None
) -> EditedContent:
    """Makes the edits; frozen bool [N]: of a frozen test set. Raises as domain.edits.make_edits."""
    if not edits:
        return EditedContent(stored, content)
    manifest = stored.manifest
    single = has_one_class_each(content, manifest)
    made = make_edits(
        edits,
        manifest["example_id"].to_pylist(),
        manifest["label"].to_pylist(),
        stored.usages,
        content.classes,
        single=single,
        values=_values(store, content, manifest),
        marks=_marks(manifest),
        frozen=frozen,
    )
    table = None
    if single:
        labels = pa.array(made.labels, pa.string())
        if content.kind == files.TABLE and made.labels != tuple(manifest["label"].to_pylist()):
            manifest, table = with_targets(table_of(store, content), content, manifest, labels)
        manifest = _with(manifest, "label", labels)
    if made.values is not None and content.kind == files.TABLE and _changed(store, content, manifest, made):
        manifest, table = with_targets(table_of(store, content), content, manifest, pa.array(made.values))
    if made.marks is not None and (made.remarked.any() or made.classes != content.classes):
        manifest = _remarked(manifest, made, made.marks)
    columns = tuple(_column(column, made) if column.name == content.target else column for column in content.columns)
    left = replace(stored, manifest=manifest, usages=made.usages).taken(np.flatnonzero(made.kept))
    return EditedContent(left, replace(content, classes=made.classes, columns=columns), made.notes, made.counts, table)


def has_one_class_each(content: files.DatasetDescriptor, manifest: pa.Table) -> bool:
    """Whether the class of an example is its manifest's label (a table has it in its target column too)."""
    return bool(content.classes) and not manifest["label"].null_count


def _values(store: ArtifactStore, content: files.DatasetDescriptor, manifest: pa.Table) -> npt.NDArray[np.float64] | None:
    if content.task != files.TABULAR_REGRESSION or content.table is None:
        return None
    values = files.read_parquet(store.path(content.table), [content.target])[content.target].take(manifest["row"])
    return np.array(values.to_numpy(), dtype=np.float64)


def _changed(store: ArtifactStore, content: files.DatasetDescriptor, manifest: pa.Table, made: Edited) -> bool:
    before = _values(store, content, manifest)
    return before is not None and made.values is not None and not np.array_equal(before, made.values, equal_nan=True)


def table_of(store: ArtifactStore, content: files.DatasetDescriptor) -> pa.Table:
    """A table's columns. Raises InvalidArgument NOT_A_TABLE."""
    if content.table is None:
        raise InvalidArgument("NOT_A_TABLE", "the dataset has no table", task=content.task)
    return files.read_parquet(store.path(content.table))


def with_targets(
    table: pa.Table, content: files.DatasetDescriptor, manifest: pa.Table, targets: pa.Array
) -> tuple[pa.Table, pa.Table]:
    """The manifest with new hashes of contents, and the table with new targets. The target is part of a row's content."""
    column = table[content.target].to_numpy(zero_copy_only=False).copy()
    rows = manifest["row"].to_numpy()
    column[rows] = targets.to_numpy(zero_copy_only=False)
    place = table.column_names.index(content.target)
    table = table.set_column(place, content.target, pa.array(column, table.schema.field(content.target).type))
    usage = [each.name for each in content.columns if each.role == files.USAGE]
    hashes = tables.row_hashes(table.drop_columns(usage).take(manifest["row"]))
    return _with(manifest, "sha256", pa.array(hashes, pa.string())), table


def _marks(manifest: pa.Table) -> MarkedClasses | None:
    """The classes of what is marked; None where nothing is."""
    name = next((each for each in ("marks", "labels", "intervals") if each in manifest.column_names), "")
    if not name:
        return None
    lists = manifest[name].combine_chunks()
    flat = lists.flatten()
    labels = flat if name == "labels" else flat.field("label")
    rows = pc.list_parent_indices(lists)
    return MarkedClasses(_ints(rows), _ints(labels))


def _remarked(manifest: pa.Table, made: Edited, marks: MarkedClasses) -> pa.Table:
    """The manifest with the marks' new classes, and new hashes of the annotations of those that changed."""
    name = next(each for each in ("marks", "labels", "intervals") if each in manifest.column_names)
    kind = manifest.schema.field(name).type
    lists = manifest[name].combine_chunks()
    flat, labels = lists.flatten(), pa.array(marks.labels.astype(np.int32))
    if name == "labels":
        new = labels
    else:
        fields = [labels if each.name == "label" else flat.field(each.name) for each in kind.value_type]
        new = pa.StructArray.from_arrays(fields, fields=list(kind.value_type))
    lengths = _ints(pc.fill_null(pc.list_value_length(lists), 0))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    column = pa.ListArray.from_arrays(offsets, new, type=kind)
    if name == "labels":  # as a source of several labels says each class once, and in order
        column = pa.array([sorted(set(each)) for each in column.to_pylist()], kind)
    manifest = _with(manifest, name, column)
    hashes = manifest["annotation"].to_pylist()
    for row in np.flatnonzero(made.remarked).tolist():
        hashes[row] = content_hash(_annotation(name, column[row].as_py(), made.classes))
    return _with(manifest, "annotation", pa.array(hashes, pa.string()))


def _annotation(name: str, said: list[Any], classes: Sequence[str]) -> Annotation:
    if name == "marks":
        return Annotation(marks=tuple(mark_from(each, classes) for each in said))
    if name == "labels":
        return Annotation(labels=tuple(classes[each] for each in said))
    return Annotation(intervals=tuple(Interval(each["start"], each["end"], classes[each["label"]]) for each in said))


def _column(column: files.Column, made: Edited) -> files.Column:
    """The target's column after the edits."""
    if made.classes:
        return replace(
            column, categories=tuple(sorted(made.classes)) if column.categories else (), distinct_count=len(made.classes)
        )
    return column


def _with(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), table.schema.field(name), values)


def _ints(values: Any) -> npt.NDArray[np.int64]:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.int64)
