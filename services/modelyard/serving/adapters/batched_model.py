"""A version that answers: its queue, its share of the cores, and which rows of a call belong to whom. On the event loop.

What computes is a `Computer`: the version's own process (model_process.py) or threads of this one (in_process_model.py).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import structlog

from modelyard.core.errors import DeadlineExceeded, InvalidArgument, ModelyardError, Unavailable
from modelyard.formats.bundle import BundleCard
from modelyard.serving.adapters.rows import RowCutter
from modelyard.serving.domain.batching import BatchLimits, BatchQueue, Waiting
from modelyard.serving.domain.cpu_budget import CpuBudget
from modelyard.serving.domain.drift import DriftScore
from modelyard.serving.domain.endpoint import Condition, DeploymentState
from modelyard.serving.domain.version_statistics import Timing, VersionStatistics
from modelyard.serving.handlers.proven_model import Facts
from modelyard.serving.ports import Answer, Batching, Done, Tensor

log = structlog.get_logger()

CLOSE_S: Final = 120.0
"""Longest that close() waits for what has begun."""


@dataclass(slots=True)
class Asked:
    """A request: its tensors in the order of the card, and who wants the answer."""

    inputs: Sequence[Tensor]
    done: Done


Batch = list[Waiting[Asked]]


@dataclass(frozen=True, slots=True)
class Computed:
    """All served outputs of a call, raw, in the order of the card, and how long each part took in nanoseconds."""

    outputs: Sequence[bytes | memoryview]
    input_ns: int
    infer_ns: int
    output_ns: int


Ended = Callable[["Computed | ModelyardError"], None]


class Computer(Protocol):
    """What computes the calls of a version. All on the event loop, but for `memory_bytes` and `drift`.

    `ahead`: calls that it takes beyond those that compute, and begins by itself when one of them has ended.
    """

    ahead: int

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop on which it is asked from now on."""

    def trouble(self) -> Unavailable | None:
        """Why nothing can be computed now, or None."""

    def condition(self) -> Condition:
        """READY, or UNHEALTHY with how its process ended. From any thread."""

    def begin(self, batch: Batch, rows: int, ended: Ended) -> None:
        """Computes a call; `ended` is called once, on the loop, never before this returns."""

    def memory_bytes(self) -> int:
        """See ServedModel."""

    def drift(self) -> tuple[DriftScore, ...]:
        """See ServedModel."""

    def close(self) -> None:
        """Nothing is begun after it, nothing runs. From any thread."""


