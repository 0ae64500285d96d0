"""Writing what an import found: examples stream into pack files and a manifest on disk; the store gets them whole, at the end."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.core.artifacts import ArtifactStore, Blob, build_uri
from modelyard.dataset.domain.near import THUMBNAIL
from modelyard.dataset.domain.problems import Problems
from modelyard.dataset.domain.records import LISTED_REJECTED, RejectedInput
from modelyard.formats.annotations import Annotation, attributes_json, content_hash, mark_row
from modelyard.formats.dataset import (
    ANOMALY_DETECTION,
    AUDIO_CLASSIFICATION,
    DIGESTED,
    FORECASTING,
    IMAGE,
    IMAGE_CLASSIFICATION,
    IMAGE_MULTILABEL,
    MARKED_TASKS,
    SEMANTIC_SEGMENTATION,
    SERIES_CLASSIFICATION,
    TEST,
    PackWriter,
    example_id,
    manifest_schema,
)

_ROWS_AT_ONCE = 8192
_REPEATED = ("usage", "label", "annotation", "attributes")
"""Columns whose values come again; of the others a dictionary would only cost time."""


def content_schema(kind: str, task: str = "") -> pa.Schema:
    """The manifest of an import: that of a version, and of pictures a grey 16 x 16 thumbnail for the search for duplicates."""
    schema = manifest_schema(kind, task)
    return schema.append(pa.field("thumbnail", pa.binary(THUMBNAIL * THUMBNAIL))) if kind == IMAGE else schema


@dataclass(frozen=True)
class Example:
    """An example that was read to its end. sizes: width and height; rate, frames and channels; steps and columns.

    mask: a grey PNG of class indices, and `present`, the classes in it.
    """

    path: str
    label: str | None
    usage: str | None
    data: bytes
    sizes: tuple[int, ...]
    thumbnail: bytes = b""
    annotation: Annotation | None = None
    mask: bytes = b""
    present: tuple[str, ...] = ()
    problems: Problems | None = None
    sha256: str = ""


@dataclass(frozen=True)
class Block:
    """Many pictures of one class each that were read to their end: `data` is their files, one after the other, `lengths` int64
    [n]; `sizes` int32 [n, 2]: width and height; `thumbnails`, `ids` (20 digits each) and `hashes` (64) one after the other."""

    paths: Sequence[str]
    labels: Sequence[str]
    usages: Sequence[str | None]
    ids: bytes
    hashes: bytes
    data: bytes
    lengths: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int32]
    thumbnails: bytes


@dataclass
class Rejections:
    """Inputs that were left out: the first thousand are listed, all are counted."""

    listed: list[RejectedInput] = field(default_factory=list)
    count: int = 0

    def add(self, path: str, reason: str, message: str) -> None:
        """Notes one."""
        self.count += 1
        if len(self.listed) < LISTED_REJECTED:
            self.listed.append(RejectedInput(path, reason, message))


def lane_of(usage: str | None) -> str:
    """Which packs an example goes to: what came as test lies apart, so that a frozen test set can be left out without copying."""
    return TEST if usage == TEST else ""


class Content:
    """Collects the examples of an import in a folder. Memory does not grow with their number."""

    def __init__(self, folder: Path, kind: str = IMAGE, task: str = IMAGE_CLASSIFICATION, classes: Sequence[str] = ()) -> None:
        self.kind, self.task = kind, task
        self._index = {name: number for number, name in enumerate(classes)}
        self._schema = content_schema(kind, task)
        self._nothing_said = (None,) * (len(manifest_schema(kind, task)) - len(manifest_schema(kind)))
        self._packs = PackWriter(folder)
        self._manifest_path = folder / "manifest.parquet"
        self._manifest = pq.ParquetWriter(self._manifest_path, self._schema, compression="zstd", use_dictionary=list(_REPEATED))
        self._digested: list[pa.Table] = []
        self._rows: list[tuple[Any, ...]] = []
        self._blocks: list[pa.RecordBatch] = []
        self._digested_names = [name for name in DIGESTED if name in self._schema.names]
        self.class_counts: Counter[str] = Counter()
        self.count = 0
        self.with_usage = 0

    def add(self, example: Example) -> None:
        """Appends an example."""
        sha256 = example.sha256 or hashlib.sha256(example.data).hexdigest()
        span = self._packs.append(example.data, lane_of(example.usage))
        identity = (example_id(example.path, sha256), example.usage, example.label, sha256, example.path)
        thumbnail = (example.thumbnail,) if self.kind == IMAGE else ()
        self._rows.append((*identity, span.pack, span.offset, span.length, *example.sizes, *self._said(example), *thumbnail))
        if example.label is not None:
            self.class_counts[example.label] += 1
        self.count += 1
        self.with_usage += example.usage is not None
        self._write_blocks()
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._flush()

    def add_block(self, block: Block) -> None:
        """Appends many pictures of one class each at once."""
        count = len(block.paths)
        if not count:
            return
        self._flush()
        packs, offsets = self._placed(block)
        thumbnails = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(THUMBNAIL * THUMBNAIL), count, [None, pa.py_buffer(block.thumbnails)]
        )
        columns = [
            _texts(block.ids, count),
            pa.array(block.usages, pa.string()),
            pa.array(block.labels, pa.string()),
            _texts(block.hashes, count),
            pa.array(block.paths, pa.string()),
            pa.array(packs, pa.int32()),
            pa.array(offsets),
            pa.array(block.lengths),
            pa.array(block.sizes[:, 0]),
            pa.array(block.sizes[:, 1]),
            thumbnails,
        ]
        batch = pa.record_batch(columns, schema=self._schema)
        self._blocks.append(batch)
        self._digest_later(batch)
        self.class_counts.update(block.labels)
        self.count += count
        self.with_usage += count - block.usages.count(None)
        if sum(len(each) for each in self._blocks) >= _ROWS_AT_ONCE:
            self._write_blocks()

    def _placed(self, block: Block) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Where the files of a block lie, each in a pack of its usage's lane."""
        ends = np.cumsum(block.lengths).tolist()
        packs, offsets, start, first = [], [], 0, 0
        for usage, run in groupby(block.usages):
            lane, stop = lane_of(usage), start + len(list(run))
            placed = self._packs.append_all(block.data[first : ends[stop - 1]], block.lengths[start:stop], lane)
            packs.append(placed[0])
            offsets.append(placed[1])
            start, first = stop, ends[stop - 1]
        return np.concatenate(packs), np.concatenate(offsets)

    def finish(self) -> tuple[Path, list[Path]]:
        """Closes the files: the manifest and the packs."""
        self._flush()
        self._manifest.close()
        return self._manifest_path, self._packs.close()

    def digested(self) -> pa.Table:
        """What the digest of the content is made of: the rows so far, in these columns."""
        self._flush()
        schema = pa.schema([self._schema.field(name) for name in self._digested_names])
        kept = pa.concat_tables(self._digested).unify_dictionaries() if self._digested else schema.empty_table()
        return kept.cast(schema)

    def _digest_later(self, batch: pa.RecordBatch) -> None:
        """Keeps what the digest is made of, names that come again as numbers: there is a row for each example."""
        kept = pa.Table.from_batches([batch]).select(self._digested_names)
        for name in _REPEATED:
            if name in self._digested_names and pa.types.is_string(kept.schema.field(name).type):
                kept = kept.set_column(kept.schema.get_field_index(name), name, kept[name].dictionary_encode())
        self._digested.append(kept)

    def _said(self, example: Example) -> tuple[Any, ...]:
        """The columns of the annotation, as the schema of the task has them."""
        said = example.annotation
        if said is None:
            return self._nothing_said
        common = (None if self.task in _LABELLED else content_hash(said), attributes_json(said.attributes) or None)
        if self.task in MARKED_TASKS:
            self.class_counts.update(mark.label for mark in said.marks)
            return (*common, [mark_row(mark, self._index) for mark in said.marks])
        if self.task == IMAGE_MULTILABEL:
            self.class_counts.update(said.labels)
            return (*common, sorted(self._index[label] for label in said.labels))
        if self.task == SEMANTIC_SEGMENTATION:
            self.class_counts.update(example.present)
            span = self._packs.append(example.mask, lane_of(example.usage))
            return (*common, span.pack, span.offset, span.length)
        if self.task == ANOMALY_DETECTION:
            self.class_counts.update(each.label for each in said.intervals)
            rows = [{"start": each.start, "end": each.end, "label": self._index[each.label]} for each in said.intervals]
            return (*common, rows)
        return common

    def _write_blocks(self) -> None:
        if self._blocks:
            self._manifest.write_table(pa.Table.from_batches(self._blocks), row_group_size=2 * _ROWS_AT_ONCE)
            self._blocks = []

    def _flush(self) -> None:
        self._write_blocks()
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(list(values), kind.type) for values, kind in zip(columns, self._schema, strict=True)]
            batch = pa.record_batch(arrays, schema=self._schema)
            self._manifest.write_batch(batch)
            self._digest_later(batch)
            self._rows = []


def _texts(joined: bytes, count: int) -> pa.StringArray:
    """Texts of one length that lie one after the other, as a column."""
    size = len(joined) // count
    ends = np.arange(0, size * count + 1, size, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(joined))


_LABELLED = (AUDIO_CLASSIFICATION, SERIES_CLASSIFICATION, FORECASTING)
"""Tasks whose label says all; their annotation has nothing but attributes."""


class Puts:
    """Stores files; remembers which of them were not there before."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self.new: list[Blob] = []

    def __call__(self, path: Path) -> Blob:
        """Stores one, which is gone from where it lay."""
        sha256 = _sha256(path)
        known = self._store.exists(build_uri(self._store.namespace, sha256))
        blob = self._store.adopt(path, sha256=sha256)
        if not known:
            self.new.append(blob)
        return blob

    @property
    def new_bytes(self) -> int:
        """Bytes that the store did not have before."""
        return sum(blob.size_bytes for blob in self.new)


@contextmanager
def all_or_none(store: ArtifactStore) -> Iterator[Puts]:
    """Gives a function that stores a file. When the block fails, what was stored and had not been there before is deleted."""
    puts = Puts(store)
    try:
        yield puts
    except BaseException:
        for blob in puts.new:
            store.delete(blob)
        raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
