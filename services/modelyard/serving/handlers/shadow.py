"""Asks a shadow version what another has answered already, and counts how the two compare. Callers notice nothing of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import structlog
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition, ModelyardError
from modelyard.core.names import ENDPOINT
from modelyard.serving.domain.names import endpoint_model
from modelyard.serving.domain.shadow import Comparison
from modelyard.serving.domain.tensors import decode_raw
from modelyard.serving.handlers.registry import Registry
from modelyard.serving.handlers.router import Route
from modelyard.serving.ports import Answer, EndpointStore, Tensor

log = structlog.get_logger()

MOST_WAITING: Final = 2
"""Requests that one shadow is asked at once; more are skipped: its queue stays short, and it takes few cores from others."""
PATIENCE_S: Final = 5.0
"""How long a shadow may take for an answer; one that takes longer has failed."""
LARGE_BYTES: Final = 65_536
"""Outputs larger than this are compared in a thread: callers would feel it on the event loop."""

_BUSY: Final = ("QUEUE_FULL", "DEADLINE_TOO_NEAR")

Outputs = dict[str, NDArray[Any]]


def mirror(route: Route, inputs: Sequence[Tensor], rows: int, answer: Answer) -> None:
    """Asks the shadow of a route for the same, after the answer was given. On the event loop; never raises, never waits."""
    shadow, comparison = route.shadow, route.comparison
    if shadow is None or comparison is None:
        return
    if comparison.waiting >= MOST_WAITING or not shadow[0].is_ready:
        comparison.skipped += 1
        return
    comparison.waiting += 1
    given = tuple(Tensor(one.name, one.datatype, one.shape, bytes(one.data)) for one in answer.tensors)  # its memory is lent
    told = partial(_told, comparison, given, answer, shadow[1].card.precision)
    try:
        shadow[1].submit(inputs, rows, time.monotonic() + PATIENCE_S, told)
    except Exception as error:  # whatever it is, the caller of the other version has its answer
        _refused(comparison, error)


@dataclass(frozen=True)
class ShadowReport:
    """How the shadow of an endpoint fares on this server."""

    endpoint: str
    version: str
    comparison: Comparison


def shadow_report(store: EndpointStore, registry: Registry, name: str) -> ShadowReport:
    """Raises InvalidArgument, NotFound, FailedPrecondition NO_SHADOW."""
    ENDPOINT.parse(name)
    endpoint = store.get(name)
    if endpoint.shadow is None:
        short = name.rpartition("/")[2]
        message = f"{name} has no shadow; set one with UpdateEndpoint (modelyard endpoint shadow {short} VERSION)"
        raise FailedPrecondition("NO_SHADOW", message, field="name", endpoint=name)
    table = registry.tables.get(endpoint_model(name))
    known = table.endpoint.shadow if table and table.endpoint else None
    if table is None or table.comparison is None or known is None or known.time != endpoint.shadow.time:
        return ShadowReport(name, endpoint.shadow.version, Comparison(endpoint.shadow.time))  # set a moment ago, elsewhere
    return ShadowReport(name, endpoint.shadow.version, table.comparison)


def _refused(comparison: Comparison, error: Exception) -> None:
    comparison.waiting -= 1
    if isinstance(error, ModelyardError) and error.reason in _BUSY:
        comparison.skipped += 1
        return
    comparison.requests += 1
    comparison.failures += 1
    if not isinstance(error, ModelyardError):
        log.error("a shadow cannot be asked", exc_info=error)


def _told(
    comparison: Comparison, given: Sequence[Tensor], answer: Answer, precision: str, result: Answer | ModelyardError
) -> None:
    """Gets the shadow's answer, on the event loop."""
    comparison.waiting -= 1
    comparison.requests += 1
    if not isinstance(result, Answer):
        comparison.failures += 1
        return
    comparison.took(_milliseconds(result), _milliseconds(answer))
    said = tuple(Tensor(one.name, one.datatype, one.shape, bytes(one.data)) for one in result.tensors)
    if sum(len(one.data) for one in given) <= LARGE_BYTES:
        _compare(comparison, given, said, precision)
    else:
        asyncio.get_running_loop().run_in_executor(None, _compare, comparison, given, said, precision)


def _compare(comparison: Comparison, given: Sequence[Tensor], said: Sequence[Tensor], precision: str) -> None:
    try:
        comparison.compared(_arrays(given), _arrays(said), precision)
    except Exception:  # an answer that cannot be read is told by its own tests; here it must not reach anyone
        log.exception("answers cannot be compared")


def _arrays(tensors: Sequence[Tensor]) -> Outputs:
    return {one.name: np.asarray(decode_raw(one.name, one.datatype, one.shape, bytes(one.data))) for one in tensors}


def _milliseconds(answer: Answer) -> float:
    timing = answer.timing
    return (timing.queue_ns + timing.compute_input_ns + timing.compute_infer_ns + timing.compute_output_ns) / 1e6
