"""Writers of pictures with marked objects: COCO, Pascal VOC, YOLO, CVAT, LabelMe, ModelArts-style manifests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO, Any
from xml.etree.ElementTree import tostring

from modelyard.dataset.domain import coco, cvat, labelme, modelarts, voc, yolo
from modelyard.dataset.domain.columns import sorted_classes
from modelyard.dataset.worker.export_files import Export, Exported, listed
from modelyard.formats import dataset as files
from modelyard.formats.annotations import Mark, bounds

_SHORT = {files.TRAIN: "train", files.VALIDATION: "val", files.TEST: "test"}


# COCO


def write_coco(export: Export) -> None:
    """images/USAGE/ and annotations/instances_USAGE.json, whose lists are gathered in files first."""
    export.need(*files.MARKED_TASKS)
    described = export.descriptor
    _check_labels(export, described.classes)
    index = {name: number for number, name in enumerate(described.classes, start=1)}
    number = 0
    with ExitStack() as stack:
        lists = {usage: _CocoLists(export, usage, stack) for usage in files.USAGES}
        for each in export.examples():
            width, height = each.sizes
            out = lists[each.usage]
            picture = export.count
            out.picture({"id": picture, "file_name": each.name, "width": width, "height": height})
            for mark in each.annotation.marks:
                number += 1
                out.mark(coco.annotation(mark, number, picture, index[mark.label], (width, height)))
            export.write(f"images/{each.usage}/{each.name}", each.data)
    for out in lists.values():
        out.put(coco.categories(described.classes, described.keypoints, described.skeleton))


class _CocoLists:
    """The lists of one usage, on disk: memory does not grow with them."""

    def __init__(self, export: Export, usage: str, stack: ExitStack) -> None:
        self._export, self._usage = export, usage
        self._paths = [export.folder / f"{usage}-{name}" for name in ("images", "annotations")]
        self._files: list[IO[str]] = [stack.enter_context(path.open("w", encoding="utf-8")) for path in self._paths]
        self._empty = [True, True]

    def picture(self, raw: dict[str, Any]) -> None:
        """Adds a picture."""
        self._add(0, raw)

    def mark(self, raw: dict[str, Any]) -> None:
        """Adds an annotation."""
        self._add(1, raw)

    def put(self, categories: Sequence[dict[str, Any]]) -> None:
        """Writes the file into the zip; nothing for a usage without pictures."""
        if self._empty[0]:
            return
        with self._export.open(f"annotations/instances_{self._usage}.json") as out:
            info = {"description": self._export.title, "version": "1.0"}
            out.write(f'{{"info": {json.dumps(info)}, "categories": {json.dumps(categories, ensure_ascii=False)}'.encode())
            for name, path in zip(("images", "annotations"), self._paths, strict=True):
                out.write(f',\n"{name}": [\n'.encode())
                with path.open("rb") as part:
                    while chunk := part.read(1024 * 1024):
                        out.write(chunk)
                out.write(b"\n]")
            out.write(b"}\n")

    def _add(self, which: int, raw: dict[str, Any]) -> None:
        self._files[which].write(("" if self._empty[which] else ",\n") + json.dumps(raw, ensure_ascii=False))
        self._empty[which] = False


# Pascal VOC


def write_voc(export: Export) -> None:
    """JPEGImages/, Annotations/, ImageSets/Main/, labelmap.txt."""
    export.need(*files.MARKED_TASKS)
    _check_labels(export, export.descriptor.classes, forbidden=":")
    lists: dict[str, list[str]] = {usage: [] for usage in files.USAGES}
    for each in export.examples():
        marks = [_boxed(export, mark) for mark in each.annotation.marks]
        export.write(f"JPEGImages/{each.name}", each.data)
        export.write(f"Annotations/{each.stem}.xml", voc.document(each.name, "JPEGImages", _size(each), marks))
        lists[each.usage].append(each.stem)
    for usage, stems in lists.items():
        if stems:
            export.write(f"ImageSets/Main/{_SHORT[usage]}.txt", "".join(f"{each}\n" for each in stems))
    names = "".join(f"{name}:::\n" for name in export.descriptor.classes)
    export.write("labelmap.txt", "# label:color_rgb:parts:actions\n" + names)


def _boxed(export: Export, mark: Mark) -> Mark:
    if mark.polygons or mark.mask or mark.keypoints:
        export.refuse("it has boxes, but no outlines, masks or keypoints")
    _check_attributes(export, mark)
    return mark


# YOLO


def write_yolo(export: Export) -> None:
    """images/ and labels/ by usage, data.yaml."""
    import yaml

    export.need(*files.MARKED_TASKS)
    described = export.descriptor
    _check_labels(export, described.classes)
    index = {name: number for number, name in enumerate(described.classes)}
    if described.keypoints != tuple(f"keypoint_{number}" for number in range(len(described.keypoints))):
        export.refuse(f"the names of keypoints ({listed(described.keypoints)})")
    used = set()
    for each in export.examples():
        usage = _SHORT[each.usage]
        used.add(usage)
        lines = [line for mark in each.annotation.marks if (line := _yolo_line(export, mark, index, each))]
        export.write(f"images/{usage}/{each.name}", each.data)
        export.write(f"labels/{usage}/{each.stem}.txt", "".join(f"{line}\n" for line in lines))
    facts: dict[str, Any] = {"path": ".", **{usage: f"images/{usage}" for usage in ("train", "val", "test") if usage in used}}
    facts["names"] = dict(enumerate(described.classes))
    if described.keypoints:
        facts["kpt_shape"] = [len(described.keypoints), 3]
    export.write("data.yaml", yaml.safe_dump(facts, allow_unicode=True, sort_keys=False))


def _yolo_line(export: Export, mark: Mark, index: dict[str, int], each: Exported) -> str:
    task = export.descriptor.task
    if mark.attributes:
        export.refuse(f"attributes of objects ({listed(sorted(mark.attributes))})")
    if task == files.INSTANCE_SEGMENTATION:
        if len(mark.polygons) != 1 or mark.mask:
            export.refuse("each object is one polygon: no masks, no objects in several parts or without an outline")
            return ""
        if bounds(mark.polygons) != mark.box:
            export.refuse("a box other than that around the polygon")
    elif mark.polygons or mark.mask:
        export.refuse("outlines beside boxes or keypoints")
    if task == files.KEYPOINT_DETECTION and not mark.keypoints:
        mark = Mark(mark.label, mark.box, keypoints=(0.0,) * 3 * len(export.descriptor.keypoints))
    return yolo.line(mark, index, _size(each), task)


# CVAT and LabelMe


def write_cvat(export: Export) -> None:
    """images/ and annotations.xml; also for pictures with labels alone."""
    export.need(*files.MARKED_TASKS, files.IMAGE_MULTILABEL)
    _check_labels(export, export.descriptor.classes)
    path = export.folder / "annotations.xml"
    with path.open("wb") as out:
        out.write(b'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
        out.write(tostring(cvat.meta(export.descriptor.classes), encoding="utf-8") + b"\n")
        for each in export.examples():
            said = each.annotation
            for mark in said.marks:
                if mark.keypoints:
                    export.refuse("keypoints")
                _check_attributes(export, mark)
            out.write(tostring(cvat.image(export.count - 1, each.name, each.usage, _size(each), said), encoding="utf-8") + b"\n")
            export.write(f"images/{each.name}", each.data)
        out.write(b"</annotations>\n")
    export.add("annotations.xml", path)


def write_labelme(export: Export) -> None:
    """A picture and its JSON side by side in a folder for each usage; labels.txt."""
    export.need(*files.MARKED_TASKS)
    _check_labels(export, export.descriptor.classes, forbidden=":")
    for each in export.examples():
        marks = each.annotation.marks
        if any(mark.mask or mark.keypoints for mark in marks):
            export.refuse("masks and keypoints")
        document = labelme.document(each.name, _size(each), marks)
        export.write(f"{each.usage}/{each.name}", each.data)
        export.write(f"{each.usage}/{each.stem}.json", json.dumps(document, ensure_ascii=False, indent=1))
    export.write("labels.txt", "".join(f"{name}\n" for name in export.descriptor.classes))


# Manifests


def write_manifest(export: Export) -> None:
    """data/ and export.manifest; boxes in VOC files beside it."""
    labelled = (files.IMAGE_CLASSIFICATION, files.IMAGE_MULTILABEL, files.AUDIO_CLASSIFICATION)
    export.need(*labelled, files.OBJECT_DETECTION)
    kind = modelarts.AUDIO if export.descriptor.kind == files.AUDIO else modelarts.IMAGE
    _check_labels(export, export.descriptor.classes)
    seen: set[str] = set()
    path = export.folder / "export.manifest"
    with path.open("w", encoding="utf-8") as out:
        for each in export.examples():
            said = each.annotation
            labels = (each.label,) if each.label else said.labels
            boxes = ""
            if export.descriptor.task == files.OBJECT_DETECTION:
                boxes = f"annotations/{each.stem}.xml"
                marks = [_boxed(export, mark) for mark in said.marks]
                export.write(boxes, voc.document(each.name, "data", _size(each), marks))
            elif not labels:
                export.refuse("examples without any label")
            seen.update(labels, (mark.label for mark in said.marks))
            source = f"data/{each.name}"
            export.write(source, each.data)
            out.write(modelarts.line(source, each.usage, kind, labels, boxes, said.attributes) + "\n")
    if export.descriptor.classes != sorted_classes(sorted(seen)):
        export.refuse("classes in another order than by name, and classes without examples")
    export.add("export.manifest", path)


# Checks


def _size(each: Exported) -> tuple[int, int]:
    return each.sizes[0], each.sizes[1]


def _check_labels(export: Export, classes: Sequence[str], forbidden: str = "") -> None:
    bad = [
        name
        for name in classes
        if not voc.carries(name) or not name or "\n" in name or set(forbidden) & set(name) or name[0] == "#"
    ]
    if bad:
        export.refuse(
            f"class names with spaces at their ends, control characters, line breaks or {forbidden or '#'}: {listed(bad)}"
        )


def _check_attributes(export: Export, mark: Mark) -> None:
    bad = [name for name, text in mark.attributes.items() if not (voc.carries(text) and voc.carries(name) and name)]
    if bad:
        export.refuse(f"attributes with control characters or spaces at their ends: {listed(bad)}")
