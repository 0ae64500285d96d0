"""The queue of a version: which requests are answered together, which are too late, and when it is full.

Requests join only while the model is busy; an idle model never waits for more. Clipper (Crankshaw et al., NSDI 2017) shows what
batching gains, Clockwork (Gujarati et al., OSDI 2020) why what cannot meet its deadline must not be begun.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from modelyard.core.errors import DeadlineExceeded, ResourceExhausted
from modelyard.serving.domain.deadline import check_deadline

T = TypeVar("T")
MIN_RETRY_S: Final = 0.05
"""Least that a refused caller is told to wait."""
HALF_LIFE_S: Final = 1.0
"""An estimate of how long a call takes counts half as much after this long without a call: it must not refuse for ever."""
WEIGHT: Final = 0.2
"""How much the latest call counts in the moving estimate."""


@dataclass(slots=True, eq=False)
class Waiting(Generic[T]):
    """A request in the queue. Only those of the same `kind` (names, datatypes, shapes without the batch) can be one call.

    `rows` 1 or more; `size` in bytes; `deadline` and `since` are time.monotonic(). `alone`: never with others. `gone`: its
    caller took it back, or it has left the queue.
    """

    item: T
    rows: int
    size: int
    kind: Hashable
    deadline: float | None
    since: float
    alone: bool = False
    gone: bool = False


@dataclass(frozen=True)
class BatchLimits:
    """Most examples and bytes of one call, and most requests that wait. A request larger than these is a call of its own."""

    rows: int
    size: int
    requests: int


@dataclass
class CallTimes:
    """How long calls take by their examples, as a moving average per power of two, in seconds."""

    floor_s: float = 0.0
    """No call takes less: half of what one example took when the model was loaded, since that may have been a busy moment."""
    _seconds: dict[int, float] = field(default_factory=dict)
    _measured: float = 0.0

    def add(self, rows: int, seconds: float, now: float) -> None:
        """A call has ended."""
        size = rows.bit_length()
        before = self._seconds.get(size)
        self._seconds[size] = seconds if before is None else before + WEIGHT * (seconds - before)
        self._measured = now

    def expected(self, rows: int, now: float) -> float:
        """Seconds that a call of `rows` takes: as measured at this size or the next smaller one in proportion.

        Halved for every HALF_LIFE_S since the last measurement, but never below the floor.
        """
        known = self._known(rows.bit_length())
        idle = now - self._measured
        return max(self.floor_s, known if idle < HALF_LIFE_S else known * 0.5 ** (idle / HALF_LIFE_S))

    def _known(self, size: int) -> float:
        known = self._seconds.get(size)
        if known is not None or not self._seconds:
            return known or 0.0
        nearest = max((each for each in self._seconds if each < size), default=min(self._seconds))
        return self._seconds[nearest] * max(1.0, 2.0 ** (size - nearest))


class BatchQueue(Generic[T]):
    """First come, first served. Used by one thread."""

    def __init__(self, limits: BatchLimits, floor_s: float = 0.0) -> None:
        """`floor_s`: see CallTimes."""
        self._limits = limits
        self._waiting: deque[Waiting[T]] = deque()
        self._count = 0
        self._rows = 0
        self.times = CallTimes(floor_s)

    def __len__(self) -> int:
        """Requests that wait."""
        return self._count

    @property
    def rows(self) -> int:
        """Examples that wait."""
        return self._rows

    def offer(self, request: Waiting[T], running_s: float, now: float) -> None:
        """Puts a request at the end; `running_s`: how long what runs now will still take, 0 when a call can begin at once.

        Raises DeadlineExceeded DEADLINE_EXCEEDED or DEADLINE_TOO_NEAR, ResourceExhausted QUEUE_FULL; both with a time to wait.
        """
        if self._count >= (self._limits.requests or not running_s):
            raise _queue_full(self._count, running_s + self._ahead_s(now))
        if request.deadline is not None:
            check_deadline(request.deadline, now)
            wait = running_s + self._ahead_s(now)
            needed = wait + self.times.expected(request.rows, now)
            if now + needed > request.deadline:
                raise _too_near(needed, request.deadline - now, wait)
        self._waiting.append(request)
        self._count += 1
        self._rows += request.rows

    def put_back(self, requests: list[Waiting[T]]) -> None:
        """Puts requests that must be computed again at the front, each to be alone."""
        for request in reversed(requests):
            request.alone, request.gone = True, False
            self._waiting.appendleft(request)
            self._count += 1
            self._rows += request.rows

    def take_back(self, request: Waiting[T]) -> bool:
        """Its caller went away. Gives whether it was still waiting: then it is never begun."""
        if request.gone:
            return False
        self._leave(request)
        return True

    def take(self, now: float, late: Callable[[Waiting[T], DeadlineExceeded], None], calls: int = 1) -> list[Waiting[T]]:
        """The requests of the next call, in the order they came; empty when none waits. Each that is too late goes to `late`.

        `calls` can begin now: what waits is shared out among them, so that no core idles while another computes a large batch.
        """
        batch: list[Waiting[T]] = []
        rows = size = 0
        most = min(self._limits.rows, -(-self._rows // calls))
        while self._waiting:
            request = self._waiting[0]
            if request.gone:
                self._waiting.popleft()
                continue
            if batch and not self._fits(batch[0], request, rows, size, most):
                break
            self._waiting.popleft()
            self._leave(request)
            problem = self._lateness(request, now)
            if problem is not None:
                late(request, problem)
                continue
            batch.append(request)
            rows += request.rows
            size += request.size
        return batch

    def drain(self) -> list[Waiting[T]]:
        """All that wait, taken out."""
        left = [request for request in self._waiting if not request.gone]
        for request in left:
            self._leave(request)
        self._waiting.clear()
        return left

    def _leave(self, request: Waiting[T]) -> None:
        request.gone = True
        self._count -= 1
        self._rows -= request.rows

    def _fits(self, first: Waiting[T], request: Waiting[T], rows: int, size: int, most: int) -> bool:
        if first.alone or request.alone or first.kind != request.kind:
            return False
        return rows + request.rows <= most and size + request.size <= self._limits.size

    def _lateness(self, request: Waiting[T], now: float) -> DeadlineExceeded | None:
        if request.deadline is None:
            return None
        needed = self.times.expected(request.rows, now)
        return None if now + needed <= request.deadline else _too_near(needed, request.deadline - now, 0.0)

    def _ahead_s(self, now: float) -> float:
        """Seconds that what waits already will take."""
        if not self._rows:
            return 0.0
        full, rest = divmod(self._rows, self._limits.rows)
        return full * self.times.expected(self._limits.rows, now) + (self.times.expected(rest, now) if rest else 0.0)


def _queue_full(count: int, wait: float) -> ResourceExhausted:
    retry = round(max(MIN_RETRY_S, wait), 3)
    message = f"{count} predictions wait for this version, which is the most it takes; try again in {retry} s"
    return ResourceExhausted("QUEUE_FULL", message, retry_after_s=retry, limit=count)


def _too_near(needed: float, left: float, wait: float) -> DeadlineExceeded:
    message = f"the deadline is {1000 * left:.1f} ms away, and the answer would take about {1000 * needed:.1f} ms"
    retry = round(max(MIN_RETRY_S, wait), 3)
    return DeadlineExceeded("DEADLINE_TOO_NEAR", message, retry_after_s=retry, needed_ms=round(1000 * needed, 3))
