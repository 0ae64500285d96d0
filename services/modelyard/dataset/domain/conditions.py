"""Conditions on examples, as users write them: "index < 5", "speaker = jackson"; which examples meet one.

The name is an attribute's, a column's, or a pattern of file names with {value} in it.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.core.words import several

MOST, LONGEST = 20, 400
NUMERIC: Final = ("<", "<=", ">", ">=")
_WORDS = r"[^<>=!\s](?:[^<>=!]*[^<>=!\s])?"
_FORM = re.compile(rf"\s*(?P<name>{_WORDS})\s*(?P<comparison><=|>=|!=|<|>|=)\s*(?P<value>{_WORDS})\s*")
_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Condition:
    """text: as it was written. field: where it stands in the request."""

    name: str
    comparison: str
    value: str
    text: str
    field: str

    def holds(self, said: str | None) -> bool:
        """Whether an example of which `said` is said meets it; one of which nothing is said meets none. Raises InvalidArgument
        BAD_CONDITION where a number is needed and something else is said."""
        if said is None:
            return False
        wanted: object = self.value
        found: object = said
        if self.comparison in NUMERIC:
            found, wanted = self._number(said), float(self.value)
        elif _number(said) is not None and _number(self.value) is not None:
            found, wanted = _number(said), _number(self.value)  # 05 and 5.0 are 5
        return _COMPARE[self.comparison](found, wanted)

    def _number(self, said: str) -> float:
        number = _number(said)
        if number is None:
            message = f"{self.field} is {self.text!r}, and {said[:40]!r} stands there, which is no number; = and != compare text"
            raise InvalidArgument("BAD_CONDITION", message, field=self.field, value=said[:40])
        return number


def parse_condition(text: str, field: str) -> Condition:
    """A condition from its text. Raises InvalidArgument BAD_CONDITION naming the field."""
    found = _FORM.fullmatch(text) if len(text) <= LONGEST else None
    if found is None:
        message = f'{field} is {text[:80]!r}; a name, one of = != < <= > >=, and a value are right, such as "index < 5"'
        raise InvalidArgument("BAD_CONDITION", message, field=field, value=text[:80])
    condition = Condition(found["name"], found["comparison"], found["value"], text, field)
    if condition.comparison in NUMERIC and _number(condition.value) is None:
        message = f"{field} is {text[:80]!r}; after {condition.comparison} a number is right"
        raise InvalidArgument("BAD_CONDITION", message, field=field, value=condition.value[:80])
    return condition


def parse_conditions(texts: Sequence[str], field: str) -> tuple[Condition, ...]:
    """Several of them. Raises InvalidArgument BAD_CONDITION, TOO_MANY_CONDITIONS."""
    if len(texts) > MOST:
        message = f"{field} has {len(texts)} conditions; at most {MOST} are right"
        raise InvalidArgument("TOO_MANY_CONDITIONS", message, field=field, value=len(texts))
    return tuple(parse_condition(text, field) for text in texts)


def meeting(conditions: Sequence[Condition], said_of: Callable[[Condition], Sequence[str | None]], examples: int) -> Mask:
    """Which examples meet at least one: bool [N]. said_of gives what is said of each example under a condition's name.

    Raises FailedPrecondition NOTHING_MEETS_CONDITION for a condition that no example meets.
    """
    found = np.zeros(examples, np.bool_)
    for condition in conditions:
        met = np.fromiter((condition.holds(said) for said in said_of(condition)), np.bool_, examples)
        if not met.any():
            message = f"{condition.field} is {condition.text!r}, which no example meets"
            raise FailedPrecondition("NOTHING_MEETS_CONDITION", message, field=condition.field, value=condition.text)
        found |= met
    return found


def condition_notes(
    test_where: Sequence[str], validation_where: Sequence[str], usage: npt.NDArray[np.int8], near_groups: npt.NDArray[np.int64]
) -> tuple[str, ...]:
    """What conditions decided, in sentences. usage int8 [N]; near_groups int64 [N]: equal for near duplicates."""
    notes = []
    for name, number, texts in (("validation", 1, validation_where), ("test", 2, test_where)):
        if texts:
            said = " or ".join(f'"{text}"' for text in texts)
            count = int((usage == number).sum())
            are = "is" if count == 1 else "are"
            notes.append(f"{several(count, 'example that meets', 'examples that meet')} {said} {are} {name}.")
    pairs = np.unique(np.stack([near_groups, (usage == 2).astype(np.int64)]), axis=1)[0]
    if crossing := int((np.bincount(np.unique(pairs, return_inverse=True)[1]) > 1).sum()):
        notes.append(f"{crossing} groups of duplicates lie on both sides of the test because the conditions say so.")
    return tuple(notes)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
