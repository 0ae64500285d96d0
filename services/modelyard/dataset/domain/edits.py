"""Changes to the examples of a dataset: left out, put into another class, moved to another usage, given another value to
predict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.core.words import several
from modelyard.dataset.domain.column_edits import COLUMN_ACTIONS, check_column_edit
from modelyard.dataset.domain.records import Edit

DROP, RELABEL, MOVE, SET_VALUE, RECLASS = "drop", "relabel", "move", "set_value", "reclass"
ACTIONS = (DROP, RELABEL, MOVE, SET_VALUE, RECLASS, *COLUMN_ACTIONS)
USAGES = ("train", "validation", "test")
"""In the order of their numbers in `Edited.usages`."""

MOST_EDITS = 10_000
MOST_EXAMPLES = 1_000_000
LONGEST_LABEL = 200
LONGEST_REASON = 200
_NAMED = 20

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MarkedClasses:
    """The classes of what is marked on examples (objects, several labels, ranges), M marks in all: `rows` int64 [M], the
    example of each; `labels` int64 [M], the index of its class."""

    rows: Ints
    labels: Ints


@dataclass(frozen=True)
class Edited:
    """What edits make of N examples: `kept` bool [N], labels [N], usages int64 [N] (-1: none); `counts`: changed by each edit.

    values float64 [N]: to predict, where there are such; marks: the classes of what is marked, by their place in `classes`, and
    `remarked` bool [N], whose marks changed.
    """

    kept: npt.NDArray[np.bool_]
    labels: tuple[str | None, ...]
    usages: Ints
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    notes: tuple[str, ...]
    values: Floats | None = None
    marks: MarkedClasses | None = None
    remarked: Flags = field(default_factory=lambda: np.zeros(0, np.bool_))


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
        words = "DROP, RELABEL, MOVE, SET_VALUE, RECLASS, CAP or IMPUTE"
        raise _bad("BAD_EDIT", f"{path}.action is not set; it is {words}", f"{path}.action")
    if edit.action in COLUMN_ACTIONS:
        check_column_edit(edit, path)
    elif edit.column:
        raise _bad("BAD_EDIT", f"{path}.column is {edit.column[:80]!r}; it belongs to CAP and IMPUTE", f"{path}.column")
    if edit.action == RECLASS and not edit.of_class:
        raise _bad("BAD_EDIT", f"{path}.of_class is empty; RECLASS needs the class that marks have now", f"{path}.of_class")
    if edit.action == SET_VALUE and not math.isfinite(edit.value):
        raise _bad("BAD_EDIT", f"{path}.value is {edit.value}; SET_VALUE needs a finite number", f"{path}.value")
    if edit.action not in (RECLASS, *COLUMN_ACTIONS) and bool(edit.examples) == bool(edit.of_class):
        raise _bad("BAD_EDIT", f"{path} names its examples by example_ids or by of_class: exactly one of them", path)
    if edit.labels:
        _check_labels(edit, path)
    elif edit.action in (RELABEL, RECLASS) and not 0 < len(edit.label.strip()) <= LONGEST_LABEL:
        message = f"{path}.label is {edit.label[:40]!r}; {edit.action.upper()} needs a class of 1 to {LONGEST_LABEL} characters"
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


def _check_labels(edit: Edit, path: str) -> None:
    """A class for each example, and nothing beside."""
    if edit.action != RELABEL or edit.label or edit.of_class:
        message = f"{path}.labels is set; it belongs to RELABEL with example_ids, without label and of_class"
        raise _bad("BAD_EDIT", message, f"{path}.labels")
    if len(edit.labels) != len(edit.examples):
        message = f"{path}.labels has {len(edit.labels)} classes for {len(edit.examples)} example_ids; each has one"
        raise _bad("BAD_EDIT", message, f"{path}.labels")
    for number, label in enumerate(edit.labels):
        if not 0 < len(label.strip()) <= LONGEST_LABEL:
            message = f"{path}.labels[{number}] is {label[:40]!r}; a class has 1 to {LONGEST_LABEL} characters"
            raise _bad("BAD_EDIT", message, f"{path}.labels[{number}]")


def make_edits(
    edits: Sequence[Edit],
    ids: Sequence[str],
    labels: Sequence[str | None],
    usages: Ints,
    classes: Sequence[str],
    *,
    single: bool,
    values: Floats | None = None,
    marks: MarkedClasses | None = None,
    frozen: Flags | None = None,
) -> Edited:
    """Makes edits one after the other. ids [N], labels [N], usages int64 [N]; `single`: every example has one class, its label.

    values float64 [N]: to predict, of a regression; marks: of annotated examples; frozen bool [N]: of a frozen test set, None
    where there is
    none. Raises InvalidArgument UNKNOWN_EXAMPLE, UNKNOWN_CLASS, EXAMPLE_DROPPED, CANNOT_RELABEL, CANNOT_SET_VALUE,
    CANNOT_RECLASS, NOTHING_LEFT; FailedPrecondition FROZEN_TEST.
    """
    state = _State(ids, labels, usages, classes, values, marks, frozen, single=single)
    counts = [state.make(edit, f"dataset_version.edits[{number}]", bool(edit.examples)) for number, edit in enumerate(edits)]
    kept = state.kept
    if not kept.any():
        raise _bad(
            "NOTHING_LEFT", "dataset_version.edits leave out every example; a version needs at least one", "dataset_version.edits"
        )
    left, notes = _classes_left(state.known, classes, (state.labels[place] for place in np.flatnonzero(kept)), edits, single)
    changed_marks = None
    if state.mark_labels is not None and marks is not None:
        left, place = _marked_classes_left(state.known, state.mark_labels, state.emptied)
        notes = tuple(f'Class "{name}" is now part of another.' for name in classes if name not in left)
        notes += tuple(f'Class "{name}" is new.' for name in left if name not in classes)
        changed_marks = MarkedClasses(marks.rows, place[state.mark_labels])
    return Edited(
        kept, tuple(state.labels), state.usages, left, tuple(counts), notes, state.values, changed_marks, state.remarked
    )


class _State:
    """The examples while edits are made to them."""

    def __init__(
        self,
        ids: Sequence[str],
        labels: Sequence[str | None],
        usages: Ints,
        classes: Sequence[str],
        values: Floats | None,
        marks: MarkedClasses | None,
        frozen: Flags | None,
        *,
        single: bool,
    ) -> None:
        self.ids, self.single, self.frozen, self.marks = ids, single, frozen, marks
        self.at: dict[str, int] = {}
        self.kept = np.ones(len(ids), np.bool_)
        self.labels, self.usages, self.known = list(labels), usages.copy(), list(classes)
        self.values = None if values is None else values.copy()
        self.mark_labels = None if marks is None else marks.labels.copy()
        self.remarked = np.zeros(len(ids), np.bool_)
        self.emptied: set[int] = set()  # classes whose marks all went to another

    def make(self, edit: Edit, path: str, by_id: bool) -> int:
        """Makes one; how many examples it changed. What changes a column of the table is worker.edited_columns' to make."""
        if edit.action in COLUMN_ACTIONS:
            return 0
        if by_id and not self.at:
            self.at = {id_: place for place, id_ in enumerate(self.ids)}
        if edit.action == RECLASS:
            return self._reclass(edit, path)
        if (edit.action == RELABEL or edit.of_class) and not self.single:
            what = "one class for each example" if self.known else "classes"
            message = f"{path} is about classes of examples, but this dataset has not {what} that an edit can change or select by"
            raise _bad("CANNOT_RELABEL", message, path)
        places = _selected(edit, self.at, self.kept, self.labels, self.known, path)
        if edit.action == DROP:
            self.kept[places] = False
        elif edit.action == MOVE:
            places = self._move(edit, places, path)
        elif edit.action == SET_VALUE:
            places = self._set_value(edit, places, path)
        else:
            wanted = _wanted(edit, places, self.at)
            places = [place for place in places if self.labels[place] != wanted[place]]
            _relabel(edit, wanted, places, self.labels, self.known, path)
        return len(places)

    def _move(self, edit: Edit, places: Sequence[int], path: str) -> list[int]:
        usage = USAGES.index(edit.usage)
        changed = [place for place in places if self.usages[place] != usage]
        if self.frozen is not None:
            held = [place for place in changed if self.frozen[place] or edit.usage == "test"]
            if held:
                shown = ", ".join(self.ids[place] for place in held[:_NAMED])
                why = "are of the frozen test set and stay in test" if edit.usage != "test" else "cannot join the frozen test set"
                message = (
                    f"{path} moves {len(held)} examples that {why}: {shown}. A new test set is drawn with test_policy REPLACE"
                )
                raise FailedPrecondition("FROZEN_TEST", message, field=path, examples=len(held))
        self.usages[changed] = usage
        return changed

    def _set_value(self, edit: Edit, places: Sequence[int], path: str) -> list[int]:
        if self.values is None:
            message = f"{path} sets the value to predict, but this dataset's examples have classes; use RELABEL"
            raise _bad("CANNOT_SET_VALUE", message, f"{path}.action")
        values = self.values
        changed = [place for place in places if values[place] != edit.value]
        values[changed] = edit.value
        return changed

    def _reclass(self, edit: Edit, path: str) -> int:
        if self.marks is None or self.mark_labels is None:
            message = f"{path} is about the classes of marks, but this dataset's examples have none; use RELABEL"
            raise _bad("CANNOT_RECLASS", message, f"{path}.action")
        if edit.of_class not in self.known:
            raise _unknown_class(f"{path}.of_class", edit.of_class, self.known)
        old = self.known.index(edit.of_class)
        chosen = self.mark_labels == old
        if edit.examples:
            places = _selected(edit, self.at, self.kept, self.labels, self.known, path, by_class=False)
            chosen &= np.isin(self.marks.rows, np.asarray(places, np.int64))
        chosen &= self.kept[self.marks.rows]
        if edit.label == edit.of_class:
            return 0
        if edit.label not in self.known:
            if not edit.new_class:
                raise _unknown_class(f"{path}.label", edit.label, self.known)
            if not edit.examples:  # renamed: it keeps its place
                self.known[old] = edit.label
            else:
                self.known.append(edit.label)
        new = self.known.index(edit.label)
        self.mark_labels[chosen] = new
        if new != old and not (self.mark_labels == old).any():
            self.emptied.add(old)
        self.emptied.discard(new)
        rows = np.unique(self.marks.rows[chosen])
        self.remarked[rows] = True
        return len(rows)


