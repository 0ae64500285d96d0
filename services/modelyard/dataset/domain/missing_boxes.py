"""Objects that nobody marked: what a detector finds that did not learn from the picture, as sure as it is of marked objects, and
where no box is.

How probable it is that such a detection is an object follows from marked ones alone (Elkan and Noto 2008, learning from positive
and unlabelled examples): where the detector is surest, nearly all that it finds are objects, and the share of them that is marked
is how completely people mark. At a lower score fewer are marked; what goes beyond that share of completeness is the detector's
own mistakes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelyard.core.words import several
from modelyard.dataset.domain.box_detector import Detections
from modelyard.dataset.domain.findings import Names, about
from modelyard.dataset.domain.label_checks import LEAST_SCORE, WARNING_SHARE
from modelyard.dataset.domain.records import Finding

LEAST_MARKED = 100
"""A detector learns nothing to speak of from fewer marked objects."""

LEAST_COMPLETE = 0.75
"""Where a smaller share of the surest detections is marked, the detector is not sure of what it says, and names nothing."""

LEAST_FOUND = 50
"""Marked objects that are found; with fewer nothing can be said of the others."""

_SUREST, _LEAST_SUREST, _MOST_SUREST = 0.5, 100, 0.8
_SHOWN = 3

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def completeness(found: Detections) -> float:
    """Share of the surest detections that are marked: those down to half of the marked objects that are found (of few, down
    to more of them). 0 where too few are found."""
    clear = np.flatnonzero(found.matched | found.free)
    clear = clear[np.argsort(-found.scores[clear], kind="stable")]
    hits = np.cumsum(found.matched[clear])
    if not len(hits) or hits[-1] < LEAST_FOUND:
        return 0.0
    surest = max(_SUREST * hits[-1], min(_LEAST_SUREST, _MOST_SUREST * hits[-1]))
    last = int(np.searchsorted(hits, surest))
    return float(hits[last] / (last + 1))


def objects_unmarked(found: Detections) -> Floats:
    """How probable it is that each detection is an object that nobody marked, float64 [D]; 0 of those that are marked."""
    out = np.zeros(len(found.scores))
    complete = completeness(found)
    if not LEAST_COMPLETE <= complete < 1:
        return out
    clear = np.flatnonzero(found.matched | found.free)
    clear = clear[np.argsort(found.scores[clear], kind="stable")]
    share = np.minimum(_rising(found.matched[clear].astype(np.float64)), complete)
    missing = np.minimum((1 - complete) / complete * share / np.maximum(1 - share, 1e-9), 1.0)
    out[clear] = np.where(found.free[clear], missing, 0.0)
    return out


def _rising(values: Floats) -> Floats:
    """The rising sequence that is nearest to float64 [N] (pool adjacent violators)."""
    means: list[float] = []
    sizes: list[int] = []
    for value in values.tolist():
        means.append(value)
        sizes.append(1)
        while len(means) > 1 and means[-2] >= means[-1]:
            size = sizes[-2] + sizes[-1]
            means[-2:] = [(means[-2] * sizes[-2] + means[-1] * sizes[-1]) / size]
            sizes[-2:] = [size]
    return np.repeat(means, sizes)


def missing_findings(
    found: Detections, missing: Floats, boxes: Floats, marked: int, classes: Sequence[str], rows: Ints, names: Names
) -> list[Finding]:
    """A finding with the pictures that hold objects that nobody marked, or none. missing: see objects_unmarked; boxes float64
    [D, 4]: in pixels of the pictures; marked: how many objects are; rows int64: the example of each picture. The score of a
    picture is that of its surest detection."""
    at = np.flatnonzero(missing >= LEAST_SCORE)
    if not len(at):
        return []
    pictures = np.unique(found.pictures[at])
    scores = np.array([missing[at][found.pictures[at] == picture].max() for picture in pictures.tolist()])
    worst = at[np.lexsort((-found.scores[at], -missing[at]))][:_SHOWN]
    shown = "; ".join(
        f"{names.paths[int(rows[found.pictures[k]])]}: "
        f'"{classes[int(found.labels[k])]}" at {", ".join(f"{edge:.0f}" for edge in boxes[k])}'
        for k in worst.tolist()
    )
    often = Counter(classes[int(label)] for label in found.labels[at])
    most = ", ".join(f'"{name}" ({count})' for name, count in often.most_common(_SHOWN))
    message = f"{several(len(at), 'object')} that look like marked ones are not marked, in {several(len(pictures), 'picture')} "
    message += f"({len(at)} to {marked} that are), by a detector that did not learn from their pictures; "
    message += f"{float(missing[at].mean()):.0%} of them if it is right about how sure it is. They look like {most}. "
    message += f"The surest (left, top, right, bottom in pixels): {shown}."
    cost = "A detector is taught to overlook them, and is marked wrong where it finds them: its score is lower than it is good."
    action = "Look at these pictures again and mark what is missing: modelyard annotate create --finding MISSING_BOX."
    severity = "warning" if len(at) >= WARNING_SHARE * marked else "info"
    return [about("MISSING_BOX", severity, message, rows[pictures], names, cost=cost, action=action, scores=scores)]
