"""An import of pictures or sounds that people are to label: whatever folders they lie in, they have no label yet. Rows of tables
that people are to label are read as other tables are (import_job)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import InvalidArgument
from modelyard.core.words import several
from modelyard.dataset.domain.near import THUMBNAIL
from modelyard.dataset.domain.records import AUDIO_FOLDERS, IMAGE_FOLDERS, ImportResult, ImportSpec
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker.content import Content, Example, Rejections
from modelyard.dataset.worker.detect import TABLE_NAMES
from modelyard.dataset.worker.read_pictures import Answer, Task, entry_task, take_all
from modelyard.dataset.worker.results import keep, nothing_in, result
from modelyard.formats import dataset as files
from modelyard.formats import dataset_audio, pictures
from modelyard.formats.dataset_tar import Archive
from modelyard.formats.pictures import is_picture_name

PICTURE_TASKS = (
    files.IMAGE_CLASSIFICATION,
    files.IMAGE_MULTILABEL,
    files.OBJECT_DETECTION,
    files.SEMANTIC_SEGMENTATION,
    files.INSTANCE_SEGMENTATION,
    files.KEYPOINT_DETECTION,
)


def is_table(archive: Archive) -> bool:
    """Whether what people are to label are the rows of a table: there is one, and no picture or sound."""
    paths = [entry.path.lower() for entry in archive.entries]
    if any(is_picture_name(path) or dataset_audio.is_sound_name(path) for path in paths):
        return False
    return any(path.endswith(TABLE_NAMES) for path in paths)


def run(spec: ImportSpec, archive: Archive, store: ArtifactStore, folder: Path, work: Work) -> ImportResult:
    """Takes in all pictures, or all sounds. Raises InvalidArgument NO_EXAMPLES, BAD_TASK."""
    rejected = Rejections()
    for refused in archive.rejected:
        rejected.add(refused.path, refused.reason, refused.message)
    sounds = sum(dataset_audio.is_sound_name(entry.path) for entry in archive.entries)
    of_sounds = sounds > sum(is_picture_name(entry.path) for entry in archive.entries)
    tasks = (files.AUDIO_CLASSIFICATION,) if of_sounds else PICTURE_TASKS
    task = spec.task or tasks[0]
    if task not in tasks:
        what = "sounds" if of_sounds else "pictures"
        message = f"the source holds {what}; task is {task!r}, but {', '.join(tasks)} fit {what} that people are to label"
        raise InvalidArgument("BAD_TASK", message, field="dataset_import.task", task=task)
    kind = files.AUDIO if of_sounds else files.IMAGE
    is_one, read = (dataset_audio.is_sound_name, _sound) if of_sounds else (is_picture_name, _picture)
    content = Content(folder, kind, task)
    _take(archive, content, is_one, read, rejected, work)
    if not content.count:
        raise nothing_in(archive, rejected)
    descriptor = keep(files.DatasetDescriptor(task, kind, files.NO_BLOB, ""), content, store, work)
    assumptions = ["Taken without labels, as asked; folders were not taken as classes. Annotate them, then publish."]
    if not spec.task and not of_sounds:
        assumptions.append(f"The task was taken as {task}; name another one where boxes, outlines or masks are to be drawn.")
    if archive.ignored:
        assumptions.append(
            f"Ignored: {several(archive.ignored, 'file')} that systems leave behind (such as .DS_Store, Thumbs.db)."
        )
    return result(descriptor, AUDIO_FOLDERS if of_sounds else IMAGE_FOLDERS, content, rejected, assumptions)


def _take(
    archive: Archive,
    content: Content,
    is_one: Callable[[str], bool],
    read: Callable[[str, bytes], Answer],
    rejected: Rejections,
    work: Work,
) -> None:
    chosen = [entry for entry in archive.entries if is_one(entry.path)]
    for entry in archive.entries:
        if not is_one(entry.path):
            rejected.add(entry.path, "NOT_USED", f"{entry.path} is not one of the {content.kind} files")

    def tasks() -> Iterator[Task]:
        for entry in chosen:
            yield entry_task(archive, entry, partial(read, entry.path))

    take_all(tasks(), len(chosen), content, rejected, work)


def _picture(path: str, data: bytes) -> Answer:
    try:
        info, thumbnail = pictures.probe_with_thumbnail(data, size=THUMBNAIL, name=path)
    except InvalidArgument as error:
        return path, error
    return Example(path, None, None, data, (info.width, info.height), thumbnail.tobytes())


def _sound(path: str, data: bytes) -> Answer:
    try:
        info = dataset_audio.probe(data, name=path)
    except InvalidArgument as error:
        return path, error
    return Example(path, None, None, data, (info.rate, info.frames, info.channels))
