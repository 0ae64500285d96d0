"""Counts in sentences."""

from __future__ import annotations

import pytest

from modelyard.core.words import several


@pytest.mark.parametrize(
    ("said", "right"),
    [
        (several(1, "file"), "1 file"),
        (several(2, "file"), "2 files"),
        (several(0, "file"), "0 files"),
        (several(1, "person", "people"), "1 person"),
        (several(3, "row holds", "rows hold"), "3 rows hold"),
    ],
)
def test_a_count_has_its_word(said: str, right: str) -> None:
    assert said == right
