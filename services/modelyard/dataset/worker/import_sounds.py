"""An import of sounds: WAV and FLAC files in class folders, or with the class in their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import columns as naming
from modelyard.dataset.domain.layout import USAGE_NAMES, find_layout
from modelyard.dataset.domain.name_patterns import NamePattern, parts_of
from modelyard.dataset.domain.picture_names import stem
from modelyard.dataset.domain.records import Finding, ImportResult, ImportSpec
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker.content import Content, Example
from modelyard.dataset.worker.detect import Contents
from modelyard.dataset.worker.read_pictures import Answer, Task, entry_task, take_all
from modelyard.dataset.worker.results import keep, nothing_in, result
from modelyard.formats import dataset as files
from modelyard.formats import dataset_audio
from modelyard.formats.annotations import Annotation


@dataclass(frozen=True)
class Named:
    """What the path of a sound says."""

    label: str
    usage: str | None
    attributes: Mapping[str, str] = field(default_factory=dict)


def run(spec: ImportSpec, found: Contents, store: ArtifactStore, folder: Path, work: Work) -> ImportResult:
    """Reads the sounds. Raises InvalidArgument NO_EXAMPLES, ONE_CLASS, BAD_TASK, BAD_NAME_PATTERN."""
    if spec.task not in ("", files.AUDIO_CLASSIFICATION):
        message = f"the source holds sounds; task is {spec.task!r}, but {files.AUDIO_CLASSIFICATION} fits sounds"
        raise InvalidArgument("BAD_TASK", message, field="dataset_import.task", task=spec.task)
    paths = [entry.path for entry in found.archive.entries if dataset_audio.is_sound_name(entry.path)]
    places, assumptions = name_all(paths, spec.name_pattern)
    for path in paths:
        if path not in places:
            found.rejected.add(path, "NO_LABEL", f"{path} lies in no class folder, and its name says no class")
    return take(places, found, list(assumptions), store, folder, work)


def take(
    places: Mapping[str, Named],
    found: Contents,
    assumptions: Sequence[str],
    store: ArtifactStore,
    folder: Path,
    work: Work,
    findings: Sequence[Finding] = (),
) -> ImportResult:
    """Takes in the sounds of which the label is known."""
    content = Content(folder, files.AUDIO, files.AUDIO_CLASSIFICATION)
    entries = [entry for entry in found.archive.entries if entry.path in places]
    for entry in found.archive.entries:
        if not dataset_audio.is_sound_name(entry.path) and not entry.path.lower().endswith((".manifest", ".jsonl")):
            found.rejected.add(entry.path, "NOT_A_SOUND", f"{entry.path} is not a sound file (WAV, FLAC)")

    def tasks() -> Iterator[Task]:
        for entry in entries:
            yield entry_task(found.archive, entry, partial(_sound, entry.path, places[entry.path]))

    take_all(tasks(), len(entries), content, found.rejected, work)
    if not content.count:
        raise nothing_in(found.archive, found.rejected)
    naming.check_classes(list(content.class_counts))
    classes = naming.sorted_classes(list(content.class_counts))
    unfinished = files.DatasetDescriptor(files.AUDIO_CLASSIFICATION, files.AUDIO, files.NO_BLOB, "", classes=classes)
    descriptor = keep(unfinished, content, store, work)
    return result(descriptor, found.format, content, found.rejected, assumptions, findings)


def name_all(paths: Sequence[str], pattern: str) -> tuple[dict[str, Named], tuple[str, ...]]:
    """Label, usage and attributes by path, and what was assumed. Raises InvalidArgument BAD_NAME_PATTERN."""
    if pattern:
        return _by_pattern(paths, pattern), ()
    layout = find_layout(paths)
    labels = {place.label for place in layout.places.values()}
    if len(labels) > 1:
        return {path: Named(place.label, place.usage) for path, place in layout.places.items()}, layout.assumptions
    parts = {path: stem(path).split("_") for path in paths}
    counts = {len(each) for each in parts.values()}
    firsts = {each[0] for each in parts.values()}
    if counts & {1} or len(counts) > 1 or not 1 < len(firsts) <= max(2, len(paths) // 2):
        return {path: Named(place.label, place.usage) for path, place in layout.places.items()}, layout.assumptions
    said = parts_of(list(parts.values()), "speaker")
    rest = ", ".join(f"part_{number} ({part})" for number, part in enumerate(said[1:], start=2))
    pattern = "_".join(f"{{{part.proposed}}}" for part in said)
    sentence = f'The class is what names start with, up to "_"; what follows was kept as {rest}. '
    sentence += f'Import with name_pattern "{pattern}" (--name-pattern), or names that fit better, to call these parts so.'
    return {path: Named(each[0], _usage(path), _parts(each)) for path, each in parts.items()}, (sentence,)


def _parts(parts: Sequence[str]) -> dict[str, str]:
    return {f"part_{number}": text for number, text in enumerate(parts[1:], start=2)}


def _by_pattern(paths: Sequence[str], pattern: str) -> dict[str, Named]:
    form = NamePattern(pattern, needed="label", field="dataset_import.name_pattern")
    found = {path: form.match(stem(path)) for path in paths}
    return {
        path: Named(match["label"], _usage(path), {k: v for k, v in match.items() if k != "label"})
        for path, match in found.items()
        if match is not None
    }


def _usage(path: str) -> str | None:
    return next((USAGE_NAMES[part] for part in path.lower().split("/")[:-1] if part in USAGE_NAMES), None)


def _sound(path: str, named: Named, data: bytes) -> Answer:
    try:
        info = dataset_audio.probe(data, name=path)
    except InvalidArgument as error:
        return path, error
    sizes = (info.rate, info.frames, info.channels)
    return Example(path, named.label, named.usage, data, sizes, annotation=Annotation(attributes=named.attributes))
