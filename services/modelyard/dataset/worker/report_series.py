"""The part of a quality report that is about series and recordings: each is read and measured once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelyard.core.artifacts import ArtifactStore
from modelyard.dataset.domain.checks import label_codes
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.series_checks import label_findings, series_findings
from modelyard.dataset.domain.series_facts import SeriesFacts, measure
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker.example_pass import look_at_each, spans_of
from modelyard.formats.dataset import SERIES_CLASSIFICATION, DatasetDescriptor

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredSeries:
    """N series: their facts, the time at which each begins float64 [N] (NaN where unknown), and for how many steps each class of
    range holds, int64 [N, classes]."""

    facts: Sequence[SeriesFacts]
    starts: Floats
    labelled: npt.NDArray[np.int64]


def measure_series(
    store: ArtifactStore, content: DatasetDescriptor, manifest: pa.Table, work: Work, span: tuple[float, float]
) -> MeasuredSeries:
    """Measures every series of a manifest. span: the share of the job that this is. Raises Cancelled."""
    intervals = manifest["intervals"].to_pylist() if "intervals" in manifest.column_names else [()] * manifest.num_rows
    timed = bool(content.time_column)
    known = [
        (steps, timed, [(each["start"], each["end"]) for each in said or ()])
        for steps, said in zip(manifest["steps"].to_pylist(), intervals, strict=True)
    ]
    looked = look_at_each(_measured, store, content, spans_of(manifest), known, work, ("read series", *span))
    labelled = np.zeros((manifest.num_rows, len(content.classes)), np.int64)
    for row, said in enumerate(intervals):
        for each in said or ():
            labelled[row, each["label"]] += each["end"] - each["start"]
    return MeasuredSeries([facts for facts, _ in looked], np.array([start for _, start in looked], np.float64), labelled)


def check_series(measured: MeasuredSeries, content: DatasetDescriptor, manifest: pa.Table, names: Names) -> list[Finding]:
    """Findings of the series of a dataset."""
    if content.task == SERIES_CLASSIFICATION:
        strata = label_codes(manifest["label"].to_pylist())
        return series_findings(measured.facts, content.channels, names, one_length=True, strata=strata)
    found = series_findings(measured.facts, content.channels, names, one_length=False)
    steps = np.array([each.steps for each in measured.facts], np.int64)
    return found + label_findings(measured.labelled, steps, content.classes, names)


def series_looks(facts: Sequence[SeriesFacts]) -> Floats:
    """What series look like, to compare them by: float64 [N, 4 channels]."""
    return np.array([np.concatenate([each.middle, each.spread, each.low, each.high]) for each in facts], np.float64)


def _measured(data: bytes, known: Sequence[Any]) -> tuple[SeriesFacts, float]:
    steps, timed, ranges = known
    table = np.frombuffer(data, "<f8").reshape(steps, -1)
    times, values = (table[:, 0], table[:, 1:]) if timed else (None, table)
    labelled = None
    if ranges:
        labelled = np.zeros(steps, np.bool_)
        for start, end in ranges:
            labelled[start:end] = True
    present = times[~np.isnan(times)] if times is not None else np.empty(0)
    return measure(values, times, labelled), float(present[0]) if len(present) else float("nan")
