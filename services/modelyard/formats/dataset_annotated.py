"""The examples of one usage with what is said of them, as numpy arrays over the manifest's own memory where that is possible."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import FailedPrecondition
from modelyard.formats import annotations_rle, dataset_audio
from modelyard.formats.annotations import Annotation, Interval, Mark, mark_from

if TYPE_CHECKING:
    import pyarrow as pa

    from modelyard.formats.dataset import DatasetReader

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Marks:
    """The marked objects of N pictures, M in all. Those of picture i are at `starts[i]` to `starts[i + 1]`."""

    starts: Ints  # [N + 1]
    labels: Ints  # [M], index of the class
    boxes: npt.NDArray[np.float32]  # [M, 4]: left, top, right, bottom, in pixels of the picture as it came
    keypoints: npt.NDArray[np.float32]  # [M, K, 3]: x, y, visibility (0 not marked, 1 hidden, 2 visible); K 0 without them
    polygons: pa.Array  # [M] lists of rings x1, y1, x2, y2...
    masks: pa.Array  # [M] packed run lengths, null where none

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """Which boxes have an area, bool [M]."""
        return np.asarray(np.all(self.boxes[:, 2:] > self.boxes[:, :2], axis=1))

    def pixels(self, mark: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        """The pixels of an object, uint8 [height, width]: from its mask, else its polygons, else its box."""
        packed = self.masks[mark].as_py()
        if packed:
            return annotations_rle.decode(packed, height, width)
        rings = self.polygons[mark].as_py()
        if not rings:
            left, top, right, bottom = self.boxes[mark].tolist()
            rings = [[left, top, right, top, right, bottom, left, bottom]]
        return annotations_rle.fill(rings, height, width)


class AnnotatedUsage:
    """What `DatasetReader.annotations` gives. Methods raise FailedPrecondition NOT_ANNOTATED where the task has no such thing."""

    def __init__(self, reader: DatasetReader, rows: pa.Table) -> None:
        self._reader = reader
        self._rows = rows.combine_chunks()
        self._classes = reader.descriptor.classes

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    def marks(self) -> Marks:
        """Marked objects (detection, instance segmentation, keypoints)."""
        marks = self._column("marks")
        starts = _starts(marks)
        flat = marks.flatten()
        points = _numbers(flat.field("keypoints").flatten()).astype(np.float32)
        return Marks(
            starts=starts,
            labels=_numbers(flat.field("label")).astype(np.int64),
            boxes=_numbers(flat.field("box").flatten()).astype(np.float32).reshape(-1, 4),
            keypoints=_keypoints(flat.field("keypoints"), points, len(self._reader.descriptor.keypoints)),
            polygons=flat.field("polygons"),
            masks=flat.field("mask"),
        )

    def several_labels(self) -> npt.NDArray[np.bool_]:
        """Multi-label sets: which classes each example is of, bool [N, classes]."""
        labels = self._column("labels")
        out = np.zeros((len(self), len(self._classes)), np.bool_)
        starts = _starts(labels)
        out[np.repeat(np.arange(len(self)), np.diff(starts)), _numbers(labels.flatten()).astype(np.int64)] = True
        return out

    def mask(self, position: int) -> npt.NDArray[np.uint8]:
        """Semantic segmentation: class index of each pixel of the usage's example `position`, uint8 [H, W]; 255 ignored."""
        from PIL import Image

        span = (int(self._column(name)[position].as_py()) for name in ("mask_pack", "mask_offset", "mask_length"))
        return np.asarray(Image.open(io.BytesIO(self._reader.packed(*span))), dtype=np.uint8)

    def sound(self, position: int) -> tuple[npt.NDArray[np.float32], int]:
        """Audio: samples float32 [frames, channels] of an example, and their rate in Hz."""
        self._column("frames")
        return dataset_audio.samples(self._bytes(position))

    def series(self, position: int) -> npt.NDArray[np.float64]:
        """Series: float64 [steps, channels], NaN where missing; a view of the pack's bytes, read only."""
        values = self._table(position)
        return values[:, 1:] if self._reader.descriptor.time_column else values

    def times(self, position: int) -> npt.NDArray[np.float64]:
        """Series: seconds since 1970, or the source's numbers, float64 [steps]; 0, 1, 2... where no times are known."""
        values = self._table(position)
        return values[:, 0] if self._reader.descriptor.time_column else np.arange(len(values), dtype=np.float64)

    def stacked(self) -> npt.NDArray[np.float32]:
        """Series of one length: float32 [N, steps, channels]. Raises FailedPrecondition DIFFERENT_LENGTHS."""
        lengths = np.unique(_numbers(self._column("steps")))
        if len(lengths) != 1:
            message = f"the series have {lengths.min() if len(lengths) else 0} to {lengths.max() if len(lengths) else 0} steps"
            raise FailedPrecondition("DIFFERENT_LENGTHS", message)
        return np.stack([self.series(i).astype(np.float32) for i in range(len(self))])

    def step_labels(self, position: int, label: int) -> npt.NDArray[np.bool_]:
        """Series: at which steps a class holds, bool [steps]."""
        out = np.zeros(int(self._column("steps")[position].as_py()), np.bool_)
        for interval in self._column("intervals")[position].as_py() or ():
            if interval["label"] == label:
                out[interval["start"] : interval["end"]] = True
        return out

    def annotation(self, position: int) -> Annotation:
        """All that is said of an example, as an object; for whoever writes it to a file."""
        import json

        row: dict[str, Any] = {n: self._rows[n][position].as_py() for n in self._rows.column_names if n in _SAID}
        return Annotation(
            marks=tuple(mark_from(each, self._classes) for each in row.get("marks") or ()),
            labels=tuple(self._classes[each] for each in row.get("labels") or ()),
            intervals=tuple(Interval(i["start"], i["end"], self._classes[i["label"]]) for i in row.get("intervals") or ()),
            attributes=json.loads(row["attributes"]) if row.get("attributes") else {},
        )

    def columns(self, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Values of columns of the manifest, example by example."""
        for batch in self._rows.select(list(names)).to_batches(max_chunksize=4096):
            yield from zip(*(batch.column(name).to_pylist() for name in names), strict=True)

    def mark_list(self, position: int) -> Sequence[Mark]:
        """The marks of one example."""
        return self.annotation(position).marks

    def _table(self, position: int) -> npt.NDArray[np.float64]:
        steps = int(self._column("steps")[position].as_py())
        return np.frombuffer(self._bytes(position), "<f8").reshape(steps, -1)

    def _bytes(self, position: int) -> bytes:
        span = (int(self._column(name)[position].as_py()) for name in ("pack", "offset", "length"))
        return self._reader.packed(*span)

    def _column(self, name: str) -> pa.Array:
        if name not in self._rows.column_names:
            message = f"a dataset of task {self._reader.descriptor.task} has no {name}"
            raise FailedPrecondition("NOT_ANNOTATED", message, task=self._reader.descriptor.task)
        column = self._rows[name]
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


_SAID = ("marks", "labels", "intervals", "attributes")


def _starts(lists: pa.Array) -> Ints:
    import pyarrow.compute as pc

    lengths = _numbers(pc.fill_null(pc.list_value_length(lists), 0)).astype(np.int64)
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _keypoints(lists: pa.Array, values: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """float32 [M, count, 3]; zeros for marks without keypoints."""
    out = np.zeros((len(lists), count * 3), np.float32)
    if count:
        out[np.diff(_starts(lists)) == count * 3] = values.reshape(-1, count * 3)
    return out.reshape(len(lists), count, 3)


def _numbers(values: pa.Array) -> npt.NDArray[Any]:
    return np.asarray(values.to_numpy(zero_copy_only=False))
