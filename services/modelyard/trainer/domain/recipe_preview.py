"""A preview of a recipe: what is asked, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from modelyard.core.artifacts import Blob
from modelyard.core.errors import InvalidArgument
from modelyard.recipes.rules import Whole

KIND: Final = "recipe-preview"
DEFAULT_EXAMPLES, MOST_EXAMPLES = 8, 64
DEFAULT_VARIANTS, MOST_VARIANTS = 3, 8
MOST_BEFORE, MOST_AFTER, MOST_LEARNED = 50, 200, 200
LONGEST_CELL: Final = 100
KEPT_PREVIEWS: Final = 50
"""Ended previews of a project that stay; older ones go when a new one comes."""


@dataclass(frozen=True)
class PreviewSpec:
    """What is asked. recipe, requested: as `recipe_document` and the request have them."""

    dataset_version: str
    descriptor: Blob
    recipe: Mapping[str, Any]
    requested: Mapping[str, Any] = field(default_factory=dict)
    example_count: int = DEFAULT_EXAMPLES
    variant_count: int = DEFAULT_VARIANTS


@dataclass(frozen=True)
class PreviewedRow:
    """A row of a table before (text, "" missing) and after (numbers, None missing)."""

    example_id: str
    before: tuple[str, ...] = ()
    after: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class PreviewResult:
    """What came of it. width: numbers that a row becomes, also those that are not shown."""

    page: Blob
    columns_before: tuple[str, ...] = ()
    columns_after: tuple[str, ...] = ()
    rows: tuple[PreviewedRow, ...] = ()
    learned: tuple[str, ...] = ()
    width: int = 0


def check_counts(examples: int, variants: int) -> tuple[int, int]:
    """The numbers of examples and variants, 0 filled in. Raises InvalidArgument BAD_COUNT."""
    for name, value, most in (("example_count", examples, MOST_EXAMPLES), ("variant_count", variants, MOST_VARIANTS)):
        rule = Whole(0, most)
        if not rule.holds(value):
            path = f"recipe_preview.{name}"
            raise InvalidArgument("BAD_COUNT", f"{path} is {value}; it must be {rule.right}", field=path, value=value)
    return examples or DEFAULT_EXAMPLES, variants or DEFAULT_VARIANTS
