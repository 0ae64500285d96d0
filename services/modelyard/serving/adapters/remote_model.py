"""A version that lives in pods: each request goes to one of them, and on to another where it provably was not begun.

A prediction changes nothing, so one whose pod died under it is asked once more of another pod; only once, because it may be what
the pod died of. While no pod can be asked, requests wait for a moment rather than fail. docs/decisions/0026-serving-pods.md.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from modelyard.core.errors import ModelyardError, ResourceExhausted, Unavailable
from modelyard.core.http.client import CallFailed
from modelyard.formats.bundle import BundleCard
from modelyard.serving.adapters.pod_connections import PodConnections, Route
from modelyard.serving.adapters.remote_messages import RequestMessages, error_of_pod, read_answer
from modelyard.serving.domain.deadline import check_deadline
from modelyard.serving.domain.drift import DriftScore
from modelyard.serving.domain.endpoint import Condition
from modelyard.serving.domain.version_statistics import Timing, VersionStatistics
from modelyard.serving.ports import Answer, Batching, Done, Tensor

log = structlog.get_logger()

CLOSE_S: Final = 120.0
TICK_S: Final = 0.05
"""How often what waits for a pod is looked at."""
ELSEWHERE: Final = frozenset(
    (
        "SERVER_STARTING",
        "MODEL_LOADING",
        "MODEL_FAILED",
        "MODEL_UNLOADED",
        "MODEL_UNHEALTHY",
        "MODEL_NOT_FOUND",
        "VERSION_NOT_FOUND",
    )
)
"""Reasons of a pod that has not got the version (now): another one may have."""
FULL: Final = frozenset(("QUEUE_FULL", "TOO_MANY_BYTES", "NO_MEMORY"))
"""Reasons of a pod that has no room: another one may have."""


class Live(Protocol):
    """What is known of a version in pods beyond this process. From any thread; quick."""

    def condition(self, version: str) -> Condition:
        """READY while a pod answers for it, or one would be started for it; else why not."""

    def wake(self, left_s: float | None) -> float:
        """A request waits and there is no pod: have one started. Gives the seconds that it may wait; `left_s`: that it has.

        Raises Unavailable COLD_START where it could not be answered in time.
        """

    def asked(self) -> None:
        """A request came: it is not idle."""

    def memory_bytes(self, version: str) -> int:
        """What its processes hold, in all pods."""

    def executions(self, version: str) -> int:
        """Calls of the model in all pods; only grows."""

    def drift(self, version: str) -> tuple[DriftScore, ...]:
        """Scores of all pods together."""

    def batching(self, version: str) -> Batching:
        """As the pods say."""

    def threads(self, version: str) -> int:
        """Threads of one call in a pod; 0: not known."""


@dataclass(frozen=True)
class RemoteLimits:
    """`queue`: requests of a version that wait for a pod. `at_once`: that are on their way, waiting ones included."""

    queue: int = 256
    at_once: int = 4096


class RemoteModel:
    """A ServedModel whose answers come from pods."""

    def __init__(
        self, card: BundleCard, model: str, version: str, pods: PodConnections, live: Live, limits: RemoteLimits
    ) -> None:
        self.card = card
        self.version = version
        self._statistics = VersionStatistics()
        self._messages = RequestMessages(model, version)
        self._name = f"{model}/{version}"
        self._pods, self._live, self._limits = pods, live, limits
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[_Request] = deque()
        self._ticking: asyncio.TimerHandle | None = None
        self._under_way = 0
        self._closing = False
        self._closed = threading.Event()

    @property
    def statistics(self) -> VersionStatistics:
        """See ServedModel. Requests are counted here, calls of the model in the pods."""
        self._statistics.executions = self._live.executions(self.version)
        return self._statistics

    @property
    def condition(self) -> Condition:
        """See ServedModel."""
        return self._live.condition(self.version)

    @property
    def batching(self) -> Batching:
        """See ServedModel."""
        return self._live.batching(self.version)

    @property
    def threads(self) -> int:
        """See ServedModel."""
        return self._live.threads(self.version)

    def memory_bytes(self) -> int:
        """See ServedModel."""
        return self._live.memory_bytes(self.version)

    def drift(self) -> tuple[DriftScore, ...]:
        """See ServedModel."""
        return self._live.drift(self.version)

    def submit(self, inputs: Sequence[Tensor], rows: int, deadline: float | None, done: Done) -> Callable[[], None]:
        """See ServedModel.submit."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._attach(loop)
        if self._closing:
            raise Unavailable("MODEL_UNLOADED", "this version is being unloaded; ask again for the version that took its place")
        check_deadline(deadline, time.monotonic())
        if self._under_way >= self._limits.at_once:
            raise _too_many(self._under_way)
        self._live.asked()
        request = _Request(self, self._messages.of(inputs), rows, deadline, done)
        request.begin()
        self._under_way += 1
        return request.take_back

    def close(self) -> None:
        """See ServedModel.close."""
        self._closing = True
        loop = self._loop
        if loop is None or loop.is_closed() or not loop.is_running():
            self._closed.set()
            return
        loop.call_soon_threadsafe(self._over)
        if _running_loop() is loop:
            return
        end = time.monotonic() + CLOSE_S
        while not self._closed.wait(0.5) and loop.is_running() and time.monotonic() < end:
            pass

    # --- for its requests

    def _attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._under_way, self._ticking = loop, 0, None
        self._waiting.clear()
        self._pods.attach(loop)
        if self._serve_waiting not in self._pods.changed:
            self._pods.changed.append(self._serve_waiting)

    def wait(self, request: _Request) -> None:
        """No pod can be asked now. Raises Unavailable NO_POD or COLD_START, ResourceExhausted QUEUE_FULL."""
        if len(self._waiting) >= self._limits.queue:
            raise _queue_full(len(self._waiting))
        now = time.monotonic()
        if request.until is None:
            left = None if request.deadline is None else request.deadline - now
            request.until = now + self._live.wake(left)
            if request.deadline is not None:
                request.until = min(request.until, request.deadline)
        if now >= request.until:
            raise self._no_pod()
        self._waiting.append(request)
        self._tick_later()

    def _no_pod(self) -> Unavailable:
        condition = self._live.condition(self.version)
        why = self._pods.trouble() or condition.message or "no pod answers for it"
        message = f"version {self.version} has no pod that can be asked now: {why}"
        return Unavailable("NO_POD", message, retry_after_s=2.0, version=self.version)

    def _tick_later(self) -> None:
        if self._ticking is None and self._waiting:
            assert self._loop is not None
            self._ticking = self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._ticking = None
        self._serve_waiting()
        self._tick_later()

    def _serve_waiting(self) -> None:
        """Those who wait, in the order they came; whose time is over is told so."""
        waiting, self._waiting = self._waiting, deque()
        while waiting:
            request = waiting.popleft()
            if request.going:
                request.again()
        self._tick_later()

    def ended(self) -> None:
        """A request is over."""
        self._under_way -= 1
        if self._closing:
            self._over()

    def _over(self) -> None:
        if not self._under_way and not self._closed.is_set():
            if self._serve_waiting in self._pods.changed:
                self._pods.changed.remove(self._serve_waiting)
            self._closed.set()

    def pick(self, tried: list[Route]) -> Route | None:
        """The next pod to ask."""
        return self._pods.pick(self.version, tried)

    def has_not(self, route: Route) -> None:
        """A pod has not got the version."""
        self._pods.refused(route, self.version)


