"""What reports and publications read of an import: its manifest as arrays, and who is a duplicate of whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.dataset.domain import near
from modelyard.dataset.domain.work import Work
from modelyard.formats.dataset import IMAGE, USAGES, DatasetDescriptor, identity_rows, load_manifest, read_parquet

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Stored:
    """The content of an import."""

    manifest: pa.Table
    groups: Ints  # equal for equal content
    near_groups: Ints  # equal for near duplicates too
    usages: Ints  # 0 train, 1 validation, 2 test, -1 where none came with the data
    thumbnails: npt.NDArray[np.uint8]  # [N, 16, 16]; [0, 16, 16] for tables
    identity_rows: Ints  # where each example is in the manifest's identity; in an import: its place

    def taken(self, rows: Ints) -> Stored:
        """Some of it, by position."""
        if len(rows) == self.manifest.num_rows:
            return self
        thumbnails = self.thumbnails[rows] if len(self.thumbnails) else self.thumbnails
        manifest = self.manifest.take(pa.array(rows))
        numbers = (self.groups[rows], self.near_groups[rows], self.usages[rows])
        return Stored(manifest, *numbers, thumbnails, self.identity_rows[rows])


def load(
    store: ArtifactStore,
    content: DatasetDescriptor,
    work: Work,
    *,
    compare: bool = True,
    near_blob: Blob | None = None,
    end: float = 0.6,
) -> Stored:
    """Reads the manifest and finds the duplicates; without `compare` (a version has no thumbnails) only exact ones, and those
    that `near_blob` knows (see records.VersionResult.near). `end`: the share of the job that is done then."""
    work.stage("read", 0, 1, "files", 0.0, end / 3)
    manifest = load_manifest(store, content)
    rows = identity_rows(store, content, manifest.num_rows)
    groups = near.equal_groups(manifest["sha256"].to_pylist())
    pictures = compare and content.kind == IMAGE
    thumbnails = thumbnails_of(manifest) if pictures else np.empty((0, near.THUMBNAIL, near.THUMBNAIL), np.uint8)
    work.stage("compare", 0, manifest.num_rows, "examples", end / 3, end)
    near_groups = near_groups_of(groups, thumbnails) if pictures else groups
    if near_blob is not None:
        near_groups = read_near(store, near_blob)[rows]
    work.check()
    return Stored(manifest, groups, near_groups, read_usages(manifest), thumbnails, rows)


def read_near(store: ArtifactStore, near_blob: Blob) -> Ints:
    """Who is a near duplicate of whom, by the rows of an identity: int64 [N], equal for near duplicates."""
    return np.asarray(read_parquet(store.path(near_blob), ["group"])["group"].to_numpy(), dtype=np.int64)


def read_manifest(store: ArtifactStore, content: DatasetDescriptor) -> pa.Table:
    """The manifest of an import or a version, whole."""
    return load_manifest(store, content)


def near_groups_of(groups: Ints, thumbnails: npt.NDArray[np.uint8]) -> Ints:
    """Groups of near duplicates; equal contents are compared once."""
    different = np.unique(groups)
    left, right = near.near_pairs(thumbnails[different] if len(different) < len(groups) else thumbnails)
    return near.merge_groups(groups, different[left], different[right])


def thumbnails_of(manifest: pa.Table) -> npt.NDArray[np.uint8]:
    """uint8 [N, 16, 16], from the column's own memory: as Python objects a million of them are 300 MB."""
    size = near.THUMBNAIL * near.THUMBNAIL
    chunks = [
        np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * size, chunk.offset * size)
        for chunk in manifest["thumbnail"].chunks
        if len(chunk)
    ]
    joined = np.concatenate(chunks) if chunks else np.empty(0, np.uint8)
    return joined.reshape(-1, near.THUMBNAIL, near.THUMBNAIL)


def read_usages(manifest: pa.Table) -> Ints:
    """Usage of each example, int64 [N]: 0 train, 1 validation, 2 test, -1 none."""
    found = pc.fill_null(pc.index_in(manifest["usage"], value_set=pa.array(USAGES)), -1)
    return np.array(found.to_numpy(), dtype=np.int64)
