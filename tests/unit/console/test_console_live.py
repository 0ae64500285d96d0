"""The pace at which pages are drawn while a stream goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from modelyard.console.parts.live import paced

PACE_S = 0.05


class Page:
    """Draws how many messages it has taken."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.drawn: list[int] = []

    def draw(self) -> None:
        self.drawn.append(len(self.taken))

    async def follow(self, messages: AsyncIterator[int]) -> None:
        await paced(messages, self.taken.append, self.draw, PACE_S)


async def test_the_last_of_several_that_come_together_is_drawn_while_the_stream_goes_on() -> None:
    page, quiet = Page(), asyncio.Event()

    async def messages() -> AsyncIterator[int]:
        yield 1
        yield 2
        yield 3
        await quiet.wait()

    following = asyncio.create_task(page.follow(messages()))
    async with asyncio.timeout(10):
        while page.drawn[-1:] != [3]:
            await asyncio.sleep(0.01)
    assert page.drawn[0] == 1
    quiet.set()
    await following


async def test_a_fast_stream_is_taken_whole_and_drawn_now_and_then() -> None:
    page = Page()

    async def messages() -> AsyncIterator[int]:
        for at in range(200):
            yield at
            await asyncio.sleep(0.001)

    began = asyncio.get_running_loop().time()
    await page.follow(messages())
    took = asyncio.get_running_loop().time() - began
    assert page.taken == list(range(200))
    assert 1 < len(page.drawn) <= 1 + took / PACE_S


async def test_what_a_stream_raises_is_raised() -> None:
    page = Page()

    async def messages() -> AsyncIterator[int]:
        yield 1
        raise ValueError("it broke")

    with pytest.raises(ValueError, match="it broke"):
        await page.follow(messages())
    assert page.taken == [1]


async def test_a_page_that_is_closed_ends_its_stream() -> None:
    page, closed = Page(), asyncio.Event()

    async def messages() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    following = asyncio.create_task(page.follow(messages()))
    await asyncio.sleep(PACE_S)
    following.cancel()
    await asyncio.wait_for(closed.wait(), 10)
    assert page.drawn == [1]
