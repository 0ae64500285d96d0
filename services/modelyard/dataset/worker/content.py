"""Writing what an import found: examples stream into pack files and a manifest on disk; the store gets them whole, at the end."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from modelyard.core.artifacts import ArtifactStore, Blob, build_uri
from modelyard.dataset.domain.near import THUMBNAIL
from modelyard.dataset.domain.records import LISTED_REJECTED, RejectedInput
from modelyard.formats.dataset import IMAGE, PackWriter, example_id, manifest_schema

_ROWS_AT_ONCE = 8192

PICTURE_CONTENT_SCHEMA = manifest_schema(IMAGE).append(pa.field("thumbnail", pa.binary(THUMBNAIL * THUMBNAIL)))
"""The manifest of imported pictures: that of a version, and a grey 16 x 16 thumbnail of each for the search for duplicates."""


@dataclass(frozen=True)
class PictureExample:
    """A picture that was read to its last pixel."""

    path: str
    label: str
    usage: str | None
    data: bytes
    width: int
    height: int
    thumbnail: bytes


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


class PictureContent:
    """Collects the pictures of an import in a folder. Memory does not grow with the number of pictures."""

    def __init__(self, folder: Path) -> None:
        self._packs = PackWriter(folder)
        self._manifest_path = folder / "manifest.parquet"
        self._manifest = pq.ParquetWriter(self._manifest_path, PICTURE_CONTENT_SCHEMA, compression="zstd")
        self._rows: list[tuple[Any, ...]] = []
        self.class_counts: Counter[str] = Counter()
        self.count = 0
        self.with_usage = 0

    def add(self, example: PictureExample) -> None:
        """Appends a picture."""
        sha256 = hashlib.sha256(example.data).hexdigest()
        span = self._packs.append(example.data)
        identity = (example_id(example.path, sha256), example.usage, example.label, sha256, example.path)
        size = (example.width, example.height, example.thumbnail)
        self._rows.append((*identity, span.pack, span.offset, span.length, *size))
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

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(list(values), kind.type) for values, kind in zip(columns, PICTURE_CONTENT_SCHEMA, strict=True)]
            self._manifest.write_batch(pa.record_batch(arrays, schema=PICTURE_CONTENT_SCHEMA))
            self._rows = []


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
