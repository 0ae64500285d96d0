"""A quality report: everything worth knowing of an import's content before anyone trains on it."""

from __future__ import annotations

from modelyard.core.artifacts import ArtifactStore
from modelyard.dataset.domain import checks, picture_checks, table_checks, tables
from modelyard.dataset.domain.records import Finding, ReportResult, ReportSpec
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker.stored import Stored, load
from modelyard.formats.dataset import IMAGE, NUMERIC, DatasetDescriptor, read_parquet


def run(spec: ReportSpec, store: ArtifactStore, work: Work) -> ReportResult:
    """Checks the content. Raises Cancelled."""
    content, summary = spec.imported.content, spec.imported.summary
    stored = load(store, content, work)
    paths = stored.manifest["path"].to_pylist()
    annotated = "annotation" in stored.manifest.column_names and content.kind == IMAGE
    labels = stored.manifest["annotation" if annotated else "label"].to_pylist()
    findings = [*spec.imported.findings, *checks.rejected_findings(summary.rejected, summary.rejected_count)]
    findings += checks.class_findings(summary.classes, summary.class_counts)
    work.stage("check", 0, len(paths), "examples", 0.6, 1.0)
    findings += _picture_findings(stored, paths) if content.kind == IMAGE else _table_findings(store, content, paths)
    ids = stored.manifest["example_id"].to_pylist()
    findings += checks.duplicate_findings(stored.groups, stored.near_groups, labels, stored.usages, paths, ids)
    return ReportResult(checks.ranked(findings))


def _picture_findings(stored: Stored, paths: list[str]) -> list[Finding]:
    widths, heights = (stored.manifest[name].to_numpy().astype("int64") for name in ("width", "height"))
    return picture_checks.outlier_findings(stored.thumbnails, widths, heights, paths)


def _table_findings(store: ArtifactStore, content: DatasetDescriptor, paths: list[str]) -> list[Finding]:
    if content.table is None:
        return []
    table = read_parquet(store.path(content.table))
    numbers = tables.feature_arrays(table, [column.name for column in content.columns if column.type == NUMERIC])
    findings = table_checks.column_findings(content.columns, len(paths))
    findings += table_checks.outlier_findings(numbers, content.columns, paths)
    return findings + (tables.contradictions(table, content.columns, content.target, paths) if content.classes else [])
