"""When it is too late to begin."""

from __future__ import annotations

from modelyard.core.errors import DeadlineExceeded


def check_deadline(deadline: float | None, now: float) -> None:
    """Raises DeadlineExceeded DEADLINE_EXCEEDED when the time is over. Seconds of one monotonic clock; None: no deadline."""
    if deadline is not None and now >= deadline:
        message = f"the deadline passed {1000 * (now - deadline):.0f} ms before the prediction could begin"
        raise DeadlineExceeded("DEADLINE_EXCEEDED", message)
