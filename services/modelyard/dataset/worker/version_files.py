"""The files of a version: what changed is stored, what an earlier version or the import stored is named again.

A manifest of examples with packs lies in two files: their identity (ids, hashes, paths, places), which no edit changes and
versions share,
and what is said of them (usage, class, marks). Where the test set is frozen, test examples lie in packs, an identity and a
manifest of their own, so that the descriptor of whoever trains has no way to them (docs/decisions/0032-versions.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker.stored import Stored
from modelyard.formats import dataset as files

Ints = npt.NDArray[np.int64]
Put = Callable[[Path], Blob]
_PACK_COLUMNS = (("pack", "offset", "length"), ("mask_pack", "mask_offset", "mask_length"))


@dataclass(frozen=True)
class Placed:
    """A version's files in the store: descriptors without digest and counts. `training` is None where nothing is frozen."""

    descriptor: files.DatasetDescriptor
    training: files.DatasetDescriptor | None
    near: Blob | None


@dataclass(frozen=True)
class Wanted:
    """What is to be stored: a whole manifest (usages as they are now), where its examples are in the identity of `content`, near
    duplicates, and a table where one changed. `separate`: the test set is frozen."""

    manifest: pa.Table
    stored: Stored
    content: files.DatasetDescriptor
    table: pa.Table | None
    near: Blob | None
    separate: bool


def place(wanted: Wanted, store: ArtifactStore, put: Put, folder: Path, work: Work) -> Placed:
    """Stores what is not there yet."""
    if wanted.content.kind == files.TABLE:
        return _place_table(wanted, store, put, folder)
    content, manifest = wanted.content, wanted.manifest
    rows: Ints | None = wanted.stored.identity_rows
    if wanted.separate:
        manifest, packs, mixed = separate_packs(manifest, content.packs, store, put, folder, work)
        content = replace(content, packs=packs)
        rows = None if mixed else rows
    said, identity = files.split_identity(manifest)
    near: Blob | None = wanted.near
    if content.identity is None or rows is None:
        stored = put(files.write_parquet(identity, folder / "identity"))
        near = _put_near(wanted.stored, put, folder)
        content = replace(content, identity=stored)
        rows = np.arange(manifest.num_rows)
        length = manifest.num_rows
    else:
        length = pq.read_metadata(store.path(content.identity)).num_rows
    described = replace(content, manifest=put(_write_said(said, rows, length, folder / "manifest")))
    training = None
    if wanted.separate:
        training = _training_view(described, said, identity, put, folder)
    return Placed(described, training, near)


def _write_said(said: pa.Table, rows: Ints, length: int, path: Path) -> Path:
    if len(rows) == length and np.array_equal(rows, np.arange(length)):
        return files.write_parquet(said, path)
    return files.write_parquet(said.append_column(files.IDENTITY_ROW, pa.array(rows.astype(np.int32))), path)


def _put_near(stored: Stored, put: Put, folder: Path) -> Blob | None:
    """Who is a near duplicate of whom, where that is more than equal content."""
    same = np.array_equal(np.unique(stored.near_groups, return_inverse=True)[1], np.unique(stored.groups, return_inverse=True)[1])
    return None if same else put(files.write_parquet(pa.table({"group": stored.near_groups}), folder / "near"))


def _training_view(
    described: files.DatasetDescriptor, said: pa.Table, identity: pa.Table, put: Put, folder: Path
) -> files.DatasetDescriptor:
    """The version without its test examples. Its identity covers whatever train and validation hold now, so it changes with
    drops."""
    chosen = pa.array(np.flatnonzero(_is_trained_on(said)))
    rest = identity.take(chosen)
    last = max((pc.max(rest[name]).as_py() or 0 for name, *_ in _PACK_COLUMNS if name in rest.column_names), default=-1)
    shared = put(files.write_parquet(rest, folder / "training-identity"))
    manifest = put(files.write_parquet(said.take(chosen), folder / "training-manifest"))
    return replace(described, manifest=manifest, identity=shared, packs=described.packs[: int(last) + 1])


