"""Values of enumerations in the contract as the domain's words."""

from __future__ import annotations

from typing import Any

from modelyard.core.errors import InvalidArgument
from modelyard.formats import dataset as files
from modelyard.type.v1 import learning_pb2


def name_of(known: dict[str, Any], value: int, field: str) -> str:
    """The domain's word for a value of an enumeration; "" for 0. Raises InvalidArgument UNKNOWN_ENUM_VALUE."""
    if value == 0:
        return ""
    for name, number in known.items():
        if number == value:
            return name
    message = f"{field} is {value}, which is not one of its values: {', '.join(known)}"
    raise InvalidArgument("UNKNOWN_ENUM_VALUE", message, field=field, value=value)


def usages() -> dict[str, Any]:
    """Usages by the domain's word."""
    return {
        files.TRAIN: learning_pb2.USAGE_TRAIN,
        files.VALIDATION: learning_pb2.USAGE_VALIDATION,
        files.TEST: learning_pb2.USAGE_TEST,
    }
