"""Writing what an import found: examples stream into pack files and a manifest on disk; the store gets them whole, at the end."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    IMAGE,
    IMAGE_CLASSIFICATION,
    IMAGE_MULTILABEL,
    MARKED_TASKS,
    SEMANTIC_SEGMENTATION,
    SERIES_CLASSIFICATION,
    PackWriter,
    example_id,
    manifest_schema,
)

_ROWS_AT_ONCE = 8192


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


class Content:
    """Collects the examples of an import in a folder. Memory does not grow with their number."""

    def __init__(self, folder: Path, kind: str = IMAGE, task: str = IMAGE_CLASSIFICATION, classes: Sequence[str] = ()) -> None:
        self.kind, self.task = kind, task
        self._index = {name: number for number, name in enumerate(classes)}
        self._schema = content_schema(kind, task)
        self._packs = PackWriter(folder)
        self._manifest_path = folder / "manifest.parquet"
        self._manifest = pq.ParquetWriter(self._manifest_path, self._schema, compression="zstd")
        self._rows: list[tuple[Any, ...]] = []
        self.class_counts: Counter[str] = Counter()
        self.count = 0
        self.with_usage = 0

    def add(self, example: Example) -> None:
        """Appends an example."""
        sha256 = example.sha256 or hashlib.sha256(example.data).hexdigest()
        span = self._packs.append(example.data)
        identity = (example_id(example.path, sha256), example.usage, example.label, sha256, example.path)
        thumbnail = (example.thumbnail,) if self.kind == IMAGE else ()
        self._rows.append((*identity, span.pack, span.offset, span.length, *example.sizes, *self._said(example), *thumbnail))
        if example.label is not None:
            self.class_counts[example.label] += 1
        self.count += 1
        self.with_usage += example.usage is not None
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._flush()

    def finish(self) -> tuple[Path, list[Path]]:
        """Closes the files: the manifest and the packs."""
        self._flush()
        self._manifest.close()
        return self._manifest_path, self._packs.close()

    def _said(self, example: Example) -> tuple[Any, ...]:
        """The columns of the annotation, as the schema of the task has them."""
        said = example.annotation
        if said is None:
            return ()
        common = (None if self.task in _LABELLED else content_hash(said), attributes_json(said.attributes) or None)
        if self.task in MARKED_TASKS:
            self.class_counts.update(mark.label for mark in said.marks)
            return (*common, [mark_row(mark, self._index) for mark in said.marks])
        if self.task == IMAGE_MULTILABEL:
            self.class_counts.update(said.labels)
            return (*common, sorted(self._index[label] for label in said.labels))
        if self.task == SEMANTIC_SEGMENTATION:
            self.class_counts.update(example.present)
            span = self._packs.append(example.mask)
            return (*common, span.pack, span.offset, span.length)
        if self.task == ANOMALY_DETECTION:
            self.class_counts.update(each.label for each in said.intervals)
            rows = [{"start": each.start, "end": each.end, "label": self._index[each.label]} for each in said.intervals]
            return (*common, rows)
        return common

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(list(values), kind.type) for values, kind in zip(columns, self._schema, strict=True)]
            self._manifest.write_batch(pa.record_batch(arrays, schema=self._schema))
            self._rows = []


_LABELLED = (AUDIO_CLASSIFICATION, SERIES_CLASSIFICATION)
"""Tasks whose label says all; their annotation has nothing but attributes."""


@contextmanager
def all_or_none(store: ArtifactStore) -> Iterator[Callable[[Path], Blob]]:
    """Gives a function that stores a file. When the block fails, what was stored and had not been there before is deleted."""
    new: list[Blob] = []

    def put(path: Path) -> Blob:
        known = store.exists(build_uri(store.namespace, _sha256(path)))
        blob = store.put_file(path)
        if not known:
            new.append(blob)
        return blob

    try:
        yield put
    except BaseException:
        for blob in new:
            store.delete(blob)
        raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
