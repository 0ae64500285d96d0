"""The time as it is written down."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The time, aware, in UTC, to the microsecond."""
    return datetime.now(UTC)
