"""Findings about examples: who they are, how bad each is, and the edit that leaves them out or puts them right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain.edits import DROP, RELABEL
from modelyard.dataset.domain.records import LISTED_EXAMPLES, Edit, Finding

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Names:
    """What the N examples are called: paths (or "row 17"), and ids; no ids where there are none to give."""

    paths: Sequence[str]
    ids: Sequence[str] = ()

    def taken(self, members: Ints) -> Names:
        """Those at some positions."""
        return Names(_of(self.paths, members), _of(self.ids, members) if self.ids else ())


def about(
    kind: str,
    severity: str,
    message: str,
    members: Ints,
    names: Names,
    *,
    cost: str,
    action: str,
    scores: npt.NDArray[np.floating] | None = None,
    drop: Ints | None = None,
    relabel: Sequence[str] = (),
    column: str = "",
) -> Finding:
    """A finding about the examples at `members` (int64 [M], in the order in which people should see them, without scores).

    scores: of each member, 0 to 1, higher is worse; the worst come first then. drop: the examples that the fix leaves out, all of
    them among the members; relabel: the class that the fix gives to each member, in their order. At most one of these two.
    """
    if scores is not None:
        order = np.argsort(-scores, kind="stable")
        members, scores = members[order], scores[order]
        relabel = [relabel[int(place)] for place in order] if relabel else ()
    shown = members[:LISTED_EXAMPLES]
    fix, mended = None, members
    if names.ids and relabel:
        fix = Edit(RELABEL, _of(names.ids, members), labels=tuple(relabel), reason=kind)
    elif names.ids and drop is not None and len(drop):
        mended = members[np.isin(members, drop)]
        fix = Edit(DROP, _of(names.ids, mended), reason=kind)
    known = dict(zip(members.tolist(), scores.tolist(), strict=True)) if scores is not None else {}
    return Finding(
        kind,
        severity,
        message,
        _of(names.paths, shown),
        len(members),
        column,
        action,
        fix,
        cost,
        _of(names.ids, shown) if names.ids else (),
        tuple(round(known[int(place)], 4) for place in shown) if known else (),
        tuple(round(known[int(place)], 4) for place in mended) if known and fix else (),
    )


def _of(texts: Sequence[str], places: Ints) -> tuple[str, ...]:
    return tuple(texts[int(place)] for place in places)
