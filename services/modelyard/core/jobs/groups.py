"""The process groups of workers that this process has started, so that none is left when it must end at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

_lock = threading.Lock()
_living: set[int] = set()


def began(group: int) -> None:
    """A worker leads a group of its own."""
    with _lock:
        _living.add(group)


def ended(group: int) -> None:
    """Nothing of it is left."""
    with _lock:
        _living.discard(group)


def kill_all() -> None:
    """SIGKILL to all of them: also those that are stopped, or too busy to see that their server is gone."""
    for group in list(_living):  # without the lock: this process is about to end, whoever holds it
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
