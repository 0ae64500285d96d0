"""The manifest of a dataset version: its columns, the digest of its content, and reading and writing Parquet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.formats import annotations as said_of
from modelyard.formats.dataset_descriptor import (
    ANOMALY_DETECTION,
    AUDIO,
    AUDIO_CLASSIFICATION,
    FORECASTING,
    IMAGE,
    IMAGE_MULTILABEL,
    MARKED_TASKS,
    SEMANTIC_SEGMENTATION,
    SERIES,
    SERIES_CLASSIFICATION,
    TABLE,
    TRAIN,
    USAGE,
    VALIDATION,
    Column,
    DatasetDescriptor,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from modelyard.core.artifacts import ArtifactStore

SAID = ("usage", "label", "annotation", "marks", "labels", "intervals")
"""Columns of a manifest that edits change. The others are its identity: they may lie in a file that versions share."""

IDENTITY_ROW = "identity_row"
"""Column of a manifest whose identity lies elsewhere: the row there, int32. Absent where the rows are the same."""

FOLD = "fold_{repeat}"
"""Column of a file of folds: the fold in which an example is validated on, int16; its rows are those of the manifest. -1: in
none."""


def manifest_schema(kind: str, task: str = "") -> pa.Schema:
    """Columns of a manifest; one row is one example, in the order of the source. Only examples of some tasks have annotations.

    `annotation` is `annotations.content_hash`, `attributes` JSON of texts. Pictures: `marks` of objects (annotations.mark_type);
    `labels` of multi-label sets; `mask_pack`, `mask_offset`, `mask_length`: a grey PNG of class indices, 255 ignored.
    Audio: `rate` in Hz, `frames` per channel. Series: `steps`; `intervals` (annotations.interval_type).
    """
    import pyarrow as pa

    common = [
        ("example_id", pa.string()),
        ("usage", pa.string()),
        ("label", pa.string()),
        ("sha256", pa.string()),
        ("path", pa.string()),
    ]
    if kind == TABLE:
        return pa.schema([*common, ("row", pa.int64())])
    spans = [("pack", pa.int32()), ("offset", pa.int64()), ("length", pa.int64())]
    sizes = {
        IMAGE: [("width", pa.int32()), ("height", pa.int32())],
        AUDIO: [("rate", pa.int32()), ("frames", pa.int64()), ("channels", pa.int32())],
        SERIES: [("steps", pa.int64()), ("channels", pa.int32())],
    }
    return pa.schema([*common, *spans, *sizes[kind], *_annotation_fields(task)])


def _annotation_fields(task: str) -> list[tuple[str, pa.DataType]]:
    import pyarrow as pa

    said = [("annotation", pa.string()), ("attributes", pa.string())]
    if task in MARKED_TASKS:
        return [*said, ("marks", pa.list_(said_of.mark_type()))]
    if task == IMAGE_MULTILABEL:
        return [*said, ("labels", pa.list_(pa.int32()))]
    if task == SEMANTIC_SEGMENTATION:
        return [*said, ("mask_pack", pa.int32()), ("mask_offset", pa.int64()), ("mask_length", pa.int64())]
    if task == ANOMALY_DETECTION:
        return [*said, ("intervals", pa.list_(said_of.interval_type()))]
    return said if task in (AUDIO_CLASSIFICATION, SERIES_CLASSIFICATION, FORECASTING) else []


def example_id(path: str, sha256: str) -> str:
    """Id of an example within its dataset, from its path in the source and its content: 20 hexadecimal digits."""
    return hashlib.sha256(f"{path}\0{sha256}".encode()).hexdigest()[:20]


DIGESTED = ("sha256", "label", "usage", "annotation")
"""Columns of a manifest that its digest covers, in the order by which rows are sorted for it."""


def digest(
    manifest: pa.Table,
    *,
    task: str,
    classes: Sequence[str],
    columns: Sequence[Column],
    target: str,
    names: Sequence[str] = (),
) -> str:
    """SHA-256 over the schema and the rows (content, label, usage, annotation) in the order of their values: 64 hexadecimal.

    It does not depend on how the Parquet was written, on where the bytes lie, nor on what the source called its files, so the
    same content has the same digest whatever format it came in. `names`: of keypoints or channels. A usage column is not part of
    the schema: what it says is in the rows.
    """
    import pyarrow as pa

    schema: dict[str, Any] = {
        "task": task,
        "classes": list(classes),
        "columns": [[column.name, column.type, column.role] for column in columns if column.role != USAGE],
        "target": target,
    }
    if names:
        schema["names"] = list(names)
    state = hashlib.sha256(json.dumps(schema, ensure_ascii=False, sort_keys=True).encode())
    if "annotation" not in manifest.column_names:
        manifest = manifest.append_column("annotation", pa.nulls(manifest.num_rows, pa.string()))
    ordered = manifest.select(list(DIGESTED)).sort_by([(name, "ascending") for name in DIGESTED])
    for batch in ordered.to_batches(max_chunksize=_LINES_AT_ONCE):
        state.update(_rows_as_json(batch))
    return state.hexdigest()


def _rows_as_json(batch: pa.RecordBatch) -> bytes:
    """The digested columns of each row as a line of JSON, as json.dumps writes a list; put together column by column."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns: list[Any] = []
    for name in DIGESTED:
        values = batch.column(name).cast(pa.string())
        if _any_escaped(values):
            values = values.dictionary_encode()
            texts = [json.dumps(value, ensure_ascii=False) for value in values.dictionary.to_pylist()]
            values = pa.array(texts, pa.string()).take(values.indices)
        else:
            values = pc.binary_join_element_wise('"', values, '"', "")
        columns += [", " if columns else "[", pc.fill_null(values, "null")]
    lines = pc.binary_join_element_wise(*columns, "]\n", "")
    _, ends, text = lines.buffers()
    size = int.from_bytes(ends[4 * (lines.offset + len(lines)) : 4 * (lines.offset + len(lines)) + 4].to_pybytes(), "little")
    return text[:size].to_pybytes() if text is not None else b""


