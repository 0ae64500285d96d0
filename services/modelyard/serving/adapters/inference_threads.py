"""Threads in which models compute: as many as there are cores to use, with a queue that ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from modelyard.core.errors import ResourceExhausted
from modelyard.serving.domain.deadline import check_deadline

T = TypeVar("T")
MIN_RETRY_S = 0.05


class InferenceThreads:
    """Runs calls off the event loop. What waits longer than its caller does is never begun."""

    def __init__(self, threads: int, queue: int) -> None:
        """`threads` compute at once (1 or more); up to `queue` more calls wait (0 or more)."""
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="inference")
        self._threads = threads
        self._limit = threads + queue
        self._lock = threading.Lock()
        self._accepted = 0
        self._seconds = MIN_RETRY_S  # of one call; an average that follows

    async def run(self, call: Callable[[], T], deadline: float | None) -> T:
        """See ports.InferenceThreads. When the caller goes away, a call that has not begun never does."""
        self._admit()
        try:
            future = self._executor.submit(self._timed, call, deadline)
        except BaseException:
            self._done(None)
            raise
        future.add_done_callback(self._done)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Lets what has begun end, and begins nothing more."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _admit(self) -> None:
        with self._lock:
            if self._accepted < self._limit:
                self._accepted += 1
                return
            wait = round(max(MIN_RETRY_S, self._seconds * self._limit / self._threads), 3)
        message = f"{self._limit} predictions are running or waiting, which is the most this server takes; try again in {wait} s"
        raise ResourceExhausted("QUEUE_FULL", message, retry_after_s=wait, limit=self._limit)

    def _done(self, _: Future[T] | None) -> None:
        with self._lock:
            self._accepted -= 1

    def _timed(self, call: Callable[[], T], deadline: float | None) -> T:
        start = time.monotonic()
        check_deadline(deadline, start)
        try:
            return call()
        finally:
            self._seconds += 0.1 * (time.monotonic() - start - self._seconds)
