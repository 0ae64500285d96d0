"""Which unlabelled examples of a dataset are most worth labelling next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modelyard.core.errors import FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.names import ANNOTATION_ROUND, DATASET
from modelyard.core.resources import check_page_size
from modelyard.dataset.domain import rounds
from modelyard.dataset.domain.proposals import Proposal, propose
from modelyard.dataset.handlers.annotation_rounds import Annotating, labelled_elsewhere, round_of
from modelyard.dataset.handlers.documents import present_content
from modelyard.dataset.handlers.versions import start_of, token_after
from modelyard.dataset.ports import Listed

MOST_PROPOSED = 100_000


@dataclass(frozen=True)
class Proposed:
    """The examples chosen, in order; of how many; and how."""

    examples: Sequence[Listed]
    candidates: int
    proposal: Proposal


def propose_examples(
    at: Annotating,
    parent: str,
    count: int,
    strategy: str,
    predictions: Mapping[str, Sequence[float]],
    seed: int,
    *,
    include_open_rounds: bool,
) -> Proposed:
    """Chooses among the examples of the present content that neither it nor the newest version has a label for.

    Raises NotFound, FailedPrecondition NO_CONTENT, NOTHING_UNLABELLED, InvalidArgument BAD_COUNT, NO_PREDICTIONS,
    BAD_PREDICTIONS.
    """
    DATASET.parse(parent, "parent")
    if not 1 <= count <= MOST_PROPOSED:
        raise InvalidArgument("BAD_COUNT", f"count is {count}; it is 1 to {MOST_PROPOSED}", field="count", value=count)
    _, imported = present_content(at.jobs, at.resources, parent)
    listed = at.contents.listed(imported.content)
    known = labelled_elsewhere(at, parent)
    busy = set() if include_open_rounds else _in_open_rounds(at, parent)
    labelled = [each for each in listed if each.labelled or each.example_id in known]
    free = [each for each in listed if not each.labelled and each.example_id not in known and each.example_id not in busy]
    if not free:
        message = f"every example of {parent} is labelled or in an open round; import more, or ask for those of open rounds too"
        raise FailedPrecondition("NOTHING_UNLABELLED", message, name=parent)
    offered = [each for each in free if each.example_id in predictions] if predictions else free
    if not offered:
        message = f"predictions name {len(predictions)} examples, none of them unlabelled and free"
        raise InvalidArgument("BAD_PREDICTIONS", message, field="predictions", count=len(predictions))
    probabilities = _table(predictions, offered) if predictions else None
    vectors = at.contents.vectors(imported.content, [each.row for each in offered])
    beside = at.contents.vectors(imported.content, [each.row for each in labelled]) if vectors is not None else None
    found = propose(
        count,
        strategy,
        offered=len(offered),
        probabilities=probabilities,
        vectors=vectors,
        labelled=beside,
        seed=seed,
    )
    return Proposed([offered[place] for place in found.chosen], len(offered), found)


def list_unlabelled(at: Annotating, parent: str, page_size: int, page_token: str) -> tuple[Sequence[Listed], str, int]:
    """A page of the unlabelled examples, the token of the next page, and how many there are. Raises NotFound, InvalidArgument."""
    DATASET.parse(parent, "parent")
    size = check_page_size(page_size)
    _, imported = present_content(at.jobs, at.resources, parent)
    known = labelled_elsewhere(at, parent)
    free = [each for each in at.contents.listed(imported.content) if not each.labelled and each.example_id not in known]
    query = f"{parent} unlabelled"
    start = start_of(page_token, query)
    token = token_after(query, start + size) if start + size < len(free) else ""
    return free[start : start + size], token, len(free)


def example_content(at: Annotating, parent: str, example_id: str) -> tuple[bytes, str]:
    """An example of the present content, and its media type. Raises NotFound, DataLoss."""
    DATASET.parse(parent, "parent")
    _, imported = present_content(at.jobs, at.resources, parent)
    row = at.contents.row_of(imported.content, example_id)
    if row is None:
        message = f"example_id is {example_id[:80]!r}; {parent} has no such example"
        raise NotFound("EXAMPLE_NOT_FOUND", message, field="example_id", value=example_id[:80])
    return at.contents.read(imported.content, row)


def _table(
    predictions: Mapping[str, Sequence[float]], offered: Sequence[Listed]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    rows = [predictions[each.example_id] for each in offered]
    widths = {len(row) for row in rows}
    if len(widths) != 1:
        message = f"predictions have {min(widths)} to {max(widths)} probabilities; all need the same classes"
        raise InvalidArgument("BAD_PREDICTIONS", message, field="predictions")
    return np.asarray(rows, np.float64)


def _in_open_rounds(at: Annotating, parent: str) -> set[str]:
    found: set[str] = set()
    token = ""
    while True:
        page = at.resources.list(ANNOTATION_ROUND.collection, parent, 1000, token)
        for each in page.items:
            round_ = round_of(each)
            if round_.state != rounds.CLOSED:
                found.update(at.annotations.example_ids(round_.key))
        token = page.next_page_token
        if not token:
            return found
