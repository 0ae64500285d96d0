"""ModelStreamInfer: requests of one stream are worked on together, a few at once, and answered in the order they came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

import structlog

from inference import grpc_service_pb2 as oip
from modelyard.core.errors import ModelyardError
from modelyard.core.rpc.status import INTERNAL_MESSAGE

log = structlog.get_logger()

WINDOW: Final = 64
"""Requests of one stream that are worked on or wait for their turn to be sent; beyond them none is read."""
FINAL: Final = "triton_final_response"
"""Parameter of an answer: that no other comes for the same request. Clients with several answers to a request look for it."""

Asked = tuple["asyncio.Future[bytes]", Callable[[], None]]
Ask = Callable[[oip.ModelInferRequest], Asked]
"""Begins a prediction: gives its answer to come, and what takes it back. Raises ModelyardError."""
Begun = tuple[oip.ModelInferRequest, "Asked | Exception"]


async def answered_in_order(
    requests: AsyncIterator[oip.ModelInferRequest], ask: Ask, window: int = WINDOW
) -> AsyncIterator[oip.ModelStreamInferResponse]:
    """An answer or an error for each request. When the caller goes away, what has not begun is taken back."""
    room = asyncio.Semaphore(window)
    waiting: asyncio.Queue[Begun | None] = asyncio.Queue()
    reader = asyncio.create_task(_read(requests, ask, room, waiting))
    try:
        while (begun := await waiting.get()) is not None:
            yield await _response(*begun)
            room.release()
        await reader  # what reading itself raised
    finally:
        reader.cancel()
        _take_back(waiting)


async def _read(
    requests: AsyncIterator[oip.ModelInferRequest], ask: Ask, room: asyncio.Semaphore, waiting: asyncio.Queue[Begun | None]
) -> None:
    try:
        async for request in requests:
            await room.acquire()
            waiting.put_nowait((_without_tensors(request), _asked(ask, request)))
    finally:
        waiting.put_nowait(None)


def _asked(ask: Ask, request: oip.ModelInferRequest) -> Asked | Exception:
    try:
        return ask(request)
    except Exception as error:
        return error


async def _response(request: oip.ModelInferRequest, asked: Asked | Exception) -> oip.ModelStreamInferResponse:
    if isinstance(asked, Exception):
        return _refusal(request, asked)
    future, take_back = asked
    try:
        made = oip.ModelInferResponse.FromString(await future)
    except asyncio.CancelledError:
        take_back()
        raise
    except Exception as error:
        return _refusal(request, error)
    made.parameters[FINAL].bool_param = True
    return oip.ModelStreamInferResponse(infer_response=made)


def _refusal(request: oip.ModelInferRequest, error: Exception) -> oip.ModelStreamInferResponse:
    """Names the request, so that clients with several on their way know which."""
    if isinstance(error, ModelyardError):
        message = error.message
    else:
        message = INTERNAL_MESSAGE
        log.error("internal error", method="ModelStreamInfer", exc_info=error)
    about = oip.ModelInferResponse(model_name=request.model_name, model_version=request.model_version, id=request.id[:200])
    about.parameters[FINAL].bool_param = True
    return oip.ModelStreamInferResponse(error_message=message, infer_response=about)


def _without_tensors(request: oip.ModelInferRequest) -> oip.ModelInferRequest:
    """What an error names; the tensors are the model's by now and must not be kept twice."""
    return oip.ModelInferRequest(model_name=request.model_name[:200], model_version=request.model_version[:200], id=request.id)


def _take_back(waiting: asyncio.Queue[Begun | None]) -> None:
    while not waiting.empty():
        item = waiting.get_nowait()
        if item is not None and not isinstance(item[1], Exception):
            future, take_back = item[1]
            take_back()
            future.cancel()
