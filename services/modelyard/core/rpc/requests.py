"""What handlers of many services check in a request alike."""

from __future__ import annotations

import hashlib
from typing import Any

from modelyard.core.errors import InvalidArgument


def fingerprint(message: Any) -> str:
    """SHA-256 over a request without its request_id: tells whether a repeated id comes with the same body."""
    copy = type(message)()
    copy.CopyFrom(message)
    copy.ClearField("request_id")
    return hashlib.sha256(copy.SerializeToString(deterministic=True)).hexdigest()


def mask_paths(update_mask: Any, allowed: set[str]) -> set[str]:
    """The fields an update changes; an empty mask means all that may be changed. Raises InvalidArgument for any other path."""
    paths = set(update_mask.paths)
    if paths == {"*"} or not paths:
        return allowed
    for path in sorted(paths - allowed):
        message = f"update_mask names {path!r}; what can be changed: {', '.join(sorted(allowed))}"
        raise InvalidArgument("BAD_UPDATE_MASK", message, field="update_mask", value=path)
    return paths
