"""Sizes as people write them: 200KB, 1.5MB, 64KiB, 4096."""

from __future__ import annotations

import re
from typing import Final

from modelyard.client.errors import InvalidArgument, Violation

_BYTES: Final = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_FORM: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def bytes_of(text: str, field: str) -> int:
    """Whole bytes, 1 or more. InvalidArgument when it is no size."""
    found = _FORM.fullmatch(text.strip().lower())
    size = int(float(found[1]) * _BYTES[found[2]]) if found and found[2] in _BYTES else 0
    if size < 1:
        message = f"{field} is {text!r}; give a size such as 200KB, 1.5MB, 64KiB or 4096"
        raise InvalidArgument(
            message, reason="INVALID_SIZE", values={"field": field, "value": text}, violations=(Violation(field, message),)
        )
    return size


def spoken_bytes(size: int) -> str:
    """A size for people: 812 B, 43.4 KB, 1.21 MB."""
    for unit, one in (("MB", 1000**2), ("KB", 1000)):
        if size >= one:
            return f"{size / one:.3g} {unit}"
    return f"{size} B"
