"""Predictions on their way: asked of the version that the traffic says, counted, and shown to its shadow."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from modelyard.core.errors import InvalidArgument, ModelyardError, ResourceExhausted
from modelyard.serving.domain.version_statistics import VersionStatistics
from modelyard.serving.handlers.router import Route
from modelyard.serving.ports import Answer, Tensor

Mirror = Callable[[Route, Sequence[Tensor], int, Answer], None]
"""Shows a request and its answer to the shadow of a route; never raises, never waits."""

NOT_THE_MODELS_FAULT: Final = (InvalidArgument, ResourceExhausted)
MOST_BYTES: Final = 256 << 20
RETRY_S: Final = 0.5


class Receiver(Protocol):
    """Who waits for an answer. Exactly one of the two is called, once, on the event loop."""

    def give(self, answer: Answer) -> None:
        """Makes the answer and sends it. What it raises is an answer that could not be made; then `fail` is called."""

    def fail(self, error: Exception) -> None:
        """Tells why there is none."""


class Predictions:
    """All that are on their way in this server. `most_bytes`: of their inputs together, beyond which no more are taken."""

    def __init__(self, mirror: Mirror, most_bytes: int = MOST_BYTES) -> None:
        self.mirror = mirror
        self.most_bytes = most_bytes
        self.held_bytes = 0

    def begin(
        self, route: Route, inputs: Sequence[Tensor], rows: int, begun_ns: int, deadline: float | None, receiver: Receiver
    ) -> Callable[[], None]:
        """Asks for an answer to `rows` examples whose `inputs` were checked; on the event loop. Gives what takes it back.

        `begun_ns` is the time.perf_counter_ns() at which the request was read, `deadline` a time.monotonic(). Raises
        ResourceExhausted TOO_MANY_BYTES, and what ServedModel.submit raises at once; then the receiver is told nothing.
        """
        size = 0
        for tensor in inputs:
            size += len(tensor.data)
        if self.held_bytes and self.held_bytes + size > self.most_bytes:
            message = f"requests of {self.held_bytes} bytes are on their way, and at most {self.most_bytes} are taken; try again"
            raise ResourceExhausted("TOO_MANY_BYTES", message, retry_after_s=RETRY_S, limit=self.most_bytes)
        prediction = _Prediction(self, route, inputs, rows, begun_ns, receiver, size)
        self.held_bytes += size
        try:
            undo = route.model.submit(inputs, rows, deadline, prediction.done)
        except BaseException:
            prediction.over()
            raise
        if prediction.going:
            prediction.undo = undo
        return prediction.take_back


class _Prediction:
    """One of them. It forgets all when it is over: with what takes it back it makes a ring that only a collector would find."""

    __slots__ = ("_all", "_begun_ns", "_inputs", "_receiver", "_route", "_rows", "_size", "going", "undo")

    def __init__(
        self, all_: Predictions, route: Route, inputs: Sequence[Tensor], rows: int, begun_ns: int, receiver: Receiver, size: int
    ) -> None:
        self._all, self._route, self._inputs, self._rows = all_, route, inputs, rows
        self._begun_ns, self._receiver, self._size = begun_ns, receiver, size
        self.going = True
        self.undo: Callable[[], None] | None = None

    def done(self, result: Answer | ModelyardError) -> None:
        """What the model says."""
        statistics, receiver = self._route.model.statistics, self._receiver
        self.over()
        if not isinstance(result, Answer):
            count_failure(statistics, result, self._begun_ns)
            receiver.fail(result)
            return
        try:
            receiver.give(result)
        except Exception as error:  # a bug, or an answer that cannot be told as it was asked for
            count_failure(statistics, error, self._begun_ns)
            receiver.fail(error)
            return
        statistics.succeeded(time.perf_counter_ns() - self._begun_ns, self._rows, result.timing)
        if self._route.shadow is not None:
            self._all.mirror(self._route, self._inputs, self._rows, result)

    def take_back(self) -> None:
        """The caller went away. A call that has begun runs to its end all the same."""
        undo = self.undo
        self.over()
        if undo is not None:
            undo()

    def over(self) -> None:
        """It counts no more; fine more than once."""
        self.undo = None
        if self.going:
            self.going = False
            self._all.held_bytes -= self._size


def count_failure(statistics: VersionStatistics, error: Exception, begun_ns: int) -> None:
    """Counts a request that was taken and failed: against the version, unless the caller was wrong or there were too many."""
    if isinstance(error, NOT_THE_MODELS_FAULT):
        statistics.rejected += 1
    else:
        statistics.failed(time.perf_counter_ns() - begun_ns)


def count_refusal(statistics: VersionStatistics, error: ModelyardError, begun_ns: int) -> None:
    """Counts a request that was refused before it was taken. Only a version that is not there for it is at fault."""
    if error.reason == "MODEL_UNHEALTHY":
        statistics.failed(time.perf_counter_ns() - begun_ns)
    else:
        statistics.rejected += 1
