"""Shares, labels and the split: sums, refusals, and who moves when shares change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.serving.domain.traffic import (
    FINE,
    SLOTS,
    Routing,
    check_label,
    check_labels,
    check_shares,
    described,
    divided,
    gained,
    hash_seed,
    key_point,
    moved,
    picked,
    with_share,
)

VERSIONS = ["V001", "V002", "V003", "V003-int8"]
weights = st.dictionaries(st.sampled_from(VERSIONS), st.integers(0, 100), min_size=1).filter(
    lambda given: sum(given.values()) > 0
)
shares = weights.map(lambda given: divided(100, given))


@given(shares, shares, shares)
def test_a_change_moves_as_many_as_shares_changed_and_nobody_else(
    first: dict[str, int], second: dict[str, int], third: dict[str, int]
) -> None:
    """From any split that other changes led to, not only from a fresh one."""
    before = moved(moved((), first), second)
    after = moved(before, third)
    assert Routing(after).shares == {version: percent for version, percent in sorted(third.items()) if percent}
    for version in VERSIONS:
        stayed = sum(old == new == version for old, new in zip(before, after, strict=True))
        assert stayed == min(second.get(version, 0), third.get(version, 0))


@given(shares, shares)
def test_changed_and_changed_back_no_version_that_kept_its_share_lost_a_caller(
    first: dict[str, int], second: dict[str, int]
) -> None:
    before = moved((), first)
    back = moved(moved(before, second), first)
    for version in VERSIONS:
        if first.get(version, 0) == second.get(version, 0):
            assert [at for at in range(SLOTS) if before[at] == version] == [at for at in range(SLOTS) if back[at] == version]


@given(st.integers(0, 1000), weights)
def test_what_is_divided_sums_to_the_whole_in_proportion(total: int, given: dict[str, int]) -> None:
    parts = divided(total, given)
    assert sum(parts.values()) == total
    for version, weight in given.items():
        assert abs(parts[version] - total * weight / sum(given.values())) < 1


@given(shares, st.sampled_from(VERSIONS), st.integers(0, 100))
def test_a_share_for_one_leaves_the_rest_to_the_others_in_proportion(before: dict[str, int], version: str, percent: int) -> None:
    after = with_share(before, version, percent)
    assert sum(after.values()) == 100
    others = {other: share for other, share in before.items() if other != version and share}
    if others:
        assert after.get(version, 0) == percent
        whole = sum(others.values())
        assert all(abs(after.get(other, 0) - (100 - percent) * share / whole) < 1 for other, share in others.items())
    else:
        assert after == {version: 100}


def test_keys_are_spread_evenly_and_always_alike() -> None:
    seed = hash_seed("flowers")
    for form in ("caller-{}", "{}", "{:08d}-1111-2222", "user{}@example.org"):
        counts = [0] * SLOTS
        for number in range(100_000):
            point = key_point(seed, form.format(number))
            assert 0 <= point < FINE
            counts[point * SLOTS // FINE] += 1
        assert min(counts) > 850  # 1000 each, with a standard deviation of 31
        assert max(counts) < 1150
    assert 0 <= key_point(seed, "\udcff") < FINE


def test_two_endpoints_split_their_callers_differently() -> None:
    one, other = hash_seed("flowers"), hash_seed("trees")
    both = sum(key_point(one, f"{n}") < FINE // 2 and key_point(other, f"{n}") < FINE // 2 for n in range(20_000))
    assert abs(both / 20_000 - 0.25) < 0.02


def test_the_hash_is_the_same_in_every_process_and_release() -> None:
    """Another hash would send every caller elsewhere."""
    assert [key_point(hash_seed("flowers"), key) for key in ("", "anna", "0c5b4f2e")] == [7621, 9326, 9205]


def test_picking_follows_the_weights() -> None:
    found = [picked([("a", 10), ("b", 30)], point) for point in range(FINE)]
    assert (found.count("a"), found.count("b")) == (2500, 7500)


@pytest.mark.parametrize(
    ("wanted", "reason", "field"),
    [
        ([("V001", 60), ("V002", 50)], "BAD_TRAFFIC_SUM", "endpoint.traffic"),
        ([("V001", 0)], "BAD_TRAFFIC_SUM", "endpoint.traffic"),
        ([("V001", 101)], "BAD_PERCENT", "endpoint.traffic[0].percent"),
        ([("V001", 100), ("V002", -1)], "BAD_PERCENT", "endpoint.traffic[1].percent"),
        ([("V001", 50), ("V001", 50)], "VERSION_TWICE", "endpoint.traffic[1].deployment"),
        ([("V009", 100)], "UNKNOWN_VERSION", "endpoint.traffic[0].deployment"),
        ([("champion", 100)], "UNKNOWN_VERSION", "endpoint.traffic[0].deployment"),
        ([("", 100)], "UNKNOWN_VERSION", "endpoint.traffic[0].deployment"),
    ],
)
def test_shares_that_cannot_be_are_refused_by_field(wanted: list[tuple[str, int]], reason: str, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_shares(wanted, ["V001", "V002"])
    assert (refused.value.reason, refused.value.violations[0].field) == (reason, field)


def test_a_wrong_sum_is_told() -> None:
    with pytest.raises(InvalidArgument, match=r"V001=60, V002=50, which is 110 % in all; the shares must sum to 100") as refused:
        check_shares([("V001", 60), ("V002", 50)], ["V001", "V002"])
    assert refused.value.values["sum"] == "110"


@pytest.mark.parametrize("label", ["champion", "canary", "a", "x-1", "stable2", "vega", "v", "a" * 32])
def test_words_are_labels(label: str) -> None:
    assert check_label(label, VERSIONS, "f") == label


@pytest.mark.parametrize(
    "label", ["", "V001", "v001", "v3", "1", "001", "v003-int8", "Canary", "a b", "a/b", "..", "é", "a" * 33, "-a"]
)
def test_what_looks_like_a_version_or_has_another_form_is_no_label(label: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_label(label, VERSIONS, "endpoint.labels[0].label")
    assert refused.value.reason == "BAD_LABEL"
    assert refused.value.violations[0].field == "endpoint.labels[0].label"


def test_an_imported_models_name_is_no_label_where_it_is_a_version() -> None:
    with pytest.raises(InvalidArgument):
        check_label("resnet", ["resnet"], "f")


def test_labels_are_refused_twice_and_for_what_is_not_there() -> None:
    assert check_labels([("canary", "V002"), ("best", "V001")], VERSIONS) == {"best": "V001", "canary": "V002"}
    for wanted, reason in (
        ([("canary", "V001"), ("canary", "V002")], "LABEL_TWICE"),
        ([("canary", "V009")], "UNKNOWN_VERSION"),
        ([(f"l-{number}", "V001") for number in range(33)], "TOO_MANY_LABELS"),
    ):
        with pytest.raises(InvalidArgument) as refused:
            check_labels(wanted, VERSIONS)
        assert refused.value.reason == reason


def test_a_change_is_told_in_words() -> None:
    before = Routing(("V002",) * 100, {"champion": "V002", "old": "V001"})
    after = Routing(("V002",) * 90 + ("V003",) * 10, {"champion": "V002", "canary": "V003"})
    assert described(before, after) == "V002 100 % -> 90 %, V003 0 % -> 10 %; canary: V003; old: none"
    assert gained(before, after) == ("V003",)
    assert described(after, after) == ""
