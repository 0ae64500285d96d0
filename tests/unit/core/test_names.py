"""Resource names and ids."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core import names
from modelyard.core.errors import InvalidArgument
from modelyard.core.names import Pattern

ALL = [value for value in vars(names).values() if isinstance(value, Pattern)]
IDS = st.from_regex(r"[a-z][a-z0-9-]{0,62}", fullmatch=True)


@pytest.mark.parametrize("pattern", ALL, ids=lambda pattern: str(pattern.template))
@given(data=st.data())
def test_parse_gives_back_what_format_was_given(pattern: Pattern, data: st.DataObject) -> None:
    ids = [data.draw(IDS) for _ in pattern.variables]
    name = pattern.format(*ids)
    assert list(pattern.parse(name).values()) == ids
    assert name == pattern.format(**pattern.parse(name))
    assert names.id_of(name) == ids[-1]
    assert [other for other in ALL if other.matches(name)] == [pattern]


def test_all_kinds_of_the_contracts_are_there() -> None:
    assert len(ALL) == 34
    assert len({pattern.collection for pattern in ALL}) == 34
    assert names.MODEL_VERSION.collection == "models/versions"


def test_versions_may_have_capitals_and_dots() -> None:
    assert names.MODEL_VERSION.parse("projects/p/models/m/versions/V001")["version"] == "V001"
    assert names.DEPLOYMENT.format("p", "e", "V001") == "projects/p/endpoints/e/deployments/V001"
    assert names.parent_of("projects/p/models/m/versions/V001") == "projects/p/models/m"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "projects/p",
        "projects/p/datasets/",
        "projects/p/datasets/d/",
        "/projects/p/datasets/d",
        "projects/p/models/d",
        "projects/p/datasets/D",
        "projects/p/datasets/.d",
        "projects/p/datasets/1d",
        "projects/p/datasets/d d",
        "projects/p/datasets/dé",
        "projects/p/datasets/d\n",
        "projects/../datasets/d",
        "projects/p/datasets/" + "d" * 64,
        "projects/p/datasets/d/versions/V001",
    ],
)
def test_a_wrong_name_is_refused_with_field_value_and_form(name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        names.DATASET.parse(name, field="training_job.dataset")
    assert refused.value.reason == "BAD_RESOURCE_NAME"
    assert refused.value.violations[0].field == "training_job.dataset"
    assert repr(name) in refused.value.message
    assert "projects/{project}/datasets/{dataset}" in refused.value.message


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        ids = names.MODEL_VERSION.parse(text)
    except InvalidArgument:
        return
    assert names.MODEL_VERSION.format(**ids) == text


@pytest.mark.parametrize("value", ["", "A", "-a", "a_b", "a.b", "1a", "a" * 64, "ä", "a/b", "a\n"])
def test_a_wrong_id_is_refused(value: str) -> None:
    with pytest.raises(InvalidArgument, match="dataset_id is") as refused:
        names.check_id(value, "dataset_id")
    assert refused.value.values == {"value": value}


def test_format_checks_ids_and_their_number() -> None:
    with pytest.raises(InvalidArgument, match="dataset is 'a/b'"):
        names.DATASET.format("p", "a/b")
    with pytest.raises(TypeError):
        names.DATASET.format("p")
    with pytest.raises(TypeError):
        names.DATASET.format("p", "d", "v")


def test_a_very_long_value_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidArgument) as refused:
        names.DATASET.parse("x" * 1_000_000)
    assert len(refused.value.message) < 1000


def test_new_ids_are_legal_different_and_sort_by_time() -> None:
    first = names.new_id()
    time.sleep(0.002)
    later = [names.new_id() for _ in range(1000)]
    assert all(names.check_id(id_, "id") > first for id_ in later)
    assert len(set(later)) == 1000
    assert len(first) == 16


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        ([], "V001"),
        (["V001"], "V002"),
        (["V009", "V002"], "V010"),
        (["V999"], "V1000"),
        (["V1000", "V999"], "V1001"),
        (["spring", "v7", "V7", "V001x"], "V001"),
    ],
)
def test_next_version(existing: list[str], expected: str) -> None:
    assert names.next_version(existing) == expected


def test_a_version_may_have_a_name_but_leaves_no_gap() -> None:
    assert names.choose_version("", ["V001"], "version_id") == "V002"
    assert names.choose_version("spring.2", ["V001"], "version_id") == "spring.2"
    assert names.choose_version("V002", ["V001"], "version_id") == "V002"
    assert names.choose_version("V001", ["V001"], "version_id") == "V001"
    with pytest.raises(InvalidArgument) as refused:
        names.choose_version("V005", ["V001"], "version_id")
    assert refused.value.reason == "VERSION_NOT_NEXT"
    assert refused.value.values["expected"] == "V002"


@pytest.mark.parametrize("value", ["latest", "LATEST", "", "1", ".a", "a b", "a" * 64])
def test_wrong_version_ids(value: str) -> None:
    with pytest.raises(InvalidArgument):
        names.check_version_id(value, "version_id")
