"""Examples (see ports) from the manifests of versions; the last few manifests stay in memory, sorted by example id."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.dataset.ports import ExampleRow
from modelyard.formats.dataset import DatasetDescriptor, read_parquet

if TYPE_CHECKING:
    import pyarrow as pa

_KEPT = 4
_COLUMNS = ("example_id", "usage", "label", "path", "sha256")


class ParquetExamples:
    """Reads manifests from the artifact store."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._sorted = lru_cache(maxsize=_KEPT)(self._read)

    def rows(self, descriptor: DatasetDescriptor, usage: str, start: int, count: int) -> tuple[Sequence[ExampleRow], bool]:
        """Examples of a usage ("": all) in the order of their ids, and whether more follow."""
        table = self._sorted(descriptor.manifest, usage, descriptor.table if not descriptor.classes else None, descriptor.target)
        page = table.slice(start, count)
        values = zip(*(page[name].to_pylist() for name in _COLUMNS), strict=True)
        rows = [ExampleRow(id_, used, label or "", path, sha256) for id_, used, label, path, sha256 in values]
        return rows, start + count < table.num_rows

    def _read(self, manifest: Blob, usage: str, targets: Blob | None, target: str) -> pa.Table:
        import pyarrow.compute as pc

        table = read_parquet(self._store.path(manifest))
        if targets is not None:
            values = read_parquet(self._store.path(targets), [target])[target].take(table["row"])
            table = table.set_column(table.column_names.index("label"), "label", values.cast("string"))
        if usage:
            table = table.filter(pc.equal(table["usage"], usage))
        return table.select(list(_COLUMNS)).sort_by("example_id")
