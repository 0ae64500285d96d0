"""What makes a create safe to repeat (AIP-155)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """The caller's request_id (may be empty), the method it called, a fingerprint of the rest of the body, and the size of
    machine that a job is to run on (empty: the default one).
    """

    id: str = ""
    method: str = ""
    fingerprint: str = ""
    instance_flavor: str = ""
