"""The dataset version format: a JSON descriptor that names a manifest and packs of pictures or a table (docs/architecture.md).

The dataset service writes it; workers read it with `open_dataset`. Nothing here knows of services or of torch.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.errors import Cancelled, DataLoss, InvalidArgument
from modelyard.formats import annotations as said_of
from modelyard.formats import pictures

if TYPE_CHECKING:
    import pyarrow as pa
    from cattrs import Converter

    from modelyard.formats.dataset_annotated import AnnotatedUsage

FORMAT = "modelyard.dataset/1"
"""Value of `format` in descriptors that this code writes, and the only one it reads."""

IMAGE_CLASSIFICATION = "image_classification"
TABULAR_CLASSIFICATION = "tabular_classification"
TABULAR_REGRESSION = "tabular_regression"
IMAGE_MULTILABEL = "image_multilabel"
OBJECT_DETECTION = "object_detection"
SEMANTIC_SEGMENTATION = "semantic_segmentation"
INSTANCE_SEGMENTATION = "instance_segmentation"
KEYPOINT_DETECTION = "keypoint_detection"
AUDIO_CLASSIFICATION = "audio_classification"
SERIES_CLASSIFICATION = "series_classification"
ANOMALY_DETECTION = "anomaly_detection"
TASKS = (
    IMAGE_CLASSIFICATION,
    TABULAR_CLASSIFICATION,
    TABULAR_REGRESSION,
    IMAGE_MULTILABEL,
    OBJECT_DETECTION,
    SEMANTIC_SEGMENTATION,
    INSTANCE_SEGMENTATION,
    KEYPOINT_DETECTION,
    AUDIO_CLASSIFICATION,
    SERIES_CLASSIFICATION,
    ANOMALY_DETECTION,
)
MARKED_TASKS = (OBJECT_DETECTION, INSTANCE_SEGMENTATION, KEYPOINT_DETECTION)
"""Tasks whose examples are pictures with marked objects."""

IMAGE = "image"
TABLE = "table"
AUDIO = "audio"
SERIES = "series"

TRAIN = "train"
VALIDATION = "validation"
TEST = "test"
USAGES = (TRAIN, VALIDATION, TEST)

NUMERIC = "numeric"
CATEGORICAL = "categorical"

FEATURE = "feature"
TARGET = "target"
USAGE = "usage"
SET_ASIDE = "set_aside"

PACK_BYTES = 64 * 1024 * 1024
"""A pack is closed once it holds this many bytes."""

NO_BLOB = Blob("", "", 0)
"""Stands for a file that is not stored yet."""

_DECODE_CHUNK = 64


@dataclass(frozen=True)
class Column:
    """A column of a table: how it is read, what it is for, and what is known of its values over the whole dataset."""

    name: str
    type: str  # numeric (float64 in the table) or categorical (string in the table)
    role: str  # feature, target, usage or set_aside
    set_aside_reason: str = ""  # LEAKS_TARGET, CONSTANT, IDENTIFIER, ALL_MISSING or EXCLUDED_BY_USER
    missing_count: int = 0
    distinct_count: int = 0  # without the missing ones
    categories: tuple[str, ...] = ()  # of a categorical column, sorted; empty when there are more than 1000


@dataclass(frozen=True)
class UsageCount:
    """How many examples a usage holds, in all and by class (in the order of the classes; empty for regression)."""

    examples: int
    classes: tuple[int, ...] = ()


@dataclass(frozen=True)
class DatasetDescriptor:
    """Everything there is to say of a dataset version but its bytes, which it names."""

    task: str
    kind: str  # image, table, audio or series
    manifest: Blob
    digest: str
    classes: tuple[str, ...] = ()  # in the order of their index; empty for regression
    columns: tuple[Column, ...] = ()
    target: str = ""  # name of the target column; empty for pictures
    packs: tuple[Blob, ...] = ()
    table: Blob | None = None
    counts: Mapping[str, UsageCount] = field(default_factory=dict)  # by usage
    seed: int = 0
    ratio: str = ""  # as given: decimal text
    keypoints: tuple[str, ...] = ()  # names of an object's keypoints, in their order
    skeleton: tuple[tuple[int, int], ...] = ()  # pairs of keypoints (by index) that a line joins
    palette: tuple[str, ...] = ()  # colour of each class, "#rrggbb"; empty where the source has none
    channels: tuple[str, ...] = ()  # of a series, in the order of its columns
    time_column: str = ""  # of a series: name of the times; empty where they are not known
    time_is_date: bool = False  # the times are seconds since 1970 that the source wrote as dates
    format: str = FORMAT

    @property
    def features(self) -> tuple[Column, ...]:
        """The columns a model reads, in the order of the source."""
        return tuple(column for column in self.columns if column.role == FEATURE)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Every blob this version stands on."""
        return (self.manifest, *self.packs, *((self.table,) if self.table else ()))


