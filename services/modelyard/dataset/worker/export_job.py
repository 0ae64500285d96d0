"""An export: writes a published version as files of a format into one zip."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import InvalidArgument
from modelyard.core.names import id_of, parent_of
from modelyard.dataset.domain import records
from modelyard.dataset.domain.records import ExportResult, ExportSpec
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import write_marks, write_plain
from modelyard.dataset.worker.content import all_or_none
from modelyard.dataset.worker.export_files import Export
from modelyard.formats.dataset import open_dataset

Writer = Callable[[Export], None]

WRITERS: Mapping[str, Writer] = {
    records.IMAGE_FOLDERS: write_plain.write_folders,
    records.IDX: write_plain.write_idx,
    records.MASKS: write_plain.write_masks,
    records.COLOUR_MASKS: write_plain.write_masks,
    records.AUDIO_FOLDERS: write_plain.write_sounds,
    records.CSV: write_plain.write_table,
    records.TSV: write_plain.write_table,
    records.JSON_LINES: write_plain.write_table,
    records.PARQUET: write_plain.write_table,
    records.TS: write_plain.write_ts,
    records.SENSOR_CSV: write_plain.write_recordings,
    records.COCO: write_marks.write_coco,
    records.VOC: write_marks.write_voc,
    records.YOLO: write_marks.write_yolo,
    records.CVAT: write_marks.write_cvat,
    records.LABELME: write_marks.write_labelme,
    records.MANIFEST: write_marks.write_manifest,
}


def run(spec: ExportSpec, store: ArtifactStore, folder: Path, work: Work) -> ExportResult:
    """Writes. Raises InvalidArgument FORMAT_MISMATCH, CANNOT_CARRY, UNKNOWN_FORMAT; Cancelled."""
    if spec.format not in WRITERS:
        message = f"format is {spec.format!r}; it is one of {', '.join(WRITERS)}"
        raise InvalidArgument("UNKNOWN_FORMAT", message, field="dataset_export.format")
    work.stage("read", 0, 1, "files", 0.0, 0.0)
    path = folder / "export.zip"
    title = id_of(parent_of(spec.version))
    with open_dataset(store, spec.descriptor_blob) as reader, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        export = Export(reader, spec.format, spec.lossy, folder, archive, work, title)
        WRITERS[spec.format](export)
    work.stage("store", 0, 1, "files", 0.9, 1.0)
    with all_or_none(store) as put:
        blob = put(path)
    name = f"{title}-{id_of(spec.version)}-{spec.format}.zip"
    return ExportResult(blob, name, export.count, tuple(export.notes))
