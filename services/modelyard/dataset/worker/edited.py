"""Edits made to stored content: the manifest's rows that stay, with their classes and usages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from modelyard.dataset.domain.edits import make_edits
from modelyard.dataset.domain.records import Edit
from modelyard.dataset.worker.stored import Stored
from modelyard.formats import dataset as files


@dataclass(frozen=True)
class EditedContent:
    """What is left, what was decided (in sentences), and how many examples each edit changed."""

    stored: Stored
    content: files.DatasetDescriptor
    notes: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()


def edit(stored: Stored, content: files.DatasetDescriptor, edits: Sequence[Edit]) -> EditedContent:
    """Makes the edits. Raises as domain.edits.make_edits."""
    if not edits:
        return EditedContent(stored, content)
    manifest = stored.manifest
    single = has_one_class_each(content, manifest)
    made = make_edits(
        edits,
        manifest["example_id"].to_pylist(),
        manifest["label"].to_pylist(),
        stored.usages,
        content.classes,
        single=single,
    )
    rows = np.flatnonzero(made.kept)
    if single:
        labels = pa.array(made.labels, pa.string())
        manifest = manifest.set_column(manifest.column_names.index("label"), manifest.schema.field("label"), labels)
    thumbnails = stored.thumbnails[rows] if len(stored.thumbnails) else stored.thumbnails
    left = Stored(manifest.take(pa.array(rows)), stored.groups[rows], stored.near_groups[rows], made.usages[rows], thumbnails)
    return EditedContent(left, replace(content, classes=made.classes), made.notes, made.counts)


def has_one_class_each(content: files.DatasetDescriptor, manifest: pa.Table) -> bool:
    """Whether the class of an example is its manifest's label and nowhere else (a table has it in its target column too)."""
    return bool(content.classes) and content.kind != files.TABLE and not manifest["label"].null_count
