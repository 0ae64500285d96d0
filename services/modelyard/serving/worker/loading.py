"""Loading that gives way to the versions that answer: it computes in a thread of lower priority.

A priority that was lowered cannot be raised again without a privilege that containers do not have (CAP_SYS_NICE), so it must not
be that of a thread that answers afterwards. On Linux each thread has its own, and threads inherit that of the one that made them:
what makes threads is done by the process's first thread, which keeps its priority.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

NICENESS: Final = 10
"""Of 19: beside threads that compute all the time it still gets about a tenth of a core, so that loading comes to an end."""


class Loading:
    """Two threads at work on one loading: the process's first, which answers later, and one that gives way."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def run(self, load: Callable[[], T]) -> T:
        """What `load` gives, or raises. It is called in the thread that gives way; this one does what `make` is given."""
        outcome: Future[T] = Future()
        thread = threading.Thread(target=self._give_way, args=(outcome, load), name="load")
        thread.start()
        while (job := self._jobs.get()) is not None:
            job()
        thread.join()
        return outcome.result()

    def make(self, what: Callable[[], R]) -> R:
        """Has the first thread do what makes threads that will answer. For the loading thread; raises what `what` raises."""
        made: Future[R] = Future()
        self._jobs.put(partial(_fulfil, made, what))
        return made.result()

    def _give_way(self, outcome: Future[T], load: Callable[[], T]) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        _fulfil(outcome, load)
        self._jobs.put(None)


def _fulfil(future: Future[T], what: Callable[[], T]) -> None:
    try:
        future.set_result(what())
    except BaseException as error:  # it is raised again by whoever waits
        future.set_exception(error)
