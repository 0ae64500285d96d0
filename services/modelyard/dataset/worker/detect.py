"""What a source is: by the names in it, and by the first bytes of a few of its files."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import idx, mask_files, yolo
from modelyard.dataset.domain.picture_names import stem
from modelyard.dataset.domain.records import (
    AUDIO_FOLDERS,
    COCO,
    CSV,
    CVAT,
    IDX,
    IMAGE_FOLDERS,
    LABELME,
    MANIFEST,
    MASKS,
    SENSOR_CSV,
    TS,
    VOC,
    YOLO,
)
from modelyard.dataset.worker.content import Rejections
from modelyard.formats.archive import Entry
from modelyard.formats.dataset_audio import is_sound_name
from modelyard.formats.dataset_tar import Archive
from modelyard.formats.pictures import EXTENSIONS, is_picture_name

TABLE_NAMES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".csv.gz", ".tsv.gz", ".jsonl", ".ndjson")
_LOOKED_AT = 5  # files of a kind
_HEAD = 64 * 1024
_TIME_NAMES = ("datetime", "timestamp", "time", "date", "t", "ts")
_MOMENT_NAMES = ("anomaly", "is_anomaly", "changepoint", "outlier", "fault")


@dataclass(frozen=True)
class Contents:
    """What an archive holds, by kind, and the format it was taken for ("": none)."""

    format: str
    archive: Archive
    pictures: list[Entry]
    tables: list[Entry]
    idx: list[Entry]
    rejected: Rejections = field(default_factory=Rejections)

    def others(self, used: Sequence[Entry]) -> list[str]:
        """Paths of the files that are not among those used."""
        if len(used) == len(self.archive.entries):
            return []
        known = {entry.index for entry in used}
        return [entry.path for entry in self.archive.entries if entry.index not in known]


def contents(archive: Archive, wanted: str) -> Contents:
    """Looks at an archive; `wanted` is the format the user named."""
    rejected = Rejections()
    for refused in archive.rejected:
        rejected.add(refused.path, refused.reason, refused.message)
    named = _by_ending(archive.entries)
    kinds: dict[str, list[Entry]] = {"pictures": [], "tables": [], "idx": []}
    for ending, some in named.items():
        if ending in EXTENSIONS:
            kinds["pictures"] += some
            continue
        for entry in some:
            if kind := _kind_of(entry.path):
                kinds[kind].append(entry)
    for entries in kinds.values():
        entries.sort(key=_INDEX)
    detected = wanted or _detect(archive, kinds, named)
    return Contents(detected, archive, kinds["pictures"], kinds["tables"], kinds["idx"], rejected)


_INDEX = attrgetter("index")
Named = Mapping[str, Sequence[Entry]]
"""The files of an archive by the ending of their names, in lower case with its dot."""


def _by_ending(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    found: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        path = entry[0]
        found[path[path.rfind(".") :]].append(entry)
    joined: dict[str, list[Entry]] = {}
    for ending, some in found.items():
        joined[ending.lower()] = joined.get(ending.lower(), []) + some
    return joined


def _kind_of(path: str) -> str:
    name = path.rsplit("/", 1)[-1].lower()
    if idx.is_idx_name(path) and not is_picture_name(name) and not name.endswith((".csv", ".parquet", ".json", ".jsonl", ".ts")):
        return "idx"
    if name.endswith(TABLE_NAMES):
        return "tables"
    return "pictures" if is_picture_name(name) or "." not in name else ""


def _detect(archive: Archive, kinds: dict[str, list[Entry]], named: Named) -> str:
    if idx.find_pairs([entry.path for entry in kinds["idx"]])[0]:
        return IDX
    pictures = [entry.path for ending in named if ending in EXTENSIONS for entry in named[ending]]
    sounds = any(is_sound_name(ending) for ending in named)
    if (pictures or sounds) and _manifests(archive, named):
        return MANIFEST
    if pictures:
        return (
            _of_xml(archive, named)
            or _of_json(archive, named)
            or _of_labels(archive, named, pictures)
            or _of_masks(pictures)
            or IMAGE_FOLDERS
        )
    if sounds:
        return AUDIO_FOLDERS
    if _ending(named, ".ts"):
        return TS
    if _are_series(archive, named, [entry for entry in kinds["tables"] if _is_text_table(entry.path)]):
        return SENSOR_CSV
    if kinds["tables"]:
        return CSV
    if _of_json(archive, named) == COCO:
        return COCO  # its pictures are all missing, and each is named
    return IMAGE_FOLDERS if kinds["pictures"] or kinds["idx"] else ""


def _ending(named: Named, *endings: str) -> list[Entry]:
    return sorted((entry for ending in endings for entry in named.get(ending, ())), key=_INDEX)


def head(archive: Archive, entry: Entry, size: int = _HEAD) -> bytes:
    """The first bytes of a file; b"" when it cannot be read."""
    try:
        return next(archive.stream(entry, limit_bytes=2**40), b"")[:size]
    except InvalidArgument as error:
        if error.reason == "ARCHIVE_BOMB":
            raise
        return b""


def _of_xml(archive: Archive, named: Named) -> str:
    for entry in _ending(named, ".xml")[:_LOOKED_AT]:
        found = re.search(rb"<(annotations?)[\s>]", head(archive, entry))
        if found:
            return CVAT if found[1] == b"annotations" else VOC
    return ""


def _of_json(archive: Archive, named: Named) -> str:
    for entry in _ending(named, ".json")[:_LOOKED_AT]:
        start = head(archive, entry)
        if b'"shapes"' in start and b'"images"' not in start:
            return LABELME
        if re.search(rb'"(images|annotations|categories)"\s*:\s*\[', start):
            return COCO
    return ""


def _of_labels(archive: Archive, named: Named, pictures: Sequence[str]) -> str:
    """YOLO: text files of numbers that have the names of pictures."""
    texts_at = _ending(named, ".txt")
    stems = {stem(path) for path in pictures} if texts_at else set()
    labels = [entry for entry in texts_at if stem(entry.path) in stems][:_LOOKED_AT]
    texts = [head(archive, entry, 4096).decode("utf-8", "replace") for entry in labels]
    return YOLO if texts and all(yolo.is_label_text(text) for text in texts) else ""


def _of_masks(pictures: Sequence[str]) -> str:
    """Masks: half of the pictures or nearly so are masks of others."""
    return MASKS if 2 * len(mask_files.pairs(pictures)) >= 0.8 * len(pictures) else ""


def _manifests(archive: Archive, named: Named) -> list[Entry]:
    return [entry for entry in _ending(named, ".manifest", ".jsonl") if is_manifest(head(archive, entry))]


def is_manifest(start: bytes) -> bool:
    """Whether a file's first bytes are those of a ModelArts-style manifest: JSON objects with a source, one a line."""
    line = start.lstrip(b"\xef\xbb\xbf \r\n").split(b"\n", 1)[0]
    if not line.startswith(b"{"):
        return False
    if len(line) >= _HEAD:
        return b'"source"' in line
    try:
        first = json.loads(line)
    except ValueError:
        return False
    return isinstance(first, dict) and isinstance(first.get("source"), str) and ("annotation" in first or "usage" in first)


def _is_text_table(path: str) -> bool:
    return path.lower().endswith((".csv", ".tsv"))


def _are_series(archive: Archive, named: Named, tables: Sequence[Entry]) -> bool:
    """Whether tables are recordings: several that begin with a time, or one that also says what is an anomaly."""
    if not tables or len(tables) != len(_ending(named, ".csv", ".tsv")):
        return False
    starts = [head(archive, entry, 4096) for entry in tables[:_LOOKED_AT]]
    return all(has_times(start) for start in starts) and (len(tables) > 1 or is_recording(starts[0]))


def header(start: bytes) -> list[str]:
    """Names in the first line of a table."""
    line = start.decode("utf-8-sig", "replace").split("\n", 1)[0].strip()
    return [name.strip().strip('"').lower() for name in re.split(r"[,;\t|]", line)]


def has_times(start: bytes) -> bool:
    """Whether a table's first column is called like a time."""
    names = header(start)
    return len(names) > 1 and names[0] in _TIME_NAMES


def is_recording(start: bytes) -> bool:
    """Whether one table alone is plainly a recording: times, and a column that marks moments."""
    return has_times(start) and bool(set(header(start)) & set(_MOMENT_NAMES))