def _any_escaped(values: pa.StringArray) -> bool:
    """Whether some text has a character that JSON does not write as it is: quotation mark, backslash, or one below a space."""
    import numpy as np

    _, ends, text = values.buffers()
    if text is None or not len(values):
        return False
    span = np.frombuffer(ends, np.int32)[values.offset :][[0, len(values)]]
    found = np.frombuffer(text, np.uint8)[span[0] : span[1]]  # UTF-8: these bytes are never part of another character
    return bool(((found < 0x20) | (found == 0x22) | (found == 0x5C)).any())


_LINES_AT_ONCE = 8192


def digest_names(descriptor: DatasetDescriptor) -> tuple[str, ...]:
    """What besides classes is named in a dataset, as `digest` takes it: keypoints, or times and channels."""
    time = (f"time:{descriptor.time_column}",) if descriptor.time_column else ()
    return (*descriptor.keypoints, *time, *descriptor.channels)


def load_manifest(store: ArtifactStore, descriptor: DatasetDescriptor, columns: Sequence[str] | None = None) -> pa.Table:
    """The manifest of a dataset, or some of its columns: one row an example, whatever files it lies in; usages as the fold has
    them where the descriptor names one."""
    import pyarrow as pa

    path = store.path(descriptor.manifest)
    here = read_schema(path).names
    wanted = columns if columns is not None else [name for name in here if name != IDENTITY_ROW]
    table = read_parquet(path, [name for name in (*wanted, IDENTITY_ROW) if name in here])
    if descriptor.identity is not None:
        place = store.path(descriptor.identity)
        there = read_schema(place).names
        shared = read_parquet(place, [name for name in (columns or there) if name in there])
        if IDENTITY_ROW in here:
            shared = shared.take(table[IDENTITY_ROW])
        parts = {name: shared[name] for name in shared.column_names} | {name: table[name] for name in table.column_names}
        order = manifest_schema(descriptor.kind, descriptor.task).names if columns is None else columns
        table = pa.table({name: parts[name] for name in order if name in parts})
    if descriptor.folds is not None and "usage" in table.column_names:
        table = table.set_column(table.column_names.index("usage"), "usage", _usage_in_fold(store, descriptor, table["usage"]))
    return table.select(list(columns)) if columns is not None else table


def light_columns(store: ArtifactStore, descriptor: DatasetDescriptor) -> list[str]:
    """The columns of a manifest without its small pictures, which are nine tenths of the bytes of a large one."""
    there = read_schema(store.path(descriptor.manifest)).names
    if descriptor.identity is not None:
        there = [*there, *read_schema(store.path(descriptor.identity)).names]
    return [name for name in dict.fromkeys(there) if name not in (IDENTITY_ROW, "thumbnail")]


def identity_rows(store: ArtifactStore, descriptor: DatasetDescriptor, count: int) -> npt.NDArray[np.int64]:
    """Where each of a manifest's examples is in its identity: int64 [count]; its own place where it has none."""
    import numpy as np

    path = store.path(descriptor.manifest)
    if descriptor.identity is None or IDENTITY_ROW not in read_schema(path).names:
        return np.arange(count, dtype=np.int64)
    return np.asarray(read_parquet(path, [IDENTITY_ROW])[IDENTITY_ROW].to_numpy(), dtype=np.int64)


def _usage_in_fold(store: ArtifactStore, descriptor: DatasetDescriptor, usage: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    if descriptor.folds is None:
        return usage
    name = FOLD.format(repeat=descriptor.repeat)
    fold = read_parquet(store.path(descriptor.folds), [name])[name]
    drawn = pc.if_else(pc.equal(fold, descriptor.fold), VALIDATION, TRAIN)
    return pc.if_else(pc.less(fold, 0), usage, drawn)


def split_identity(manifest: pa.Table) -> tuple[pa.Table, pa.Table]:
    """A whole manifest as what is said of the examples, and their identity."""
    said = [name for name in manifest.column_names if name in SAID]
    return manifest.select(said), manifest.select([name for name in manifest.column_names if name not in SAID])


def write_parquet(table: pa.Table, path: Path) -> Path:
    """Writes a manifest or a table (Parquet, zstd); returns the path."""
    import pyarrow.parquet as pq

    if IDENTITY_ROW in table.column_names:  # rising numbers: by their differences they take next to nothing
        others = [name for name in table.column_names if name != IDENTITY_ROW]
        encoding = {IDENTITY_ROW: "DELTA_BINARY_PACKED"}
        pq.write_table(table, path, compression="zstd", use_dictionary=others, column_encoding=encoding)
    else:
        pq.write_table(table, path, compression="zstd")
    return path


def read_schema(path: Path) -> pa.Schema:
    """The columns of a manifest or a table, without its rows."""
    import pyarrow.parquet as pq

    return pq.read_schema(path)


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a manifest or a table, or some of its columns."""
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=list(columns) if columns is not None else None)
