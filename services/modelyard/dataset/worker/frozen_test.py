"""The frozen test set in a publication: read, held against what is published, and stored when a version freezes one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.core.artifacts import ArtifactStore
from modelyard.dataset.domain import frozen, near
from modelyard.dataset.domain.records import REPLACE_TEST, FrozenTest, VersionSpec
from modelyard.dataset.worker.content import Puts
from modelyard.dataset.worker.stored import Stored
from modelyard.formats import dataset as files

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class InForce:
    """A frozen test set: the sha256 of its examples' contents, and thumbnails of pictures (uint8 [n, 16, 16]; [0, 16, 16] for
    others)."""

    contents: tuple[str, ...]
    thumbnails: near.Thumbnails

    def held(self, stored: Stored) -> npt.NDArray[np.bool_]:
        """Which examples it holds: bool [N]."""
        known = pa.array(self.contents, pa.string())
        return np.asarray(pc.is_in(stored.manifest["sha256"], value_set=known).to_numpy(), dtype=np.bool_)

    def bind(self, stored: Stored, together: Ints) -> frozen.Bound:
        """What it makes of the examples. together int64 [N]: equal for what is alike or belongs together."""
        contents = stored.manifest["sha256"].to_pylist()
        bound = frozen.bind(contents, together, stored.usages, self.contents)
        if not len(stored.thumbnails) or not len(self.thumbnails):
            return bound
        present = set(contents)
        absent = np.array([content not in present for content in self.contents], np.bool_)
        near_absent = frozen.like_absent(stored.thumbnails, together, self.thumbnails[absent]) & ~bound.test
        alike = bound.alike | near_absent
        return frozen.Bound(bound.test, alike, bound.other_test & ~alike)


def in_force(spec: VersionSpec, store: ArtifactStore) -> InForce | None:
    """The test set that the publication keeps to; None where none is frozen, or another one is to be."""
    if spec.frozen is None or spec.test_policy == REPLACE_TEST:
        return None
    table = files.read_parquet(store.path(spec.frozen.contents))
    small = _no_thumbnails()
    if "thumbnail" in table.column_names:
        flat = b"".join(table["thumbnail"].to_pylist())
        small = np.frombuffer(flat, np.uint8).reshape(-1, near.THUMBNAIL, near.THUMBNAIL)
    return InForce(tuple(table["sha256"].to_pylist()), small)


def kept(stored: Stored, bound: frozen.Bound) -> tuple[Stored, frozen.Bound]:
    """Without what the test set leaves out. The counts of what was left out stay with the second value's notes."""
    rows = np.flatnonzero(~bound.left_out)
    return stored.taken(rows), Narrowed(bound.test[rows], bound.alike[rows], bound.other_test[rows], bound)


@dataclass(frozen=True)
class Narrowed(frozen.Bound):
    """A Bound of the examples that stay; its notes are those of the whole."""

    whole: frozen.Bound

    def notes(self) -> tuple[str, ...]:
        """What was decided, in sentences."""
        return self.whole.notes()


def store_new(
    spec: VersionSpec, store: ArtifactStore, stored: Stored, usage: npt.NDArray[np.int8], put: Puts, folder: Path
) -> FrozenTest:
    """Stores what is known of the test examples of a version that freezes them: their contents, and what pictures look like (a
    version has no thumbnails, but the import that it comes from)."""
    test = np.flatnonzero(usage == files.USAGES.index(files.TEST))
    contents = stored.manifest["sha256"].take(pa.array(test)).to_pylist()
    columns: dict[str, pa.Array] = {"sha256": pa.array(contents, pa.string())}
    content = spec.imported.content
    if content.kind == files.IMAGE and "thumbnail" in files.read_schema(store.path(content.manifest)).names:
        seen = files.read_parquet(store.path(content.manifest), ["sha256", "thumbnail"])
        place = pc.index_in(columns["sha256"], value_set=seen["sha256"].combine_chunks())
        columns["thumbnail"] = seen["thumbnail"].take(place).combine_chunks()
    path = files.write_parquet(pa.table(columns), folder / "frozen-test")
    return FrozenTest(spec.version, len(contents), frozen.contents_digest(contents), put(path))


def _no_thumbnails() -> near.Thumbnails:
    return np.empty((0, near.THUMBNAIL, near.THUMBNAIL), np.uint8)
