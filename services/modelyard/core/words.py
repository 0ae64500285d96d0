"""Counts in sentences for people. Standard library only."""

from __future__ import annotations


def several(count: int, one: str, more: str = "") -> str:
    """A count with its word: "1 row", "3 rows"; with a verb where it comes next: several(n, "row holds", "rows hold")."""
    return f"{count} {one if count == 1 else more or one + 's'}"