def to_json(descriptor: DatasetDescriptor) -> bytes:
    """The descriptor as canonical JSON: equal descriptors give equal bytes."""
    return json.dumps(_converter().unstructure(descriptor), ensure_ascii=False, sort_keys=True, indent=1).encode()


def from_json(data: bytes) -> DatasetDescriptor:
    """Reads a descriptor; raises DataLoss DESCRIPTOR_UNREADABLE when it is not one or is of another format."""
    try:
        descriptor = _converter().structure(json.loads(data), DatasetDescriptor)
    except Exception as error:  # cattrs and json raise many kinds; all mean the same here
        raise DataLoss("DESCRIPTOR_UNREADABLE", f"the dataset descriptor cannot be read: {error!r}") from error
    if descriptor.format != FORMAT:
        message = f"the dataset descriptor has format {descriptor.format!r}; this version reads {FORMAT!r}"
        raise DataLoss("DESCRIPTOR_UNREADABLE", message, format=descriptor.format)
    return descriptor


def _converter() -> Converter:
    from cattrs.preconf.json import make_converter

    return make_converter(forbid_extra_keys=True)


# Manifest


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
    return said if task in (AUDIO_CLASSIFICATION, SERIES_CLASSIFICATION) else []


def example_id(path: str, sha256: str) -> str:
    """Id of an example within its dataset, from its path in the source and its content: 20 hexadecimal digits."""
    return hashlib.sha256(f"{path}\0{sha256}".encode()).hexdigest()[:20]


