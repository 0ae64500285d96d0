"""A table as its checks see it: whole columns as arrays, and the rows by class (or by thirds of the number to predict)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.dataset.domain import tables
from modelyard.formats.dataset import FEATURE, NUMERIC, TARGET, Column

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TableView:
    """N rows. strata int64 [N]: index into `strata_names`, the class of each row, or the third of the numeric target it lies
    in."""

    table: pa.Table
    columns: Sequence[Column]
    target: str
    strata: Ints
    strata_names: Sequence[str]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def used(self, kind: str = "") -> list[str]:
        """Names of the features and the target, perhaps only those of one type."""
        return [c.name for c in self.columns if c.role in (FEATURE, TARGET) and kind in ("", c.type)]

    def features(self) -> list[str]:
        """Names of the features."""
        return [column.name for column in self.columns if column.role == FEATURE]

    def is_numeric(self, name: str) -> bool:
        """Whether a column holds numbers."""
        return any(column.name == name and column.type == NUMERIC for column in self.columns)

    def array(self, name: str) -> Floats:
        """A column as float64 [N], NaN where missing; categories as codes in the order of their first appearance."""
        return tables.feature_arrays(self.table, [name])[name]

    def is_missing(self, name: str) -> npt.NDArray[np.bool_]:
        """Where a column has no value, bool [N]."""
        return np.asarray(pc.is_null(self.table[name]).to_numpy(), dtype=np.bool_)


def view_of(table: pa.Table, columns: Sequence[Column], target: str, classes: Sequence[str]) -> TableView:
    """The view of a table whose rows are the examples, in their order."""
    values = tables.target_array(table, target, classes)
    if classes:
        return TableView(table, columns, target, values.astype(np.int64), classes)
    low, high = np.quantile(values, [1 / 3, 2 / 3]) if len(values) else (0.0, 0.0)
    thirds = (values > low).astype(np.int64) + (values > high)
    return TableView(table, columns, target, thirds, [f"low {target}", f"middle {target}", f"high {target}"])
