"""The part of a quality report that is about what is marked in pictures: boxes, outlines, keypoints, masks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.core.artifacts import ArtifactStore
from modelyard.dataset.domain.box_checks import Objects, box_findings
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.mask_checks import mask_findings, object_mask_findings, pixel_counts
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker.example_pass import look_at_each, spans_of
from modelyard.formats import annotations_rle
from modelyard.formats.dataset import MARKED_TASKS, SEMANTIC_SEGMENTATION, DatasetDescriptor

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

REPLACED = ("DEGENERATE_BOX", "BOX_OUTSIDE")
"""Kinds that the import finds too; a report finds them in the examples it is about, with their ids."""


def check_marks(
    store: ArtifactStore, content: DatasetDescriptor, manifest: pa.Table, names: Names, work: Work, span: tuple[float, float]
) -> list[Finding]:
    """Findings of the annotations of pictures; [] where the task has none. Raises Cancelled."""
    if content.task == SEMANTIC_SEGMENTATION:
        return mask_findings(mask_counts(store, content, manifest, work, span), content.classes, names)
    if content.task not in MARKED_TASKS:
        return []
    objects = objects_of(manifest, len(content.keypoints))
    return box_findings(objects, content.classes, names) + object_mask_findings(_mask_areas(manifest), objects.of, names)


def objects_of(manifest: pa.Table, keypoints: int) -> Objects:
    """The marked objects of a manifest."""
    lists = manifest["marks"].combine_chunks()
    flat = lists.flatten()
    of = np.asarray(pc.list_parent_indices(lists).to_numpy(zero_copy_only=False), dtype=np.int64)
    labels = np.asarray(flat.field("label").to_numpy(zero_copy_only=False), dtype=np.int64)
    boxes = np.asarray(flat.field("box").flatten().to_numpy(zero_copy_only=False), dtype=np.float64).reshape(-1, 4)
    widths, heights = (np.asarray(manifest[name].to_numpy(), dtype=np.float64) for name in ("width", "height"))
    return Objects(of, labels, boxes, widths, heights, _keypoints(flat.field("keypoints"), keypoints))


def class_counts(manifest: pa.Table, classes: int) -> Ints | None:
    """How often each class is marked (objects, labels of an example, ranges): int64 [classes]; None where nothing is marked."""
    name = next((each for each in ("marks", "labels", "intervals") if each in manifest.column_names), "")
    if not name:
        return None
    flat = manifest[name].combine_chunks().flatten()
    labels = flat if name == "labels" else flat.field("label")
    return np.bincount(np.asarray(labels.to_numpy(zero_copy_only=False), dtype=np.int64), minlength=classes)


def mask_counts(
    store: ArtifactStore, content: DatasetDescriptor, manifest: pa.Table, work: Work, span: tuple[float, float]
) -> Ints:
    """Pixels of each class in each mask, and last those of none: int64 [N, classes + 1]. Raises Cancelled."""
    known = [(len(content.classes),)] * manifest.num_rows
    counted = look_at_each(_counted, store, content, spans_of(manifest, "mask_"), known, work, ("read masks", *span))
    return np.stack(counted) if counted else np.empty((0, len(content.classes) + 1), np.int64)


def _counted(data: bytes, known: Sequence[Any]) -> Ints:
    from PIL import Image

    return pixel_counts(np.asarray(Image.open(io.BytesIO(data)), dtype=np.uint8), known[0])


def _keypoints(lists: pa.Array, count: int) -> Floats:
    """float64 [M, count, 3]; zeros for objects without them."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False), dtype=np.int64)
    out = np.zeros((len(lists), count * 3))
    whole = lengths == count * 3
    if count and whole.any():
        values = np.asarray(lists.filter(pa.array(whole)).flatten().to_numpy(zero_copy_only=False), dtype=np.float64)
        out[whole] = values.reshape(-1, count * 3)
    return out.reshape(len(lists), count, 3)


def _mask_areas(manifest: pa.Table) -> Floats:
    """Pixels of each object's own mask, float64 [M]; NaN for objects without one."""
    packed = manifest["marks"].combine_chunks().flatten().field("mask")
    areas = np.full(len(packed), np.nan)
    for place in np.flatnonzero(np.asarray(pc.is_valid(packed).to_numpy(zero_copy_only=False))).tolist():
        areas[place] = sum(annotations_rle.unpack(packed[place].as_py())[1::2])
    return areas