_DIGESTED = ("sha256", "label", "usage", "annotation")


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
    ordered = manifest.select(list(_DIGESTED)).sort_by([(name, "ascending") for name in _DIGESTED])
    for batch in ordered.to_batches(max_chunksize=65536):
        rows = zip(*(batch.column(name).to_pylist() for name in _DIGESTED), strict=True)
        state.update("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "surrogatepass"))
    return state.hexdigest()


def digest_names(descriptor: DatasetDescriptor) -> tuple[str, ...]:
    """What besides classes is named in a dataset, as `digest` takes it: keypoints, or times and channels."""
    time = (f"time:{descriptor.time_column}",) if descriptor.time_column else ()
    return (*descriptor.keypoints, *time, *descriptor.channels)


def write_parquet(table: pa.Table, path: Path) -> Path:
    """Writes a manifest or a table (Parquet, zstd); returns the path."""
    import pyarrow.parquet as pq

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


# Packs


@dataclass(frozen=True)
class PackSpan:
    """Where an example's bytes lie: number of the pack, first byte, length in bytes."""

    pack: int
    offset: int
    length: int


class PackWriter:
    """Appends examples to pack files in a folder; holds nothing in memory. Nothing reaches a store before `put_all`."""

    def __init__(self, folder: Path, *, pack_bytes: int = PACK_BYTES) -> None:
        self._folder = folder
        self._pack_bytes = pack_bytes
        self._file: BinaryIO | None = None
        self._offset = 0
        self.paths: list[Path] = []

    def append(self, data: bytes) -> PackSpan:
        """Adds an example and says where it lies."""
        if self._file is None or (self._offset and self._offset + len(data) > self._pack_bytes):
            self._next_pack()
        if self._file is None:
            raise AssertionError("a pack is open here")
        span = PackSpan(len(self.paths) - 1, self._offset, len(data))
        self._file.write(data)
        self._offset += len(data)
        return span

    def close(self) -> list[Path]:
        """Finishes the last pack; the paths of all of them, in the order of their numbers."""
        if self._file is not None:
            self._file.close()
            self._file = None
        return self.paths

    def put_all(self, store: ArtifactStore) -> tuple[Blob, ...]:
        """Stores the packs, in the order of their numbers."""
        return tuple(store.put_file(path) for path in self.close())

    def _next_pack(self) -> None:
        self.close()
        self.paths.append(self._folder / f"pack-{len(self.paths):05d}")
        self._file = self.paths[-1].open("wb")
        self._offset = 0


# Reading

ShouldStop = Callable[[], bool]
OnProgress = Callable[[int, int], None]


def open_dataset(store: ArtifactStore, descriptor_blob: Blob) -> DatasetReader:
    """Opens a dataset version for reading. Raises DataLoss when the descriptor or the manifest is not what it should be."""
    return DatasetReader(store, from_json(store.path(descriptor_blob).read_bytes()))


class DatasetReader:
    """Reads the examples of one dataset version, always in the order of its manifest. Safe to use from several threads."""

    def __init__(self, store: ArtifactStore, descriptor: DatasetDescriptor) -> None:
        self.descriptor = descriptor
        self._store = store
        self._manifest = read_parquet(store.path(descriptor.manifest))
        self._usage = np.asarray(self._manifest["usage"].to_pylist(), dtype=object)
        self._maps: dict[int, mmap.mmap] = {}
        self._spans: list[npt.NDArray[np.int64]] = []
        if descriptor.kind != TABLE:
            self._spans = [self._manifest[name].to_numpy().astype(np.int64) for name in ("pack", "offset", "length")]
            self._maps = {number: _map(store.path(blob)) for number, blob in enumerate(descriptor.packs)}

    def __len__(self) -> int:
        return int(self._manifest.num_rows)

    def indices(self, usage: str) -> npt.NDArray[np.int64]:
        """Positions in the manifest of the examples of a usage ("train", "validation", "test"); rising."""
        if usage not in USAGES:
            raise InvalidArgument(
                "BAD_USAGE", f"usage is {usage!r}; it is one of {', '.join(USAGES)}", field="usage", usage=usage
            )
        return np.flatnonzero(self._usage == usage).astype(np.int64)

    def example_ids(self, usage: str) -> list[str]:
        """Ids of the examples of a usage."""
        return self._take("example_id", usage)

    def paths(self, usage: str) -> list[str]:
        """Where the examples of a usage came from: paths inside the source, or "row 17"."""
        return self._take("path", usage)

    def picture_facts(self, usage: str) -> dict[str, list[int]]:
        """What is known of each picture of a usage: `width` and `height` in pixels as it came, `bytes` of its file."""
        names = {"width": "width", "height": "height", "bytes": "length"}
        taken = self._manifest.select(list(names.values())).take(self.indices(usage))
        return {name: taken[column].to_pylist() for name, column in names.items()}

    def labels(self, usage: str) -> npt.NDArray[Any]:
        """What a model learns of each example of a usage: class index, int64 [N]; for regression the target, float64 [N]."""
        if not self.descriptor.classes:
            return self.targets(usage)
        index = {name: i for i, name in enumerate(self.descriptor.classes)}
        return np.asarray([index[label] for label in self._take("label", usage)], dtype=np.int64)

    def targets(self, usage: str) -> npt.NDArray[np.float64]:
        """The value to predict of each example of a usage, float64 [N]. Regression only."""
        column = self.table(usage, columns=[self.descriptor.target])[self.descriptor.target]
        return np.asarray(column.to_numpy(), dtype=np.float64)

    def picture(self, position: int) -> bytes:
        """Bytes of the picture (audio, series) file at a position of the manifest."""
        pack, offset, length = (int(values[position]) for values in self._spans)
        return self.packed(pack, offset, length)

    def packed(self, pack: int, offset: int, length: int) -> bytes:
        """Bytes of a pack."""
        return self._maps[pack][offset : offset + length]

    def annotations(self, usage: str) -> AnnotatedUsage:
        """Marks, masks, labels, intervals, sound or series of the examples of a usage, as numpy arrays."""
        from modelyard.formats.dataset_annotated import AnnotatedUsage

        return AnnotatedUsage(self, self._manifest.take(self.indices(usage)))

    def picture_bytes(self, usage: str) -> Iterator[bytes]:
        """Bytes of the picture files of a usage, one after the other."""
        return (self.picture(int(position)) for position in self.indices(usage))

    def pictures(
        self,
        usage: str,
        height: int,
        width: int,
        channels: int,
        *,
        threads: int | None = None,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> npt.NDArray[np.uint8]:
        """The pictures of a usage, decoded by `pictures.decode`: uint8 [N, height, width, channels].

        `on_progress(done, total)` and `should_stop()` are called from this thread, about every 64 pictures; Cancelled is
        raised once it says to stop. `threads` is the number of decoding threads; the default is the CPUs this process may use.
        """
        return self.decode(
            self.indices(usage), height, width, channels, threads=threads, on_progress=on_progress, should_stop=should_stop
        )

    def decode(
        self,
        positions: npt.NDArray[np.int64],
        height: int,
        width: int,
        channels: int,
        *,
        threads: int | None = None,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> npt.NDArray[np.uint8]:
        """The pictures at positions of the manifest, decoded; see `pictures`."""
        out = np.empty((len(positions), height, width, channels), np.uint8)

        def fill(start: int) -> int:
            stop = min(start + _DECODE_CHUNK, len(positions))
            for row in range(start, stop):
                out[row] = pictures.decode(self.picture(int(positions[row])), height=height, width=width, channels=channels)
            return stop - start

        with ThreadPoolExecutor(threads or available_cpus()) as pool:
            futures = [pool.submit(fill, start) for start in range(0, len(positions), _DECODE_CHUNK)]
            _await(futures, len(positions), on_progress, should_stop)
        return out

    def table(self, usage: str, *, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a usage: feature columns in the order of the source, then the target; or the columns named."""
        if self.descriptor.table is None:
            raise InvalidArgument(
                "NOT_A_TABLE", f"a dataset of kind {self.descriptor.kind} has no table", kind=self.descriptor.kind
            )
        names = list(columns) if columns is not None else [*(c.name for c in self.descriptor.features), self.descriptor.target]
        whole = read_parquet(self._store.path(self.descriptor.table), names)
        return whole.take(self._manifest["row"].take(self.indices(usage))).select(names)

    def whole_table(self) -> pa.Table:
        """All rows and columns of a table, in the order of the manifest. Raises InvalidArgument NOT_A_TABLE."""
        if self.descriptor.table is None:
            kind = self.descriptor.kind
            raise InvalidArgument("NOT_A_TABLE", f"a dataset of kind {kind} has no table", kind=kind)
        return read_parquet(self._store.path(self.descriptor.table)).take(self._manifest["row"])

    def usages(self) -> pa.ChunkedArray:
        """The usage of every example, in the order of the manifest."""
        return self._manifest["usage"]

    def close(self) -> None:
        """Lets go of the packs."""
        for mapped in self._maps.values():
            mapped.close()
        self._maps = {}

    def __enter__(self) -> DatasetReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take(self, column: str, usage: str) -> list[str]:
        taken: list[str] = self._manifest[column].take(self.indices(usage)).to_pylist()
        return taken


def available_cpus() -> int:
    """CPUs that this process may run on; 1 or more."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _await(futures: Iterable[Future[int]], total: int, on_progress: OnProgress | None, should_stop: ShouldStop | None) -> None:
    """Waits for the chunks in order; on a stop or an error drops those not yet started."""
    waiting = list(futures)
    done = 0
    try:
        for future in waiting:
            if should_stop is not None and should_stop():
                raise Cancelled("CANCELLED", "decoding was cancelled")
            done += future.result()
            if on_progress is not None:
                on_progress(done, total)
    finally:
        for future in waiting:
            future.cancel()
