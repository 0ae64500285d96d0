"""An import: finds out what the source is, reads it, and stores the content. What fails leaves nothing behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import InvalidArgument
from modelyard.core.words import several
from modelyard.dataset.domain import columns as typing_
from modelyard.dataset.domain import idx, tables
from modelyard.dataset.domain.layout import find_layout
from modelyard.dataset.domain.records import (
    ANNOTATED_FORMATS,
    AUDIO_FOLDERS,
    CSV,
    IDX,
    IMAGE_FOLDERS,
    JSON_LINES,
    PARQUET,
    SENSOR_CSV,
    TABLE_FORMATS,
    TS,
    TSV,
    Finding,
    ImportResult,
    ImportSpec,
    ImportSummary,
)
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import (
    detect,
    import_annotated,
    import_series,
    import_sounds,
    import_unlabelled,
    read_pictures,
    read_table,
)
from modelyard.dataset.worker.content import Content, Rejections, all_or_none
from modelyard.dataset.worker.detect import Contents
from modelyard.dataset.worker.results import keep, nothing_in, result
from modelyard.dataset.worker.sources import SOURCE, one_file, open_archive
from modelyard.formats import dataset as files
from modelyard.formats.archive import Entry
from modelyard.formats.dataset_tar import Archive
from modelyard.formats.folder import FolderPlace, SafeFolder
from modelyard.formats.pictures import is_picture_name

_SPREADSHEETS: Final = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
_SPREADSHEET_HEADS: Final = (b"PK", b"\xd0\xcf\x11\xe0")
"""A zip, or what Excel wrote before; text under such a name is read as what it is."""


def run(spec: ImportSpec, store: ArtifactStore, folder: Path, work: Work) -> ImportResult:
    """Reads the source and stores its content; `folder` is empty and for this import alone. Raises InvalidArgument, Cancelled."""
    work.stage("read", 0, 0, "bytes", 0.0, 0.0)
    name = spec.file_name or "the source"
    if spec.local_folder is not None:
        place = FolderPlace(spec.local_folder.path, spec.local_folder.device, spec.local_folder.inode)
        with SafeFolder(place, name=spec.file_name or Path(place.path).name) as here:
            return _run_opened(spec, here, store, folder, work)
    source = store.path(spec.source)
    with source.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise InvalidArgument("NO_EXAMPLES", f"{name} is empty (0 bytes)", field=SOURCE, file=name)
    if Path(name).suffix.lower() in _SPREADSHEETS and head.startswith(_SPREADSHEET_HEADS):
        message = f"{name} is a spreadsheet, which is not read; save the sheet that holds the table as CSV, and give that"
        raise InvalidArgument("NOT_A_TABLE", message, field=SOURCE, file=name)
    opened = open_archive(source, head, name, folder)
    if opened is not None:
        with opened as archive:
            return _run_opened(spec, archive, store, folder, work)
    source, name = one_file(source, head, name, folder)
    with source.open("rb") as file:
        head = file.read(4096)
    if idx.is_idx(head):
        message = f"{name} is one IDX file; pictures and labels come in two, so send a zip of the folder that holds both"
        raise InvalidArgument("IDX_LABELS_MISSING", message, field=SOURCE, file=name)
    if import_series.is_one(spec, head, name) and not spec.unlabelled:
        return import_series.run_one(spec, source, name, store, folder, work)
    return _run_table(spec, source, name, store, folder, work)


# Archives and folders


def _run_opened(spec: ImportSpec, archive: Archive, store: ArtifactStore, folder: Path, work: Work) -> ImportResult:
    if spec.unlabelled and not import_unlabelled.is_table(archive):
        return import_unlabelled.run(spec, archive, store, folder, work)
    return _run_archive(spec, archive, store, folder, work)


def _run_archive(spec: ImportSpec, archive: Archive, store: ArtifactStore, folder: Path, work: Work) -> ImportResult:
    found = detect.contents(archive, spec.format or (SENSOR_CSV if spec.task == files.FORECASTING else ""))
    if not found.format:
        raise nothing_in(archive, found.rejected)
    if found.format == IDX:
        return _run_pictures(spec, archive, found, _read_idx, store, folder, work)
    if found.format == IMAGE_FOLDERS:
        return _run_pictures(spec, archive, found, _read_folders, store, folder, work)
    if found.format in ANNOTATED_FORMATS:
        return import_annotated.run(spec, found, store, folder, work)
    if found.format == AUDIO_FOLDERS:
        return import_sounds.run(spec, found, store, folder, work)
    if found.format in (TS, SENSOR_CSV) and not spec.unlabelled:
        return import_series.run(spec, found, store, folder, work)
    return _run_packed_table(spec, found, store, folder, work)


def _run_packed_table(spec: ImportSpec, found: Contents, store: ArtifactStore, folder: Path, work: Work) -> ImportResult:
    archive = found.archive
    entry = _only_table(found.tables, archive.name)
    unpacked = archive.copy(entry, folder / "table", limit_bytes=read_table.MAX_TABLE_BYTES)
    for other in found.others([entry]):
        found.rejected.add(other, "NOT_A_TABLE", f"{other} is not the table that was read")
    with unpacked.open("rb") as file:
        head = file.read(4096)
    unpacked, name = one_file(unpacked, head, entry.path, folder)
    return _run_table(spec, unpacked, name, store, folder, work, found.rejected)


def _only_table(entries: Sequence[Entry], name: str) -> Entry:
    if not entries:
        raise InvalidArgument("NO_EXAMPLES", f"{name} holds no table (.csv, .tsv, .jsonl, .parquet)", field=SOURCE, file=name)
    if len(entries) > 1:
        listed = ", ".join(entry.path for entry in entries[:20])
        message = (
            f"{name} holds {len(entries)} tables: {listed}; send the one to import (with a column usage to say which row is "
            "what), or name the format sensor_csv if each is a recording"
        )
        raise InvalidArgument("SEVERAL_TABLES", message, field=SOURCE, file=name, tables=listed)
    return entries[0]


# Pictures

Reader = Callable[[Contents, Content, Work], Sequence[str]]


def _read_folders(found: Contents, content: Content, work: Work) -> Sequence[str]:
    candidates = [*found.pictures, *(entry for entry in found.idx)]
    layout = find_layout([entry.path for entry in candidates])
    for path in found.others(candidates):
        found.rejected.add(path, "NOT_A_PICTURE", f"{path} is not a picture file")
    read_pictures.read_folders(found.archive, layout, content, found.rejected, work)
    empty = sorted({place.label for place in layout.by_folder.values()} - set(content.class_counts))
    lost = f"Without any readable picture, these classes were left out: {', '.join(empty[:20])}." if empty else ""
    return (*layout.assumptions, *((lost,) if lost else ()))


def _read_idx(found: Contents, content: Content, work: Work) -> Sequence[str]:
    pairs, alone = idx.find_pairs([entry.path for entry in found.archive.entries])
    if not pairs:
        message = f"{found.archive.name} holds no pair of IDX files such as train-images-idx3-ubyte and train-labels-idx1-ubyte"
        raise InvalidArgument("IDX_LABELS_MISSING", message, field=SOURCE, file=found.archive.name)
    for path in alone:
        found.rejected.add(path, "NO_PARTNER", f"{path} is not one of a pair of picture and label files that were read")
    read_pictures.read_idx(found.archive, pairs, content, found.rejected, work)
    return [f"Read as IDX: {', '.join(pair.images for pair in pairs)}; the classes are the numbers in the label files."]


def _run_pictures(
    spec: ImportSpec, archive: Archive, found: Contents, read: Reader, store: ArtifactStore, folder: Path, work: Work
) -> ImportResult:
    if spec.task not in ("", files.IMAGE_CLASSIFICATION):
        message = f"the source holds pictures; task is {spec.task!r}, but {files.IMAGE_CLASSIFICATION} fits pictures"
        raise InvalidArgument("BAD_TASK", message, field="dataset_import.task", task=spec.task)
    content = Content(folder)
    assumptions = list(read(found, content, work))
    if not content.count:
        raise nothing_in(archive, found.rejected)
    typing_.check_classes(list(content.class_counts))
    if spec.label_column or spec.usage_column:
        assumptions.append("label_column and usage_column were ignored: they are for tables, and the source holds pictures.")
    if archive.ignored:
        assumptions.append(
            f"Ignored: {several(archive.ignored, 'file')} that systems leave behind (such as .DS_Store, Thumbs.db)."
        )
    classes = typing_.sorted_classes(list(content.class_counts))
    unfinished = files.DatasetDescriptor(files.IMAGE_CLASSIFICATION, files.IMAGE, files.NO_BLOB, "", classes=classes)
    descriptor = keep(unfinished, content, store, work)
    return result(descriptor, found.format, content, found.rejected, assumptions)


# Tables


def _run_table(
    spec: ImportSpec,
    source: Path,
    name: str,
    store: ArtifactStore,
    folder: Path,
    work: Work,
    rejected: Rejections | None = None,
) -> ImportResult:
    used = _table_format(spec.format, source, name)
    read = {PARQUET: read_table.read_parquet, JSON_LINES: read_table.read_json_lines}.get(used, read_table.read_csv)
    raw = read(source, name=name)
    used = TSV if raw.delimiter == "\t" else used
    work.stage("check", 0, len(raw.row_numbers), "rows", 0.3, 0.6)
    content = tables.build(
        raw,
        task=spec.task,
        label_column=spec.label_column,
        usage_column=spec.usage_column,
        unlabelled=spec.unlabelled,
    )
    work.stage("store", 0, 2, "files", 0.6, 1.0)
    manifest = _table_manifest(content)
    paths = [files.write_parquet(manifest, folder / "manifest"), files.write_parquet(content.table, folder / "columns")]
    digest = files.digest(manifest, task=content.task, classes=content.classes, columns=content.columns, target=content.target)
    with all_or_none(store) as put:
        manifest_blob, table_blob = [put(path) for path in paths]
    descriptor = files.DatasetDescriptor(
        task=content.task,
        kind=files.TABLE,
        manifest=manifest_blob,
        table=table_blob,
        classes=content.classes,
        columns=content.columns,
        target=content.target,
        digest=digest,
    )
    rejections = rejected or Rejections()
    rejections.listed = [*rejections.listed, *content.rejected][:1000]
    rejections.count += content.rejected_count
    counts = Counter(label for label in content.labels.to_pylist() if label is not None)
    given = content.table.num_rows - content.usages.null_count
    return _table_result(
        descriptor, used, counts, content.table.num_rows, given, rejections, content.assumptions, content.findings
    )


def _table_format(wanted: str, source: Path, name: str) -> str:
    with source.open("rb") as file:
        head = file.read(4096)
    if wanted and wanted not in TABLE_FORMATS:
        message = f"{name} is one file; format {wanted} is a zip of a folder"
        raise InvalidArgument("FORMAT_MISMATCH", message, field="dataset_import.format", file=name, format=wanted)
    if is_picture_name(name):
        message = f"{name} is one picture; give a folder, or a zip of one, that holds a folder of pictures for each class"
        raise InvalidArgument("NO_EXAMPLES", message, field=SOURCE, file=name)
    if wanted:
        return wanted
    return PARQUET if head.startswith(b"PAR1") else JSON_LINES if read_table.is_json_lines(head) else CSV


def _table_manifest(content: tables.TableContent) -> pa.Table:
    paths = [f"row {number}" for number in content.row_numbers.tolist()]
    ids = [files.example_id(path, sha256) for path, sha256 in zip(paths, content.sha256, strict=True)]
    rows = np.arange(len(paths), dtype=np.int64)
    columns = [ids, content.usages, content.labels, content.sha256, paths, rows]
    schema = files.manifest_schema(files.TABLE)
    return pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema)


def _table_result(
    descriptor: files.DatasetDescriptor,
    used: str,
    counts: Counter[str],
    examples: int,
    with_usage: int,
    rejected: Rejections,
    assumptions: Sequence[str],
    findings: Sequence[Finding] = (),
) -> ImportResult:
    summary = ImportSummary(
        example_count=examples,
        rejected=tuple(rejected.listed),
        rejected_count=rejected.count,
        classes=descriptor.classes,
        class_counts=tuple(counts[name] for name in descriptor.classes),
        columns=descriptor.columns,
        assumptions=tuple(assumptions),
        digest=descriptor.digest,
        examples_with_usage=with_usage,
    )
    return ImportResult(summary, descriptor, used, tuple(findings))
