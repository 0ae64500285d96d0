"""One prediction: asked of the version that the traffic says, counted, and shown to its shadow."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from modelyard.core.errors import InvalidArgument, ModelyardError, ResourceExhausted
from modelyard.serving.domain.version_statistics import VersionStatistics
from modelyard.serving.handlers.router import Route
from modelyard.serving.ports import Answer, Tensor

Mirror = Callable[[Route, Sequence[Tensor], int, Answer], None]
"""Shows a request and its answer to the shadow of a route; never raises, never waits."""

NOT_THE_MODELS_FAULT = (InvalidArgument, ResourceExhausted)


class Receiver(Protocol):
    """Who waits for an answer. Exactly one of the two is called, once, on the event loop."""

    def give(self, answer: Answer) -> None:
        """Makes the answer and sends it. What it raises is an answer that could not be made; then `fail` is called."""

    def fail(self, error: Exception) -> None:
        """Tells why there is none."""


def predict(
    route: Route,
    inputs: Sequence[Tensor],
    rows: int,
    *,
    begun_ns: int,
    deadline: float | None,
    receiver: Receiver,
    mirror: Mirror,
) -> Callable[[], None]:
    """Asks for an answer to `rows` examples whose `inputs` were checked; on the event loop. Gives what takes the request back.

    `begun_ns` is the time.perf_counter_ns() at which the request was read, `deadline` a time.monotonic(). Raises what
    ServedModel.submit raises at once; then the receiver is told nothing.
    """
    statistics = route.model.statistics

    def done(result: Answer | ModelyardError) -> None:
        if not isinstance(result, Answer):
            count_failure(statistics, result, begun_ns)
            receiver.fail(result)
            return
        try:
            receiver.give(result)
        except Exception as error:  # a bug, or an answer that cannot be told as it was asked for
            count_failure(statistics, error, begun_ns)
            receiver.fail(error)
            return
        statistics.succeeded(time.perf_counter_ns() - begun_ns, rows, result.timing)
        if route.shadow is not None:
            mirror(route, inputs, rows, result)

    return route.model.submit(inputs, rows, deadline, done)


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
