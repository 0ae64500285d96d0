"""Rules for the values of settings: what is right, in words that can follow "it must be"."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class Rule(Protocol):
    """What values of a setting are right."""

    def holds(self, value: object) -> bool:
        """Whether the value is right."""

    @property
    def right(self) -> str:
        """What would be right, to follow "it must be"."""


@dataclass(frozen=True)
class Whole:
    """A whole number within both bounds."""

    low: int
    high: int

    def holds(self, value: object) -> bool:
        """Whether the value is right."""
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    @property
    def right(self) -> str:
        """What would be right."""
        return f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True)
class Real:
    """A finite number between two bounds, each in or out."""

    low: float
    high: float
    low_in: bool = True
    high_in: bool = True

    def holds(self, value: object) -> bool:
        """Whether the value is right."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        above = value >= self.low if self.low_in else value > self.low
        below = value <= self.high if self.high_in else value < self.high
        return above and below

    @property
    def right(self) -> str:
        """What would be right."""
        return f"{'at least' if self.low_in else 'above'} {self.low:g} and {'at most' if self.high_in else 'below'} {self.high:g}"


@dataclass(frozen=True)
class OneOf:
    """One of a few names."""

    names: tuple[str, ...]

    def holds(self, value: object) -> bool:
        """Whether the value is right."""
        return value in self.names

    @property
    def right(self) -> str:
        """What would be right."""
        return "one of " + ", ".join(name or "nothing" for name in self.names)


@dataclass(frozen=True)
class YesOrNo:
    """A truth value."""

    def holds(self, value: object) -> bool:
        """Whether the value is right."""
        return isinstance(value, bool)

    @property
    def right(self) -> str:
        """What would be right."""
        return "true or false"


@dataclass(frozen=True)
class Text:
    """A text of at least `least` and at most `most` characters."""

    most: int
    least: int = 0

    def holds(self, value: object) -> bool:
        """Whether the value is right."""
        return isinstance(value, str) and self.least <= len(value) <= self.most

    @property
    def right(self) -> str:
        """What would be right."""
        return f"a text of {self.least} to {self.most} characters"


@dataclass(frozen=True)
class Several:
    """A list of `least` to `most` values, each by a rule, none twice."""

    each: Rule
    most: int
    least: int = 0

    def holds(self, value: object) -> bool:
        """Whether the value is right."""
        if not isinstance(value, list | tuple) or not self.least <= len(value) <= self.most:
            return False
        return all(self.each.holds(one) for one in value) and len(set(value)) == len(value)

    @property
    def right(self) -> str:
        """What would be right."""
        return f"a list of {self.least} to {self.most} different values, each {self.each.right}"
