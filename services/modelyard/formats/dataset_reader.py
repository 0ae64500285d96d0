"""Reading a dataset version."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.errors import Cancelled, DataLoss, InvalidArgument
from modelyard.formats.dataset_descriptor import TABLE, USAGES, DatasetDescriptor, from_json
from modelyard.formats.dataset_manifest import load_manifest, read_parquet
from modelyard.formats.decoding_any import decode_example

if TYPE_CHECKING:
    import pyarrow as pa

    from modelyard.formats.dataset_annotated import AnnotatedUsage

_DECODE_CHUNK = 64

ShouldStop = Callable[[], bool]
OnProgress = Callable[[int, int], None]


def open_dataset(store: ArtifactStore, descriptor_blob: Blob) -> DatasetReader:
    """Opens a dataset version for reading. Raises DataLoss when the descriptor or the manifest is not what it should be."""
    return DatasetReader(store, from_json(store.path(descriptor_blob).read_bytes()))


class DatasetReader:
    """Reads the examples of one dataset version, always in the order of its manifest. Safe to use from several threads."""

    def __init__(self, store: ArtifactStore, descriptor: DatasetDescriptor, *, unsplit: bool = False) -> None:
        """`unsplit`: of an import, where no example has been drawn for a usage yet; then none is of any."""
        self.descriptor = descriptor
        self._store = store
        self._whole: pa.Table | None = None
        usage = self._column("usage")
        self._usage = np.full(len(usage), -1, np.int8) if unsplit else _numbers_of(usage, USAGES).astype(np.int8)
        self._maps: dict[int, mmap.mmap] = {}
        self._mapping = threading.Lock()
        self._spans: tuple[npt.NDArray[np.int64], ...] = ()
        if descriptor.kind != TABLE:
            self._spans = tuple(self._column(name).to_numpy().astype(np.int64) for name in ("pack", "offset", "length"))

    def __len__(self) -> int:
        return len(self._usage)

    def indices(self, usage: str) -> npt.NDArray[np.int64]:
        """Positions in the manifest of the examples of a usage ("train", "validation", "test"); rising."""
        if usage not in USAGES:
            raise InvalidArgument(
                "BAD_USAGE", f"usage is {usage!r}; it is one of {', '.join(USAGES)}", field="usage", usage=usage
            )
        return np.flatnonzero(self._usage == USAGES.index(usage)).astype(np.int64)

    def spans(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where all examples lie: number of the pack, first byte, length in bytes; int64 [N] each. Not for tables."""
        pack, offset, length = self._spans
        return pack, offset, length

    def hashes(self) -> npt.NDArray[np.uint8]:
        """The sha256 of all examples: uint8 [N, 32]."""
        digits = [_characters(chunk) for chunk in self._column("sha256").chunks]
        return np.frombuffer(bytes.fromhex(b"".join(digits).decode("ascii")), np.uint8).reshape(len(self), 32)

    def path_of(self, position: int) -> str:
        """Where the example at a position of the manifest came from."""
        return str(self._column("path")[position].as_py())

    def example_ids(self, usage: str) -> list[str]:
        """Ids of the examples of a usage."""
        return self._take("example_id", usage)

    def paths(self, usage: str) -> list[str]:
        """Where the examples of a usage came from: paths inside the source, or "row 17"."""
        return self._take("path", usage)

    def picture_facts(self, usage: str) -> dict[str, list[int]]:
        """What is known of each picture of a usage: `width` and `height` in pixels as it came, `bytes` of its file."""
        names = {"width": "width", "height": "height", "bytes": "length"}
        indices = self.indices(usage)
        return {name: self._column(column).take(indices).to_pylist() for name, column in names.items()}

    def labels(self, usage: str) -> npt.NDArray[Any]:
        """What a model learns of each example of a usage: class index, int64 [N]; for regression the target, float64 [N]."""
        if not self.descriptor.classes:
            return self.targets(usage)
        return _numbers_of(self._column("label").take(self.indices(usage)), self.descriptor.classes)

    def targets(self, usage: str) -> npt.NDArray[np.float64]:
        """The value to predict of each example of a usage, float64 [N]. Regression only."""
        column = self.table(usage, columns=[self.descriptor.target])[self.descriptor.target]
        return np.asarray(column.to_numpy(), dtype=np.float64)

    def picture(self, position: int) -> bytes:
        """Bytes of the picture (audio, series) file at a position of the manifest."""
        pack, offset, length = (int(values[position]) for values in self._spans)
        return self.packed(pack, offset, length)

    def packed(self, pack: int, offset: int, length: int) -> bytes:
        """Bytes of a pack. The first time all of the pack is fetched and verified."""
        mapped = self._maps.get(pack)
        if mapped is None:
            with self._mapping:
                mapped = self._maps.get(pack) or _map(self._store.path(self.descriptor.packs[pack]))
                self._maps[pack] = mapped
        return mapped[offset : offset + length]

    def part(self, pack: int, offset: int, length: int, *, fresh: bool = False) -> bytes:
        """Bytes of a pack, without the rest of it, and unverified: compare the examples in it with `hashes`. See
        ArtifactStore.read_part."""
        return self._store.read_part(self.descriptor.packs[pack], offset, length, fresh=fresh)

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
        """The pictures at positions of the manifest, decoded; see `pictures`. Sounds come as spectrograms (formats/sounds.py)."""
        out = np.empty((len(positions), height, width, channels), np.uint8)

        def fill(start: int) -> int:
            stop = min(start + _DECODE_CHUNK, len(positions))
            for row in range(start, stop):
                out[row] = decode_example(self.picture(int(positions[row])), height=height, width=width, channels=channels)
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
        return whole.take(self._column("row").take(self.indices(usage))).select(names)

    def whole_table(self) -> pa.Table:
        """All rows and columns of a table, in the order of the manifest. Raises InvalidArgument NOT_A_TABLE."""
        if self.descriptor.table is None:
            kind = self.descriptor.kind
            raise InvalidArgument("NOT_A_TABLE", f"a dataset of kind {kind} has no table", kind=kind)
        return read_parquet(self._store.path(self.descriptor.table)).take(self._column("row"))

    def usages(self) -> pa.ChunkedArray:
        """The usage of every example, in the order of the manifest."""
        return self._column("usage")

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
        taken: list[str] = self._column(column).take(self.indices(usage)).to_pylist()
        return taken

    def _column(self, name: str) -> pa.ChunkedArray:
        """A column of the manifest, read when it is needed: all of them are 300 bytes an example."""
        return load_manifest(self._store, self.descriptor, [name])[name] if self._whole is None else self._whole[name]

    @property
    def _manifest(self) -> pa.Table:
        if self._whole is None:
            self._whole = load_manifest(self._store, self.descriptor)
        return self._whole


def available_cpus() -> int:
    """CPUs that this process may run on; 1 or more."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _characters(texts: pa.StringArray) -> bytes:
    """All texts of an array, one after the other."""
    ends = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return memoryview(texts.buffers()[2])[ends[0] : ends[-1]].tobytes() if len(texts) else b""


def _numbers_of(names: pa.ChunkedArray, known: Sequence[str]) -> npt.NDArray[np.int64]:
    """The place of each name among the known ones: int64 [N]. Raises DataLoss MANIFEST_UNREADABLE for another name, or none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = pc.index_in(names, value_set=pa.array(known, pa.string()))
    if numbers.null_count:
        message = f"the manifest has {numbers.null_count} examples of which it does not say one of {', '.join(known)[:200]}"
        raise DataLoss("MANIFEST_UNREADABLE", message)
    return np.asarray(numbers.to_numpy(), dtype=np.int64)


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
