"""What a source is: by the names in it, and by the first bytes of a few of its files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

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
from modelyard.formats.pictures import is_picture_name

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
        known = {entry.index for entry in used}
        return [entry.path for entry in self.archive.entries if entry.index not in known]


def contents(archive: Archive, wanted: str) -> Contents:
    """Looks at an archive; `wanted` is the format the user named."""
    rejected = Rejections()
    for refused in archive.rejected:
        rejected.add(refused.path, refused.reason, refused.message)
    kinds: dict[str, list[Entry]] = {"pictures": [], "tables": [], "idx": []}
    for entry in archive.entries:
        if kind := _kind_of(entry.path):
            kinds[kind].append(entry)
    detected = wanted or _detect(archive, kinds)
    return Contents(detected, archive, kinds["pictures"], kinds["tables"], kinds["idx"], rejected)


def _kind_of(path: str) -> str:
    name = path.rsplit("/", 1)[-1].lower()
    if idx.is_idx_name(path) and not is_picture_name(name) and not name.endswith((".csv", ".parquet", ".json", ".jsonl", ".ts")):
        return "idx"
    if name.endswith(TABLE_NAMES):
        return "tables"
    return "pictures" if is_picture_name(name) or "." not in name else ""


def _detect(archive: Archive, kinds: dict[str, list[Entry]]) -> str:
    if idx.find_pairs([entry.path for entry in kinds["idx"]])[0]:
        return IDX
    pictures = [entry.path for entry in kinds["pictures"] if is_picture_name(entry.path)]
    sounds = [entry.path for entry in archive.entries if is_sound_name(entry.path)]
    if (pictures or sounds) and _manifests(archive):
        return MANIFEST
    if pictures:
        return _of_xml(archive) or _of_json(archive) or _of_labels(archive, pictures) or _of_masks(pictures) or IMAGE_FOLDERS
    if sounds:
        return AUDIO_FOLDERS
    if _ending(archive, ".ts"):
        return TS
    if _are_series(archive, [entry for entry in kinds["tables"] if _is_text_table(entry.path)]):
        return SENSOR_CSV
    if kinds["tables"]:
        return CSV
    if _of_json(archive) == COCO:
        return COCO  # its pictures are all missing, and each is named
    return IMAGE_FOLDERS if kinds["pictures"] or kinds["idx"] else ""


def _ending(archive: Archive, *endings: str) -> list[Entry]:
    return [entry for entry in archive.entries if entry.path.lower().endswith(endings)]


def head(archive: Archive, entry: Entry, size: int = _HEAD) -> bytes:
    """The first bytes of a file; b"" when it cannot be read."""
    try:
        return next(archive.stream(entry, limit_bytes=2**40), b"")[:size]
    except InvalidArgument as error:
        if error.reason == "ARCHIVE_BOMB":
            raise
        return b""


def _of_xml(archive: Archive) -> str:
    for entry in _ending(archive, ".xml")[:_LOOKED_AT]:
        found = re.search(rb"<(annotations?)[\s>]", head(archive, entry))
        if found:
            return CVAT if found[1] == b"annotations" else VOC
    return ""


def _of_json(archive: Archive) -> str:
    for entry in _ending(archive, ".json")[:_LOOKED_AT]:
        start = head(archive, entry)
        if b'"shapes"' in start and b'"images"' not in start:
            return LABELME
        if re.search(rb'"(images|annotations|categories)"\s*:\s*\[', start):
            return COCO
    return ""


def _of_labels(archive: Archive, pictures: Sequence[str]) -> str:
    """YOLO: text files of numbers that have the names of pictures."""
    stems = {stem(path) for path in pictures}
    labels = [entry for entry in _ending(archive, ".txt") if stem(entry.path) in stems][:_LOOKED_AT]
    texts = [head(archive, entry, 4096).decode("utf-8", "replace") for entry in labels]
    return YOLO if texts and all(yolo.is_label_text(text) for text in texts) else ""


def _of_masks(pictures: Sequence[str]) -> str:
    """Masks: half of the pictures or nearly so are masks of others."""
    return MASKS if 2 * len(mask_files.pairs(pictures)) >= 0.8 * len(pictures) else ""


def _manifests(archive: Archive) -> list[Entry]:
    return [entry for entry in _ending(archive, ".manifest", ".jsonl") if is_manifest(head(archive, entry))]


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


def _are_series(archive: Archive, tables: Sequence[Entry]) -> bool:
    """Whether tables are recordings: several that begin with a time, or one that also says what is an anomaly."""
    if not tables or len(tables) != len(_ending(archive, ".csv", ".tsv")):
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
