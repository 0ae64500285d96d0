"""What the checks of tables, sounds, series and marks say of examples and columns, as findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelyard.core.words import several
from modelyard.dataset.domain.findings import Names, about
from modelyard.dataset.domain.records import Edit, Finding

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Text:
    """What a finding says: its kind, how severe it is, what was found, what it costs to leave it, what to do."""

    kind: str
    severity: str  # info, warning or error
    message: str
    cost: str
    action: str


def of_examples(
    text: Text,
    names: Names,
    members: npt.NDArray[np.integer],
    scores: Floats | None = None,
    *,
    drop: bool = False,
    column: str = "",
) -> Finding:
    """A finding about the examples at the positions `members`.

    scores float64 [len(members)], cut to 0 to 1, higher is worse: the worst are listed first; without them the order is kept.
    `drop`: the finding brings the edit that leaves all of them out.
    """
    places = np.asarray(members, dtype=np.int64)
    return about(
        text.kind,
        text.severity,
        text.message,
        places,
        names,
        cost=text.cost,
        action=text.action,
        scores=None if scores is None else np.clip(np.nan_to_num(scores, nan=0.0), 0.0, 1.0),
        drop=places if drop else None,
        column=column,
    )


def of_column(text: Text, column: str, count: int, fix: Edit | None = None) -> Finding:
    """A finding about a column of a table (or a channel of series) as a whole, that concerns `count` examples."""
    return Finding(
        kind=text.kind,
        severity=text.severity,
        message=text.message,
        example_count=count,
        column=column,
        action=text.action,
        cost=text.cost,
        fix=fix,
    )


def quoted(values: Sequence[str], most: int = 5) -> str:
    """The first few of some values, for a sentence."""
    shown = ", ".join(f'"{value[:60]}"' for value in values[:most])
    return f"{shown} and {len(values) - most} more" if len(values) > most else shown


def unused_classes(counts: npt.NDArray[np.integer], classes: Sequence[str], what: str) -> list[Finding]:
    """Classes that are listed and never appear. counts int [classes]; what: "object" or "pixel"."""
    missing = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if not missing:
        return []
    text = Text(
        "UNUSED_CLASS",
        "warning",
        f"{several(len(missing), 'class is', 'classes are')} listed without a single {what}: {quoted(missing)}.",
        "The model has an answer for it that it never learns to give; scores that average over classes miss it.",
        "Add examples of it, or take it out of the list of classes.",
    )
    return [of_column(text, "", 0)]
