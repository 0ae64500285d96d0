"""The end of a process that has not stopped in time: nothing of it is left behind, and its log says what it hung in."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from typing import NoReturn

import structlog

from modelyard.core.jobs import groups

log = structlog.get_logger()
LAST_S = 1.0


def give_up() -> None:
    """Before a process ends as it is: says in the log where each of its threads is, and ends the workers."""
    with contextlib.suppress(Exception):  # the log may be what hangs
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident != threading.get_ident():
                where = "".join(traceback.format_stack(frame)[-6:])
                log.warning("not stopped in time", thread=names.get(ident, str(ident)), where=where)
    groups.kill_all()


def leave(status: int, why: str) -> NoReturn:
    """End this process now."""
    surely = threading.Timer(LAST_S, os._exit, (status,))  # what follows may need a lock that is held
    surely.daemon = True
    surely.start()
    sys.stderr.write(f"{why}\n")
    give_up()
    os._exit(status)


def leave_after(seconds: float, status: int, why: str) -> None:
    """End this process after so long, if it is there yet."""
    timer = threading.Timer(seconds, leave, (status, why))
    timer.daemon = True
    timer.start()
