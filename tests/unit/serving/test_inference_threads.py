"""The threads that models compute in: a queue that ends, deadlines, and callers who go away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from modelyard.core.errors import DeadlineExceeded, ResourceExhausted
from modelyard.serving.adapters.inference_threads import InferenceThreads


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


async def started(pool: InferenceThreads, gate: threading.Event) -> asyncio.Task[bool]:
    """A call that occupies the thread until the gate opens."""
    begun = threading.Event()

    def call() -> bool:
        begun.set()
        return gate.wait(10)

    task = asyncio.create_task(pool.run(call, None))
    await asyncio.to_thread(begun.wait, 10)
    return task


async def test_beyond_the_queue_calls_are_refused_at_once(gate: threading.Event) -> None:
    pool = InferenceThreads(1, queue=1)
    running = await started(pool, gate)
    waiting = asyncio.create_task(pool.run(lambda: 7, None))
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted) as refused:
        await pool.run(lambda: 8, None)
    assert refused.value.reason == "QUEUE_FULL"
    assert refused.value.retry_after_s
    gate.set()
    assert await waiting == 7
    assert await running
    assert await pool.run(lambda: 9, None) == 9
    pool.close()


async def test_what_waited_beyond_its_deadline_is_never_begun(gate: threading.Event) -> None:
    pool = InferenceThreads(1, queue=4)
    running = await started(pool, gate)
    calls: list[int] = []
    late = asyncio.create_task(pool.run(lambda: calls.append(1), time.monotonic() + 0.02))
    await asyncio.sleep(0.05)
    gate.set()
    with pytest.raises(DeadlineExceeded):
        await late
    assert not calls
    await running
    pool.close()


async def test_a_caller_who_goes_away_frees_the_place(gate: threading.Event) -> None:
    pool = InferenceThreads(1, queue=1)
    running = await started(pool, gate)
    calls: list[int] = []
    for _ in range(5):
        gone = asyncio.create_task(pool.run(lambda: calls.append(1), None))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
    gate.set()
    assert await running
    assert await pool.run(lambda: 3, None) == 3
    assert not calls
    pool.close()


async def test_an_error_of_the_call_comes_back_and_frees_the_place() -> None:
    pool = InferenceThreads(1, queue=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 // 0, None)
    assert await pool.run(lambda: 4, None) == 4
    pool.close()
