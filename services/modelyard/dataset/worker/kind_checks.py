"""What each kind of data can have wrong with it: tables, sounds, series, marks in pictures; and test sets that leak, of all
kinds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelyard.core.artifacts import ArtifactStore
from modelyard.dataset.domain import sound_checks
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker import report_marks, report_series, report_sides, report_sounds, report_tables
from modelyard.dataset.worker.stored import Stored
from modelyard.formats.dataset import AUDIO, IMAGE, SEMANTIC_SEGMENTATION, SERIES, TABLE, DatasetDescriptor


@dataclass(frozen=True)
class KindChecked:
    """What was found, and int64 [N]: equal for examples that are near duplicates of each other."""

    findings: list[Finding]
    near_groups: npt.NDArray[np.int64]


def check_kind(
    store: ArtifactStore,
    content: DatasetDescriptor,
    stored: Stored,
    names: Names,
    work: Work,
    span: tuple[float, float],
    *,
    full: bool = True,
) -> KindChecked:
    """The checks of the content's kind. span: the share of the job that they are. Without `full` no example is read again.

    Raises Cancelled.
    """
    manifest, near_groups = stored.manifest, stored.near_groups
    looks, starts = None, None
    found: list[Finding] = []
    if content.kind == TABLE:
        found += report_tables.check_table(store, content, manifest, names)
    elif content.kind == AUDIO and full:
        facts = report_sounds.measure_sounds(store, content, manifest, work, span)
        found += report_sounds.check_sounds(facts, manifest, names)
        near_groups = sound_checks.near_groups(stored.groups, facts)
        looks = report_sounds.sound_looks(facts)
    elif content.kind == SERIES and full:
        measured = report_series.measure_series(store, content, manifest, work, span)
        found += report_series.check_series(measured, content, manifest, names)
        looks = report_series.series_looks(measured.facts)
        starts = measured.starts if content.time_column else None
    elif content.kind == IMAGE:
        if full or content.task != SEMANTIC_SEGMENTATION:
            found += report_marks.check_marks(store, content, manifest, names, work, span)
        if len(stored.thumbnails):
            looks = stored.thumbnails.reshape(len(stored.thumbnails), -1).astype(np.float64)
    found += report_sides.check_sides(store, content, manifest, stored.usages, names, looks, starts)
    return KindChecked(found, near_groups)
