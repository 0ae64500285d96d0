"""Examples as people look at them (see ports.ExampleLook), from the packs and tables of a content; the last few stay open."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from modelyard.core.artifacts import ArtifactStore
from modelyard.dataset.domain.colours import class_colours
from modelyard.dataset.domain.traces import envelope
from modelyard.dataset.ports import ExampleLook, ExampleRow, Look, Trace
from modelyard.formats import annotations_rle
from modelyard.formats.annotations import IGNORED, Annotation
from modelyard.formats.dataset import (
    AUDIO,
    IMAGE,
    SEMANTIC_SEGMENTATION,
    TABLE,
    DatasetDescriptor,
    DatasetReader,
    light_columns,
    load_manifest,
    read_parquet,
)
from modelyard.formats.dataset_annotated import AnnotatedUsage
from modelyard.formats.pictures import open_upright

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL import Image

_KEPT: Final = 4
_SHOWN_BY_BROWSERS: Final = {format_: f"image/{format_.lower()}" for format_ in ("JPEG", "PNG", "GIF", "WEBP", "BMP")}
_SMALL: Final = 96
"""Pictures up to so many pixels wide are sent as PNG, without loss."""
_ALPHA: Final = 150


class Looks:
    """Reads examples to look at."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._open: OrderedDict[str, _Content] = OrderedDict()
        self._opening = threading.Lock()

    def of(self, descriptor: DatasetDescriptor, example_ids: Sequence[str], look: Look) -> list[ExampleLook]:
        """Examples in the order of their ids as given; those that are not there are left out."""
        return self._content(descriptor).looks(example_ids, look)

    def _content(self, descriptor: DatasetDescriptor) -> _Content:
        key = descriptor.manifest.uri
        with self._opening:
            found = self._open.get(key)
            if found is None:
                found = self._open[key] = _Content(self._store, descriptor)
            self._open.move_to_end(key)
            while len(self._open) > _KEPT:
                self._open.popitem(last=False)  # what is read from it at the moment keeps it
            return found


