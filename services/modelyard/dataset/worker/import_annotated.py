"""An import of pictures of which annotation files speak."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import InvalidArgument
from modelyard.core.words import several
from modelyard.dataset.domain import columns as naming
from modelyard.dataset.domain.problems import Problems
from modelyard.dataset.domain.records import (
    COCO,
    COLOUR_MASKS,
    CVAT,
    LABELME,
    MANIFEST,
    MASKS,
    VOC,
    YOLO,
    ImportResult,
    ImportSpec,
)
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import plan_masks, plans, read_coco, read_manifest
from modelyard.dataset.worker.annotation_index import AnnotationIndex
from modelyard.dataset.worker.content import Content
from modelyard.dataset.worker.detect import Contents
from modelyard.dataset.worker.plans import Planner, Sources
from modelyard.dataset.worker.read_annotated import Plan, read_annotated
from modelyard.dataset.worker.results import keep, nothing_in, result
from modelyard.formats import dataset as files
from modelyard.formats.pictures import is_picture_name

_PLANNERS: Mapping[str, Planner] = {
    COCO: read_coco.plan_coco,
    VOC: plans.plan_voc,
    YOLO: plans.plan_yolo,
    CVAT: plans.plan_cvat,
    LABELME: plans.plan_labelme,
    MASKS: plan_masks.plan_masks,
    COLOUR_MASKS: plan_masks.plan_masks,
    MANIFEST: read_manifest.plan_manifest,
}


def run(spec: ImportSpec, found: Contents, store: ArtifactStore, folder: Path, work: Work) -> ImportResult:
    """Reads what is said, then the pictures."""
    archive, problems = found.archive, Problems()
    index = AnnotationIndex(folder, problems)
    try:
        plan = Plan(index, problems)
        _PLANNERS[found.format](Sources(spec, archive, plan, found.rejected, work))
        if plan.task == files.AUDIO_CLASSIFICATION:
            return read_manifest.sounds(spec, found, plan, store, folder, work)
        _note_left_out(found, plan)
        content = Content(folder, files.IMAGE, plan.task, plan.classes)
        read_annotated(archive, plan, content, found.rejected, work)
    finally:
        index.close()
    if not content.count:
        raise nothing_in(archive, found.rejected)
    if not plan.classes:
        message = f"{archive.name} names no class and marks no object"
        raise InvalidArgument("NO_CLASSES", message, field=plans.SOURCE, file=archive.name)
    if plan.task == files.IMAGE_CLASSIFICATION:
        naming.check_classes(list(content.class_counts))
        plan.classes = naming.sorted_classes(list(content.class_counts))
    if archive.ignored:
        plan.assumptions.append(
            f"Ignored: {several(archive.ignored, 'file')} that systems leave behind (such as .DS_Store, Thumbs.db)."
        )
    descriptor = keep(_descriptor(plan), content, store, work)
    return result(descriptor, found.format, content, found.rejected, plan.assumptions, problems.findings())


def _descriptor(plan: Plan) -> files.DatasetDescriptor:
    with_keypoints = plan.task == files.KEYPOINT_DETECTION
    return files.DatasetDescriptor(
        task=plan.task,
        kind=files.IMAGE,
        manifest=files.NO_BLOB,
        digest="",
        classes=plan.classes,
        keypoints=plan.keypoints if with_keypoints else (),
        skeleton=plan.skeleton if with_keypoints else (),
        palette=plan.palette,
    )


def _note_left_out(found: Contents, plan: Plan) -> None:
    """Lists the files that neither were read nor are spoken of."""
    spoken_of = set(plan.index.paths())
    for entry in found.archive.entries:
        if entry.path in spoken_of or entry.path in plan.used:
            continue
        if is_picture_name(entry.path):
            found.rejected.add(entry.path, "NO_ANNOTATION", f"no annotation file speaks of {entry.path}")
        else:
            found.rejected.add(entry.path, "NOT_USED", f"{entry.path} is neither a picture nor an annotation file that was read")
