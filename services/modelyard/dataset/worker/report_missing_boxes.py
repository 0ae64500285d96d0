"""Objects in pictures that nobody marked: the maps of a pretrained network, kept in a file, and a small detector over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelyard.core.artifacts import ArtifactStore
from modelyard.dataset.domain import missing_boxes
from modelyard.dataset.domain.box_checks import Objects
from modelyard.dataset.domain.box_detector import Detections, Maps, Marked, detect
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import pretrained
from modelyard.dataset.worker.example_pass import spans_of
from modelyard.dataset.worker.packs import Packs
from modelyard.dataset.worker.report_marks import objects_of
from modelyard.formats.dataset import DatasetDescriptor
from modelyard.formats.pictures import decode
from modelyard.runtime.latency import usable_cores

MOST_PICTURES = 2_000
"""Of more pictures, so many drawn at random are looked at: some four minutes of a processor and 1 GiB of disk."""

LONGEST = 512
"""Longer side, in pixels, at which pictures are looked at..."""

SHORTEST = 256
"""...and that of pictures that are smaller than this."""

_STEP = 32
_FEWEST = 20

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Missing:
    """Which pictures were looked at (rows int64 [N] of the manifest), what was found in them, its boxes float64 [D, 4] in their
    own pixels, and how probable it is of each to be an object that nobody marked, float64 [D]."""

    rows: Ints
    found: Detections
    boxes: Floats
    probability: Floats


def check_missing_boxes(
    store: ArtifactStore,
    content: DatasetDescriptor,
    manifest: pa.Table,
    groups: Ints,
    names: Names,
    folder: Path,
    work: Work,
    span: tuple[float, float],
) -> tuple[list[Finding], list[str]]:
    """Findings, and a sentence on what was looked at. groups int64 [N]: equal for near duplicates. Raises Cancelled."""
    objects = objects_of(manifest, len(content.keypoints))
    if len(objects.of) < missing_boxes.LEAST_MARKED or manifest.num_rows < _FEWEST:
        return [], []
    if not pretrained.available():
        return [], ["Objects that nobody marked were not looked for: that needs the extra modelyard[embedding]."]
    made = find_missing(store, content, manifest, objects, groups, folder, work, span)
    marked = int(np.isin(objects.of, made.rows).sum())
    complete = missing_boxes.completeness(made.found)
    note = f"Objects that nobody marked were looked for in {len(made.rows)} pictures, by detectors trained on four fifths; "
    note += f"of what they are surest of, {complete:.0%} is marked"
    if complete < missing_boxes.LEAST_COMPLETE:
        return [], [f"{note}: too little to trust them, so nothing was named."]
    findings = missing_boxes.missing_findings(made.found, made.probability, made.boxes, marked, content.classes, made.rows, names)
    return findings, [f"{note}."]


def find_missing(
    store: ArtifactStore,
    content: DatasetDescriptor,
    manifest: pa.Table,
    objects: Objects,
    groups: Ints,
    folder: Path,
    work: Work,
    span: tuple[float, float],
) -> Missing:
    """What detectors say of the pictures of a manifest, at most MOST_PICTURES of them. Raises Cancelled."""
    rows = np.arange(manifest.num_rows)
    if len(rows) > MOST_PICTURES:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_PICTURES, replace=False))
    sizes = _looked_at(objects.widths[rows], objects.heights[rows])
    scales = sizes / np.stack([objects.widths[rows], objects.heights[rows]], axis=1)
    middle = span[0] + 0.6 * (span[1] - span[0])
    seen = _maps(store, content, spans_of(manifest)[rows], sizes, folder, work, (span[0], middle))
    starts, ends = (np.searchsorted(objects.of, rows, side=side) for side in ("left", "right"))
    marked = []
    for place, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        boxes = np.nan_to_num(objects.boxes[start:end], nan=0.0, posinf=0.0, neginf=0.0) * np.tile(scales[place], 2)
        marked.append(Marked(np.clip(boxes, 0, np.tile(sizes[place], 2)), objects.labels[start:end]))
    found = detect(seen, marked, groups[rows], len(content.classes), work, (middle, span[1]))
    boxes = found.boxes / np.tile(scales[found.pictures], 2)
    return Missing(rows, found, boxes, missing_boxes.objects_unmarked(found))


def _looked_at(widths: Floats, heights: Floats) -> Ints:
    """Width and height at which pictures are looked at: int64 [N, 2], multiples of 32."""
    longer = np.maximum(widths, heights)
    scale = np.where(longer < SHORTEST, SHORTEST, LONGEST) / np.maximum(longer, 1)
    sides = np.stack([widths, heights], axis=1) * scale[:, None]
    return np.maximum(np.round(sides / _STEP), 1).astype(np.int64) * _STEP


def _maps(
    store: ArtifactStore,
    content: DatasetDescriptor,
    spans: Ints,
    sizes: Ints,
    folder: Path,
    work: Work,
    span: tuple[float, float],
) -> Callable[[int], Maps]:
    """What the network makes of each picture, in a file of the folder; what reads it by the picture's number."""
    network = pretrained.MapsNetwork(pretrained.write_maps_network(folder / "maps.onnx"), usable_cores())
    packs = Packs([store.path(pack) for pack in content.packs])
    shapes = [_shapes(width, height) for width, height in sizes.tolist()]
    lengths = [sum(int(np.prod(shape)) for shape in each) for each in shapes]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    kept = np.memmap(folder / "maps", np.float16, "w+", shape=(int(starts[-1]),))
    for number, ((width, height), place) in enumerate(zip(sizes.tolist(), spans.tolist(), strict=True)):
        work.stage("look for boxes", number, len(sizes), "pictures", *span)
        picture = decode(packs.read(*place), height=height, width=width, channels=3)
        kept[starts[number] : starts[number + 1]] = np.concatenate([part.ravel() for part in network(picture)])

    def read(number: int) -> Maps:
        values, parts = kept[starts[number] : starts[number + 1]], []
        for shape in shapes[number]:
            size = int(np.prod(shape))
            parts.append(values[:size].reshape(shape))
            values = values[size:]
        return Maps(*parts)

    return read


def _shapes(width: int, height: int) -> Sequence[tuple[int, int, int]]:
    return [
        (channels, height // step, width // step)
        for channels, step in zip(pretrained.MAP_CHANNELS, pretrained.MAP_STEPS, strict=True)
    ]
