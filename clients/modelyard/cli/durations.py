"""Durations as people write them: 90s, 10m, 1h30m."""

from __future__ import annotations

import re

from modelyard.client.errors import InvalidArgument, Violation

_SECONDS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_FORM = re.compile(r"(\d+(?:\.\d+)?)(d|h|m|s)")


def seconds_of(text: str, field: str) -> float:
    """Seconds; a bare number is seconds. InvalidArgument when it is no duration, or 0."""
    compact = text.replace(" ", "").lower()
    if re.fullmatch(r"\d+(\.\d+)?", compact):
        compact += "s"
    found = _FORM.findall(compact)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in found)
    if "".join(number + unit for number, unit in found) != compact or seconds <= 0:
        message = f"{field} is {text!r}; give a duration such as 90s, 10m or 1h30m"
        raise InvalidArgument(
            message, reason="INVALID_DURATION", values={"field": field, "value": text}, violations=(Violation(field, message),)
        )
    return seconds


def spoken(seconds: float) -> str:
    """A duration for people: 0.4 s, 42 s, 3 min 20 s, 1 h 05 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
