"""The part of a quality report that is about tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from modelyard.core.artifacts import ArtifactStore
from modelyard.dataset.domain import tables
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.table_checks import table_findings
from modelyard.dataset.domain.table_view import view_of
from modelyard.formats import dataset as files


def check_table(store: ArtifactStore, content: files.DatasetDescriptor, manifest: pa.Table, names: Names) -> list[Finding]:
    """Findings of a table's values and columns; of rows that people are to label, only what they have labelled is looked at."""
    if content.table is None:
        return []
    if content.task == files.TABULAR_CLASSIFICATION and manifest["label"].null_count:  # people have not labelled all rows yet
        labelled = np.flatnonzero(manifest["label"].is_valid().to_numpy())
        manifest = manifest.take(pa.array(labelled))
        names = names.taken(labelled)
        if not len(labelled):
            return []
    rows = rows_of(store, content, manifest)
    view = view_of(rows, content.columns, content.target, content.classes)
    findings = table_findings(view, names)
    return findings + (tables.contradictions(rows, content.columns, content.target, names.paths) if content.classes else [])


def rows_of(store: ArtifactStore, content: files.DatasetDescriptor, manifest: pa.Table) -> pa.Table:
    """The table's rows in the order of the manifest."""
    if content.table is None:
        return pa.table({})
    return files.read_parquet(store.path(content.table)).take(manifest["row"])
