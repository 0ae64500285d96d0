"""Enum values by a short name: "image_classification", "image-classification" and TASK_IMAGE_CLASSIFICATION mean the same."""

from __future__ import annotations

from typing import Any

from modelyard.client.errors import InvalidArgument, Violation


def enum_number(enum: Any, value: int | str | None, field: str) -> Any:
    """The number of an enum value given as number, full name or short name; None and "" are 0 (not set).

    InvalidArgument names the field and the values there are.
    """
    if value is None or value == "":
        return 0
    if isinstance(value, int):
        return value
    wanted = value.strip().upper().replace("-", "_")
    for name, number in enum.items():
        if wanted in (name, short_name(enum, name).upper()):
            return number
    right = ", ".join(short_name(enum, name) for name, number in enum.items() if number)
    message = f"{field} is {value!r}; give one of {right}"
    raise InvalidArgument(
        message, reason="UNKNOWN_VALUE", values={"field": field, "value": value}, violations=(Violation(field, message),)
    )


def short_name(enum: Any, value: int | str) -> str:
    """The value's name without the enum's prefix, in lower case: "image_classification"; "" for the unset value."""
    name: str = value if isinstance(value, str) else enum.Name(value)
    prefix = _prefix(enum)
    bare = name.removeprefix(prefix).lower()
    return "" if bare == "unspecified" else bare


def _prefix(enum: Any) -> str:
    """What all names of an enum start with: TASK_ for Task, SOURCE_FORMAT_ for SourceFormat."""
    letters = enum.DESCRIPTOR.name
    return "".join("_" + letter if letter.isupper() and at else letter for at, letter in enumerate(letters)).upper() + "_"
