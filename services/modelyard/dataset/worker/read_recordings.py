"""Recordings: CSV files of one kind, each an example; labels in columns, in a file of ranges, or in folders' names."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import columns as naming
from modelyard.dataset.domain import recordings
from modelyard.dataset.domain.layout import find_layout
from modelyard.dataset.domain.picture_names import stem, usage_of, usage_of_file
from modelyard.dataset.domain.problems import Problems
from modelyard.dataset.domain.records import SENSOR_CSV, ImportResult, ImportSpec
from modelyard.dataset.domain.tables import RawTable
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import import_series, read_table
from modelyard.dataset.worker.content import Content
from modelyard.dataset.worker.detect import Contents, head, header
from modelyard.dataset.worker.results import keep, nothing_in, result
from modelyard.formats import dataset as files
from modelyard.formats import forecasts
from modelyard.formats.annotations import Annotation, Interval
from modelyard.formats.archive import Entry

Range = tuple[str, str, str]
"""Start, end and label, as texts."""


@dataclass
class _Recordings:
    """What is known of all recordings of a source."""

    spec: ImportSpec
    found: Contents
    folder: Path
    problems: Problems = field(default_factory=Problems)
    assumptions: list[str] = field(default_factory=list)
    ranges: dict[str, list[Range]] = field(default_factory=dict)
    time_column: str = ""
    time_is_date: bool = False
    label_columns: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    usages: dict[str, str | None] = field(default_factory=dict)  # where folders are classes
    named: dict[str, str | None] = field(default_factory=dict)  # what the names of files say, where some say train and some test


def run(spec: ImportSpec, found: Contents, store: ArtifactStore, folder: Path, work: Work) -> ImportResult:
    """Reads the recordings. Raises InvalidArgument."""
    all_ = _Recordings(spec, found, folder)
    entries = _entries(all_)
    _look(all_, entries)
    named = {entry.path: usage_of_file(entry.path) for entry in entries}
    if {files.TRAIN, files.TEST} <= set(named.values()):
        all_.named = named
    labels = _folder_labels(all_, entries)
    forecast = spec.task == files.FORECASTING
    task = files.FORECASTING if forecast else files.SERIES_CLASSIFICATION if labels else files.ANOMALY_DETECTION
    all_.classes = () if labels or forecast else _classes(all_, entries)
    content = Content(folder, files.SERIES, task, all_.classes)
    for done, entry in enumerate(entries):
        work.stage("read", done, len(entries), "files", 0.0, 0.9)
        try:
            _take(all_, entry, content, labels.get(entry.path))
        except InvalidArgument as error:
            if error.reason == "ARCHIVE_BOMB":
                raise
            found.rejected.add(entry.path, error.reason, error.message)
    if not content.count:
        raise nothing_in(found.archive, found.rejected)
    if labels:
        naming.check_classes(list(content.class_counts))
        all_.classes = naming.sorted_classes(list(content.class_counts))
    unfinished = files.DatasetDescriptor(
        task,
        files.SERIES,
        files.NO_BLOB,
        "",
        classes=all_.classes,
        channels=all_.channels,
        time_column=all_.time_column,
        time_is_date=all_.time_is_date,
    )
    descriptor = keep(unfinished, content, store, work)
    return result(descriptor, SENSOR_CSV, content, found.rejected, all_.assumptions, all_.problems.findings())


def _entries(all_: _Recordings) -> list[Entry]:
    """The recordings; a file of ranges is read here and is none."""
    kept = []
    for entry in sorted(all_.found.archive.entries, key=lambda each: each.path):
        if not entry.path.lower().endswith((".csv", ".tsv", ".txt")):
            all_.found.rejected.add(entry.path, "NOT_A_TABLE", f"{entry.path} is not a table (.csv, .tsv)")
        elif {"start", "end"} <= set(header(head(all_.found.archive, entry, 4096))):
            _read_ranges(all_, entry)
        else:
            kept.append(entry)
    return kept


def _read_ranges(all_: _Recordings, entry: Entry) -> None:
    raw = _table(all_, entry)
    by_name = {name.strip().lower(): values.to_pylist() for name, values in raw.columns.items()}
    count = len(by_name["start"])
    of = next((by_name[name] for name in ("file", "recording", "series", "name", "path") if name in by_name), [""] * count)
    said = next((by_name[name] for name in ("label", "class", "state", "event") if name in by_name), ["anomaly"] * count)
    for name, start, end, label in zip(of, by_name["start"], by_name["end"], said, strict=True):
        all_.ranges.setdefault(stem(name.strip()) if name else "", []).append((start, end, label.strip() or "anomaly"))
    all_.assumptions.append(f"{entry.path} was read as ranges (file, start, end, label); an end that is a time is included.")


def _look(all_: _Recordings, entries: list[Entry]) -> None:
    """Time and label columns, from the headers. Raises InvalidArgument COLUMN_MISSING."""
    headers = [_names(head(all_.found.archive, entry, 65536)) for entry in entries]
    known = list(dict.fromkeys(name for each in headers for name in each))
    lowered = {name.lower(): name for name in reversed(known)}
    spec = all_.spec
    if spec.time_column and spec.time_column not in known:
        raise _missing("time_column", spec.time_column, known)
    all_.time_column = spec.time_column or next((lowered[name] for name in recordings.TIME_NAMES if name in lowered), "")
    wanted = tuple(name.strip() for name in spec.label_column.split(",")) if spec.label_column else ()
    for name in wanted:
        if name not in known:
            raise _missing("label_column", name, known)
    if spec.task == files.FORECASTING:
        _look_ahead(all_, next((each for each in headers if each), []), wanted)
        return
    moments = tuple(lowered[name] for name in recordings.MOMENT_NAMES if name in lowered)
    states = tuple(lowered[name] for name in recordings.LABEL_NAMES if name in lowered)[:1]
    all_.label_columns = wanted or (() if all_.ranges else moments or states)
    if all_.time_column and not spec.time_column:
        all_.assumptions.append(f'The column "{all_.time_column}" was taken as the time; name another with time_column.')
    if all_.label_columns and not wanted:
        named = ", ".join(f'"{name}"' for name in all_.label_columns)
        all_.assumptions.append(f"Columns {named} were taken as labels because of their names; name others with label_column.")
    first = next((each for each in headers if each), [])
    all_.channels = tuple(name for name in first if name not in (all_.time_column, *all_.label_columns))


def _look_ahead(all_: _Recordings, names: list[str], wanted: tuple[str, ...]) -> None:
    """What is to be forecast: the columns that the user named, or all but the time and a count of the rows."""
    counts = [name for name in names if name.lower() in recordings.ROW_NAMES]
    others = [name for name in names if name not in (all_.time_column, *counts)]
    all_.channels = wanted or tuple(others)
    all_.unused = tuple(name for name in names if name not in (all_.time_column, *all_.channels))
    if all_.time_column and not all_.spec.time_column:
        all_.assumptions.append(f'The column "{all_.time_column}" was taken as the time; name another with time_column.')
    if not all_.channels:
        message = f"there is no column to forecast beside {', '.join(names) or 'nothing'}; name some with label_column"
        raise InvalidArgument("NO_CHANNELS", message, field="dataset_import.label_column")
    named = ", ".join(f'"{name}"' for name in all_.channels)
    all_.assumptions.append(f"To be forecast: {named}; name others with label_column, with commas between.")
    shares = ", ".join(f"{name} {share:.0%}" for name, share in forecasts.SHARES)
    all_.assumptions.append(f"Each series was cut in time: {shares}, the latest readings being the test.")


def _missing(option: str, name: str, known: list[str]) -> InvalidArgument:
    message = f"no recording has a column {name!r}; {option} is one of: {', '.join(known[:100])}"
    return InvalidArgument("COLUMN_MISSING", message, field=f"dataset_import.{option}", column=name)


def _names(start: bytes) -> list[str]:
    text = start.decode("utf-8-sig", "replace")
    first = text.split("\n", 1)[0].strip()
    delimiter = read_table.sniff_delimiter(text)
    return [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]


def _folder_labels(all_: _Recordings, entries: list[Entry]) -> dict[str, str]:
    """Class by path, where the folders are classes: no column and no range says more, or the user wants it so."""
    layout = find_layout([entry.path for entry in entries])
    labels = {path: place.label for path, place in layout.places.items()}
    wanted = all_.spec.task
    if wanted == files.FORECASTING:
        return {}
    if wanted not in ("", files.SERIES_CLASSIFICATION, files.ANOMALY_DETECTION):
        fitting = f"{files.ANOMALY_DETECTION}, {files.FORECASTING} or {files.SERIES_CLASSIFICATION}"
        message = f"the source holds recordings; task is {wanted!r}, but {fitting} fits them"
        raise InvalidArgument("BAD_TASK", message, field="dataset_import.task", task=wanted)
    by_column = bool(all_.label_columns or all_.ranges)
    if wanted == files.ANOMALY_DETECTION or (by_column and not wanted) or len(set(labels.values())) < 2:
        if not by_column:
            all_.assumptions.append("Nothing says what is the matter when: every recording was taken as normal throughout.")
        return {}
    all_.assumptions += layout.assumptions
    all_.usages = {path: place.usage for path, place in layout.places.items()}
    return labels


def _classes(all_: _Recordings, entries: list[Entry]) -> tuple[str, ...]:
    """Names of what can be the matter."""
    found = {label for each in all_.ranges.values() for _, _, label in each}
    for name in all_.label_columns:
        if name.lower() in recordings.MOMENT_NAMES:
            found.add(name)
            continue
        for entry in entries:
            column = _table(all_, entry).columns.get(name)
            if column is not None and recordings.is_binary(column.cast(pa.string())):
                found.add(name)
            elif column is not None:
                found |= {each.label for each in recordings.label_intervals(name, column.cast(pa.string()))}
    return naming.sorted_classes(sorted(found or {"anomaly"}))


def _take(all_: _Recordings, entry: Entry, content: Content, label: str | None) -> None:
    raw = _table(all_, entry)
    columns: Mapping[str, pa.ChunkedArray] = raw.columns
    lost = [name for name in all_.channels if name not in columns]
    more = [name for name in columns if name not in (*all_.channels, all_.time_column, *all_.label_columns, *all_.unused)]
    if lost or more or (all_.time_column and all_.time_column not in columns):
        message = (
            f"{entry.path} has other columns than the first recording: without {lost or 'none'}, beside them {more or 'none'}"
        )
        raise InvalidArgument("DIFFERENT_CHANNELS", message, file=entry.path)
    at, dates = None, False
    if all_.time_column:
        at, dates, unread = recordings.times(columns[all_.time_column], comma_allowed=raw.comma_allowed)
        all_.time_is_date |= dates
        backward = int((np.diff(at) < 0).sum())
        if unread or backward:
            what = f"{unread} times cannot be read, {backward} are before the one above them"
            message = f"{entry.path}: column {all_.time_column!r}: {what}"
            all_.problems.note("BAD_TIME", entry.path, message)
    values = {name: _channel(all_, entry, name, columns[name], raw.comma_allowed) for name in all_.channels}
    intervals = [] if label is not None else _intervals(all_, entry, columns, at, dates, len(raw.row_numbers))
    folder = entry.path.rpartition("/")[0]
    attributes = {"folder": folder} if folder else {}
    for row in raw.rejected:
        all_.found.rejected.add(f"{entry.path}: {row.path}", row.reason, f"{entry.path}: {row.message}")
    matrix = recordings.joined(values, all_.channels, at)
    if all_.spec.task == files.FORECASTING:
        _add_parts(entry.path, matrix, at, content)
        return
    annotation = Annotation(intervals=tuple(intervals), attributes=attributes)
    usage = all_.usages.get(entry.path) if label is not None else usage_of(entry.path) or all_.named.get(entry.path)
    content.add(import_series.series_example(entry.path, label, usage, matrix, annotation))


def _add_parts(path: str, matrix: recordings.Floats, at: recordings.Floats | None, content: Content) -> None:
    """A series as its parts in time, each an example that says where in the series it begins. Raises InvalidArgument TIMES_FALL,
    SERIES_TOO_SHORT."""
    if at is not None and (np.isnan(at).any() or (np.diff(at) < 0).any()):
        message = f"{path}: a series that is to be forecast needs times that can be read and rise from row to row"
        raise InvalidArgument("TIMES_FALL", message, file=path)
    for usage, first, last in forecasts.cut_points(len(matrix)):
        attributes = {forecasts.SERIES_NAME: path, forecasts.START: str(first)}
        name = f"{path}[{first}:{last}]"
        content.add(import_series.series_example(name, None, usage, matrix[first:last], Annotation(attributes=attributes)))


def _channel(all_: _Recordings, entry: Entry, name: str, texts: pa.ChunkedArray, comma: bool) -> recordings.Floats:
    column = naming.type_text(name, texts.cast(pa.string()), comma_allowed=comma)
    if column.type != files.NUMERIC and column.missing_count < len(column.values):
        shown = pc.unique(column.values).to_pylist()[:3]
        message = f"{entry.path}: column {name!r} holds text such as {shown!r}; a channel holds numbers"
        raise InvalidArgument("NOT_A_CHANNEL", message, file=entry.path, column=name)
    if column.odd_count:
        message = f"{entry.path}: column {name!r} holds text in {column.odd_count} rows, such as {column.odd_values[0]!r}"
        all_.problems.note("MIXED_TYPES", entry.path, message)
    return np.asarray(column.values.cast(pa.float64()).to_numpy(), dtype=np.float64)


def _intervals(
    all_: _Recordings, entry: Entry, columns: Mapping[str, pa.ChunkedArray], at: recordings.Floats | None, dates: bool, steps: int
) -> list[Interval]:
    out = []
    for name in all_.label_columns:
        if name in columns:
            out += recordings.label_intervals(name, columns[name].cast(pa.string()))
    for start, end, label in [*all_.ranges.get(stem(entry.path), ()), *all_.ranges.get("", ())]:
        made = recordings.interval(start, end, label, at, dates, steps)
        if made is None:
            message = f"{entry.path}: the range {start!r} to {end!r} ({label}) holds no step of the recording"
            all_.problems.note("BAD_INTERVAL", entry.path, message)
            continue
        if recordings.leaves(start, end, at, dates, steps):
            message = f"{entry.path}: the range {start!r} to {end!r} ({label}) reaches beyond the recording"
            all_.problems.note("INTERVAL_OUTSIDE", entry.path, message)
        out.append(made)
    return recordings.merged(out)


def _table(all_: _Recordings, entry: Entry) -> RawTable:
    path = all_.found.archive.copy(entry, all_.folder / "recording", limit_bytes=read_table.MAX_TABLE_BYTES)
    return read_table.read_csv(path, name=entry.path)
