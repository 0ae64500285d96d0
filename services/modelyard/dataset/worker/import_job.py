"""An import: finds out what the source is, reads it, and stores the content. What fails leaves nothing behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import columns as typing_
from modelyard.dataset.domain import idx, tables
from modelyard.dataset.domain.layout import find_layout
from modelyard.dataset.domain.records import CSV, IDX, IMAGE_FOLDERS, PARQUET, Finding, ImportResult, ImportSpec, ImportSummary
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import read_pictures, read_table
from modelyard.dataset.worker.content import PictureContent, Rejections, all_or_none
from modelyard.formats import dataset as files
from modelyard.formats.archive import Entry, SafeZip, file_chunks, gunzip, is_gzip, is_zip
from modelyard.formats.pictures import is_picture_name

SOURCE = "dataset_import.source"
"""The request field that names the source."""

_TABLE_NAMES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".csv.gz", ".tsv.gz")


def run(spec: ImportSpec, store: ArtifactStore, folder: Path, work: Work) -> ImportResult:
    """Reads the source and stores its content; `folder` is empty and for this import alone. Raises InvalidArgument, Cancelled."""
    work.stage("read", 0, 0, "bytes", 0.0, 0.0)
    source = store.path(spec.source)
    name = spec.file_name or "the source"
    with source.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise InvalidArgument("NO_EXAMPLES", f"{name} is empty (0 bytes)", field=SOURCE, file=name)
    if is_zip(head):
        return _run_zip(spec, source, name, store, folder, work)
    if is_gzip(head):
        return _run_gzip(spec, source, name, store, folder, work)
    if idx.is_idx(head):
        message = f"{name} is one IDX file; pictures and labels come in two, so send a zip of the folder that holds both"
        raise InvalidArgument("IDX_LABELS_MISSING", message, field=SOURCE, file=name)
    return _run_table(spec, source, name, store, folder, work)


# Archives


def _run_zip(spec: ImportSpec, source: Path, name: str, store: ArtifactStore, folder: Path, work: Work) -> ImportResult:
    with SafeZip(source, name=name) as archive:
        found = _Contents.of(archive, spec.format)
        if found.format == IDX:
            return _run_pictures(spec, archive, found, _read_idx, store, folder, work)
        if found.format == IMAGE_FOLDERS:
            return _run_pictures(spec, archive, found, _read_folders, store, folder, work)
        entry = _only_table(found.tables, name)
        unpacked = archive.copy(entry, folder / "table", limit_bytes=read_table.MAX_TABLE_BYTES)
        for other in found.others([entry]):
            found.rejected.add(other, "NOT_A_TABLE", f"{other} is not the table that was read")
        if entry.path.lower().endswith(".gz"):
            unpacked = _unpack(unpacked, entry.path, folder)
        return _run_table(spec, unpacked, entry.path, store, folder, work, found.rejected)


@dataclass(frozen=True)
class _Contents:
    """What an archive holds, by kind."""

    format: str
    archive: SafeZip
    pictures: list[Entry]
    tables: list[Entry]
    idx: list[Entry]
    rejected: Rejections

    @classmethod
    def of(cls, archive: SafeZip, wanted: str) -> _Contents:
        """Looks at the names of the files."""
        rejected = Rejections()
        for refused in archive.rejected:
            rejected.add(refused.path, refused.reason, refused.message)
        kinds: dict[str, list[Entry]] = {"pictures": [], "tables": [], "idx": []}
        for entry in archive.entries:
            if kind := _kind_of(entry.path):
                kinds[kind].append(entry)
        detected = wanted or _detect(kinds)
        if not detected:
            raise _nothing_in(archive, rejected)
        return cls(detected, archive, kinds["pictures"], kinds["tables"], kinds["idx"], rejected)

    def others(self, used: Sequence[Entry]) -> list[str]:
        """Paths of the files that are not among those used."""
        known = {entry.index for entry in used}
        return [entry.path for entry in self.archive.entries if entry.index not in known]


def _kind_of(path: str) -> str:
    name = path.rsplit("/", 1)[-1].lower()
    if idx.is_idx_name(path) and not is_picture_name(name) and not name.endswith((".csv", ".parquet")):
        return "idx"
    if name.endswith(_TABLE_NAMES):
        return "tables"
    return "pictures" if is_picture_name(name) or "." not in name else ""


def _detect(kinds: dict[str, list[Entry]]) -> str:
    if idx.find_pairs([entry.path for entry in kinds["idx"]])[0]:
        return IDX
    if any(is_picture_name(entry.path) for entry in kinds["pictures"]):
        return IMAGE_FOLDERS
    if kinds["tables"]:
        return CSV
    return IMAGE_FOLDERS if kinds["pictures"] or kinds["idx"] else ""


def _nothing_in(archive: SafeZip, rejected: Rejections) -> InvalidArgument:
    why = f"; {rejected.count} files were left out, the first: {rejected.listed[0].message}" if rejected.count else ""
    found = f"{len(archive.entries)} files, none of them a picture, a table or an IDX file" if archive.entries else "no files"
    return InvalidArgument("NO_EXAMPLES", f"{archive.name} holds {found}{why}", field=SOURCE, file=archive.name)


def _only_table(entries: Sequence[Entry], name: str) -> Entry:
    if not entries:
        raise InvalidArgument("NO_EXAMPLES", f"{name} holds no table (.csv, .tsv, .parquet)", field=SOURCE, file=name)
    if len(entries) > 1:
        listed = ", ".join(entry.path for entry in entries[:20])
        message = (
            f"{name} holds {len(entries)} tables: {listed}; send the one to import (with a column usage to say which row is what)"
        )
        raise InvalidArgument("SEVERAL_TABLES", message, field=SOURCE, file=name, tables=listed)
    return entries[0]


# Pictures

Reader = Callable[[_Contents, PictureContent, Work], Sequence[str]]


def _read_folders(found: _Contents, content: PictureContent, work: Work) -> Sequence[str]:
    candidates = [*found.pictures, *(entry for entry in found.idx)]
    layout = find_layout([entry.path for entry in candidates])
    for path in found.others(candidates):
        found.rejected.add(path, "NOT_A_PICTURE", f"{path} is not a picture file")
    read_pictures.read_folders(found.archive, layout, content, found.rejected, work)
    empty = sorted({place.label for place in layout.places.values()} - set(content.class_counts))
    lost = f"Without any readable picture, these classes were left out: {', '.join(empty[:20])}." if empty else ""
    return (*layout.assumptions, *((lost,) if lost else ()))


def _read_idx(found: _Contents, content: PictureContent, work: Work) -> Sequence[str]:
    pairs, alone = idx.find_pairs([entry.path for entry in found.archive.entries])
    if not pairs:
        message = f"{found.archive.name} holds no pair of IDX files such as train-images-idx3-ubyte and train-labels-idx1-ubyte"
        raise InvalidArgument("IDX_LABELS_MISSING", message, field=SOURCE, file=found.archive.name)
    for path in alone:
        found.rejected.add(path, "NO_PARTNER", f"{path} is not one of a pair of picture and label files that were read")
    read_pictures.read_idx(found.archive, pairs, content, found.rejected, work)
    return [f"Read as IDX: {', '.join(pair.images for pair in pairs)}; the classes are the numbers in the label files."]


def _run_pictures(
    spec: ImportSpec, archive: SafeZip, found: _Contents, read: Reader, store: ArtifactStore, folder: Path, work: Work
) -> ImportResult:
    if spec.task not in ("", files.IMAGE_CLASSIFICATION):
        message = f"the source holds pictures; task is {spec.task!r}, but {files.IMAGE_CLASSIFICATION} fits pictures"
        raise InvalidArgument("BAD_TASK", message, field="dataset_import.task", task=spec.task)
    content = PictureContent(folder)
    assumptions = list(read(found, content, work))
    manifest, packs = content.finish()
    if not content.count:
        raise _nothing_in(archive, found.rejected)
    typing_.check_classes(list(content.class_counts))
    if spec.label_column or spec.usage_column:
        assumptions.append("label_column and usage_column were ignored: they are for tables, and the source holds pictures.")
    if archive.ignored:
        assumptions.append(f"{archive.ignored} files that systems leave behind (such as .DS_Store, Thumbs.db) were ignored.")
    classes = typing_.sorted_classes(list(content.class_counts))
    rows = files.read_parquet(manifest, ["example_id", "sha256", "label", "usage"])
    digest = files.digest(rows, task=files.IMAGE_CLASSIFICATION, classes=classes, columns=(), target="")
    work.stage("store", 0, len(packs), "packs", 0.92, 1.0)
    with all_or_none(store) as put:
        manifest_blob, *pack_blobs = [put(path) for path in (manifest, *packs)]
    descriptor = files.DatasetDescriptor(
        task=files.IMAGE_CLASSIFICATION,
        kind=files.IMAGE,
        manifest=manifest_blob,
        packs=tuple(pack_blobs),
        classes=classes,
        digest=digest,
    )
    return _result(descriptor, found.format, content.class_counts, content.count, content.with_usage, found.rejected, assumptions)


# Tables


def _run_gzip(spec: ImportSpec, source: Path, name: str, store: ArtifactStore, folder: Path, work: Work) -> ImportResult:
    unpacked = _unpack(source, name, folder)
    with unpacked.open("rb") as file:
        head = file.read(4)
    if idx.is_idx(head):
        message = f"{name} is one IDX file; pictures and labels come in two, so send a zip of the folder that holds both"
        raise InvalidArgument("IDX_LABELS_MISSING", message, field=SOURCE, file=name)
    return _run_table(spec, unpacked, name.removesuffix(".gz"), store, folder, work)


def _unpack(source: Path, name: str, folder: Path) -> Path:
    unpacked = folder / "unpacked"
    with unpacked.open("wb") as out:
        for chunk in gunzip(file_chunks(source), name=name):
            out.write(chunk)
    return unpacked


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
    raw = read_table.read_parquet(source, name=name) if used == PARQUET else read_table.read_csv(source, name=name)
    work.stage("check", 0, len(raw.row_numbers), "rows", 0.3, 0.6)
    content = tables.build(raw, task=spec.task, label_column=spec.label_column, usage_column=spec.usage_column)
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
    return _result(descriptor, used, counts, content.table.num_rows, given, rejections, content.assumptions, content.findings)


def _table_format(wanted: str, source: Path, name: str) -> str:
    with source.open("rb") as file:
        is_parquet = file.read(4) == b"PAR1"
    if wanted in (IMAGE_FOLDERS, IDX):
        message = f"{name} is one file; format {wanted} is a zip of a folder"
        raise InvalidArgument("FORMAT_MISMATCH", message, field="dataset_import.format", file=name, format=wanted)
    if is_picture_name(name):
        message = f"{name} is one picture; send a zip of a folder that holds one folder of pictures per class"
        raise InvalidArgument("NO_EXAMPLES", message, field=SOURCE, file=name)
    return wanted or (PARQUET if is_parquet else CSV)


def _table_manifest(content: tables.TableContent) -> pa.Table:
    paths = [f"row {number}" for number in content.row_numbers.tolist()]
    ids = [files.example_id(path, sha256) for path, sha256 in zip(paths, content.sha256, strict=True)]
    rows = np.arange(len(paths), dtype=np.int64)
    columns = [ids, content.usages, content.labels, content.sha256, paths, rows]
    schema = files.manifest_schema(files.TABLE)
    return pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema)


def _result(
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
