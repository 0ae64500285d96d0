"""ModelArts-style manifests: labels of pictures or sounds, or the VOC files that hold the boxes."""

from __future__ import annotations

from pathlib import Path

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import modelarts, safe_xml, voc
from modelyard.dataset.domain.picture_names import PictureNames
from modelyard.dataset.domain.records import ImportResult, ImportSpec
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import import_sounds
from modelyard.dataset.worker.annotation_index import Said
from modelyard.dataset.worker.detect import Contents, head, is_manifest
from modelyard.dataset.worker.plans import Sources, settle, settle_labels, sort_classes
from modelyard.dataset.worker.read_annotated import Plan, several_labels
from modelyard.dataset.worker.sources import lines
from modelyard.formats import dataset as files
from modelyard.formats.annotations import Annotation
from modelyard.formats.dataset_audio import is_sound_name

_LIMIT = 8 * 1024**3


def plan_manifest(source: Sources) -> None:
    """Every line of every manifest; a bad line is listed."""
    plan = source.plan
    sounds = PictureNames(entry.path for entry in source.archive.entries if is_sound_name(entry.path))
    boxes = _BoxFiles(source)
    seen: set[str] = set()
    kinds = {"one": 0, "several": 0, "boxes": 0, "sounds": 0}
    for entry in [e for e in source.ending(".manifest", ".jsonl") if is_manifest(head(source.archive, e))]:
        plan.used.add(entry.path)
        for number, text in enumerate(lines(source.archive.stream(entry, limit_bytes=_LIMIT), name=entry.path), start=1):
            if text.strip():
                _line(source, sounds, boxes, text, f"{entry.path}: line {number}", seen, kinds)
    plan.classes = sort_classes(seen)
    if kinds["boxes"]:
        settle(source, outlines=False)
    elif kinds["sounds"]:
        plan.task = files.AUDIO_CLASSIFICATION
    else:
        settle_labels(source, several=kinds["several"] > 0)


class _BoxFiles:
    """The VOC files of a source by their names."""

    def __init__(self, source: Sources) -> None:
        self.entries = {entry.path: entry for entry in source.ending(".xml")}
        self.names = PictureNames(self.entries)


def _line(
    source: Sources, sounds: PictureNames, boxes: _BoxFiles, text: str, where: str, seen: set[str], kinds: dict[str, int]
) -> None:
    try:
        line = modelarts.parse(text, where)
    except InvalidArgument as error:
        source.rejected.add(where, error.reason, error.message)
        return
    sound = sounds.find(line.source) if is_sound_name(line.source) else None
    path = sound or source.names.find(line.source)
    if path is None:
        source.missing(line.source, where)
        return
    annotation = Annotation(labels=line.labels, attributes=line.attributes)
    if line.boxes:
        marks = _boxes(source, boxes, line.boxes, where)
        if marks is None:
            return
        annotation = marks
    elif not line.labels:
        source.rejected.add(path, "NO_LABEL", f"{where} names {path} without an annotation")
        return
    seen.update(line.labels, (mark.label for mark in annotation.marks))
    kinds["boxes"] += bool(line.boxes)
    kinds["sounds"] += sound is not None
    kinds["several" if len(line.labels) > 1 else "one"] += 1
    source.plan.index.add(path, Said(line.usage, where.rpartition(": ")[0], annotation))


def _boxes(source: Sources, boxes: _BoxFiles, location: str, where: str) -> Annotation | None:
    """The objects of the VOC file that a line names."""
    found = boxes.names.find(location)
    if found is None:
        source.missing(location, where)
        return None
    entry = boxes.entries[found]
    try:
        root = safe_xml.parse(source.bytes_of(entry), name=entry.path)
    except InvalidArgument as error:
        source.rejected.add(entry.path, error.reason, error.message)
        return None
    return Annotation(voc.marks(root, entry.path, source.plan.problems))


def sounds(spec: ImportSpec, found: Contents, plan: Plan, store: ArtifactStore, folder: Path, work: Work) -> ImportResult:
    """The import of sounds that a manifest names."""
    places = {}
    for path in plan.index.paths():
        said = plan.index.get(path)
        labels = said.annotation.labels if said is not None else ()
        if said is not None and len(labels) > 1:
            error = several_labels(path, said.file, labels)
            found.rejected.add(path, error.reason, error.message)
        elif said is not None and labels:
            places[path] = import_sounds.Named(labels[0], said.usage, said.annotation.attributes)
    return import_sounds.take(places, found, plan.assumptions, store, folder, work, plan.problems.findings())
