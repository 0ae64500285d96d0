"""Small tables for tests: numbers, text, missing values, and a target that depends on them."""

from __future__ import annotations

from typing import Any

import numpy as np


def credit_table(rows: int = 300, seed: int = 0) -> dict[str, list[Any]]:
    """Columns amount and purpose (some missing), town (80 categories), age; targets good, level (classes) and limit (number)."""
    rng = np.random.default_rng(seed)
    amount = rng.lognormal(3, 1, rows)
    age = rng.uniform(18, 80, rows)
    purpose = rng.choice(["car", "house", "école", "other"], rows)
    town = [f"town {number}" for number in rng.integers(0, 80, rows)]
    risk = np.log(amount) - 3 + (purpose == "car") * 1.5 - (age - 49) / 30 + rng.normal(0, 0.7, rows)
    gap = rng.random((2, rows)) < 0.1
    return {
        "amount": [None if missing else float(value) for value, missing in zip(amount, gap[0], strict=True)],
        "purpose": [None if missing else str(value) for value, missing in zip(purpose, gap[1], strict=True)],
        "town": town,
        "age": [float(value) for value in age],
        "good": ["no" if value > 0 else "yes" for value in risk],
        "level": [["low", "mid", "high"][int(value > -0.7) + int(value > 0.7)] for value in risk],
        "limit": [float(1000 - 200 * value) for value in risk],
    }


TARGETS = ("good", "level", "limit")
