"""Tables and steps for tests of feature pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelyard.formats.dataset import Column
from modelyard.recipes.steps import Step

COLUMNS = (
    Column("age", "numeric", "feature"),
    Column("fare", "numeric", "feature"),
    Column("class", "categorical", "feature"),
    Column("deck", "categorical", "feature"),
    Column("when", "categorical", "feature"),
    Column("note", "categorical", "set_aside", "IDENTIFIER"),
    Column("alive", "categorical", "set_aside", "LEAKS_TARGET"),
    Column("survived", "categorical", "target"),
)

EVERYTHING = (
    Step("impute", {"by": "mean", "indicator": True}, ("age",)),
    Step("impute", {"indicator": True}, ("deck",)),
    Step("interact", {"by": "ratio"}, ("fare", "age")),
    Step("aggregate", {"group_by": "class", "values": ["mean", "deviation", "count"]}, ("fare",)),
    Step("scale", {"by": "log"}, ("fare",)),
    Step("scale", {"by": "quantile", "bins": 4}, ("age",)),
    Step("date", {"parts": ["year", "month", "weekday", "elapsed_days"], "cyclic": True, "indicator": True}, ("when",)),
    Step("text", {"buckets": 16, "longest": 2}, ("note",)),
    Step("cross", {"rare": 8}, ("class", "deck")),
    Step("encode", {"rare": 20}, ("deck",)),
    Step("encode", {"by": "target"}, ("class",)),
)


def voyage(rows: int = 200, seed: int = 0) -> dict[str, Any]:
    """Columns as they are served: numbers float32 (NaN missing), text object ("" missing)."""
    random = np.random.default_rng(seed)
    age = random.uniform(1, 80, rows).astype(np.float32)
    age[random.random(rows) < 0.2] = np.nan
    fare = random.lognormal(3, 1, rows).astype(np.float32)
    fare[random.random(rows) < 0.05] = np.nan
    words = ["good", "bad", "ship", "sea", "école", "ice"]
    return {
        "age": age,
        "fare": fare,
        "class": random.choice(["first", "second", "third"], rows).astype(object),
        "deck": random.choice(["A", "B", "C", "", "", "G"], rows, p=[0.3, 0.3, 0.2, 0.1, 0.08, 0.02]).astype(object),
        "when": np.array(
            [f"19{number % 30 + 10}-0{number % 9 + 1}-1{number % 9}T0{number % 9}:30:00" for number in range(rows)], object
        ),
        "note": np.array([" ".join(random.choice(words, 4)) + f" {number}" for number in range(rows)], object),
    }


def awkward(columns: dict[str, Any]) -> dict[str, Any]:
    """The rows, and as many again with what training never saw: gaps, unknown words, bad dates, huge numbers."""
    out = {}
    odd = {"class": "fourth", "deck": "Z", "when": "the 5th of May", "note": "déjà vu"}
    for place, (name, values) in enumerate(columns.items()):
        changed = values.copy()
        numbers = np.arange(len(changed)) + place
        if name in odd:
            changed[numbers % 3 == 0] = ""
            changed[numbers % 5 == 0] = odd[name]
        else:
            changed[numbers % 3 == 0] = np.nan
            changed[numbers % 5 == 0] = np.float32(-3e38)
            changed[numbers % 7 == 0] = 0
            changed[numbers % 11 == 0] = np.inf
        out[name] = np.concatenate([values, changed])
    return out
