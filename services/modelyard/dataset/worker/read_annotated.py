"""Reads pictures of which annotation files speak: each is decoded to its last pixel and gets what was said of it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import mask_files, yolo
from modelyard.dataset.domain.marks import outside
from modelyard.dataset.domain.named_points import filled
from modelyard.dataset.domain.near import THUMBNAIL
from modelyard.dataset.domain.problems import Problems
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker.annotation_index import AnnotationIndex, Said
from modelyard.dataset.worker.content import Content, Example, Rejections
from modelyard.dataset.worker.read_pictures import Answer, Task, take_all
from modelyard.formats import annotations_rle, pictures
from modelyard.formats import dataset as files
from modelyard.formats.annotations import Annotation, mask_hash
from modelyard.formats.archive import Entry
from modelyard.formats.dataset_tar import Archive


@dataclass
class Plan:
    """What the annotation files of a source say, before any picture is read."""

    index: AnnotationIndex
    problems: Problems
    task: str = ""
    classes: tuple[str, ...] = ()
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()
    palette: tuple[str, ...] = ()
    assumptions: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)  # paths of annotation files and masks
    facts: yolo.Facts | None = None
    legend: mask_files.Legend | None = None


def read_annotated(archive: Archive, plan: Plan, content: Content, rejected: Rejections, work: Work) -> None:
    """Takes in the pictures of which something is said; what cannot be read is listed. ARCHIVE_BOMB ends it all."""
    entries = {entry.path: entry for entry in archive.entries}
    known = set(plan.index.paths())
    spoken_of = [entry for entry in archive.entries if entry.path in known]

    def tasks() -> Iterator[Task]:
        for entry in spoken_of:
            said = plan.index.get(entry.path)
            if said is not None:
                yield _task(archive, entry, said, entries, plan)

    take_all(tasks(), len(spoken_of), content, rejected, work, plan.problems)


def _task(archive: Archive, entry: Entry, said: Said, entries: dict[str, Entry], plan: Plan) -> Task:
    try:
        data = archive.read(entry)
        mask = archive.read(entries[said.raw]) if plan.legend is not None else b""
    except InvalidArgument as error:
        if error.reason == "ARCHIVE_BOMB":
            raise
        refused = error
        return 0, lambda: [(entry.path, refused)]
    return len(data), lambda: [_example(entry.path, said, data, mask, plan)]


def _example(path: str, said: Said, data: bytes, mask: bytes, plan: Plan) -> Answer:
    problems = Problems()
    try:
        info, thumbnail = pictures.probe_with_thumbnail(data, size=THUMBNAIL, name=path)
        annotation = _complete(said, (info.width, info.height), path, plan, problems)
        made = Example(path, None, said.usage, data, (info.width, info.height), thumbnail.tobytes(), problems=problems)
        if plan.legend is not None:
            return _with_mask(made, said, mask, plan.legend, problems)
    except InvalidArgument as error:
        return path, error
    if plan.task == files.IMAGE_CLASSIFICATION:
        if len(annotation.labels) > 1:
            return path, several_labels(path, said.file, annotation.labels)
        return replace(made, label=annotation.labels[0])
    return replace(made, annotation=annotation)


def several_labels(path: str, file: str, labels: Sequence[str]) -> InvalidArgument:
    """The error of an example of one class that is given several: nobody can say which is right."""
    listed = ", ".join(repr(label) for label in labels[:10])
    message = f"{file} gives {path} {len(labels)} labels: {listed}; where every other example has one, it has one"
    return InvalidArgument("SEVERAL_LABELS", message, file=path)


def _complete(said: Said, size: tuple[int, int], path: str, plan: Plan, problems: Problems) -> Annotation:
    annotation = said.annotation
    if plan.facts is not None:
        annotation = replace(annotation, marks=yolo.marks(said.raw, *size, said.file, plan.facts, problems))
    elif said.size is not None and said.size != size:
        message = f"{said.file}: {path} is {said.size[0]} x {said.size[1]} pixels there, {size[0]} x {size[1]} in truth"
        problems.note("SIZE_MISMATCH", said.file, message)
        annotation = replace(annotation, marks=tuple(replace(each, mask=b"") for each in annotation.marks))
    if said.size is None:
        annotation = _fitting(annotation, size, said.file, problems)
    outside(annotation, *size, said.file, problems)
    return for_task(filled(annotation, len(plan.keypoints)), plan.task)


def _fitting(annotation: Annotation, size: tuple[int, int], file: str, problems: Problems) -> Annotation:
    """The annotation without masks of another size than the picture's."""
    marks = []
    for mark in annotation.marks:
        covered = sum(annotations_rle.unpack(mark.mask)) if mark.mask else size[0] * size[1]
        if covered != size[0] * size[1]:
            message = f"{file}: a mask covers {covered} pixels, its picture has {size[0]} x {size[1]}"
            problems.note("BAD_MASK", file, message)
            mark = replace(mark, mask=b"")
        marks.append(mark)
    return replace(annotation, marks=tuple(marks))


