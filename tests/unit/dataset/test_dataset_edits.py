"""Edits: what they change, what they refuse, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.dataset.domain.edits import DROP, MOVE, RELABEL, USAGES, Edited, check_edits, make_edits
from modelyard.dataset.domain.records import Edit

IDS = ("e0", "e1", "e2", "e3", "e4")
LABELS = ("a", "a", "b", "b", "c")
CLASSES = ("a", "b", "c")
GIVEN = np.array([0, 1, 0, 2, 0], np.int64)


def made(*edits: Edit, single: bool = True) -> Edited:
    check_edits(edits, based=True)
    return make_edits(edits, IDS, LABELS, GIVEN, CLASSES, single=single)


def test_a_dropped_example_goes_and_its_empty_class_with_it() -> None:
    found = made(Edit(DROP, ("e4",)))
    assert found.kept.tolist() == [True, True, True, True, False]
    assert found.classes == ("a", "b")
    assert found.notes == ('Class "c" has no example left.',)
    assert found.counts == (1,)


def test_a_class_is_merged_into_another() -> None:
    found = made(Edit(RELABEL, of_class="b", label="a"))
    assert found.labels == ("a", "a", "a", "a", "c")
    assert found.classes == ("a", "c")
    assert found.counts == (2,)


def test_an_edit_counts_what_it_changed_and_not_what_was_so_before() -> None:
    found = made(Edit(RELABEL, ("e0", "e2"), label="a"), Edit(MOVE, ("e0", "e1"), usage="train"))
    assert found.counts == (1, 1)
    assert found.usages.tolist() == [0, 0, 0, 2, 0]


def test_a_new_class_must_be_meant() -> None:
    with pytest.raises(InvalidArgument, match="'d'; the classes are a, b, c") as caught:
        made(Edit(RELABEL, ("e0",), label="d"))
    assert caught.value.reason == "UNKNOWN_CLASS"
    assert made(Edit(RELABEL, ("e0",), label="d", new_class=True)).classes == ("a", "b", "c", "d")


def test_later_edits_see_what_earlier_ones_made() -> None:
    found = made(Edit(RELABEL, ("e0",), label="b"), Edit(DROP, of_class="b"))
    assert found.kept.tolist() == [False, True, False, False, True]
    with pytest.raises(InvalidArgument, match="an edit before it left out: e0"):
        made(Edit(DROP, ("e0",)), Edit(MOVE, ("e0",), usage="test"))


@pytest.mark.parametrize(
    ("edit", "reason", "field"),
    [
        (Edit(DROP, ("e0", "x7")), "UNKNOWN_EXAMPLE", "dataset_version.edits[0].example_ids"),
        (Edit(DROP, of_class="z"), "UNKNOWN_CLASS", "dataset_version.edits[0].of_class"),
        (Edit(DROP, IDS), "NOTHING_LEFT", "dataset_version.edits"),
        (Edit(DROP), "BAD_EDIT", "dataset_version.edits[0]"),
        (Edit(DROP, ("e0",), of_class="a"), "BAD_EDIT", "dataset_version.edits[0]"),
        (Edit("", ("e0",)), "BAD_EDIT", "dataset_version.edits[0].action"),
        (Edit(RELABEL, ("e0",), label=" "), "BAD_EDIT", "dataset_version.edits[0].label"),
        (Edit(MOVE, ("e0",)), "BAD_EDIT", "dataset_version.edits[0].usage"),
    ],
)
def test_a_wrong_edit_is_named(edit: Edit, reason: str, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        made(edit)
    assert (caught.value.reason, caught.value.violations[0].field) == (reason, field)


def test_a_move_needs_usages_to_start_from() -> None:
    with pytest.raises(InvalidArgument, match="name a base_version") as caught:
        check_edits([Edit(MOVE, ("e0",), usage="test")], based=False)
    assert caught.value.reason == "MOVE_NEEDS_BASE_VERSION"


def test_each_example_can_get_a_class_of_its_own() -> None:
    found = made(Edit(RELABEL, ("e2", "e0"), labels=("a", "c")))
    assert (found.labels[2], found.labels[0]) == ("a", "c")
    assert [label for place, label in enumerate(found.labels) if place not in (0, 2)] == [
        label for place, label in enumerate(LABELS) if place not in (0, 2)
    ]


@pytest.mark.parametrize(
    ("edit", "reason", "field"),
    [
        (Edit(RELABEL, ("e0", "e1"), labels=("a",)), "BAD_EDIT", "dataset_version.edits[0].labels"),
        (Edit(RELABEL, ("e0",), labels=("a",), label="b"), "BAD_EDIT", "dataset_version.edits[0].labels"),
        (Edit(DROP, ("e0",), labels=("a",)), "BAD_EDIT", "dataset_version.edits[0].labels"),
        (Edit(RELABEL, of_class="a", labels=("a",)), "BAD_EDIT", "dataset_version.edits[0].labels"),
        (Edit(RELABEL, ("e0", "e1"), labels=("a", " ")), "BAD_EDIT", "dataset_version.edits[0].labels[1]"),
        (Edit(RELABEL, ("e0",), labels=("zz",)), "UNKNOWN_CLASS", "dataset_version.edits[0].labels"),
    ],
)
def test_wrong_lists_of_classes_are_named(edit: Edit, reason: str, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        made(edit)
    assert caught.value.reason == reason
    assert caught.value.violations[0].field == field


def test_classes_of_boxes_cannot_be_edited_by_example() -> None:
    with pytest.raises(InvalidArgument) as caught:
        made(Edit(RELABEL, ("e0",), label="a"), single=False)
    assert caught.value.reason == "CANNOT_RELABEL"
    assert made(Edit(DROP, ("e4",)), single=False).classes == CLASSES


one_edit = st.one_of(
    st.builds(Edit, st.just(DROP), st.sets(st.sampled_from(IDS), min_size=1).map(tuple)),
    st.builds(Edit, st.just(RELABEL), st.sets(st.sampled_from(IDS), min_size=1).map(tuple), label=st.sampled_from(CLASSES)),
    st.builds(Edit, st.just(MOVE), st.sets(st.sampled_from(IDS), min_size=1).map(tuple), usage=st.sampled_from(USAGES)),
)


@given(st.lists(one_edit, max_size=6))
def test_only_what_edits_name_changes(edits: list[Edit]) -> None:
    refused = ""
    try:
        found = made(*edits)
    except InvalidArgument as error:
        refused = error.reason
    assert refused in ("", "EXAMPLE_DROPPED", "NOTHING_LEFT")
    if refused:
        assert any(edit.action == DROP for edit in edits)
        return
    for place, id_ in enumerate(IDS):
        mine = [edit for edit in edits if id_ in edit.examples]
        assert found.kept[place] == (not any(edit.action == DROP for edit in mine))
        labels = [edit.label for edit in mine if edit.action == RELABEL]
        assert found.labels[place] == (labels[-1] if labels else LABELS[place])
        usages = [edit.usage for edit in mine if edit.action == MOVE]
        assert found.usages[place] == (USAGES.index(usages[-1]) if usages else GIVEN[place])
    assert set(found.classes) == {found.labels[place] for place in np.flatnonzero(found.kept)}
