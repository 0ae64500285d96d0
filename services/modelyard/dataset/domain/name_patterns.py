"""Patterns of file names with fields in braces: "{label}_{speaker}_{number}"."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelyard.core.errors import InvalidArgument

_FIELD = re.compile(r"{(\w+)}")
LONGEST = 200


def is_pattern(text: str) -> bool:
    """Whether it has a field in braces."""
    return _FIELD.search(text) is not None


class NamePattern:
    """A pattern with each of its fields once, `needed` among them. Raises InvalidArgument BAD_NAME_PATTERN naming `field`."""

    def __init__(self, pattern: str, *, needed: str, field: str) -> None:
        names = _FIELD.findall(pattern)
        if needed not in names or len(set(names)) != len(names) or len(pattern) > LONGEST:
            right = f"{{{needed}}} and other names once each, such as {{{needed}}}_{{speaker}}_{{number}}"
            message = f"{field.rpartition('.')[2]} is {pattern[:80]!r}; it holds {right}"
            raise InvalidArgument("BAD_NAME_PATTERN", message, field=field, value=pattern[:80])
        pieces = _FIELD.split(pattern)
        self._form = re.compile(
            "".join(f"(?P<{piece}>[^/]+?)" if place % 2 else re.escape(piece) for place, piece in enumerate(pieces))
        )

    def match(self, stem: str) -> Mapping[str, str] | None:
        """The fields of a file name without its ending; None where it has another form."""
        found = self._form.fullmatch(stem)
        return found.groupdict() if found else None


@dataclass(frozen=True)
class NamePart:
    """One of the parts of which names consist: the number of different texts in it, some of them, and what it might be called."""

    count: int
    examples: tuple[str, ...]
    proposed: str

    def __str__(self) -> str:
        return f"{self.count} values such as {', '.join(self.examples)}"


def parts_of(rows: Sequence[Sequence[str]], who: str) -> tuple[NamePart, ...]:
    """What the parts of names are, the first of which is the class. rows: the parts of each name, equally many.

    A part of few words that come with several classes is called `who` (a speaker, a patient); numbers are called number.
    """
    found: list[NamePart] = []
    for place in range(len(rows[0])):
        values = sorted({row[place] for row in rows}, key=lambda text: (len(text), text))
        classes = {(row[0], row[place]) for row in rows}
        if place == 0:
            proposed = "label"
        elif all(value.isdigit() for value in values):
            proposed = "number"
        elif len(values) <= max(1, len(rows) // 4) and len(classes) > len(values):
            proposed = who
        else:
            proposed = f"part_{place + 1}"
        taken = [part.proposed for part in found]
        if proposed in taken:
            proposed = f"{proposed}_{place + 1}"
        found.append(NamePart(len(values), tuple(values[:_SHOWN]), proposed))
    return tuple(found)


_SHOWN = 3
