"""What annotation files say, by format: Pascal VOC, YOLO, LabelMe, CVAT. No picture is read here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from modelyard.core.errors import InvalidArgument
from modelyard.core.words import several
from modelyard.dataset.domain import columns as naming
from modelyard.dataset.domain import cvat, json_stream, labelme, mask_files, safe_xml, voc, yolo
from modelyard.dataset.domain.layout import USAGE_NAMES
from modelyard.dataset.domain.named_points import PointNames
from modelyard.dataset.domain.picture_names import PictureNames, stem, usage_of
from modelyard.dataset.domain.records import ImportSpec
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker.annotation_index import Said
from modelyard.dataset.worker.content import Rejections
from modelyard.dataset.worker.read_annotated import Plan
from modelyard.formats import dataset as files
from modelyard.formats.annotations import Annotation
from modelyard.formats.archive import Entry
from modelyard.formats.dataset_tar import Archive
from modelyard.formats.pictures import is_picture_name

SOURCE = "dataset_import.source"
_TEXT_BYTES = 64 * 1024**2
_LISTS = ("train", "val", "test", "trainval")


class Sources:
    """An archive and what is found on the way; every planner takes one."""

    def __init__(self, spec: ImportSpec, archive: Archive, plan: Plan, rejected: Rejections, work: Work) -> None:
        self.spec, self.archive, self.plan, self.rejected, self.work = spec, archive, plan, rejected, work
        self.names = PictureNames(entry.path for entry in archive.entries if is_picture_name(entry.path))

    def ending(self, *endings: str) -> list[Entry]:
        """The files whose names end so."""
        return [entry for entry in self.archive.entries if entry.path.lower().endswith(endings)]

    def bytes_of(self, entry: Entry) -> bytes:
        """A whole annotation file of a picture."""
        self.plan.used.add(entry.path)
        return b"".join(self.archive.stream(entry, limit_bytes=_TEXT_BYTES))

    def text_of(self, entry: Entry) -> str:
        """The same as text."""
        return self.bytes_of(entry).decode("utf-8-sig", "replace")

    def missing(self, name: str, file: str) -> None:
        """Lists a picture that is spoken of and is not there."""
        message = f"{file} speaks of {name!r}, which {self.archive.name} does not hold"
        self.rejected.add(name, "MISSING_FILE", message)


Planner = Callable[[Sources], None]


def sort_classes(found: set[str]) -> tuple[str, ...]:
    """Class names in the one order that names have."""
    return naming.sorted_classes(list(found))


def settle(source: Sources, outlines: bool, found: Sequence[str] = ()) -> None:
    """The task: what the user said, else what the marks allow. Raises InvalidArgument BAD_TASK."""
    plan, wanted = source.plan, source.spec.task
    best = files.KEYPOINT_DETECTION if plan.keypoints else files.INSTANCE_SEGMENTATION if outlines else files.OBJECT_DETECTION
    allowed = [files.OBJECT_DETECTION, files.IMAGE_MULTILABEL]
    allowed += [files.INSTANCE_SEGMENTATION] if outlines else []
    allowed += [files.KEYPOINT_DETECTION] if plan.keypoints else []
    check_task(wanted, allowed)
    plan.task = wanted or best
    if not wanted:
        what = {files.KEYPOINT_DETECTION: "keypoints", files.INSTANCE_SEGMENTATION: "outlines of objects"}.get(
            best, "boxes alone"
        )
        plan.assumptions.append(f"The objects have {what}, so the task is {best}; name another with task.")


def check_task(wanted: str, allowed: Sequence[str]) -> None:
    """Raises InvalidArgument BAD_TASK."""
    if wanted and wanted not in allowed:
        message = f"task is {wanted!r}, but what the source says fits {', '.join(allowed)}"
        raise InvalidArgument("BAD_TASK", message, field="dataset_import.task", task=wanted)


# Pascal VOC


def plan_voc(source: Sources) -> None:
    """One XML a picture; ImageSets/*/train.txt and so on say the usage; labelmap.txt the order of the classes."""
    plan, seen = source.plan, set[str]()
    entries = source.ending(".xml")
    usages = _image_sets(source)
    for done, entry in enumerate(entries):
        if done % 500 == 0:
            source.work.stage("annotations", done, len(entries), "files", 0.0, 0.1)
        try:
            root = safe_xml.parse(source.bytes_of(entry), name=entry.path)
        except InvalidArgument as error:
            source.rejected.add(entry.path, error.reason, error.message)
            continue
        picture = _voc_picture(source, root, entry)
        if picture is None:
            source.missing(voc.file_name(root) or stem(entry.path), entry.path)
            continue
        marks = voc.marks(root, entry.path, plan.problems)
        seen |= {each.label for each in marks}
        usage = usages.get(stem(entry.path)) or usages.get(stem(picture)) or usage_of(picture)
        plan.index.add(picture, Said(usage, entry.path, Annotation(marks), size=voc.size(root)))
    listed = _label_map(source)
    plan.classes = (*listed, *(name for name in sort_classes(seen) if name not in listed))
    settle(source, outlines=False)
    plan.assumptions.append("Box coordinates were taken as they stand, as the edges of the box counted from 0.")


def _voc_picture(source: Sources, root: Any, entry: Entry) -> str | None:
    named = voc.file_name(root)
    found = source.names.find(named, entry.path) if named else None
    if found is not None:
        return found
    own = source.names.of_stem(entry.path)
    if own is not None and named:
        message = f"{entry.path}: <filename> is {named!r}, which is not there; {own} is"
        source.plan.problems.note("NAME_MISMATCH", entry.path, message)
    return own


def _image_sets(source: Sources) -> dict[str, str]:
    """Usage by stem."""
    texts = {}
    for entry in source.ending(".txt"):
        parts = entry.path.lower().split("/")
        if "imagesets" in parts and stem(parts[-1]) in _LISTS:
            texts[stem(parts[-1])] = source.text_of(entry)
    ordered = {USAGE_NAMES[name]: texts[name] for name in ("train", "val", "test") if name in texts}
    if "trainval" in texts and not {"train", "val"} & set(texts):
        ordered["train"] = texts["trainval"]
    return voc.usages(ordered)


def _label_map(source: Sources) -> tuple[str, ...]:
    """Class names in the order of labelmap.txt; () without one."""
    for entry in source.ending(*mask_files.FILES):
        if entry.path.rsplit("/", 1)[-1].lower() in mask_files.FILES:
            lines = (line.split(":")[0].strip() for line in source.text_of(entry).splitlines())
            return tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    return ()


# YOLO


def plan_yolo(source: Sources) -> None:
    """A text file a picture; data.yaml (or classes.txt, obj.names) names the classes."""
    plan = source.plan
    facts = _yolo_facts(source)
    labels = {_label_key(entry.path): entry for entry in source.ending(".txt") if not _is_list(entry.path)}
    lengths: set[int] = set()
    largest = -1
    found = background = 0
    for path in sorted(source.names.paths):
        entry = labels.get(_label_key(path))
        text = source.text_of(entry) if entry is not None else ""
        background += not text.strip()
        found += entry is not None
        rows = [line.split() for line in text.splitlines() if line.strip()]
        lengths |= {len(row) for row in rows}
        largest = max([largest, *(int(row[0]) for row in rows if row[0].isdigit())])
        plan.index.add(path, Said(usage_of(path), entry.path if entry else path, raw=text))
    if not found:
        message = f"{source.archive.name} holds no label file (.txt) that has the name of a picture"
        raise InvalidArgument("NO_EXAMPLES", message, field=SOURCE, file=source.archive.name)
    if not facts.classes:
        facts = yolo.Facts(
            tuple(str(number) for number in range(min(largest, 9999) + 1)), facts.keypoint_count, facts.keypoint_values
        )
        plan.assumptions.append("No data.yaml, classes.txt or obj.names names the classes; they are called by their numbers.")
    plan.facts, plan.classes = facts, facts.classes
    plan.keypoints = tuple(f"keypoint_{number}" for number in range(facts.keypoint_count))
    settle(source, outlines=yolo.task_of(lengths, facts) == files.INSTANCE_SEGMENTATION)
    if background:
        plan.assumptions.append(f"Without any of the classes, by an empty label file or none: {several(background, 'picture')}.")


def _yolo_facts(source: Sources) -> yolo.Facts:
    import yaml

    for entry in source.ending(".yaml", ".yml"):
        text = source.text_of(entry)
        if "names" not in text or len(text) > 4 * 1024**2:
            continue
        try:
            return yolo.facts(yaml.safe_load(text), entry.path)
        except yaml.YAMLError as error:
            raise InvalidArgument("BAD_YAML", f"{entry.path} is not YAML: {error}", file=entry.path) from error
    for entry in source.ending("classes.txt", ".names"):
        return yolo.Facts(tuple(line.strip() for line in source.text_of(entry).splitlines() if line.strip()))
    return yolo.Facts()


def _is_list(path: str) -> bool:
    """Whether a text file lists something instead of describing a picture."""
    name = path.rsplit("/", 1)[-1].lower()
    return name in ("classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt") or name.startswith("readme")


def _label_key(path: str) -> str:
    """The same for a picture and its label file: folders images and labels are one."""
    folders, _, name = path.rpartition("/")
    parts = [part for part in folders.lower().split("/") if part not in ("images", "labels", "obj_train_data")]
    return "/".join([*parts, stem(name)])


# LabelMe and CVAT


def plan_labelme(source: Sources) -> None:
    """A JSON a picture."""
    plan, seen, outlines = source.plan, set[str](), False
    names = PointNames()
    for entry in source.ending(".json"):
        try:
            raw = json_stream.load(source.bytes_of(entry), name=entry.path)
        except InvalidArgument as error:
            source.rejected.add(entry.path, error.reason, error.message)
            continue
        if not labelme.is_document(raw):
            continue
        picture = source.names.find(str(raw["imagePath"]), entry.path) or source.names.of_stem(entry.path)
        if picture is None:
            source.missing(str(raw["imagePath"]), entry.path)
            continue
        marks = labelme.marks(raw, entry.path, plan.problems, names)
        seen |= {each.label for each in marks}
        outlines |= any(each.polygons for each in marks)
        size = (raw.get("imageWidth"), raw.get("imageHeight"))
        known = (size[0], size[1]) if isinstance(size[0], int) and isinstance(size[1], int) else None
        plan.index.add(picture, Said(usage_of(picture) or usage_of(entry.path), entry.path, Annotation(marks), size=known))
    plan.keypoints = tuple(names.names)
    listed = _classes_alone(_label_map(source), seen, plan.keypoints)
    plan.classes = (*listed, *(name for name in sort_classes(seen) if name not in listed))
    settle(source, outlines)


def plan_cvat(source: Sources) -> None:
    """One XML for many pictures, read image by image."""
    plan, seen, outlines, marked = source.plan, set[str](), False, False
    names = PointNames()
    listed: tuple[str, ...] = ()
    labels = [0, 0]  # pictures with one, with several
    for entry in source.ending(".xml"):
        plan.used.add(entry.path)
        for element in safe_xml.elements(source.archive.stream(entry, limit_bytes=8 * 1024**3), depth=2, name=entry.path):
            if element.tag == "meta":
                listed = tuple(dict.fromkeys([*listed, *cvat.classes(element)]))
            if element.tag != "image":
                continue
            found = cvat.picture(element, entry.path, plan.problems, names)
            path = source.names.find(found.name, entry.path)
            if path is None:
                source.missing(found.name, entry.path)
                continue
            said = found.annotation
            seen |= {each.label for each in said.marks} | set(said.labels)
            outlines |= any(each.polygons or each.mask for each in said.marks)
            marked |= bool(said.marks)
            labels[0] += len(said.labels) == 1
            labels[1] += len(said.labels) != 1
            usage = USAGE_NAMES.get(found.usage.lower()) or usage_of(path)
            plan.index.add(path, Said(usage, entry.path, said, size=found.size))
    plan.keypoints = tuple(names.names)
    listed = _classes_alone(listed, seen, plan.keypoints)
    plan.classes = (*listed, *(name for name in sort_classes(seen) if name not in listed))
    if marked:
        settle(source, outlines)
    else:
        settle_labels(source, several=labels[1] > 0)


def _classes_alone(listed: Sequence[str], seen: set[str], keypoints: Sequence[str]) -> tuple[str, ...]:
    """The listed names without those that are of key points and of nothing else."""
    return tuple(name for name in listed if name in seen or name not in keypoints)


def settle_labels(source: Sources, *, several: bool) -> None:
    """The task where pictures have labels and no marks."""
    allowed = [files.IMAGE_MULTILABEL] if several else [files.IMAGE_CLASSIFICATION, files.IMAGE_MULTILABEL]
    check_task(source.spec.task, allowed)
    source.plan.task = source.spec.task or allowed[0]
    if not source.spec.task:
        why = "Some pictures have several labels or none" if several else "Every picture has one label"
        source.plan.assumptions.append(f"{why}, so the task is {allowed[0]}.")
    if source.plan.task == files.IMAGE_CLASSIFICATION:
        source.plan.classes = sort_classes(set(source.plan.classes))
