"""The part of a quality report that is about test sets that leak: groups and the future on both sides of the usages."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.core.artifacts import ArtifactStore
from modelyard.dataset.domain import leaked_tests, recordings
from modelyard.dataset.domain.checks import label_codes
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.leaked_tests import Grouping
from modelyard.dataset.domain.picture_names import stem
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.split import TRAIN
from modelyard.dataset.worker.report_tables import rows_of
from modelyard.formats import dataset as files

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_MOST_ATTRIBUTES = 50


def check_sides(
    store: ArtifactStore,
    content: files.DatasetDescriptor,
    manifest: pa.Table,
    usages: Ints,
    names: Names,
    looks: Floats | None = None,
    starts: Floats | None = None,
) -> list[Finding]:
    """Findings of leaks between the usages that came with the data, or that a version has; [] where there are none to compare.

    usages int64 [N], -1 where none. looks float64 [N, D]: what examples look like, to tell whether an attribute makes groups.
    starts float64 [N]: when each series begins.
    """
    if not (usages == TRAIN).any() or not (usages > TRAIN).any():
        return []
    strata = label_codes(manifest["label"].to_pylist())
    found = leaked_tests.group_findings(_groupings(store, content, manifest), usages, strata, looks, names)
    if starts is not None:
        advice = "Publish again so that the recordings of the end are the test; older ones are trained on."
        return found + leaked_tests.time_findings(starts, usages, content.time_column or "time", names, advice=advice)
    return found + _row_times(store, content, manifest, usages, names)


def _groupings(store: ArtifactStore, content: files.DatasetDescriptor, manifest: pa.Table) -> list[Grouping]:
    if content.kind == files.TABLE:
        return _columns(store, content, manifest)
    by_attribute = [leaked_tests.grouping(name, name, values) for name, values in _attributes(manifest).items()]
    if by_attribute:
        return by_attribute
    by_name = leaked_tests.name_grouping([stem(path) for path in manifest["path"].to_pylist()])
    return [by_name] if by_name else []


def _columns(store: ArtifactStore, content: files.DatasetDescriptor, manifest: pa.Table) -> list[Grouping]:
    """Columns whose names say that they group rows."""
    wanted = [
        column.name
        for column in content.columns
        if column.role in (files.FEATURE, files.SET_ASIDE) and leaked_tests.KNOWN_GROUPS.match(column.name)
    ]
    if not wanted:
        return []
    rows = rows_of(store, content, manifest)
    return [leaked_tests.grouping(name, name, rows[name].cast(pa.string()).to_pylist()) for name in wanted]


def _attributes(manifest: pa.Table) -> dict[str, list[str | None]]:
    """Attributes of the examples: values [N] by name. Equal texts are read once."""
    if "attributes" not in manifest.column_names:
        return {}
    column = manifest["attributes"].combine_chunks()
    whole = column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)
    coded = whole.dictionary_encode()
    said = [json.loads(text) if text else {} for text in coded.dictionary.to_pylist()]
    names = list(dict.fromkeys(name for each in said for name in each))[:_MOST_ATTRIBUTES]
    places = np.asarray(pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)).tolist()
    return {name: [said[place].get(name) if place >= 0 else None for place in places] for name in names}


def _row_times(
    store: ArtifactStore, content: files.DatasetDescriptor, manifest: pa.Table, usages: Ints, names: Names
) -> list[Finding]:
    if content.kind != files.TABLE:
        return []
    rows = rows_of(store, content, manifest)
    for column in content.columns:
        if column.role in (files.FEATURE, files.SET_ASIDE) and is_time_name(column.name):
            times = row_times(rows[column.name])
            if times is not None:
                advice = f'Publish with --time-by "{column.name}", so that the latest rows are the test.'
                return leaked_tests.time_findings(times, usages, column.name, names, advice=advice)
    return []


def is_time_name(name: str) -> bool:
    """Whether a column's name says that it holds times: "timestamp", "read_at", "order date"."""
    words = name.lower().replace("-", "_").replace(" ", "_").split("_")
    return name.lower() in recordings.TIME_NAMES or words[-1] in ("at", "date", "day", "time", "timestamp", "datetime")


def row_times(values: pa.ChunkedArray) -> Floats | None:
    """A column of numbers or ISO 8601 texts as float64 [N], NaN where missing; None where it holds something else."""
    if not pa.types.is_string(values.type):
        return np.asarray(values.to_numpy(), dtype=np.float64)
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            moments = pc.cast(values, kind)
        except pa.ArrowInvalid:
            continue
        numbers = pc.cast(moments.cast(pa.int64()), pa.float64())
        return np.asarray(numbers.to_numpy(), dtype=np.float64) / 1e6
    return None
