"""Drift between two samples, planted and not: precision and recall as docs/quality.md states them, and the parts against
known values."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from modelyard.dataset.domain.drift import Feature, adjust, drift_findings, kolmogorov, shifts, stability
from tests.support.planted import Tally

COUNT = 1500


def test_planted_drift_is_found_among_many_features_that_stay() -> None:
    tally = Tally()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        features, planted = [], set()
        for number in range(40):
            before, after = rng.normal(size=COUNT), rng.normal(size=COUNT)
            if number < 4:
                after = (after + 0.4, after * 1.8, np.exp(after), np.where(rng.random(COUNT) < 0.2, 5.0, after))[number]
                planted.add(f"f{number}")
            features.append(Feature(f"f{number}", before, after, f"f{number}"))
        for number in range(20):
            base = rng.dirichlet(np.ones(6) * 4)
            changed = base if number >= 3 else np.roll(base, 1) * 0.5 + base * 0.5
            if number < 3 and np.abs(changed - base).sum() / 2 >= 0.12:
                planted.add(f"c{number}")
            elif number < 3:
                changed = base
            kinds = np.array(list("abcdef"))
            features.append(
                Feature(
                    f"c{number}",
                    pa.array(rng.choice(kinds, COUNT, p=base)),
                    pa.array(rng.choice(kinds, COUNT, p=changed)),
                    f"c{number}",
                )
            )
        gone = rng.normal(size=COUNT)
        gone[rng.random(COUNT) < 0.2] = np.nan
        features.append(Feature("gaps", rng.normal(size=COUNT), gone, "gaps"))
        planted.add("gaps")
        tally.add(planted, {finding.column for finding in drift_findings(features, "V002 and V001")})
    tally.is_as_stated("DRIFT")


def test_no_drift_no_finding_however_many_features() -> None:
    rng = np.random.default_rng(0)
    features = [Feature(f"f{number}", rng.normal(size=80), rng.normal(size=80)) for number in range(300)]
    assert drift_findings(features, "V002 and V001") == []


def test_a_large_sample_does_not_make_a_small_difference_a_finding() -> None:
    rng = np.random.default_rng(0)
    shift = shifts([Feature("x", rng.normal(size=200_000), rng.normal(0.03, 1, 200_000))])[0]
    assert shift.adjusted < 1e-6
    assert not shift.reported


def test_the_finding_says_what_changed() -> None:
    rng = np.random.default_rng(0)
    label = Feature(
        "label", pa.array(["cat"] * 900 + ["dog"] * 100), pa.array(["cat"] * 500 + ["dog"] * 500), what="the share of the classes"
    )
    number = Feature("age", rng.normal(40, 5, 500), rng.normal(60, 5, 500), "age", 'column "age"')
    first, second = drift_findings([label, number], "V002 and V001")
    assert (first.column, first.severity, first.kind) == ("age", "warning", "DRIFT")
    assert first.message.startswith('Column "age" differs between V002 and V001: its median went from 39.')
    assert '"cat" went from 90.0% to 50.0%' in second.message
    assert second.action
    assert second.cost


def test_distance_and_chance_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=400).round(1), rng.normal(0.2, 1, 700).round(1)
    distance, chance = kolmogorov(before, after)
    expected = stats.ks_2samp(before, after, method="asymp")
    assert distance == pytest.approx(expected.statistic)
    assert chance == pytest.approx(expected.pvalue, rel=0.2)


def test_adjusted_chances_are_those_of_scipy() -> None:
    chances = np.random.default_rng(0).uniform(size=50) ** 3
    assert np.allclose(adjust(chances.tolist()), stats.false_discovery_control(chances))
    assert adjust([]).tolist() == []


def test_stability() -> None:
    assert stability(np.array([50.0, 50.0]), np.array([500.0, 500.0])) == 0
    assert stability(np.array([50.0, 50.0]), np.array([80.0, 20.0])) == pytest.approx(
        0.3 * np.log(0.8 / 0.5) - 0.3 * np.log(0.2 / 0.5)
    )


def test_small_samples_and_empty_ones_are_not_compared() -> None:
    assert shifts([Feature("x", np.zeros(5), np.ones(5)), Feature("y", np.array([]), np.array([]))]) == []
    empty = Feature("t", pa.nulls(100, pa.string()), pa.nulls(100, pa.string()))
    assert [shift for shift in shifts([empty]) if shift.reported] == []
