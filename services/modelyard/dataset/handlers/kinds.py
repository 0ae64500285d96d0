"""Names of the kinds of jobs that the dataset service runs."""

from __future__ import annotations

IMPORT = "Import"
QUALITY_REPORT = "QualityReport"
DATASET_VERSION = "DatasetVersion"
DATASET_EXPORT = "DatasetExport"
KINDS = (IMPORT, QUALITY_REPORT, DATASET_VERSION, DATASET_EXPORT)
