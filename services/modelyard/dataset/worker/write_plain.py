"""Writers of what needs no marks: class folders, IDX, masks, sounds, tables, .ts series, recordings."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.dataset.domain import mask_files, recordings, ts
from modelyard.dataset.domain.records import COLOUR_MASKS, CSV, JSON_LINES, PARQUET, TSV
from modelyard.dataset.worker.export_files import Export, Exported, folder_name, listed
from modelyard.formats import dataset as files
from modelyard.formats import pictures
from modelyard.formats.annotations import IGNORED

_IDX_NAMES = {files.TRAIN: "train", files.VALIDATION: "validation", files.TEST: "t10k"}
_ROWS = 65_536


def write_folders(export: Export) -> None:
    """USAGE/CLASS/file, of pictures or sounds."""
    sounds = export.descriptor.kind == files.AUDIO
    export.need(files.AUDIO_CLASSIFICATION if sounds else files.IMAGE_CLASSIFICATION)
    _check_folders(export)
    for each in export.examples():
        export.write(f"{each.usage}/{each.label}/{each.name}", each.data)


def write_sounds(export: Export) -> None:
    """The same, of sounds alone."""
    export.need(files.AUDIO_CLASSIFICATION)
    write_folders(export)


def _check_folders(export: Export) -> None:
    bad = [name for name in export.descriptor.classes if not folder_name(name)]
    if bad:
        export.refuse(f"class names that no folder can have: {listed(bad)}")


# IDX


def write_idx(export: Export) -> None:
    """A pair of gzipped files for each usage."""
    export.need(files.IMAGE_CLASSIFICATION)
    classes = export.descriptor.classes
    numbers = {name: int(name) for name in classes if re.fullmatch(r"0|[1-9][0-9]{0,2}", name) and int(name) < 256}
    if len(numbers) != len(classes):
        export.refuse("class names that are no numbers from 0 to 255; they become their index")
        numbers = {name: place for place, name in enumerate(classes)}
    shape: tuple[int, ...] = ()
    labels: dict[str, bytearray] = {usage: bytearray() for usage in files.USAGES}
    parts = {usage: gzip.GzipFile(export.folder / usage, "wb", compresslevel=1, mtime=0) for usage in files.USAGES}
    for each in export.examples():
        pixels = _pixels(export, each, shape)
        if not shape:
            shape = pixels.shape
        if not labels[each.usage]:
            parts[each.usage].write(_idx_header((export.descriptor.counts[each.usage].examples, *shape)))
        parts[each.usage].write(pixels.tobytes())
        labels[each.usage].append(numbers[each.label])
    for usage, part in parts.items():
        part.close()
        if labels[usage]:
            name = _IDX_NAMES[usage]
            export.add(f"{name}-images-idx{len(shape) + 1}-ubyte.gz", export.folder / usage)
            body = _idx_header((len(labels[usage]),)) + bytes(labels[usage])
            export.write(f"{name}-labels-idx1-ubyte.gz", gzip.compress(body, mtime=0))


def _pixels(export: Export, each: Exported, shape: tuple[int, ...]) -> Any:
    from PIL import Image

    grey = Image.open(io.BytesIO(each.data)).mode in ("1", "L", "I", "F") if not shape else len(shape) == 2
    width, height = (shape[1], shape[0]) if shape else each.sizes
    pixels = pictures.decode(each.data, height=height, width=width, channels=1 if grey else 3, name=each.name)
    pixels = pixels[:, :, 0] if grey else pixels
    if pictures.encode_png(pixels) != each.data:
        export.refuse("pictures of different sizes, or files other than the PNG that an import of IDX writes")
    return pixels


def _idx_header(shape: tuple[int, ...]) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)


# Masks


def write_masks(export: Export) -> None:
    """images/USAGE/, masks/USAGE/ and labelmap.txt; indexed PNG with the classes' colours, or coloured PNG."""
    export.need(files.SEMANTIC_SEGMENTATION)
    palette = _palette(export.descriptor)
    lines = [
        f"{name}:{red},{green},{blue}::" for name, (red, green, blue) in zip(export.descriptor.classes, palette, strict=False)
    ]
    text = "# label:color_rgb:parts:actions\n" + "\n".join(lines) + "\n"
    if mask_files.legend(text, "labelmap.txt").classes != export.descriptor.classes:
        export.refuse("class names that mean ignored pixels, or that a list of classes cannot hold")
    table = np.array([*palette, *[(0, 0, 0)] * (255 - len(palette)), mask_files.colour_of(IGNORED)], dtype=np.uint8)
    for each in export.examples():
        export.write(f"images/{each.usage}/{each.name}", each.data)
        mask = _mask_file(each.said.mask(each.position), table, coloured=export.format == COLOUR_MASKS)
        export.write(f"masks/{each.usage}/{each.stem}.png", mask)
    export.write("labelmap.txt", text)


def _palette(described: files.DatasetDescriptor) -> list[mask_files.Colour]:
    void = mask_files.colour_of(IGNORED)
    own = [(int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)) for text in described.palette]
    if len(set(own)) == len(described.classes) and void not in own:
        return own
    return [mask_files.colour_of(index) for index in range(len(described.classes))]


