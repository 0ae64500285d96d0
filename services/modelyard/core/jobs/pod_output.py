"""Follows what the containers of an attempt write, each in a thread, until the container ends."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

from modelyard.core.jobs.kubernetes_api import ApiError, ClusterApi
from modelyard.core.jobs.runner import Output

# What waits to be taken; older output is dropped beyond that (the database is away for long, or the worker writes too much).
MOST_WAITING_BYTES = 1 << 20
AGAIN_AFTER_S = 2.0


class PodOutput:
    """The output of the pods of one attempt. `stored`: how many bytes of each node are known already."""

    def __init__(self, api: ClusterApi, container: str, stored: Mapping[int, int]) -> None:
        self._api = api
        self._container = container
        self._skip = dict(stored)
        self._offsets = dict.fromkeys(stored, 0)
        self._lock = threading.Lock()
        self._waiting: deque[Output] = deque()
        self._waiting_bytes = 0
        self._threads: dict[str, threading.Thread] = {}
        self._closed = False

    def follow(self, pod: str, node: int) -> None:
        """Follow a pod whose container was started; does nothing when it is followed already."""
        if pod not in self._threads:
            thread = threading.Thread(target=self._follow, args=(pod, node), name=f"log {pod}", daemon=True)
            self._threads[pod] = thread
            thread.start()

    def take(self) -> Sequence[Output]:
        """What came since the last call."""
        with self._lock:
            taken = [*self._waiting]
            self._waiting.clear()
            self._waiting_bytes = 0
        return taken

    def join(self, seconds: float) -> None:
        """Wait until everything that was written has come, at most so long."""
        deadline = time.monotonic() + seconds
        for thread in self._threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """Follow no longer."""
        self._closed = True

    def _follow(self, pod: str, node: int) -> None:
        base = self._offsets.get(node, 0)  # a pod that takes another's place goes on after it
        known = 0  # bytes of this pod that were seen
        while not self._closed:
            seen = 0
            try:
                for chunk in self._api.log(pod, self._container):
                    fresh = chunk[max(0, known - seen) :]
                    seen += len(chunk)
                    if fresh:
                        known = seen
                        self._add(node, base + known - len(fresh), fresh)
                    if self._closed:
                        return
                return
            except ApiError as error:
                if not error.passing and error.status != 400:  # 400: the container waits still
                    return
            time.sleep(AGAIN_AFTER_S)

    def _add(self, node: int, offset: int, data: bytes) -> None:
        with self._lock:
            self._offsets[node] = offset + len(data)
            skipped = max(0, min(len(data), self._skip.get(node, 0) - offset))
            if skipped == len(data):
                return
            self._waiting.append(Output(node, offset + skipped, data[skipped:]))
            self._waiting_bytes += len(data) - skipped
            while self._waiting_bytes > MOST_WAITING_BYTES and len(self._waiting) > 1:
                self._waiting_bytes -= len(self._waiting.popleft().data)
