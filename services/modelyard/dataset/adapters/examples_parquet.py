"""Examples (see ports) from the manifests of versions; the last few manifests stay in memory, sorted by example id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.dataset.adapters.example_looks import Looks
from modelyard.dataset.ports import ChangeCounts, ExampleChange, ExampleLook, ExampleRow, Look, Selection
from modelyard.formats.dataset import TEST, DatasetDescriptor, light_columns, load_manifest, read_parquet

if TYPE_CHECKING:
    import pyarrow as pa

_KEPT = 4
_COLUMNS = ("example_id", "usage", "label", "path", "sha256")
_OF_CLASSES = ("labels", "marks")
_SAID = "said"
"""What is compared to tell whether an example was relabelled: its label, the hash of what is marked on it, and its
content (rows of a table)."""


@dataclass(frozen=True)
class _Place:
    """What of a descriptor says where its examples are: what is kept in memory is known by it."""

    task: str
    kind: str
    manifest: Blob
    identity: Blob | None
    targets: Blob | None
    target: str


class ParquetExamples:
    """Reads manifests from the artifact store."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._sorted = lru_cache(maxsize=_KEPT)(self._read)
        self._joined = lru_cache(maxsize=_KEPT)(self._join)
        self._looks = Looks(store)

    def rows(self, descriptor: DatasetDescriptor, chosen: Selection, start: int, count: int) -> tuple[Sequence[ExampleRow], int]:
        """Chosen examples in the order of their ids from `start` on, and how many are chosen in all."""
        table = self._sorted(_place(descriptor), chosen.usage)
        if chosen.example_ids:
            import pyarrow as pa
            import pyarrow.compute as pc

            table = table.filter(pc.is_in(table["example_id"], value_set=pa.array(chosen.example_ids, pa.string())))
        if chosen.label:
            table = table.filter(_of_class(table, descriptor, chosen.label))
        page = table.slice(start, count)
        values = zip(*(page[name].to_pylist() for name in _COLUMNS), strict=True)
        return [_row(*value) for value in values], int(table.num_rows)

    def looks(self, descriptor: DatasetDescriptor, example_ids: Sequence[str], look: Look) -> Sequence[ExampleLook]:
        """Examples to look at, in this order; those that are not there are left out."""
        return self._looks.of(descriptor, example_ids, look)

    def change_counts(self, before: DatasetDescriptor, after: DatasetDescriptor) -> ChangeCounts:
        """How many examples changed from one version to another."""
        changed, unchanged = self._joined(_place(before), _place(after))
        added, removed = changed["path_before"].null_count, changed["path"].null_count
        relabelled, moved = (_true(changed[name]) for name in ("relabelled", "moved"))
        return ChangeCounts(added, removed, relabelled, moved, unchanged)

    def changes(
        self, before: DatasetDescriptor, after: DatasetDescriptor, start: int, count: int
    ) -> tuple[Sequence[ExampleChange], bool]:
        """Examples that changed, in the order of their ids, and whether more follow."""
        changed, _ = self._joined(_place(before), _place(after))
        page = changed.slice(start, count).to_pylist()
        found = [ExampleChange(_side(row, "_before"), _side(row, ""), bool(row["relabelled"])) for row in page]
        return found, start + count < changed.num_rows

    def count_held(self, descriptor: DatasetDescriptor, contents: Blob) -> int:
        """How many train and validation examples have a content that a frozen test set holds."""
        import pyarrow.compute as pc

        manifest = load_manifest(self._store, descriptor, ["usage", "sha256"])
        held = read_parquet(self._store.path(contents), ["sha256"])["sha256"].combine_chunks()
        among = pc.and_(pc.not_equal(manifest["usage"], TEST), pc.is_in(manifest["sha256"], value_set=held))
        return _true(among)

    def _read(self, place: _Place, usage: str) -> pa.Table:
        import pyarrow.compute as pc

        described = DatasetDescriptor(place.task, place.kind, place.manifest, "", identity=place.identity)
        table, targets, target = (
            load_manifest(self._store, described, light_columns(self._store, described)),
            place.targets,
            place.target,
        )
        if targets is not None:
            values = read_parquet(self._store.path(targets), [target])[target].take(table["row"])
            table = table.set_column(table.column_names.index("label"), "label", values.cast("string"))
        if usage:
            table = table.filter(pc.equal(table["usage"], usage))
        marked = table["annotation"] if "annotation" in table.column_names else table["label"]
        # The sha256 of a row changes with an edit of its columns; other examples keep theirs as long as they keep their id.
        said = pc.binary_join_element_wise(pc.fill_null(table["label"], ""), pc.fill_null(marked, ""), table["sha256"], " ")
        classes = [name for name in _OF_CLASSES if name in table.column_names]
        return table.select([*_COLUMNS, *classes]).append_column(_SAID, said).sort_by("example_id")

    def _join(self, before: _Place, after: _Place) -> tuple[pa.Table, int]:
        """Changed examples of either version, sorted by id, and how many are alike."""
        import pyarrow.compute as pc

        old, new = (self._sorted(place, "").select([*_COLUMNS, _SAID]) for place in (before, after))
        both = new.join(old, "example_id", join_type="full outer", right_suffix="_before")
        relabelled = pc.fill_null(pc.not_equal(both[_SAID], both[f"{_SAID}_before"]), False)
        moved = pc.fill_null(pc.not_equal(both["usage"], both["usage_before"]), False)
        one_sided = pc.or_(pc.is_null(both["path"]), pc.is_null(both["path_before"]))
        both = both.append_column("relabelled", relabelled).append_column("moved", moved)
        changed = both.filter(pc.or_(one_sided, pc.or_(relabelled, moved)))
        return changed.sort_by("example_id"), both.num_rows - changed.num_rows


def _place(descriptor: DatasetDescriptor) -> _Place:
    """Where its examples are; the targets of a regression are in its table."""
    targets = descriptor.table if not descriptor.classes else None
    return _Place(descriptor.task, descriptor.kind, descriptor.manifest, descriptor.identity, targets, descriptor.target)


def _of_class(table: pa.Table, descriptor: DatasetDescriptor, label: str) -> Any:
    """Which rows are of a class: by their label, their labels, or the objects marked in them; bool [N]."""
    import numpy as np
    import pyarrow.compute as pc

    found = pc.fill_null(pc.equal(table["label"], label), False).to_numpy(zero_copy_only=False)
    index = descriptor.classes.index(label) if label in descriptor.classes else -1
    for name in (name for name in _OF_CLASSES if name in table.column_names):
        lists = table[name].combine_chunks()
        flat = lists.flatten()
        numbers = flat.field("label") if name == "marks" else flat
        hit = lists.value_parent_indices().to_numpy()[np.asarray(numbers) == index] if len(flat) else []
        found = found.copy()
        found[hit] = True
    import pyarrow as pa

    return pa.array(found)


def _row(example_id: str, usage: str | None, label: str | None, path: str, sha256: str) -> ExampleRow:
    return ExampleRow(example_id, usage or "", label or "", path, sha256)


def _side(row: dict[str, Any], suffix: str) -> ExampleRow | None:
    if row[f"path{suffix}"] is None:
        return None
    return _row(row["example_id"], *(row[f"{name}{suffix}"] for name in _COLUMNS[1:]))


def _true(column: Any) -> int:
    import pyarrow.compute as pc

    return int(pc.sum(column.cast("int64")).as_py() or 0)
