"""Edits of columns made to a stored table: a new table, new hashes of the rows, and what is known of the columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import tables
from modelyard.dataset.domain.column_edits import COLUMN_ACTIONS, change_column
from modelyard.dataset.domain.records import Edit
from modelyard.dataset.domain.split import NONE, TRAIN
from modelyard.formats import dataset as files


@dataclass(frozen=True)
class EditedColumns:
    """The manifest with new hashes, the whole table (its rows are those that the manifest names; None where nothing changed), the
    columns, how many rows each edit changed (by the edit's number), and what was done, in sentences."""

    manifest: pa.Table
    table: pa.Table | None
    columns: tuple[files.Column, ...]
    counts: Mapping[int, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def edit_columns(
    store: ArtifactStore,
    content: files.DatasetDescriptor,
    manifest: pa.Table,
    table: pa.Table | None,
    edits: Sequence[Edit],
    usages: npt.NDArray[np.int64],
    held: npt.NDArray[np.bool_] | None = None,
) -> EditedColumns:
    """Makes the edits of columns among `edits`. table: as edits of examples left it, None where they left it alone.

    usages int64 [N] of the manifest's rows: what is filled in is learned from those to train on; from all where none is
    known yet.
    held bool [N]: rows of a frozen test set, which stay as they are. Raises InvalidArgument BAD_EDIT, UNKNOWN_COLUMN,
    NOT_A_TABLE.
    """
    if not any(edit.action in COLUMN_ACTIONS for edit in edits):
        return EditedColumns(manifest, table, content.columns)
    if content.table is None:
        message = "dataset_version.edits change a column, but the dataset is no table"
        raise InvalidArgument("NOT_A_TABLE", message, field="dataset_version.edits", task=content.task)
    whole = table if table is not None else files.read_parquet(store.path(content.table))
    rows = manifest["row"].to_numpy()
    kept, trained, open_ = (np.zeros(whole.num_rows, np.bool_) for _ in range(3))
    kept[rows] = True
    open_[rows] = True if held is None else ~held
    trained[rows] = (usages == TRAIN) if (usages != NONE).any() else True
    columns = {column.name: column for column in content.columns}
    counts, notes = {}, []
    for number, edit in enumerate(edits):
        if edit.action not in COLUMN_ACTIONS:
            continue
        path = f"dataset_version.edits[{number}]"
        if edit.column not in columns:
            message = f"{path}.column is {edit.column[:80]!r}; the columns are {', '.join(list(columns)[:100])}"
            raise InvalidArgument("UNKNOWN_COLUMN", message, field=f"{path}.column", value=edit.column[:80])
        made = change_column(edit, whole[edit.column], columns[edit.column], kept, open_, trained, path)
        columns[edit.column] = made.column
        place = whole.column_names.index(edit.column)
        whole = whole.set_column(place, whole.schema.field(edit.column), made.values)
        counts[number] = int(made.changed.sum())
        notes.append(made.note)
    usage = [column.name for column in content.columns if column.role == files.USAGE]
    hashes = tables.row_hashes(whole.drop_columns(usage).take(manifest["row"]))
    place = manifest.column_names.index("sha256")
    hashed = manifest.set_column(place, manifest.schema.field(place), pa.array(hashes, pa.string()))
    return EditedColumns(hashed, whole, tuple(columns.values()), counts, tuple(notes))
