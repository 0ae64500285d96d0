"""Planted faults: what a check finds of them, against what docs/quality.md says of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from modelyard.dataset.domain import tables
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.table_view import TableView, view_of

_PAGE = Path(__file__).parents[2] / "docs" / "quality.md"
_ROW = re.compile(r"^\| ([A-Z_]+) \|.*\| ([01]\.\d\d) \| ([01]\.\d\d) \|$", re.MULTILINE)


@dataclass
class Tally:
    """What was planted and what was found, added up over several draws."""

    hits: int = 0
    found: int = 0
    planted: int = 0

    def add(self, planted: Collection[Any], found: Collection[Any]) -> None:
        """A draw."""
        self.hits += len(set(planted) & set(found))
        self.found += len(set(found))
        self.planted += len(set(planted))

    @property
    def precision(self) -> float:
        """Share of what was found that was planted; 0 when nothing was found."""
        return self.hits / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share of what was planted that was found."""
        return self.hits / self.planted if self.planted else 0.0

    def is_as_stated(self, kind: str) -> None:
        """Fails when precision or recall are below what the page says of the kind."""
        precision, recall = stated()[kind]
        measured = f"{kind}: precision {self.precision:.4f}, recall {self.recall:.4f} ({self.planted} planted)"
        print(measured)
        assert self.planted, "nothing was planted"
        assert self.precision >= precision - 1e-9, f"{measured}; docs/quality.md says {precision}"
        assert self.recall >= recall - 1e-9, f"{measured}; docs/quality.md says {recall}"


@cache
def stated() -> Mapping[str, tuple[float, float]]:
    """Precision and recall by kind, as docs/quality.md has them."""
    return {kind: (float(precision), float(recall)) for kind, precision, recall in _ROW.findall(_PAGE.read_text())}


def names(count: int) -> Names:
    """Names of examples: path "0", "1"..., id "id0"..."""
    return Names([str(place) for place in range(count)], [f"id{place}" for place in range(count)])


def of_kind(findings: Collection[Finding], kind: str) -> list[Finding]:
    """The findings of a kind."""
    return [finding for finding in findings if finding.kind == kind]


def examples(findings: Collection[Finding], kind: str) -> set[str]:
    """The examples that findings of a kind name (100 at most of each)."""
    return {path for finding in of_kind(findings, kind) for path in finding.examples}


def view(columns: Mapping[str, Any], target: str = "y") -> TableView:
    """A table of columns as an import types them."""
    arrays = {name: pa.chunked_array([pa.array(values, from_pandas=True)]) for name, values in columns.items()}
    rows = len(next(iter(columns.values())))
    raw = tables.RawTable(arrays, np.arange(1, rows + 1, dtype=np.int64))
    content = tables.build(raw, task="", label_column=target, usage_column="")
    return view_of(content.table, content.columns, content.target, content.classes)