def _mask_file(indices: Any, table: Any, *, coloured: bool) -> bytes:
    from PIL import Image

    image = Image.fromarray(table[indices] if coloured else indices)
    if not coloured:
        image.putpalette(table.tobytes())
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


# Tables


def write_table(export: Export) -> None:
    """One file, with the usage in a column."""
    described = export.descriptor
    export.need(files.TABULAR_CLASSIFICATION, files.TABULAR_REGRESSION)
    ending = {CSV: "csv", TSV: "tsv", JSON_LINES: "jsonl", PARQUET: "parquet"}[export.format]
    table = _with_usage(export)
    path = export.folder / "table"
    export.work.stage("write", 0, table.num_rows, "rows", 0.0, 0.9)
    _WRITE[export.format](table, path)
    export.count = table.num_rows
    export.add(f"{export.title}.{ending}", path)
    export.notes.append(f'To import it again, name the target: label_column "{described.target}".')


def _with_usage(export: Export) -> pa.Table:
    described = export.descriptor
    table = export.reader.whole_table()
    usages = export.reader.usages()
    name = next((column.name for column in described.columns if column.role == files.USAGE), "")
    if name:
        return table.set_column(table.column_names.index(name), name, usages)
    taken = {each.strip().lower() for each in table.column_names}
    name = next(each for each in ("usage", "usage_2", "modelyard_usage") if each not in taken)
    if name != "usage":
        export.notes.append(f'The usage is in the column "{name}": name it with usage_column when importing.')
    return table.append_column(name, usages)


def _write_delimited(table: pa.Table, path: Path, delimiter: str) -> None:
    import pyarrow.csv as pcsv

    texts = pa.table({name: pc.fill_null(pc.cast(table[name], pa.string()), "") for name in table.column_names})
    pcsv.write_csv(texts, path, pcsv.WriteOptions(delimiter=delimiter))


def _write_json_lines(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8") as out:
        for batch in table.to_batches(max_chunksize=_ROWS):
            for row in batch.to_pylist():
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


_WRITE = {
    CSV: lambda table, path: _write_delimited(table, path, ","),
    TSV: lambda table, path: _write_delimited(table, path, "\t"),
    JSON_LINES: _write_json_lines,
    PARQUET: files.write_parquet,
}


# Series


def write_ts(export: Export) -> None:
    """data_TRAIN.ts, data_VALIDATION.ts, data_TEST.ts."""
    described = export.descriptor
    export.need(files.SERIES_CLASSIFICATION)
    if described.time_column or described.channels != ts.channel_names(len(described.channels)):
        export.refuse("times and names of channels")
    bad = [name for name in described.classes if not re.fullmatch(r"[^\s:,]+", name)]
    if bad:
        export.refuse(f"class names with spaces, colons or commas: {listed(bad)}")
    parts: dict[str, IO[str]] = {usage: (export.folder / usage).open("w", encoding="utf-8") for usage in files.USAGES}
    lengths: dict[str, set[int]] = {usage: set() for usage in files.USAGES}
    missing = False
    for each in export.examples():
        values = each.said.series(each.position)
        missing |= bool(np.isnan(values).any())
        lengths[each.usage].add(len(values))
        parts[each.usage].write(ts.case_line(values, each.label) + "\n")
    for usage, part in parts.items():
        part.close()
        if lengths[usage]:
            found = sorted(lengths[usage])
            lines = ts.header_lines(export.title, described.classes, found, len(described.channels), missing)
            with export.open(f"data_{usage.upper()}.ts") as out:
                out.write(("\n".join(lines) + "\n").encode())
                out.write((export.folder / usage).read_bytes())


def write_recordings(export: Export) -> None:
    """A CSV file for each recording, in folders by usage and, where folders are classes, by class."""
    described = export.descriptor
    export.need(files.ANOMALY_DETECTION, files.SERIES_CLASSIFICATION)
    by_class = described.task == files.SERIES_CLASSIFICATION
    time = [described.time_column] if described.time_column else []
    labels = [] if by_class else list(described.classes)
    header = [*time, *described.channels, *labels]
    if len(set(header)) != len(header) or any(name != name.strip() or not name for name in header):
        export.refuse("channels and classes of one name, or names with spaces at their ends")
    if by_class:
        _check_folders(export)
    for each in export.examples():
        folder = f"{each.usage}/{each.label}" if by_class else each.usage
        export.write(f"{folder}/{each.stem}.csv", _recording(each, header, labels, described))
    if labels and not all(name.lower() in recordings.MOMENT_NAMES for name in labels):
        export.notes.append(f'To import it again, name the labels: label_column "{",".join(labels)}".')


def _recording(each: Exported, header: list[str], labels: list[str], described: files.DatasetDescriptor) -> str:
    values = each.said.series(each.position)
    times = each.said.times(each.position).tolist() if described.time_column else []
    marks = [each.said.step_labels(each.position, place).astype(int).tolist() for place in range(len(labels))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    show = recordings.date_text if described.time_is_date else _number
    for step, row in enumerate(values.tolist()):
        first = [show(times[step])] if times else []
        writer.writerow([*first, *map(_number, row), *(mark[step] for mark in marks)])
    return out.getvalue()


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
