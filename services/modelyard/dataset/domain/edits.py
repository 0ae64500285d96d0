"""Changes to the examples of a dataset: left out, put into another class, moved to another usage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.records import Edit

DROP, RELABEL, MOVE = "drop", "relabel", "move"
ACTIONS = (DROP, RELABEL, MOVE)
USAGES = ("train", "validation", "test")
"""In the order of their numbers in `Edited.usages`."""

MOST_EDITS = 10_000
MOST_EXAMPLES = 1_000_000
LONGEST_LABEL = 200
LONGEST_REASON = 200
_NAMED = 20

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Edited:
    """What edits make of N examples: `kept` bool [N], labels [N], usages int64 [N] (-1: none); `counts`: changed by each edit."""

    kept: npt.NDArray[np.bool_]
    labels: tuple[str | None, ...]
    usages: Ints
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    notes: tuple[str, ...]


def check_edits(edits: Sequence[Edit], *, based: bool) -> None:
    """What can be said of edits without the examples. `based`: there is a base version. Raises InvalidArgument."""
    if len(edits) > MOST_EDITS:
        message = f"dataset_version.edits has {len(edits)} edits; at most {MOST_EDITS} make one version"
        raise InvalidArgument("TOO_MANY_EDITS", message, field="dataset_version.edits", count=len(edits))
    named = sum(len(edit.examples) for edit in edits)
    if named > MOST_EXAMPLES:
        message = f"dataset_version.edits names {named} examples; at most {MOST_EXAMPLES} are named in one version"
        raise InvalidArgument("TOO_MANY_EXAMPLES", message, field="dataset_version.edits", count=named)
    for number, edit in enumerate(edits):
        _check(edit, f"dataset_version.edits[{number}]", based)


def _check(edit: Edit, path: str, based: bool) -> None:
    if edit.action not in ACTIONS:
        raise _bad("BAD_EDIT", f"{path}.action is not set; it is DROP, RELABEL or MOVE", f"{path}.action")
    if bool(edit.examples) == bool(edit.of_class):
        raise _bad("BAD_EDIT", f"{path} names its examples by example_ids or by of_class: exactly one of them", path)
    if edit.action == RELABEL and not 0 < len(edit.label.strip()) <= LONGEST_LABEL:
        message = f"{path}.label is {edit.label[:40]!r}; RELABEL needs a class of 1 to {LONGEST_LABEL} characters"
        raise _bad("BAD_EDIT", message, f"{path}.label")
    if edit.action == MOVE and edit.usage not in USAGES:
        raise _bad("BAD_EDIT", f"{path}.usage is not set; MOVE needs train, validation or test", f"{path}.usage")
    if edit.action == MOVE and not based:
        message = f"{path} moves examples between usages, which the present content does not have yet; name a base_version"
        raise _bad("MOVE_NEEDS_BASE_VERSION", message, f"{path}.action")
    if len(edit.reason) > LONGEST_REASON:
        raise _bad(
            "TEXT_TOO_LONG", f"{path}.reason has {len(edit.reason)} characters; at most {LONGEST_REASON}", f"{path}.reason"
        )


def make_edits(
    edits: Sequence[Edit], ids: Sequence[str], labels: Sequence[str | None], usages: Ints, classes: Sequence[str], *, single: bool
) -> Edited:
    """Makes edits one after the other. ids [N], labels [N], usages int64 [N]; `single`: every example has one class, its label.

    Raises InvalidArgument UNKNOWN_EXAMPLE, UNKNOWN_CLASS, EXAMPLE_DROPPED, CANNOT_RELABEL, NOTHING_LEFT.
    """
    at = {id_: place for place, id_ in enumerate(ids)} if any(edit.examples for edit in edits) else {}
    kept = np.ones(len(ids), np.bool_)
    new_labels, new_usages, known = list(labels), usages.copy(), list(classes)
    counts = []
    for number, edit in enumerate(edits):
        path = f"dataset_version.edits[{number}]"
        if (edit.action == RELABEL or edit.of_class) and not single:
            what = "one class for each example" if classes else "classes"
            message = f"{path} is about classes of examples, but this dataset has not {what} that an edit can change or select by"
            raise _bad("CANNOT_RELABEL", message, path)
        places = _selected(edit, at, kept, new_labels, known, path)
        if edit.action == DROP:
            kept[places] = False
        elif edit.action == MOVE:
            changed = [place for place in places if new_usages[place] != USAGES.index(edit.usage)]
            new_usages[changed] = USAGES.index(edit.usage)
            places = changed
        else:
            places = [place for place in places if new_labels[place] != edit.label]
            _relabel(edit, places, new_labels, known, path)
        counts.append(len(places))
    if not kept.any():
        raise _bad(
            "NOTHING_LEFT", "dataset_version.edits leave out every example; a version needs at least one", "dataset_version.edits"
        )
    left, notes = _classes_left(known, classes, (new_labels[place] for place in np.flatnonzero(kept)), edits, single)
    return Edited(kept, tuple(new_labels), new_usages, left, tuple(counts), notes)


def _selected(
    edit: Edit, at: dict[str, int], kept: npt.NDArray[np.bool_], labels: Sequence[str | None], known: Sequence[str], path: str
) -> list[int]:
    if edit.of_class:
        if edit.of_class not in known:
            raise _unknown_class(f"{path}.of_class", edit.of_class, known)
        return [place for place, label in enumerate(labels) if label == edit.of_class and kept[place]]
    missing = [id_ for id_ in edit.examples if id_ not in at]
    if missing:
        shown = ", ".join(missing[:_NAMED])
        message = f"{path}.example_ids names {len(missing)} examples that are not there: {shown}"
        raise _bad("UNKNOWN_EXAMPLE", message, f"{path}.example_ids")
    places = list(dict.fromkeys(at[id_] for id_ in edit.examples))
    gone = [id_ for id_ in edit.examples if not kept[at[id_]]]
    if gone:
        message = f"{path}.example_ids names {len(gone)} examples that an edit before it left out: {', '.join(gone[:_NAMED])}"
        raise _bad("EXAMPLE_DROPPED", message, f"{path}.example_ids")
    return places


def _relabel(edit: Edit, places: Sequence[int], labels: list[str | None], known: list[str], path: str) -> None:
    if edit.label not in known:
        if not edit.new_class:
            raise _unknown_class(f"{path}.label", edit.label, known)
        known.append(edit.label)
    for place in places:
        labels[place] = edit.label


def _classes_left(
    known: Sequence[str], before: Sequence[str], used: Iterable[str | None], edits: Sequence[Edit], single: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Classes that still have an example, in their order; of tasks whose annotations name classes by number, all of them stay."""
    if not single or not edits:
        return tuple(before), ()
    present = set(used)
    left = tuple(name for name in known if name in present)
    notes = [f'Class "{name}" has no example left.' for name in before if name not in present]
    notes += [f'Class "{name}" is new.' for name in left if name not in before]
    return left, tuple(notes)


def _unknown_class(field: str, value: str, known: Sequence[str]) -> InvalidArgument:
    listed = ", ".join(known[:100])
    return _bad("UNKNOWN_CLASS", f"{field} is {value[:80]!r}; the classes are {listed}", field)


def _bad(reason: str, message: str, field: str) -> InvalidArgument:
    return InvalidArgument(reason, message, field=field)
