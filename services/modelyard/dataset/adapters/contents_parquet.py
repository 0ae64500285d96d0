"""Contents (see ports) from manifests and packs in the artifact store; the last few manifests stay in memory."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.errors import DataLoss
from modelyard.dataset.ports import Listed
from modelyard.formats.dataset import (
    IMAGE,
    SERIES,
    TABLE,
    TABULAR_REGRESSION,
    DatasetDescriptor,
    load_manifest,
    manifest_schema,
    read_parquet,
    read_schema,
)

if TYPE_CHECKING:
    import pyarrow as pa

_KEPT = 4
_LISTED = ("example_id", "path", "sha256", "usage", "label", "annotation", "width", "height", "steps", "frames")
_HEAVY = ("marks", "intervals", "labels", "attributes", "mask_pack", "mask_offset", "mask_length")
_SIDE = 16  # of a thumbnail
_TYPES = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"fLaC", "audio/flac"),
)


class StoredContents:
    """Reads from the artifact store."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._tables = lru_cache(maxsize=_KEPT)(self._read_manifest)
        self._examples = lru_cache(maxsize=_KEPT)(self._list)
        self._columns = lru_cache(maxsize=1)(lambda table: read_parquet(store.path(table)))

    def listed(self, content: DatasetDescriptor) -> Sequence[Listed]:
        """All examples, in the order of the manifest."""
        return self._examples(_place(content))

    def _list(self, place: _Place) -> Sequence[Listed]:
        table = self._tables(place)
        columns = {name: table[name].to_pylist() for name in _LISTED if name in table.column_names}
        count, several = table.num_rows, "annotation" in columns and not any(columns["label"])
        said = columns["annotation"] if several else columns["label"]
        if place.task == TABULAR_REGRESSION:
            said = ["target"] * count  # it is in the table
        empty: list[Any] = [0] * count
        steps = columns.get("steps") or columns.get("frames") or empty
        rest = zip(columns.get("width", empty), columns.get("height", empty), steps, said, strict=True)
        common = zip(*(columns[name] for name in _LISTED[:5]), strict=True)
        return [
            Listed(example_id, path, sha256, usage or "", label or "", what is not None, row, width, height, long)
            for row, ((example_id, path, sha256, usage, label), (width, height, long, what)) in enumerate(
                zip(common, rest, strict=True)
            )
        ]

    def labelled_ids(self, content: DatasetDescriptor) -> set[str]:
        """Ids of the examples that have a label or an annotation."""
        return {each.example_id for each in self.listed(content) if each.labelled}

    def row_of(self, content: DatasetDescriptor, example_id: str) -> int | None:
        """The row of an example; None: there is none."""
        import pyarrow.compute as pc

        row = int(pc.index(self._manifest(content)["example_id"], example_id).as_py())
        return row if row >= 0 else None

    def vectors(self, content: DatasetDescriptor, rows: Sequence[int]) -> Any:
        """Thumbnails of an import's pictures, brightness and contrast taken out: float32 [N, 256]; None where it has none."""
        if content.kind != IMAGE or "thumbnail" not in read_schema(self._store.path(content.manifest)).names:
            return None
        thumbnails = read_parquet(self._store.path(content.manifest), ["thumbnail"])["thumbnail"].take(np.asarray(rows, np.int64))
        size = _SIDE * _SIDE
        joined = b"".join(value for chunk in thumbnails.chunks for value in chunk.to_pylist())
        grey = np.frombuffer(joined, np.uint8).reshape(-1, size).astype(np.float32)
        grey -= grey.mean(axis=1, keepdims=True)
        return grey / np.maximum(np.linalg.norm(grey, axis=1, keepdims=True), 1.0)

    def read(self, content: DatasetDescriptor, row: int) -> tuple[bytes, str]:
        """An example's bytes and their media type; a row of a table or a series as JSON. Raises DataLoss ARTIFACT_CORRUPT."""
        table = self._manifest(content)
        found = table.slice(row, 1).to_pylist()[0]
        if content.kind == TABLE:
            return self._row(content, int(found["row"])), "application/json"
        data = self._checked(content, found, fresh=False) or self._checked(content, found, fresh=True)
        if data is None:
            message = f"the stored bytes of example {found['example_id']} are not what they were"
            raise DataLoss("ARTIFACT_CORRUPT", message, example=found["example_id"])
        if content.kind == SERIES:
            return _series(content, data, int(found["steps"])), "application/json"
        return data, _media_type(data)

    def _checked(self, content: DatasetDescriptor, found: dict[str, Any], *, fresh: bool) -> bytes | None:
        """Bytes of an example, if they are what the manifest says."""
        pack, offset, length = (int(found[name]) for name in ("pack", "offset", "length"))
        data = self._store.read_part(content.packs[pack], offset, length, fresh=fresh)
        # Of a series the hash covers its shape too (worker/import_series.py).
        shape = f"{found['steps']} {found['channels']}\n".encode() if content.kind == SERIES else b""
        return data if hashlib.sha256(shape + data).hexdigest() == found["sha256"] else None

    def _row(self, content: DatasetDescriptor, row: int) -> bytes:
        """A row without its target: that is what people, or a model, are to say."""
        if content.table is None:
            return b"{}"
        values = self._columns(content.table).slice(row, 1).to_pylist()[0]
        values.pop(content.target, None)
        shown = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()}
        return json.dumps(shown, ensure_ascii=False, default=str).encode()

    def _manifest(self, content: DatasetDescriptor) -> pa.Table:
        return self._tables(_place(content))

    def _read_manifest(self, place: _Place) -> pa.Table:
        names = [name for name in manifest_schema(place.kind, place.task).names if name not in _HEAVY]
        return load_manifest(
            self._store, DatasetDescriptor(place.task, place.kind, place.manifest, "", identity=place.identity), names
        )


@dataclass(frozen=True)
class _Place:
    """Where the examples of a content are."""

    manifest: Blob
    identity: Blob | None
    kind: str
    task: str


def _place(content: DatasetDescriptor) -> _Place:
    return _Place(content.manifest, content.identity, content.kind, content.task)


def _series(content: DatasetDescriptor, data: bytes, steps: int) -> bytes:
    values = np.frombuffer(data, "<f8").reshape(steps, -1)
    has_time = bool(content.time_column)
    times = values[:, 0].tolist() if has_time else list(range(steps))
    rest = values[:, 1:] if has_time else values
    said = {"channels": list(content.channels), "times": times, "values": [_finite(column) for column in rest.T.tolist()]}
    return json.dumps(said).encode()


def _finite(values: list[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]


def _media_type(data: bytes) -> str:
    if data[:4] == b"RIFF":
        return "image/webp" if data[8:12] == b"WEBP" else "audio/wav"
    return next((kind for start, kind in _TYPES if data.startswith(start)), "application/octet-stream")
