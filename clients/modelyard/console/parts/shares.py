"""Percentages that make 100 whatever one of them becomes."""

from __future__ import annotations

from collections.abc import Mapping


def even_out(shares: Mapping[str, int], changed: str, percent: int) -> dict[str, int]:
    """The shares with one of them at `percent` and the others in their proportion (alike, where they had none) over the rest.

    Whole numbers that make 100; of one alone 100.
    """
    others = [name for name in shares if name != changed]
    if not others:
        return {changed: 100}
    wanted = min(max(percent, 0), 100)
    rest = 100 - wanted
    before = sum(max(shares[name], 0) for name in others)
    exact = {name: rest * (shares[name] / before if before else 1 / len(others)) for name in others}
    found = {name: int(value) for name, value in exact.items()}
    short = rest - sum(found.values())
    for name in sorted(others, key=lambda each: exact[each] - found[each], reverse=True)[:short]:
        found[name] += 1
    return {name: wanted if name == changed else found[name] for name in shares}
