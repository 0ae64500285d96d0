"""Predictions over one stream: the order asked, errors that end nothing, room for a few, and callers that leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from inference import grpc_service_pb2 as oip
from modelyard.core.errors import InvalidArgument, Unavailable
from modelyard.serving.rpc.infer_stream import Ask, answered_in_order


class Asked:
    """What was asked so far; each is answered when the test says so."""

    def __init__(self) -> None:
        self.futures: dict[str, asyncio.Future[bytes]] = {}
        self.taken_back: list[str] = []

    def ask(self, request: oip.ModelInferRequest) -> tuple[asyncio.Future[bytes], Callable[[], None]]:
        if request.model_name != "net":
            raise InvalidArgument("WRONG", f"{request.model_name} is no model")
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.futures[request.id] = future
        return future, lambda: self.taken_back.append(request.id)

    def answer(self, request_id: str) -> None:
        self.futures[request_id].set_result(oip.ModelInferResponse(id=request_id).SerializeToString())


async def requests(*ids: str, then: asyncio.Event | None = None) -> AsyncIterator[oip.ModelInferRequest]:
    for each in ids:
        yield oip.ModelInferRequest(model_name="other" if each.startswith("bad") else "net", id=each)
    if then is not None:
        await then.wait()


async def collected(stream: AsyncIterator[oip.ModelStreamInferResponse]) -> list[oip.ModelStreamInferResponse]:
    return [response async for response in stream]


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_answers_come_in_the_order_asked_whichever_is_ready_first() -> None:
    asked = Asked()
    done = asyncio.create_task(collected(answered_in_order(requests("1", "2", "3"), asked.ask)))
    await turns()
    assert list(asked.futures) == ["1", "2", "3"]
    for each in ("3", "1", "2"):
        asked.answer(each)
    responses = await done
    assert [response.infer_response.id for response in responses] == ["1", "2", "3"]
    assert all(response.infer_response.parameters["triton_final_response"].bool_param for response in responses)


async def test_an_error_is_that_of_one_request() -> None:
    asked = Asked()
    done = asyncio.create_task(collected(answered_in_order(requests("1", "bad 2", "3", "4"), asked.ask)))
    await turns()
    asked.answer("1")
    asked.futures["3"].set_exception(Unavailable("MODEL_CRASHED", "it ended"))
    asked.answer("4")
    told = [(response.infer_response.id, response.error_message) for response in await done]
    assert told == [("1", ""), ("bad 2", "other is no model"), ("3", "it ended"), ("4", "")]


async def test_what_is_a_bug_tells_nothing_of_the_inside() -> None:
    asked = Asked()
    done = asyncio.create_task(collected(answered_in_order(requests("1"), asked.ask)))
    await turns()
    asked.futures["1"].set_exception(KeyError("/secret/path"))
    (response,) = await done
    assert response.error_message
    assert "secret" not in response.error_message


async def test_no_more_is_read_than_there_is_room_for() -> None:
    asked = Asked()
    stream = answered_in_order(requests(*"12345"), asked.ask, window=2)
    first = asyncio.create_task(anext(stream))
    await turns()
    assert list(asked.futures) == ["1", "2"]
    asked.answer("1")
    await first
    rest = asyncio.create_task(collected(stream))
    await turns()
    assert list(asked.futures) == ["1", "2", "3"]
    for each in "2345":
        while each not in asked.futures:
            await asyncio.sleep(0)
        asked.answer(each)
    assert len(await rest) == 4


async def left(begun: int, ask: Ask) -> None:
    """A caller that sends `begun` requests and goes away before it hears an answer."""
    stream = answered_in_order(requests(*map(str, range(begun)), then=asyncio.Event()), ask)
    hearing = asyncio.create_task(collected(stream))
    await turns()
    hearing.cancel()
    await asyncio.gather(hearing, return_exceptions=True)
    await stream.aclose()  # type: ignore[attr-defined]
    await turns()


async def test_what_has_not_been_answered_is_taken_back_when_the_caller_leaves() -> None:
    asked = Asked()
    await left(5, asked.ask)
    assert sorted(asked.taken_back) == ["0", "1", "2", "3", "4"]


async def test_callers_that_leave_leave_no_task_behind() -> None:
    before = len(asyncio.all_tasks())
    for _ in range(50):
        await left(3, Asked().ask)
    assert len(asyncio.all_tasks()) == before