def for_task(annotation: Annotation, task: str) -> Annotation:
    """What a task needs of an annotation."""
    if task == files.OBJECT_DETECTION:
        return replace(annotation, marks=tuple(replace(m, polygons=(), mask=b"", keypoints=()) for m in annotation.marks))
    if task == files.INSTANCE_SEGMENTATION:
        return replace(annotation, marks=tuple(replace(m, keypoints=()) for m in annotation.marks))
    if task == files.IMAGE_MULTILABEL:
        labels = annotation.labels or tuple(dict.fromkeys(mark.label for mark in annotation.marks))
        return replace(annotation, marks=(), labels=labels)
    return annotation


# Masks


def _with_mask(made: Example, said: Said, data: bytes, legend: mask_files.Legend, problems: Problems) -> Example:
    values = read_mask(data, legend, said.raw)
    if values.shape[:2] != made.sizes[::-1]:
        width, height = made.sizes
        message = f"{said.raw} is {values.shape[1]} x {values.shape[0]} pixels, its picture {made.path} {width} x {height}"
        raise InvalidArgument("MASK_SIZE", message, file=said.raw)
    indices, unknown = mask_files.indices(legend, values)
    if unknown:
        message = f"{said.raw} holds {', '.join(unknown[:5])}, which the list of classes does not name"
        problems.note("UNKNOWN_MASK_VALUE", said.raw, message)
    present = tuple(legend.classes[i] for i in np.unique(indices).tolist() if i < len(legend.classes))
    annotation = replace(said.annotation, mask_sha256=mask_hash(indices))
    return replace(made, annotation=annotation, mask=pictures.encode_png(indices), present=present)


def read_mask(data: bytes, legend: mask_files.Legend | None, name: str) -> npt.NDArray[np.uint8]:
    """A mask as uint8 [H, W] of values or [H, W, 3] of colours: colours where it has them and the legend speaks of colours.

    Raises InvalidArgument as pictures.probe does, MASK_MODE for masks of 16 bits or JPEG.
    """
    from PIL import Image

    info = pictures.probe(data, name=name)
    if info.format == "JPEG" or info.mode not in ("1", "L", "P", "RGB", "RGBA"):
        message = f"{name} is {info.format} of mode {info.mode}; a mask is a PNG with 8 bits a pixel (grey, indexed or coloured)"
        raise InvalidArgument("MASK_MODE", message, file=name, mode=info.mode)
    image: Any = Image.open(io.BytesIO(data))
    by_colour = legend is None or bool(legend.by_colour)
    if image.mode == "P" and not (by_colour and legend is not None):
        return np.array(image, dtype=np.uint8)
    if image.mode in ("L", "1"):
        return np.array(image, dtype=np.uint8)
    if image.mode == "P":
        return _coloured(image)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _coloured(image: Any) -> npt.NDArray[np.uint8]:
    """The colours of an indexed picture; index 255 becomes the colour of what is not judged."""
    values = np.array(image, dtype=np.uint8)
    pixels = np.array(image.convert("RGB"), dtype=np.uint8)
    pixels[values == 255] = mask_files.colour_of(255)
    return pixels


def note_values(pixels: npt.NDArray[np.uint8], values: set[int], colours: set[mask_files.Colour]) -> None:
    """Adds the values or colours of a mask."""
    if pixels.ndim == 2:
        values.update(np.unique(pixels).tolist())
        return
    for number in np.unique(mask_files.colours_of(pixels)).tolist():
        colours.add((number >> 16, number >> 8 & 255, number & 255))
    if len(colours) > 256:
        message = "the masks hold more than 256 colours; is a photograph among them? A mask has one colour for each class"
        raise InvalidArgument("TOO_MANY_CLASSES", message)


def legend_from(values: set[int], colours: set[mask_files.Colour]) -> mask_files.Legend:
    """The legend of these values or colours."""
    return mask_files.from_colours(sorted(colours)) if colours else mask_files.from_values(sorted(values))