class _Request:
    """One of them, over the pods that it is tried on."""

    __slots__ = (
        "_done",
        "_message",
        "_model",
        "_repeated",
        "_rows",
        "_sent",
        "_started",
        "_tried",
        "_undo",
        "deadline",
        "going",
        "until",
    )

    def __init__(self, model: RemoteModel, message: bytes, rows: int, deadline: float | None, done: Done) -> None:
        self._model, self._message, self._rows, self._done = model, message, rows, done
        self.deadline = deadline
        self.until: float | None = None
        """When waiting for a pod ends."""
        self.going = True
        self._started = self._sent = time.perf_counter_ns()
        self._tried: list[Route] = []
        self._repeated = False
        self._undo: Callable[[], None] | None = None

    def begin(self) -> None:
        """Raises what ServedModel.submit raises."""
        if not self._send():
            self._model.wait(self)

    def again(self) -> None:
        """After it has waited, or a pod did not take it."""
        error: ModelyardError
        try:
            now = time.monotonic()
            check_deadline(self.deadline, now)
            if not self._send():
                self._tried.clear()
                self._model.wait(self)
            return
        except ModelyardError as problem:
            error = problem
        self._give(error)

    def take_back(self) -> None:
        """Its caller went away."""
        if self.going:
            undo = self._undo
            self._finish()
            if undo is not None:
                undo()

    def _send(self) -> bool:
        route = self._model.pick(self._tried)
        if route is None or route.connection is None:
            return False
        left = None if self.deadline is None else max(0.001, self.deadline - time.monotonic())
        self._tried.append(route)
        self._sent = time.perf_counter_ns()
        self._undo = route.connection.call(route.head, self._message, left, self._outcome)
        return True

    def _outcome(self, outcome: bytes | CallFailed) -> None:
        if not self.going:
            return
        self._undo = None
        if isinstance(outcome, CallFailed):
            self._failed(outcome)
            return
        try:
            tensors = read_answer(outcome, self._model.card)
        except ModelyardError as error:
            self._give(error)
            return
        ended = time.perf_counter_ns()
        self._give(Answer(tensors, Timing(self._sent - self._started, 0, ended - self._sent, 0, self._rows)))

    def _failed(self, failed: CallFailed) -> None:
        if not failed.begun:
            self.again()
            return
        if not failed.details and failed.code == 14:
            if self._repeated:
                self._give(
                    Unavailable("POD_LOST", "two pods were lost while they computed this request; try again", retry_after_s=1.0)
                )
                return
            self._repeated = True
            self.again()
            return
        error = error_of_pod(failed)
        if error.reason in ELSEWHERE:
            self._model.has_not(self._tried[-1])
            self.again()
        elif error.reason in FULL and self._send():
            return
        else:
            self._give(error)

    def _give(self, result: Answer | ModelyardError) -> None:
        done = self._done
        self._finish()
        try:
            done(result)
        except Exception:
            log.exception("an answer could not be given")

    def _finish(self) -> None:
        self.going = False
        self._undo = None
        self._tried = []
        self._message = b""
        self._model.ended()


def _too_many(count: int) -> ResourceExhausted:
    message = f"{count} predictions of this version are on their way, which is the most that are taken; try again"
    return ResourceExhausted("QUEUE_FULL", message, retry_after_s=0.1, limit=count)


def _queue_full(count: int) -> ResourceExhausted:
    message = f"{count} predictions wait for a pod of this version, which is the most that may; try again"
    return ResourceExhausted("QUEUE_FULL", message, retry_after_s=1.0, limit=count)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
