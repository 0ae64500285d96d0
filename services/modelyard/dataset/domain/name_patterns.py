"""Patterns of file names with fields in braces: "{label}_{speaker}_{number}"."""

from __future__ import annotations

import re
from collections.abc import Mapping

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
