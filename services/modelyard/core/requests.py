"""What makes a create safe to repeat (AIP-155)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """The caller's request_id (may be empty), the method it called, and a fingerprint of the rest of the body."""

    id: str = ""
    method: str = ""
    fingerprint: str = ""
