"""An import of series: .ts files, where every line is an example, and recordings, where every CSV file is one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain import columns as naming
from modelyard.dataset.domain import ts
from modelyard.dataset.domain.picture_names import usage_of_file
from modelyard.dataset.domain.records import SENSOR_CSV, TS, ImportResult, ImportSpec
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import detect, read_recordings
from modelyard.dataset.worker.content import Content, Example
from modelyard.dataset.worker.detect import Contents
from modelyard.dataset.worker.results import keep, nothing_in, result
from modelyard.dataset.worker.sources import SOURCE, OneFile, lines
from modelyard.formats import dataset as files
from modelyard.formats.annotations import Annotation

_LIMIT = 16 * 1024**3


def is_one(spec: ImportSpec, head: bytes, name: str) -> bool:
    """Whether a single file is a source of series."""
    if spec.format:
        return spec.format in (TS, SENSOR_CSV)
    if spec.task and spec.task not in (files.SERIES_CLASSIFICATION, files.ANOMALY_DETECTION, files.FORECASTING):
        return False
    if name.lower().endswith(".ts"):
        return b"@" in head
    return detect.is_recording(head) or (spec.task in (files.ANOMALY_DETECTION, files.FORECASTING) and b"\n" in head)


def run_one(spec: ImportSpec, source: Path, name: str, store: ArtifactStore, folder: Path, work: Work) -> ImportResult:
    """Reads one file."""
    archive = OneFile(source, name)
    wanted = spec.format or (TS if name.lower().endswith(".ts") else SENSOR_CSV)
    return run(spec, detect.contents(archive, wanted), store, folder, work)


def run(spec: ImportSpec, found: Contents, store: ArtifactStore, folder: Path, work: Work) -> ImportResult:
    """Reads the series. Raises InvalidArgument."""
    if found.format == SENSOR_CSV:
        return read_recordings.run(spec, found, store, folder, work)
    return _run_ts(spec, found, store, folder, work)


def _run_ts(spec: ImportSpec, found: Contents, store: ArtifactStore, folder: Path, work: Work) -> ImportResult:
    if spec.task not in ("", files.SERIES_CLASSIFICATION):
        message = f"the source holds .ts series; task is {spec.task!r}, but {files.SERIES_CLASSIFICATION} fits them"
        raise InvalidArgument("BAD_TASK", message, field="dataset_import.task", task=spec.task)
    entries = [entry for entry in found.archive.entries if entry.path.lower().endswith(".ts")]
    for path in found.others(entries):
        found.rejected.add(path, "NOT_USED", f"{path} is not a .ts file")
    content = Content(folder, files.SERIES, files.SERIES_CLASSIFICATION)
    problems: dict[str, str] = {}
    channels: set[int] = set()
    for done, entry in enumerate(entries):
        work.stage("read", done, len(entries), "files", 0.0, 0.9)
        header = ts.TsHeader()
        stream = lines(found.archive.stream(entry, limit_bytes=_LIMIT), name=entry.path)
        for number, case in enumerate(ts.read(stream, header, entry.path)):
            if number % 500 == 0:
                work.check()
                problems.setdefault(header.problem.lower(), entry.path)
                _one_problem(problems)
            where = f"{entry.path}: line {case.line}"
            if case.wrong:
                found.rejected.add(where, "BAD_LINE", f"{where}: {case.wrong}")
                continue
            channels.add(case.values.shape[1])
            if len(channels) > 1:
                message = f"{where} has {case.values.shape[1]} channels, series before it {min(channels)}; all need the same"
                raise InvalidArgument("DIFFERENT_CHANNELS", message, field=SOURCE, file=entry.path)
            content.add(
                series_example(f"{entry.path}[{number}]", case.label, usage_of_file(entry.path), case.values, Annotation())
            )
    if not content.count:
        raise nothing_in(found.archive, found.rejected)
    naming.check_classes(list(content.class_counts))
    unfinished = files.DatasetDescriptor(
        files.SERIES_CLASSIFICATION,
        files.SERIES,
        files.NO_BLOB,
        "",
        classes=naming.sorted_classes(list(content.class_counts)),
        channels=ts.channel_names(next(iter(channels))),
    )
    descriptor = keep(unfinished, content, store, work)
    notes = ["Read as .ts: every line is a series, the last part of it its class; the usage is in the names of the files."]
    return result(descriptor, TS, content, found.rejected, notes)


def series_example(
    path: str, label: str | None, usage: str | None, values: npt.NDArray[np.float64], annotation: Annotation
) -> Example:
    """An example of float64 [steps, columns]: its content is these numbers, little-endian, and their shape."""
    steps, columns = values.shape
    data = np.ascontiguousarray(values, dtype="<f8")
    data[np.isnan(data)] = np.nan  # one NaN: others differ in bits that say nothing
    raw = data.tobytes()
    sha256 = hashlib.sha256(f"{steps} {columns}\n".encode() + raw).hexdigest()
    return Example(path, label, usage, raw, (steps, columns), annotation=annotation, sha256=sha256)


def _one_problem(problems: dict[str, str]) -> None:
    if len(problems) > 1:
        listed = ", ".join(f"{problem or 'without a name'} ({path})" for problem, path in problems.items())
        message = f"the source holds {len(problems)} problems: {listed[:500]}; send one, with its TRAIN and TEST files"
        raise InvalidArgument("SEVERAL_PROBLEMS", message, field=SOURCE)
