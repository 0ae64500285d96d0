"""Classes of marked objects that are probably wrong: what lies in each box is compared with what lies in the others', by models
that did not learn from its picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelyard.core.artifacts import ArtifactStore
from modelyard.dataset.domain import label_checks
from modelyard.dataset.domain.box_checks import Objects
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.out_of_sample import OutOfSample, out_of_sample
from modelyard.dataset.domain.picture_features import LENGTH, SIDE, picture_features
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker.example_pass import look_at_each, spans_of
from modelyard.dataset.worker.report_marks import objects_of
from modelyard.formats.dataset import DatasetDescriptor
from modelyard.formats.pictures import decode

MOST_OBJECTS = 50_000
"""Of more objects, those of pictures drawn at random are judged."""

LEAST_SIDE = 4.0
"""In a box with a shorter side, in pixels, there is nothing to see."""

_LONGEST = 1024
_MARGIN = 0.15
_SIZES = 2
_SIZE_WEIGHT = 0.5

Ints = npt.NDArray[np.int64]
Crops = npt.NDArray[np.float16]


@dataclass(frozen=True)
class JudgedClasses:
    """What models say of the classes of marked objects: members int64 [M], which of the objects, rising."""

    members: Ints
    found: OutOfSample


def check_box_classes(
    store: ArtifactStore, content: DatasetDescriptor, manifest: pa.Table, names: Names, work: Work, span: tuple[float, float]
) -> tuple[list[Finding], list[str]]:
    """Findings, and a sentence on what was looked at. span: the share of the job that this is. Raises Cancelled."""
    objects = objects_of(manifest, len(content.keypoints))
    made = judge_box_classes(store, content, manifest, objects, work, span)
    if made is None:
        return [], []
    labels, found = objects.labels[made.members], made.found
    note = f"The classes of {len(labels)} boxes were compared with models trained on the boxes of four fifths of the pictures, "
    note += f"which agree with {found.accuracy:.1%}"
    if label_checks.skill(found.balanced, len(np.unique(labels))) < label_checks.LEAST_SKILL:
        return [], [f"{note}: too few to accuse a class, so none was."]
    pictures = objects.of[made.members]
    return label_checks.object_findings(labels, found.noise, pictures, content.classes, names), [f"{note}."]


def judge_box_classes(
    store: ArtifactStore,
    content: DatasetDescriptor,
    manifest: pa.Table,
    objects: Objects,
    work: Work,
    span: tuple[float, float],
) -> JudgedClasses | None:
    """What models say of the objects that can be judged; None where they are too few, or of one class. Raises Cancelled."""
    members = _members(objects, len(content.classes))
    labels = objects.labels[members]
    if len(np.unique(labels)) < 2 or len(members) < label_checks.LEAST_JUDGED:
        return None
    middle = (span[0] + span[1]) / 2
    vectors = _vectors(store, content, manifest, objects, members, work, (span[0], middle))
    found = out_of_sample(
        lambda start, stop: vectors[start:stop].astype(np.float32),
        labels,
        objects.of[members],
        len(content.classes),
        work,
        (middle, span[1]),
    )
    return JudgedClasses(members, found)


def _members(objects: Objects, classes: int) -> Ints:
    """The objects that can be judged: int64 [M], rising."""
    boxes = _within(objects)
    found = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] >= LEAST_SIDE).all(axis=1))
    if len(found) > MOST_OBJECTS:
        pictures = np.unique(objects.of[found])
        drawn = np.random.default_rng(0).permutation(pictures)[: max(1, MOST_OBJECTS * len(pictures) // len(found))]
        found = found[np.isin(objects.of[found], drawn)]
    return found[label_checks.judged(objects.labels[found], classes)].astype(np.int64)


def _within(objects: Objects) -> npt.NDArray[np.float64]:
    """The part of each box that is in its picture, float64 [M, 4]: what is said to be beyond, however far, is not cut out."""
    edges = np.stack([objects.widths[objects.of], objects.heights[objects.of]] * 2, axis=1)
    return np.clip(np.nan_to_num(objects.boxes, nan=0.0, posinf=0.0, neginf=0.0), 0, edges)


def _vectors(
    store: ArtifactStore,
    content: DatasetDescriptor,
    manifest: pa.Table,
    objects: Objects,
    members: Ints,
    work: Work,
    span: tuple[float, float],
) -> Crops:
    """What lies in each box, and how large it is: float16 [M, LENGTH + 2]."""
    rows = np.unique(objects.of[members])
    starts = np.searchsorted(objects.of[members], rows)
    ends = np.searchsorted(objects.of[members], rows, side="right")
    boxes = _within(objects)[members]
    known = [
        (int(objects.widths[row]), int(objects.heights[row]), boxes[start:end])
        for row, start, end in zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True)
    ]
    crops = look_at_each(_crops, store, content, spans_of(manifest)[rows], known, work, ("look into boxes", *span))
    return np.concatenate(crops)


def _crops(data: bytes, known: Sequence[Any]) -> Crops:
    from PIL import Image

    width, height, boxes = known
    scale = min(1.0, _LONGEST / max(width, height))
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    picture = Image.fromarray(decode(data, height=high, width=wide, channels=3))
    scaled = boxes * np.array([wide / width, high / height] * 2)
    pixels = np.empty((len(boxes), SIDE, SIDE, 3), np.uint8)
    for place, (left, top, right, bottom) in enumerate(scaled.tolist()):
        across, down = _MARGIN * (right - left), _MARGIN * (bottom - top)
        # The margin may be beyond the edge: there a crop is black.
        frame = (round(left - across), round(top - down), round(right + across) + 1, round(bottom + down) + 1)
        pixels[place] = np.asarray(picture.crop(frame).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    sizes = np.log(np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0) / np.array([width, height]))
    out = np.empty((len(boxes), LENGTH + _SIZES), np.float16)
    out[:, :LENGTH] = picture_features(pixels)
    out[:, LENGTH:] = _SIZE_WEIGHT * sizes
    return out
