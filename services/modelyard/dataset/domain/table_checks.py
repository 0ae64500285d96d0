"""What is found in a table: one place that calls the checks of values, of columns and of what is missing."""

from __future__ import annotations

from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.table_columns import column_findings
from modelyard.dataset.domain.table_missing import missing_findings
from modelyard.dataset.domain.table_values import value_findings
from modelyard.dataset.domain.table_view import TableView


def table_findings(view: TableView, names: Names) -> list[Finding]:
    """Missing values, outliers, placeholders, limits, columns that carry nothing or repeat another, rare and doubled
    categories."""
    return [*missing_findings(view, names), *value_findings(view, names), *column_findings(view)]