def _marked_classes_left(known: Sequence[str], labels: Ints, emptied: set[int]) -> tuple[tuple[str, ...], Ints]:
    """Classes without those that were emptied, in their order, and where each went: int64 [classes]."""
    gone = {number for number in emptied if not (labels == number).any()}
    left = [number for number in range(len(known)) if number not in gone]
    place = np.zeros(len(known), np.int64)
    place[left] = np.arange(len(left))
    return tuple(known[number] for number in left), place


def _selected(
    edit: Edit,
    at: dict[str, int],
    kept: npt.NDArray[np.bool_],
    labels: Sequence[str | None],
    known: Sequence[str],
    path: str,
    *,
    by_class: bool = True,
) -> list[int]:
    if by_class and edit.of_class:
        if edit.of_class not in known:
            raise _unknown_class(f"{path}.of_class", edit.of_class, known)
        return [place for place, label in enumerate(labels) if label == edit.of_class and kept[place]]
    missing = [id_ for id_ in edit.examples if id_ not in at]
    if missing:
        shown = ", ".join(missing[:_NAMED])
        message = f"{path}.example_ids names {several(len(missing), 'example that is', 'examples that are')} not there: {shown}"
        raise _bad("UNKNOWN_EXAMPLE", message, f"{path}.example_ids")
    places = list(dict.fromkeys(at[id_] for id_ in edit.examples))
    gone = [id_ for id_ in edit.examples if not kept[at[id_]]]
    if gone:
        shown = ", ".join(gone[:_NAMED])
        message = f"{path}.example_ids names {several(len(gone), 'example')} that an edit before it left out: {shown}"
        raise _bad("EXAMPLE_DROPPED", message, f"{path}.example_ids")
    return places


def _wanted(edit: Edit, places: Sequence[int], at: Mapping[str, int]) -> dict[int, str]:
    """The class that each place gets; an example that is named twice gets what is said last."""
    if not edit.labels:
        return dict.fromkeys(places, edit.label)
    return {at[id_]: label for id_, label in zip(edit.examples, edit.labels, strict=True)}


def _relabel(
    edit: Edit, wanted: Mapping[int, str], places: Sequence[int], labels: list[str | None], known: list[str], path: str
) -> None:
    for name in dict.fromkeys(edit.labels or (edit.label,)):
        if name not in known:
            if not edit.new_class:
                raise _unknown_class(f"{path}.labels" if edit.labels else f"{path}.label", name, known)
            known.append(name)
    for place in places:
        labels[place] = wanted[place]


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