def _place_table(wanted: Wanted, store: ArtifactStore, put: Put, folder: Path) -> Placed:
    """A table's manifest is one file; its rows are in the table, of which whoever trains gets one without the test rows."""
    content = wanted.content
    if wanted.table is not None:
        content = replace(content, table=put(files.write_parquet(wanted.table, folder / "table")))
    described = replace(content, manifest=put(files.write_parquet(wanted.manifest, folder / "manifest")))
    if not wanted.separate or described.table is None:
        return Placed(described, None, None)
    chosen = pa.array(np.flatnonzero(_is_trained_on(wanted.manifest)))
    manifest = wanted.manifest.take(chosen)
    whole = wanted.table if wanted.table is not None else files.read_parquet(store.path(described.table))
    rows = whole.take(manifest["row"])
    numbers = pa.array(np.arange(manifest.num_rows, dtype=np.int64))
    manifest = manifest.set_column(manifest.column_names.index("row"), "row", numbers)
    training = replace(
        described,
        manifest=put(files.write_parquet(manifest, folder / "training-manifest")),
        table=put(files.write_parquet(rows, folder / "training-table")),
    )
    return Placed(described, training, None)


def separate_packs(
    manifest: pa.Table, packs: Sequence[Blob], store: ArtifactStore, put: Put, folder: Path, work: Work
) -> tuple[pa.Table, tuple[Blob, ...], bool]:
    """Test examples in packs of their own, which come last; and whether anything had to change for that.

    Packs that hold examples of one side only are kept as they are; only those that hold both are written anew, as two.
    """
    kinds = [names for names in _PACK_COLUMNS if names[0] in manifest.column_names]
    columns = {name: np.array(manifest[name].to_numpy(), dtype=np.int64) for names in kinds for name in names}
    test = ~_is_trained_on(manifest)
    sides = np.zeros((len(packs), 2), np.bool_)
    for pack, *_ in kinds:
        for side in (0, 1):
            sides[np.unique(columns[pack][test == bool(side)]), side] = True
    mixed = np.flatnonzero(sides.all(axis=1))
    pure = [np.flatnonzero(sides[:, side] & ~sides[:, 1 - side]) for side in (0, 1)]
    if not len(mixed) and (not len(pure[0]) or not len(pure[1]) or pure[0].max() < pure[1].min()):
        return manifest, tuple(packs), False
    writers = [_writer(folder / name) for name in ("train-packs", "test-packs")]
    written: dict[str, Ints] = {pack: np.full(len(test), -1, np.int64) for pack, *_ in kinds}
    for turn, number in enumerate(mixed.tolist()):
        work.stage("separate the test", turn, len(mixed), "packs", 0.6, 0.8)
        with store.path(packs[number]).open("rb") as file:
            for names in kinds:
                _copy_apart(file, number, names, columns, test, writers, written[names[0]])
    new = [writer.close() for writer in writers]
    start = (len(pure[0]), len(pure[0]) + len(new[0]) + len(pure[1]))
    place = np.full(len(packs), -1, np.int64)
    place[pure[0]] = np.arange(len(pure[0]))
    place[pure[1]] = len(pure[0]) + len(new[0]) + np.arange(len(pure[1]))
    for pack, *_ in kinds:
        moved = written[pack] >= 0
        columns[pack] = np.where(moved, written[pack] + np.where(test, start[1], start[0]), place[columns[pack]])
    blobs = (
        *(packs[number] for number in pure[0].tolist()),
        *(put(path) for path in new[0]),
        *(packs[number] for number in pure[1].tolist()),
        *(put(path) for path in new[1]),
    )
    for name, values in columns.items():
        field = manifest.schema.field(name)
        manifest = manifest.set_column(manifest.column_names.index(name), field, pa.array(values, field.type))
    return manifest, blobs, True


def _writer(folder: Path) -> files.PackWriter:
    folder.mkdir()
    return files.PackWriter(folder)


def _copy_apart(
    file: BinaryIO,
    number: int,
    names: Sequence[str],
    columns: dict[str, Ints],
    test: npt.NDArray[np.bool_],
    writers: Sequence[files.PackWriter],
    written: Ints,
) -> None:
    """Copies what lies in a pack to the packs of its side, in the order of the pack; notes the new places in the arrays."""
    pack, offset, length = names
    rows = np.flatnonzero(columns[pack] == number)
    for row in rows[np.argsort(columns[offset][rows], kind="stable")].tolist():
        file.seek(int(columns[offset][row]))
        span = writers[int(test[row])].append(file.read(int(columns[length][row])))
        written[row] = span.pack
        columns[offset][row] = span.offset


def _is_trained_on(manifest: pa.Table) -> npt.NDArray[np.bool_]:
    """Whether an example is of train or validation: bool [N]."""
    return np.asarray(pc.not_equal(manifest["usage"], files.TEST).to_numpy(), dtype=np.bool_)