class BatchedModel:
    """A ServedModel over a Computer."""

    def __init__(
        self,
        card: BundleCard,
        facts: Facts,
        computer: Computer,
        budget: CpuBudget,
        limits: BatchLimits,
        statistics: VersionStatistics,
    ) -> None:
        self.card = card
        self.statistics = statistics
        self.batching = Batching(facts.most_rows > 1, facts.note)
        self.threads = facts.threads
        self._calls = facts.calls
        self._most_rows = facts.most_rows
        self._computer = computer
        self._budget = budget
        self._queue: BatchQueue[Asked] = BatchQueue(limits, facts.row_s / 2)
        self._cutter = RowCutter(card.served_outputs)
        self._names = [spec.name for spec in card.inputs]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: dict[int, tuple[float, int]] = {}
        self._holding = 0  # calls that hold tokens; one that was sent ahead takes over those of the call that ends
        self._ahead: deque[int] = deque()
        self._next_call = 0
        self._planned = self._asking = self._closing = False
        self._closed = threading.Event()
        self._finishing = threading.Lock()

    @property
    def condition(self) -> Condition:
        """See ServedModel."""
        return self._computer.condition()

    def memory_bytes(self) -> int:
        """See ServedModel."""
        return self._computer.memory_bytes()

    def drift(self) -> tuple[DriftScore, ...]:
        """See ServedModel."""
        return self._computer.drift()

    def submit(self, inputs: Sequence[Tensor], rows: int, deadline: float | None, done: Done) -> Callable[[], None]:
        """See ServedModel.submit. Requests that come in one turn of the loop are answered together."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._attach(loop)
        trouble = _unloaded() if self._closing else self._computer.trouble()
        if trouble is not None:
            raise trouble
        now = time.monotonic()
        tensors = self._in_order(inputs)
        size = sum(len(tensor.data) for tensor in tensors)
        request = Waiting(Asked(tensors, done), rows, size, _kind(tensors), deadline, now)
        self._queue.offer(request, self._running_s(now), now)
        if not self._planned:
            self._planned = True
            loop.call_soon(self._flush)
        return partial(self._take_back, request)

    def close(self) -> None:
        """See ServedModel.close. Waits until all is over, unless it is called on the event loop, which has to end it."""
        loop = self._loop
        if loop is None or loop.is_closed() or not loop.is_running():
            self._finish()
        elif _running_loop() is loop:
            self._begin_close()
        else:
            loop.call_soon_threadsafe(self._begin_close)
            end = time.monotonic() + CLOSE_S
            while not self._closed.wait(0.5) and loop.is_running() and time.monotonic() < end:
                pass
            self._finish()

    def _take_back(self, request: Waiting[Asked]) -> None:
        self._queue.take_back(request)

    def _attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._planned = self._asking = False
        self._running.clear()
        self._ahead.clear()
        self._holding = 0
        self._computer.attach(loop)

    def _in_order(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        if len(inputs) == 1:
            return inputs
        by_name = {tensor.name: tensor for tensor in inputs}
        return [by_name[name] for name in self._names]

    def _running_s(self, now: float) -> float:
        """Seconds until a call can begin: 0 while fewer run than may."""
        if len(self._running) < self._calls:
            return 0.0
        return max(0.0, min(begun + self._queue.times.expected(rows, now) - now for begun, rows in self._running.values()))

    def _flush(self) -> None:
        self._planned = False
        self._ask()

    def _ask(self) -> None:
        """Wants tokens for one more call, when there is something to compute and a place to do it."""
        if not len(self._queue) or self._asking:
            return
        trouble = self._computer.trouble()
        if trouble is not None:
            self._refuse_waiting(trouble)
        elif len(self._running) < self._calls:
            self._asking = True
            self._budget.ask(self.threads, self._granted)
        elif self._may_send_ahead():
            self._begin(1)

    def _may_send_ahead(self) -> bool:
        """The next call need not wait for a turn of the loop when it gains nothing by it, and nobody else waits for cores.

        Where requests are batched, it gains nothing once as many examples wait as a call that runs has: were they kept, those who
        are answered together would come back together, and the process would have nothing to do meanwhile.
        """
        if len(self._running) >= self._calls + self._computer.ahead or self._budget.is_wanted:
            return False
        return not self.batching.together or self._queue.rows >= min(rows for _, rows in self._running.values())

    def _granted(self) -> None:
        self._asking = False
        self._holding += 1
        if self._begin(self._calls - len(self._running)):
            self._ask()
        else:
            self._give_back()

    def _give_back(self) -> None:
        while self._holding > len(self._running):
            self._holding -= 1
            self._budget.give_back(self.threads)

    def _begin(self, calls: int) -> bool:
        """One of `calls` calls that can begin; whether there was something to compute."""
        now = time.monotonic()
        batch = self._queue.take(now, _too_late, calls) if self._computer.trouble() is None else []
        if not batch:
            return False
        rows = sum(request.rows for request in batch)
        self._next_call += 1
        if len(self._running) >= self._calls:
            self._ahead.append(self._next_call)
        self._running[self._next_call] = (now, rows)
        self._computer.begin(batch, rows, partial(self._ended, self._next_call, batch, rows))
        return True

    def _ended(self, call: int, batch: Batch, rows: int, outcome: Computed | ModelyardError) -> None:
        """The next call begins before the answers of this one are cut and given."""
        now = time.monotonic()
        begun, _ = self._running.pop(call, (now, rows))
        self._begin_ahead(now)
        self._give_back()
        if isinstance(outcome, Computed):
            self._queue.times.add(rows, now - begun, now)
            self._ask()
            self._answer(batch, rows, begun, outcome)
        else:
            self._failed(batch, outcome)
            self._ask()
        if self._closing and not self._running and not len(self._queue):
            self._finish()

    def _begin_ahead(self, now: float) -> None:
        """A call has ended, so the process begins what was sent ahead."""
        while self._ahead:
            call = self._ahead.popleft()
            if call in self._running:
                self._running[call] = (now, self._running[call][1])
                return

    def _answer(self, batch: Batch, rows: int, begun: float, outcome: Computed) -> None:
        timing = (outcome.input_ns, outcome.infer_ns, outcome.output_ns, rows)
        self.statistics.executed(Timing(0, *timing))
        try:
            cut = self._cutter.cut(outcome.outputs, [request.rows for request in batch])
        except ValueError:
            log.exception("a model's answer has not the size it must have")
            self._failed(batch, Unavailable("MODEL_CRASHED", "the model's answer was broken; try again", retry_after_s=1.0))
            return
        for request, tensors in zip(batch, cut, strict=True):
            queue_ns = max(0, int((begun - request.since) * 1e9))
            _give(request.item.done, Answer(tensors, Timing(queue_ns, *timing)))

    def _failed(self, batch: Batch, error: ModelyardError) -> None:
        """One request that is wrong must not spoil the others of its call: each is asked again by itself."""
        if isinstance(error, InvalidArgument) and len(batch) > 1:
            self._queue.put_back(batch)
            return
        for request in batch:
            _give(request.item.done, error)
        if self._computer.trouble() is not None:
            self._refuse_waiting(error)

    def _refuse_waiting(self, error: ModelyardError) -> None:
        """Nothing can be computed for a while: who waits is told, rather than kept."""
        for request in self._queue.drain():
            _give(request.item.done, error)

    def _begin_close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._running and not len(self._queue):
                self._finish()

    def _finish(self) -> None:
        self._closing = True
        with self._finishing:
            if not self._closed.is_set():
                self._computer.close()
                self._closed.set()


def _kind(tensors: Sequence[Tensor]) -> Hashable:
    """What must be equal in requests that are answered by one call."""
    if len(tensors) == 1:
        first = tensors[0]
        return first.name, first.datatype, first.shape[1:]
    return tuple((tensor.name, tensor.datatype, tensor.shape[1:]) for tensor in tensors)


def _too_late(request: Waiting[Asked], error: DeadlineExceeded) -> None:
    _give(request.item.done, error)


def _give(done: Done, answer: Answer | ModelyardError) -> None:
    """One caller's trouble must not take the answers of the others."""
    try:
        done(answer)
    except Exception:
        log.exception("an answer could not be given")


def _unloaded() -> Unavailable:
    return Unavailable("MODEL_UNLOADED", "this version is being unloaded; ask again for the version that took its place")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def ready() -> Condition:
    """The condition of a version that answers."""
    return Condition(DeploymentState.READY)
