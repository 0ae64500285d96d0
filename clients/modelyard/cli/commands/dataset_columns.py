"""Edits of a table's columns, from the options of `modelyard dataset edit`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelyard.dataset.v1 import dataset_pb2


def column_edits(cap: Sequence[str], impute: Sequence[str], reason: str) -> list[dataset_pb2.Edit]:
    """cap: "fare=0:300", "fare=:300", "fare=0:"; impute: "age", "deck=unknown". Fails naming the option and its form."""
    from modelyard.dataset.v1 import dataset_pb2

    made = []
    for text in cap:
        column, _, limits = text.rpartition("=")
        low, colon, high = limits.partition(":")
        lower, upper = _limit(low, text), _limit(high, text)
        if not column or not colon or (lower is None and upper is None):
            raise _wrong_cap(text)
        edit = dataset_pb2.Edit(action=dataset_pb2.Edit.ACTION_CAP, column=column, reason=reason)
        if lower is not None:
            edit.lower = lower
        if upper is not None:
            edit.upper = upper
        made.append(edit)
    for text in impute:
        column, _, fill = text.partition("=")
        action = dataset_pb2.Edit.ACTION_IMPUTE
        made.append(dataset_pb2.Edit(action=action, column=column, fill=fill, reason=reason))
    return made


def _limit(text: str, whole: str) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _wrong_cap(whole)
    return value


def _wrong_cap(text: str) -> Exception:
    from modelyard.cli.asking import wrong

    return wrong("--cap", text, f"--cap is {text!r}; it has the form COLUMN=LOWEST:HIGHEST, such as fare=0:300 or fare=:300")
