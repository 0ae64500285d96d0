"""Test sets that leak: groups and the future on both sides, planted and not: precision and recall as docs/quality.md states
them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelyard.dataset.domain.edits import DROP
from modelyard.dataset.domain.leaked_tests import Grouping, group_findings, grouping, makes_groups, name_grouping, time_findings
from modelyard.dataset.domain.records import Finding
from tests.support.planted import Tally, names, of_kind

COUNT, GROUPS, CLASSES, LENGTH = 600, 30, 4, 20
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def looks_of(rng: np.random.Generator, strata: Ints, groups: Ints, strength: float) -> Floats:
    """Vectors that show the class, and by `strength` the group."""
    by_class, by_group = rng.normal(size=(CLASSES, LENGTH)), rng.normal(size=(GROUPS, LENGTH))
    return 2 * by_class[strata] + strength * by_group[groups] + rng.normal(size=(len(strata), LENGTH))


def coded(name: str, of: Ints) -> Grouping:
    return grouping(name, name, [f"{name}{value}" for value in of.tolist()])


def at_random(rng: np.random.Generator) -> Ints:
    return rng.choice([0, 0, 0, 0, 1, 2], COUNT)


def by_group(rng: np.random.Generator, of: Ints) -> Ints:
    return rng.choice([0, 0, 0, 0, 1, 2], GROUPS)[of]


def test_groups_on_both_sides() -> None:
    """Attributes that examples show and that cross are named; those that they do not show, and those kept apart, are not."""
    tally = Tally()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        strata, shown, hidden = rng.integers(0, CLASSES, COUNT), rng.integers(0, GROUPS, COUNT), rng.integers(0, GROUPS, COUNT)
        looks = looks_of(rng, strata, shown, rng.uniform(0.3, 1.2))
        crossing, apart = at_random(rng), by_group(rng, shown)
        for name, usages, planted in (("crossing", crossing, True), ("apart", apart, False)):
            both = [coded("part_2", shown), coded("part_3", hidden)]
            found = group_findings(both, usages, strata, looks, names(COUNT))
            said = {f"{name}:{each.message.split(chr(34))[1]}" for each in found}
            tally.add({f"{name}:part_2"} if planted else set(), said)
    tally.is_as_stated("GROUP_ON_BOTH_SIDES")


def test_a_class_is_no_group() -> None:
    """What only repeats the class makes no groups, though examples of it look alike."""
    rng = np.random.default_rng(0)
    strata = rng.integers(0, CLASSES, COUNT)
    looks = looks_of(rng, strata, rng.integers(0, GROUPS, COUNT), 0.0)
    assert not makes_groups(strata, strata, looks)
    assert not makes_groups(strata * 2 + rng.integers(0, 2, COUNT), strata, looks)


def test_a_known_name_needs_no_proof() -> None:
    rng = np.random.default_rng(0)
    patients = rng.integers(0, GROUPS, COUNT)
    strata = rng.integers(0, 2, COUNT)
    for name in ("patient_id", "Speaker", "device no"):
        found = group_findings([coded(name, patients)], at_random(rng), strata, None, names(COUNT))
        assert [finding.kind for finding in found] == ["GROUP_ON_BOTH_SIDES"]
        assert f'--group-by "{name}"' in found[0].action
    assert group_findings([coded("colour", patients)], at_random(rng), strata, None, names(COUNT)) == []
    assert group_findings([coded("patient", patients)], by_group(rng, patients), strata, None, names(COUNT)) == []
    alone = coded("patient", np.arange(COUNT))
    assert group_findings([alone], at_random(rng), strata, None, names(COUNT)) == []


def test_a_small_leak_brings_the_edit_that_frees_the_test() -> None:
    patients = np.repeat(np.arange(60), 10)
    usages = np.where(patients < 48, 0, 2)
    usages[5] = 2  # one row of patient 0 went to the test
    found = group_findings([coded("patient", patients)], usages, np.zeros(COUNT, np.int64), None, names(COUNT))
    assert found[0].examples == ("5",)
    assert found[0].fix is not None
    assert (found[0].fix.action, set(found[0].fix.examples)) == (DROP, {f"id{place}" for place in (0, 1, 2, 3, 4, 6, 7, 8, 9)})
    everywhere = group_findings([coded("patient", patients % 7)], usages, np.zeros(COUNT, np.int64), None, names(COUNT))
    assert everywhere[0].fix is None


def test_names_that_number_the_examples_of_a_group() -> None:
    stems = [f"cam{place // 10}_{place % 10:04}" for place in range(40)]
    made = name_grouping(stems)
    assert made is not None
    assert (made.group_by, made.values, made.usable) == ("{group}_{number}", ["cam0", "cam1", "cam2", "cam3"], True)
    assert name_grouping(["abc", "def"]) is None
    alone = name_grouping([f"{place}" for place in range(40)])
    assert alone is None or not alone.usable


def test_the_future_in_train() -> None:
    tally = Tally()
    for seed in range(10):
        rng = np.random.default_rng(seed)
        times = np.sort(rng.uniform(0, 1e6, COUNT))
        by_time = np.where(np.arange(COUNT) < 480, 0, np.where(np.arange(COUNT) < 540, 1, 2))
        few = by_time.copy()
        few[rng.permutation(480)[:10]] = 1  # a slip of a few rows back in time does no harm
        cases = {"by_time": by_time, "few": few, "random": at_random(rng), "turned": 2 - by_time}
        found = {name: time_findings(times, usages, "at", names(COUNT), advice="a") for name, usages in cases.items()}
        tally.add({"random", "turned"}, {name for name, each in found.items() if of_kind(each, "FUTURE_IN_TRAIN")})
    tally.is_as_stated("FUTURE_IN_TRAIN")


def test_times_that_say_nothing() -> None:
    usages = at_random(np.random.default_rng(0))

    def found(times: Floats) -> list[Finding]:
        return time_findings(times, usages, "at", names(COUNT), advice="a")

    assert found(np.full(COUNT, np.nan)) == []
    assert found(np.zeros(COUNT)) == []
    assert time_findings(np.arange(COUNT, dtype=float), np.zeros(COUNT, np.int64), "at", names(COUNT), advice="a") == []
