"""What the checks of tables find of faults planted in generated tables: precision and recall as docs/quality.md states them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from modelyard.dataset.domain.column_edits import CAP, IMPUTE
from modelyard.dataset.domain.edits import DROP
from modelyard.dataset.domain.leakage import find_leaks
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.table_checks import table_findings
from modelyard.dataset.domain.table_columns import repeated_columns, spellings
from modelyard.dataset.domain.table_values import outliers
from tests.support.planted import Tally, examples, names, of_kind, view

ROWS = 1500
Floats = npt.NDArray[np.float64]


def rngs(count: int = 4) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(count)]


def labels(rng: np.random.Generator, rows: int = ROWS) -> npt.NDArray[Any]:
    return np.array(["no", "yes"])[rng.integers(0, 2, rows)]


def found(columns: dict[str, Any], target: str = "y") -> list[Finding]:
    rows = len(columns[target])
    return table_findings(view(columns, target), names(rows))


def columns_of(findings: list[Finding], kind: str) -> set[str]:
    return {finding.column for finding in of_kind(findings, kind)}


def natural(rng: np.random.Generator, rows: int = ROWS) -> dict[str, Floats]:
    """Columns as they are in the world, with tails of all kinds and nothing wrong."""
    return {
        "normal": rng.normal(170, 10, rows),
        "around_zero": rng.normal(0, 1, rows),
        "uniform": rng.uniform(0, 100, rows),
        "price": rng.lognormal(4, 1, rows),
        "waiting": rng.exponential(30, rows),
        "gamma": rng.gamma(2, 5, rows),
        "heavy": rng.standard_t(6, rows) * 3 + 40,
        "count": rng.poisson(12, rows).astype(float),
        "two_humps": np.where(rng.random(rows) < 0.5, rng.normal(20, 3, rows), rng.normal(60, 3, rows)),
    }


def test_outliers_are_slips_and_not_tails() -> None:
    tally = Tally()
    for rng in rngs():
        columns = natural(rng)
        for values in columns.values():
            places = rng.permutation(ROWS)[:8]
            slips = rng.choice([10.0, 100.0, 1000.0, -100.0], 8)
            values[places] = np.where(values[places] == 0, 1000.0, values[places] * slips)
            tally.add(places.tolist(), outliers(values).tolist())
    tally.is_as_stated("OUTLIERS")


def test_outliers_of_the_target_bring_the_edit_that_drops_them() -> None:
    tally = Tally()
    for rng in rngs():
        y = rng.gamma(3, 10, ROWS)
        places = rng.permutation(ROWS)[:10]
        y[places] *= 200
        findings = found({"x": rng.normal(size=ROWS), "y": y})
        tally.add({str(place) for place in places}, examples(findings, "TARGET_OUTLIERS"))
        fix = of_kind(findings, "TARGET_OUTLIERS")[0].fix
        assert fix is not None
        assert fix.action == DROP
        assert set(fix.examples) == {f"id{path}" for path in examples(findings, "TARGET_OUTLIERS")}
    tally.is_as_stated("TARGET_OUTLIERS")


def test_an_outlier_is_capped_at_the_furthest_value_that_is_none() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(10, 20, ROWS)
    x[3] = 9000
    finding = of_kind(found({"x": x, "y": labels(rng)}), "OUTLIERS")[0]
    assert finding.examples == ("3",)
    assert finding.fix is not None
    assert (finding.fix.action, finding.fix.column, finding.fix.lower) == (CAP, "x", None)
    assert finding.fix.upper == np.delete(x, 3).max()


def test_placeholders_are_told_from_outliers() -> None:
    tally = Tally()
    for rng in rngs():
        columns: dict[str, Any] = dict(natural(rng))
        for name, value in (("price", -1.0), ("waiting", -999.0), ("normal", 9999.0), ("count", -9.0)):
            columns[name][rng.permutation(ROWS)[:40]] = value
        findings = found({**columns, "y": labels(rng)})
        tally.add({"price", "waiting", "normal", "count"}, columns_of(findings, "PLACEHOLDER_VALUES"))
        assert not columns_of(findings, "OUTLIERS") & {"price", "waiting", "normal", "count"}
    tally.is_as_stated("PLACEHOLDER_VALUES")


def test_numbers_that_were_cut_off() -> None:
    features, targets = Tally(), Tally()
    for rng in rngs():
        columns = natural(rng)
        columns["price"] = np.minimum(columns["price"], 200)
        columns["normal"] = np.maximum(columns["normal"], 155)
        columns["waiting"] = np.floor(columns["waiting"])  # whole numbers with many at 0: nothing is cut off
        findings = found({**columns, "y": labels(rng)})
        features.add({"price", "normal"}, columns_of(findings, "CAPPED_VALUES"))
        capped = found({"x": rng.normal(size=ROWS), "y": np.minimum(rng.lognormal(2, 0.5, ROWS), 15)})
        whole = found({"x": rng.normal(size=ROWS), "y": rng.lognormal(2, 0.5, ROWS)})
        targets.add({"capped"}, {name for name, each in (("capped", capped), ("whole", whole)) if of_kind(each, "CAPPED_TARGET")})
    features.is_as_stated("CAPPED_VALUES")
    targets.is_as_stated("CAPPED_TARGET")


def test_missing_values_of_one_class() -> None:
    tally = Tally()
    for rng in rngs(6):
        y = labels(rng)
        columns: dict[str, Any] = {}
        for number in range(16):
            share = np.full(ROWS, rng.uniform(0.02, 0.6))
            if number < 4:
                share = np.where(y == "yes", 0.15, 0.15 + rng.uniform(0.08, 0.3))
            values = rng.normal(size=ROWS)
            values[rng.random(ROWS) < share] = np.nan
            columns[f"c{number}"] = values
        tally.add({f"c{number}" for number in range(4)}, columns_of(found({**columns, "y": y}), "MISSING_BY_CLASS"))
    tally.is_as_stated("MISSING_BY_CLASS")


def test_a_missing_value_that_says_the_class_is_an_error() -> None:
    rng = np.random.default_rng(0)
    y = labels(rng)
    refund = np.where(y == "yes", rng.normal(size=ROWS), np.nan)
    finding = of_kind(found({"refund": refund, "x": rng.normal(size=ROWS), "y": y}), "MISSING_BY_CLASS")[0]
    assert (finding.severity, finding.column) == ("error", "refund")
    assert '100% of "no" but in 0% of "yes"' in finding.message


def test_missing_values_by_thirds_of_a_number_to_predict() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=ROWS)
    x = np.where((y > 0.5) & (rng.random(ROWS) < 0.6), np.nan, rng.normal(size=ROWS))
    finding = of_kind(found({"x": x, "z": rng.normal(size=ROWS), "y": y}), "MISSING_BY_CLASS")[0]
    assert "high y" in finding.message


def test_missing_values_bring_an_edit_that_fills_them_in() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=ROWS)
    x[:600] = np.nan
    finding = of_kind(found({"x": x, "z": rng.normal(size=ROWS), "y": labels(rng)}), "MISSING_VALUES")[0]
    assert finding.severity == "warning"
    assert finding.fix is not None
    assert (finding.fix.action, finding.fix.column) == (IMPUTE, "x")


def test_columns_that_carry_nothing() -> None:
    constant, near = Tally(), Tally()
    for rng in rngs():
        columns: dict[str, Any] = dict(natural(rng))
        columns["always"] = np.full(ROWS, 3.0)
        for number in range(3):
            rare = np.where(rng.random(ROWS) < 0.004, "odd", "usual")
            rare[0] = "odd"
            columns[f"nearly{number}"] = rare
        columns["flag"] = np.where(rng.random(ROWS) < 0.05, "on", "off")
        findings = found({**columns, "y": labels(rng)})
        constant.add({"always"}, columns_of(findings, "CONSTANT_COLUMN"))
        near.add({f"nearly{number}" for number in range(3)}, columns_of(findings, "NEAR_CONSTANT_COLUMN"))
    constant.is_as_stated("CONSTANT_COLUMN")
    near.is_as_stated("NEAR_CONSTANT_COLUMN")


def test_columns_that_only_tell_rows_apart() -> None:
    tally = Tally()
    for rng in rngs():
        columns: dict[str, Any] = dict(natural(rng))
        columns["customer_id"] = rng.permutation(ROWS).astype(float) + 10_000
        columns["line"] = np.arange(ROWS, dtype=float)
        columns["name"] = np.array([f"person {number}" for number in rng.permutation(ROWS)])
        columns["town"] = np.array([f"town {number}" for number in rng.integers(0, 60, ROWS)])
        findings = found({**columns, "y": labels(rng)})
        tally.add({"customer_id", "line", "name"}, columns_of(findings, "IDENTIFIER_COLUMN"))
    tally.is_as_stated("IDENTIFIER_COLUMN")


def test_columns_that_say_the_same() -> None:
    tally = Tally()
    for rng in rngs():
        columns: dict[str, Any] = dict(natural(rng))
        columns["feet"] = columns["normal"] / 30.48
        columns["minus"] = 7 - 2 * columns["uniform"]
        columns["related"] = columns["gamma"] + rng.normal(0, 1, ROWS)  # near, but not the same
        columns["code"] = np.array(["A", "B", "C"])[rng.integers(0, 3, ROWS)]
        columns["word"] = np.array([{"A": "alpha", "B": "beta", "C": "gamma"}[each] for each in columns["code"]])
        columns["other"] = np.array(["A", "B", "C"])[rng.integers(0, 3, ROWS)]
        pairs = {frozenset(group) for group in repeated_columns(view({**columns, "y": labels(rng)}))}
        tally.add({frozenset(("normal", "feet")), frozenset(("uniform", "minus")), frozenset(("code", "word"))}, pairs)
    tally.is_as_stated("REPEATED_COLUMN")


def test_gaps_do_not_hide_a_repeated_column() -> None:
    rng = np.random.default_rng(0)
    metres = rng.normal(size=ROWS)
    metres[rng.random(ROWS) < 0.3] = np.nan
    view_ = view({"metres": metres, "feet": metres * 3.28084, "x": rng.normal(size=ROWS), "y": labels(rng)})
    assert repeated_columns(view_) == [("metres", "feet")]


def test_rare_categories_and_spellings() -> None:
    rare, variants = Tally(), Tally()
    for rng in rngs():
        towns = [f"town {number}" for number in range(40)]
        long_tail = np.where(rng.random(ROWS) < 0.05, [f"village {n}" for n in rng.integers(0, 400, ROWS)], "city")
        countries = np.array(["Germany", "germany ", "GERMANY", "France", "Spain"])[rng.integers(0, 5, ROWS)]
        columns = {
            "town": np.array(towns)[rng.integers(0, 40, ROWS)],
            "place": long_tail,
            "country": countries,
            "grade": np.array(["A", "A+", "B"])[rng.integers(0, 3, ROWS)],
            "delta": np.array(["-1", "1", "none"])[rng.integers(0, 3, ROWS)],
        }
        findings = found({**columns, "y": labels(rng)})
        rare.add({"place"}, columns_of(findings, "RARE_CATEGORIES"))
        variants.add({"country"}, columns_of(findings, "SPELLING_VARIANTS"))
    rare.is_as_stated("RARE_CATEGORIES")
    variants.is_as_stated("SPELLING_VARIANTS")


def test_what_is_one_spelling_and_what_is_not() -> None:
    assert spellings(["São Paulo", "sao paulo", "Sao-Paulo", "Rio"]) == [["São Paulo", "sao paulo", "Sao-Paulo"]]
    assert spellings(["1.5", "15", "-1", "1"]) == []
    assert spellings(["", " ", "-", "a"]) == []


@pytest.mark.parametrize("classification", [True, False])
def test_columns_that_give_the_target_away(classification: bool) -> None:
    tally = Tally()
    for rng in rngs(5):
        columns = natural(rng, 600)
        score = columns["normal"] / 10 + columns["two_humps"] / 20 + rng.normal(size=600)
        y = (score > np.median(score)).astype(np.int64) if classification else score
        copy, noisy = y.astype(np.float64).copy(), y.astype(np.float64).copy()
        flipped = rng.random(600) < rng.uniform(0.01, 0.06)
        noisy[flipped] = 1 - noisy[flipped] if classification else 0
        if not classification:
            noisy = y + rng.normal(0, rng.uniform(0.05, 0.2) * y.std(), 600)
        leaks = find_leaks({**columns, "refund": copy * 3 + 1, "noted": noisy}, y, classification=classification)
        tally.add({"refund", "noted"}, {leak.column for leak in leaks})
        assert next(leak for leak in leaks if leak.column == "refund").set_aside
        assert not any(leak.set_aside for leak in leaks if leak.column == "noted")
    tally.is_as_stated("LEAKING_COLUMN")


def test_an_easy_task_has_no_leak() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 600)
    columns = {f"c{number}": y * 4 + rng.normal(size=600) for number in range(4)}  # each alone is right 98 times of 100
    assert find_leaks(columns, y, classification=True) == []


def test_clean_tables_have_no_warning() -> None:
    for rng in rngs():
        findings = found({**natural(rng), "y": labels(rng)})
        assert [finding for finding in findings if finding.severity != "info"] == []


def test_every_finding_says_what_it_costs_and_what_to_do() -> None:
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = dict(natural(rng))
    columns["normal"][:5] *= 100
    columns["price"][:500] = np.nan
    columns["always"] = np.full(ROWS, 1.0)
    columns["twice"] = columns["uniform"] * 2
    findings = found({**columns, "y": labels(rng)})
    assert len({finding.kind for finding in findings}) >= 4
    for finding in findings:
        assert finding.cost, finding.kind
        assert finding.action, finding.kind
        assert len(finding.example_ids) == len(finding.examples)
