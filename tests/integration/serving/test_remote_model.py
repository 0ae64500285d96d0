"""A version in pods: requests are spread, go on to another pod, wait for one; none fails while pods come and go."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from modelyard.core.errors import DeadlineExceeded, InvalidArgument, ModelyardError, ResourceExhausted, Unavailable
from modelyard.serving.adapters.remote_model import RemoteLimits
from modelyard.serving.domain.endpoint import DeploymentState
from modelyard.serving.domain.placement import Placement
from modelyard.serving.handlers.pod_board import PodTimes
from modelyard.serving.ports import Answer
from tests.support.bundles import mlp_bundle
from tests.support.pod_servers import Yard, yard
from tests.support.served import ask, read, rows, tensor


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mlp_bundle(tmp_path_factory.mktemp("bundle") / "net.zip")


@pytest.fixture
def two(tmp_path: Path, bundle: Path) -> Iterator[Yard]:
    with yard(tmp_path, bundle, Placement("cpu", 2, 2), times=PodTimes(hold=5, ready=60)) as made:
        yield made


async def _many(yard_: Yard, seconds: float, callers: int = 4) -> tuple[int, list[ModelyardError]]:
    """Asks all the time; gives how many were answered, and what went wrong."""
    answered, wrong, end = 0, [], time.monotonic() + seconds

    async def caller() -> None:
        nonlocal answered
        while time.monotonic() < end:
            try:
                await ask(yard_.model, tensor("x", "FP32", rows(1)), deadline=time.monotonic() + 20)
                answered += 1
            except ModelyardError as error:
                wrong.append(error)
            await asyncio.sleep(0.002)

    async def look() -> None:
        while time.monotonic() < end:
            await asyncio.to_thread(yard_.board.look)
            await asyncio.sleep(0.1)

    await asyncio.gather(look(), *(caller() for _ in range(callers)))
    return answered, wrong


async def test_answers_are_those_of_the_model_and_both_pods_give_them(two: Yard) -> None:
    alone: Answer = await ask(two.model, tensor("x", "FP32", rows(3, seed=5)))
    again: Answer = await ask(two.model, tensor("x", "FP32", rows(3, seed=5)))
    assert [one.name for one in alone.tensors] == ["probabilities", "label"]
    np.testing.assert_allclose(read(alone.tensors[0]), read(again.tensors[0]), rtol=1e-5)
    assert read(alone.tensors[1]) == read(again.tensors[1])
    await _many(two, 1.0)
    two.pods.urgent = True
    await asyncio.to_thread(two.board.look)
    each = [two.board.probe.ask(pod.address, "projects/default/endpoints/mlp") for pod in two.pods.pods]
    counts = [answer.facts["V001"].executions for answer in each if answer is not None]
    assert len(counts) == 2
    assert min(counts) > 0.2 * sum(counts)
    assert two.model.statistics.executions == sum(counts)
    assert two.model.memory_bytes() > 0


async def test_a_callers_mistake_and_a_deadline_come_back_as_they_are(two: Yard) -> None:
    await ask(two.model, tensor("x", "FP32", rows(1)))
    with pytest.raises(InvalidArgument, match="need"):
        await ask(two.model, tensor("x", "FP32", rows(1))._replace(data=b"\0" * 8))
    with pytest.raises(DeadlineExceeded):
        await ask(two.model, tensor("x", "FP32", rows(1)), deadline=time.monotonic() - 1)


async def test_a_pod_that_is_killed_fails_no_request(two: Yard) -> None:
    async def kill() -> None:
        await asyncio.sleep(1.0)
        os.kill(two.pids()[0], signal.SIGKILL)

    _, (answered, wrong) = await asyncio.gather(kill(), _many(two, 4.0))
    assert not wrong
    assert answered > 100


async def test_pods_that_are_rolled_fail_no_request(two: Yard) -> None:
    before = set(two.pids())

    async def roll() -> None:
        await asyncio.sleep(0.5)
        two.fleet.roll("projects/default/endpoints/mlp")

    _, (answered, wrong) = await asyncio.gather(roll(), _many(two, 14.0))
    assert not wrong
    assert answered > 100
    ends = time.monotonic() + 60  # a busy machine takes its time to start the new ones
    while before & set(two.pids()) and time.monotonic() < ends:
        await asyncio.sleep(0.2)
    assert not before & set(two.pids())
    assert len(two.pids()) == 2


async def test_without_a_pod_requests_wait_a_while_and_are_then_refused(tmp_path: Path, bundle: Path) -> None:
    with yard(tmp_path, bundle, Placement("cpu"), limits=RemoteLimits(queue=2), times=PodTimes(hold=1.0, ready=60)) as one:
        await ask(one.model, tensor("x", "FP32", rows(1)))
        one.fleet.scale("projects/default/endpoints/mlp", "cpu", 0)
        while one.pids():
            await asyncio.sleep(0.05)
        await asyncio.to_thread(one.board.look)
        assert one.model.condition.state is DeploymentState.UNHEALTHY
        begun = time.monotonic()
        asked = [asyncio.ensure_future(ask(one.model, tensor("x", "FP32", rows(1)))) for _ in range(3)]
        done = await asyncio.gather(*asked, return_exceptions=True)
        assert time.monotonic() - begun >= 0.9
        assert sorted(type(each).__name__ for each in done) == ["ResourceExhausted", "Unavailable", "Unavailable"]
        refused = next(each for each in done if isinstance(each, Unavailable))
        assert refused.reason == "NO_POD"
        assert refused.retry_after_s
        assert isinstance(next(each for each in done if isinstance(each, ResourceExhausted)), ResourceExhausted)


async def test_pods_that_nobody_asks_go_and_come_back_when_asked(tmp_path: Path, bundle: Path) -> None:
    """The first request waits for the start; how long that took is known then, and who cannot wait so long is told so."""
    placement = Placement("cpu", 0, 1, idle_s=10)
    with yard(tmp_path, bundle, placement, times=PodTimes(hold=1.0, cold=60, ready=60)) as one:
        await ask(one.model, tensor("x", "FP32", rows(1)))
        one.pods.last_used -= 20
        answer = one.board.probe.ask

        def long_ago(address: str, endpoint: str) -> object:
            found = answer(address, endpoint)
            return found and type(found)(found.versions, found.facts, 0.0)

        one.board.probe.ask = long_ago  # type: ignore[method-assign,assignment]
        one.pods.last_used = time.time() - 20
        while one.pids():
            await asyncio.to_thread(one.board.look)
            await asyncio.sleep(0.05)
        await asyncio.to_thread(one.board.look)
        assert one.pods.asleep
        assert one.model.condition.state is DeploymentState.READY
        stop = asyncio.Event()

        async def look() -> None:
            while not stop.is_set():
                await asyncio.to_thread(one.board.look)
                await asyncio.sleep(0.1)

        looking = asyncio.ensure_future(look())
        begun = time.monotonic()
        await ask(one.model, tensor("x", "FP32", rows(1)))
        waited = time.monotonic() - begun
        assert waited > 0.3
        assert 0 < one.pods.cold_start_s <= waited + 1
        stop.set()
        await looking
        one.pods.waking_since = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            one.pods.wake(0.01)
        assert caught.value.reason == "COLD_START"
        assert caught.value.retry_after_s
