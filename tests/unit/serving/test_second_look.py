"""A request for what this server does not know, while another server of the same database deploys."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import cast

import pytest

from inference import grpc_service_pb2 as oip
from modelyard.core.errors import ModelyardError, NotFound, Unavailable
from modelyard.core.http.calls import HttpRequest
from modelyard.serving.adapters.background import Background
from modelyard.serving.domain.endpoint import Condition, DeploymentState
from modelyard.serving.handlers import second_look as module
from modelyard.serving.handlers.predict import Predictions
from modelyard.serving.handlers.registry import Entry, Registry
from modelyard.serving.handlers.repository import Repository
from modelyard.serving.handlers.second_look import MOST_WAITING, SecondLook
from modelyard.serving.rpc.inference_calls import InferenceCalls
from modelyard.serving.rpc.rest import Rest
from modelyard.serving.rpc.signature import Signatures
from tests.support.inference_fakes import MAX_BATCH, MODEL, Answering, Call, x_request
from tests.support.serving_models import a_world


def entry(state: DeploymentState, model: Answering | None = None) -> Entry:
    return Entry(MODEL, "V001", datetime(2026, 1, 1, tzinfo=UTC), Condition(state), model)


class Server:
    """The front of one server: what it knows, and what a look finds."""

    def __init__(self, found: Callable[[Registry], None]) -> None:
        self.registry = Registry()
        self.registry.set_complete()
        self.looks = 0

        def look() -> None:
            self.looks += 1
            found(self.registry)

        self.second_look = SecondLook(self.registry, look)
        self.calls = InferenceCalls(
            self.registry, Signatures(MAX_BATCH), Predictions(lambda route, inputs, rows, answer: None, 1 << 20), self.second_look
        )
        self.thread = threading.Thread(target=self.second_look.run, daemon=True)
        self.thread.start()

    def ask(self, request: oip.ModelInferRequest | None = None) -> Call:
        call = Call()
        try:
            self.calls.model_infer(call, (request or x_request()).SerializeToString())
        except ModelyardError as error:
            call.fail(error)
        return call

    def stop(self) -> None:
        self.second_look.stop()
        self.thread.join()


@pytest.fixture
def server_of() -> Iterator[Callable[[Callable[[Registry], None]], Server]]:
    made: list[Server] = []

    def make(found: Callable[[Registry], None]) -> Server:
        made.append(Server(found))
        return made[-1]

    yield make
    for each in made:
        each.stop()


ServerOf = Callable[[Callable[[Registry], None]], Server]


async def ended(call: Call, seconds: float = 5.0) -> Call:
    end = time.monotonic() + seconds
    while call.answered is None and call.error is None:
        assert time.monotonic() < end, "no answer"
        await asyncio.sleep(0.005)
    return call


async def test_what_another_server_has_just_deployed_is_answered(server_of: ServerOf) -> None:
    server = server_of(lambda registry: registry.put(entry(DeploymentState.READY, Answering())))
    call = await ended(server.ask())
    assert call.answered is not None
    assert oip.ModelInferResponse.FromString(call.answered).model_version == "V001"
    assert (await ended(server.ask())).answered is not None
    assert server.looks == 1  # what is known needs none


async def test_what_is_deployed_nowhere_is_not_found_after_one_look(server_of: ServerOf) -> None:
    server = server_of(lambda registry: None)
    call = await ended(server.ask())
    assert isinstance(call.error, NotFound)
    assert call.error.reason == "MODEL_NOT_FOUND"
    assert server.looks == 1


async def test_many_wrong_names_share_a_look_and_do_not_fill_the_memory(server_of: ServerOf) -> None:
    server = server_of(lambda registry: time.sleep(0.2))
    calls = [server.ask() for _ in range(MOST_WAITING + 10)]
    assert sum(isinstance(call.error, NotFound) for call in calls) == 10  # those beyond are told at once
    for call in calls:
        await ended(call)
    assert server.looks <= 2
    assert (await ended(server.ask())).error is not None  # and places are free again
    assert server.looks <= 3


async def test_large_requests_wait_only_as_far_as_there_is_room(server_of: ServerOf, monkeypatch: pytest.MonkeyPatch) -> None:
    server = server_of(lambda registry: time.sleep(0.2))
    monkeypatch.setattr(module, "MOST_BYTES", 2 * x_request().ByteSize())
    calls = [server.ask() for _ in range(3)]
    assert [isinstance(call.error, NotFound) for call in calls] == [False, False, True]
    for call in calls:
        await ended(call)
    call = server.ask()
    assert call.error is None  # there is room again
    await ended(call)


async def test_one_that_is_being_loaded_is_waited_for_too(server_of: ServerOf) -> None:
    server = server_of(lambda registry: None)
    server.registry.put(entry(DeploymentState.LOADING))
    call = server.ask()
    await asyncio.sleep(0.1)
    assert (call.answered, call.error) == (None, None)
    server.registry.put(entry(DeploymentState.READY, Answering()))
    assert (await ended(call)).answered is not None


async def test_it_waits_while_the_version_is_being_loaded(server_of: ServerOf) -> None:
    server = server_of(lambda registry: registry.put(entry(DeploymentState.LOADING)))
    call = server.ask()
    await asyncio.sleep(0.2)
    assert (call.answered, call.error) == (None, None)
    server.registry.put(entry(DeploymentState.READY, Answering()))
    assert (await ended(call)).answered is not None


async def test_what_loads_for_long_is_to_be_asked_for_again(server_of: ServerOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_S", 0.1)
    server = server_of(lambda registry: registry.put(entry(DeploymentState.LOADING)))
    call = await ended(server.ask())
    assert isinstance(call.error, Unavailable)
    assert (call.error.reason, call.error.retry_after_s) == ("MODEL_LOADING", 2.0)


async def test_who_went_away_is_told_nothing(server_of: ServerOf) -> None:
    server = server_of(lambda registry: registry.put(entry(DeploymentState.READY, Answering())))
    call = server.ask()
    assert call.cancel is not None
    call.cancel()
    await asyncio.sleep(0.2)
    assert (call.answered, call.error) == (None, None)


async def test_what_is_asked_about_a_model_waits_as_predictions_do(server_of: ServerOf) -> None:
    def deployed() -> Server:
        return server_of(lambda registry: registry.put(entry(DeploymentState.READY, Answering())))

    asked, ready = deployed(), deployed()
    assert (await asked.calls.find(MODEL, ""))[0].version == "V001"
    assert await ready.calls.is_ready(MODEL, "V001")
    assert (asked.looks, ready.looks) == (1, 1)


async def test_readiness_of_what_is_known_to_be_loading_is_told_at_once(server_of: ServerOf) -> None:
    server = server_of(lambda registry: None)
    server.registry.put(entry(DeploymentState.LOADING))
    assert not await server.calls.is_ready(MODEL, "V001")
    assert not await server.calls.is_ready("nobody", "")
    assert server.looks == 1  # for the one that is not known


async def test_over_http_too(server_of: ServerOf) -> None:
    for path in ("", "/config", "/ready"):
        server = server_of(lambda registry: registry.put(entry(DeploymentState.READY, Answering())))
        rest = Rest(server.calls, cast(Repository, None), MAX_BATCH)
        answer = await rest(HttpRequest("GET", f"/v2/models/{MODEL}/versions/V001{path}", "", {}, b""))
        assert (answer.status, server.looks) == (200, 1), answer


async def test_whose_caller_goes_away_gives_its_place_back(server_of: ServerOf) -> None:
    server = server_of(lambda registry: time.sleep(0.3))
    waiting = [asyncio.create_task(server.calls.is_ready(f"nobody{n}", "")) for n in range(MOST_WAITING)]
    await asyncio.sleep(0.05)
    assert server.second_look.wait("another", "", 0, lambda: None) is None
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    taken_back = server.second_look.wait("another", "", 0, lambda: None)
    assert taken_back is not None
    taken_back()


async def test_the_real_look_reads_what_another_server_wrote_and_has_it_loaded() -> None:
    here = a_world()
    background = Background(here.deployer, every_s=600, retry_failed_s=600)
    background.start()
    try:
        there = here.restarted()
        there.deploy(1)
        told = asyncio.Event()
        assert background.second_look.wait("flowers", "V001", 0, told.set) is not None
        await asyncio.wait_for(told.wait(), 5)
        found, loaded = here.registry.find("flowers", "V001")
        assert loaded is not None
        assert found.is_ready
    finally:
        background.stop()
