"""How far a version is on a follower."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FollowedState(StrEnum):
    """See FollowedVersion.State in the contract."""

    WAITING = "WAITING"
    DOWNLOADING = "DOWNLOADING"
    LOADING = "LOADING"
    TRIAL = "TRIAL"
    CONFIRMED = "CONFIRMED"
    FAILED = "FAILED"
    REVERTED = "REVERTED"


@dataclass(frozen=True)
class Progress:
    """A version's bytes, what tried to bring them, and how far that is."""

    sha256: str
    attempt: str
    state: FollowedState
    message: str = ""
    downloaded_bytes: int = 0
