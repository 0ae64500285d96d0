"""How often the gate's paired test says what, by simulation: the table of docs/decisions/0006-gate.md.

    python -m tests.bench.gate_rates [--draws 4000]

An example is lost (only the other artifact has it right) with the chance `won + loss`, won with the chance `won`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from functools import cache

import numpy as np

from modelyard.evaluator.domain.pairing import Outcome, accuracy_outcome

COUNTS = (20, 50, 100, 400, 1000, 10_000)
LOSSES = (0.0, 0.003, 0.005, 0.01, 0.02, 0.05, 0.10)
WON = {"an int8 export against its float parent": 0.01, "another model against the one that serves": 0.04}
MARGIN = 0.01

_outcome = cache(accuracy_outcome)


def rates(loss: float, won: float, count: int, draws: int, margin: float = MARGIN, seed: int = 0) -> dict[Outcome, float]:
    """Share of each outcome among `draws` test sets of `count` examples."""
    chances = [won + loss, won, 1 - 2 * won - loss]
    cells = np.random.default_rng(seed).multinomial(count, chances, size=draws)
    found = Counter(_outcome(int(lost), int(gained), count, margin) for lost, gained, _ in cells)
    return {outcome: found[outcome] / draws for outcome in Outcome}


def table(won: float, draws: int) -> str:
    """PASSED / UNSURE / FAILED in percent, as Markdown."""
    lines = ["| true loss | " + " | ".join(f"n = {count}" for count in COUNTS) + " |", "|---|" + "---|" * len(COUNTS)]
    for loss in LOSSES:
        cells = (rates(loss, won, count, draws) for count in COUNTS)
        order = (Outcome.PASSED, Outcome.UNSURE, Outcome.FAILED)
        shown = (" / ".join(f"{100 * cell[outcome]:.0f}" for outcome in order) for cell in cells)
        lines.append(f"| {100 * loss:g} points | " + " | ".join(shown) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=4000)
    given = parser.parse_args()
    for name, won in WON.items():
        print(f"\n{name} ({100 * won:g} percent of the examples won by chance)\n\n{table(won, given.draws)}")