class _Content:
    """One content, open."""

    def __init__(self, store: ArtifactStore, descriptor: DatasetDescriptor) -> None:
        self.descriptor = descriptor
        self._store = store
        self._manifest: pa.Table = _read_manifest(store, descriptor)
        self._reader = DatasetReader(store, descriptor, unsplit=not descriptor.counts)
        self._at = {example: at for at, example in enumerate(self._manifest["example_id"].to_pylist())}
        self._colours = class_colours(len(descriptor.classes), descriptor.palette)

    def looks(self, example_ids: Sequence[str], look: Look) -> list[ExampleLook]:
        positions = [self._at[each] for each in example_ids if each in self._at]
        rows = self._manifest.take(positions)
        said = AnnotatedUsage(self._reader, rows)
        table = self._rows_of_table(rows) if self.descriptor.kind == TABLE else None
        return [self._look(rows, said, table, at, position, look) for at, position in enumerate(positions)]

    def _rows_of_table(self, rows: pa.Table) -> pa.Table:
        assert self.descriptor.table is not None
        names = [column.name for column in self.descriptor.columns]
        return read_parquet(self._store.path(self.descriptor.table), names).take(rows["row"]).select(names)

    def _look(
        self, rows: pa.Table, said: AnnotatedUsage, table: pa.Table | None, at: int, position: int, look: Look
    ) -> ExampleLook:
        row = {name: rows[name][at].as_py() for name in ("example_id", "usage", "label", "path", "sha256")}
        of = ExampleRow(row["example_id"], row["usage"] or "", row["label"] or "", row["path"], row["sha256"])
        annotation = said.annotation(at)
        if table is not None:
            target = self.descriptor.target if not self.descriptor.classes else ""
            cells = [(name, _text(table[name][at].as_py())) for name in table.column_names]
            label = next((value for name, value in cells if name == target and value is not None), of.label)
            return ExampleLook(ExampleRow(of.example_id, of.usage, label, of.path, of.sha256), annotation, cells=cells)
        data = self._reader.picture(position)
        if self.descriptor.kind == IMAGE:
            return self._picture(of, annotation, data, rows, said, at, look)
        if self.descriptor.kind == AUDIO:
            return self._sound(of, annotation, data, said, at, look)
        return self._series(of, annotation, said, at, look)

    def _picture(
        self, of: ExampleRow, annotation: Annotation, data: bytes, rows: pa.Table, said: AnnotatedUsage, at: int, look: Look
    ) -> ExampleLook:
        width, height = (int(rows[name][at].as_py()) for name in ("width", "height"))
        media_type, content = _shown(data, look) if look.content else ("", b"")
        masked = self.descriptor.task == SEMANTIC_SEGMENTATION or any(mark.mask for mark in annotation.marks)
        mask = self._mask(annotation, said, at, width, height, look.size) if masked and look.content == "preview" else b""
        return ExampleLook(of, annotation, media_type, content, width, height, masked, mask)

    def _mask(self, annotation: Annotation, said: AnnotatedUsage, at: int, width: int, height: int, size: int) -> bytes:
        """What is painted over a picture: a mask of classes, or the objects that have pixels and no outline."""
        if self.descriptor.task == SEMANTIC_SEGMENTATION:
            classes = said.mask(at)
        else:
            classes = np.full((height, width), IGNORED, np.uint8)
            for mark in (mark for mark in annotation.marks if mark.mask):
                inside = annotations_rle.decode(mark.mask, height, width).astype(bool)
                classes[inside] = self.descriptor.classes.index(mark.label) % IGNORED
        return _coloured(classes, self._colours, size)

    def _sound(
        self, of: ExampleRow, annotation: Annotation, data: bytes, said: AnnotatedUsage, at: int, look: Look
    ) -> ExampleLook:
        samples, rate = said.sound(at)
        names = ["left", "right"] if samples.shape[1] == 2 else [f"channel {number + 1}" for number in range(samples.shape[1])]
        media_type = "audio/flac" if data[:4] == b"fLaC" else "audio/wav"
        content = data if look.content == "original" else b""
        traces = _traces(samples, names, look.points)
        return ExampleLook(
            of, annotation, media_type if content else "", content, traces=traces, steps=len(samples), rate=float(rate)
        )

    def _series(self, of: ExampleRow, annotation: Annotation, said: AnnotatedUsage, at: int, look: Look) -> ExampleLook:
        values = said.series(at)
        names = list(self.descriptor.channels) or [f"channel {number + 1}" for number in range(values.shape[1])]
        return ExampleLook(of, annotation, traces=_traces(values, names, look.points), steps=len(values))


def _read_manifest(store: ArtifactStore, descriptor: DatasetDescriptor) -> pa.Table:
    return load_manifest(store, descriptor, light_columns(store, descriptor))


def _traces(values: npt.NDArray[Any], names: Sequence[str], points: int) -> list[Trace]:
    found = []
    for number, name in enumerate(names[: values.shape[1]]):
        low, high = envelope(values[:, number], points)
        found.append(Trace(name, low.tolist(), high.tolist()))
    return found


def _shown(data: bytes, look: Look) -> tuple[str, bytes]:
    """Media type and bytes of a picture for a browser."""
    image, format_ = open_upright(data, look.size if look.content == "preview" else 0)
    if look.content == "original" and format_ in _SHOWN_BY_BROWSERS:
        return _SHOWN_BY_BROWSERS[format_], data
    if look.content == "preview":
        image.thumbnail((look.size, look.size))
    if look.content == "original" or max(image.size) <= _SMALL:
        return "image/png", _saved(image, "PNG")
    return "image/jpeg", _saved(image.convert("RGB"), "JPEG", quality=84)


def _coloured(classes: npt.NDArray[np.uint8], colours: Sequence[str], size: int) -> bytes:
    from PIL import Image

    palette = np.zeros((256, 4), np.uint8)
    for number, colour in enumerate(colours[:IGNORED]):
        palette[number] = (*bytes.fromhex(colour[1:]), _ALPHA)
    image = Image.fromarray(classes)
    if max(image.size) > size:
        scale = size / max(image.size)
        image = image.resize((max(round(image.width * scale), 1), max(round(image.height * scale), 1)), Image.Resampling.NEAREST)
    return _saved(Image.fromarray(palette[np.asarray(image)], "RGBA"), "PNG")


def _saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and value != value):
        return None
    return f"{value:.10g}" if isinstance(value, float) else str(value)
