"""What changes while a page is open: Watch streams of the services, followed as long as somebody looks."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar

from nicegui import background_tasks, ui
from nicegui.element import Element

from modelyard.client import ModelyardClientError
from modelyard.client.drawing.curves import Curves
from modelyard.client.drawing.markup import Markup
from modelyard.console.parts.fragment import Fragment
from modelyard.console.parts.trouble import message_of, toast
from modelyard.type.v1 import job_pb2

__all__ = ["Curves", "follow", "listed", "paced", "under_way"]

T = TypeVar("T")
LEAST_S: Final = 0.4
"""Pages are drawn at most so often, however fast a stream is."""
LIST_S: Final = 4.0
"""Lists, which nothing streams, are asked for so often while something in them is under way."""


def follow(owner: Element, stream: Callable[[], AsyncIterator[T]], take: Callable[[T], None], draw: Callable[[], None]) -> None:
    """Takes every message of a stream, and draws now and then and at its end, until it ends or the page is closed."""

    async def messages() -> AsyncIterator[T]:
        async for message in stream():
            if owner.is_deleted:
                return
            yield message

    def shown() -> None:
        if not owner.is_deleted:
            draw()

    async def run() -> None:
        await owner.client.connected()
        try:
            await paced(messages(), take, shown)
        except Exception as error:
            if not owner.is_deleted:
                with owner:
                    toast(message_of(error)[0], "bad")
        finally:
            shown()

    task = background_tasks.create(run(), name="follow")
    owner.client.on_delete(task.cancel)


async def paced(
    messages: AsyncIterator[T], take: Callable[[T], None], draw: Callable[[], None], least_s: float = LEAST_S
) -> None:
    """Takes every message, and draws what came: at once after a while without one, else `least_s` after the last drawing.

    The last of several that come together is drawn, too: it may be the last for minutes.
    """

    async def next_one() -> tuple[T, ...]:
        async for message in messages:
            return (message,)
        return ()

    drawn, fresh = -math.inf, False
    coming = asyncio.ensure_future(next_one())
    try:
        while True:
            left = drawn + least_s - time.monotonic()
            if fresh and left <= 0:
                draw()
                drawn, fresh = time.monotonic(), False
                continue
            await asyncio.wait({coming}, timeout=left if fresh else None)
            if coming.done():
                found = coming.result()
                if not found:
                    return
                take(*found)
                fresh = True
                coming = asyncio.ensure_future(next_one())
    finally:
        coming.cancel()


def listed(
    found: T, fetch: Callable[[], Awaitable[T]], show: Callable[[T], Markup], jobs: Callable[[T], Iterable[Any]]
) -> Fragment:
    """Shows a list, and shows it anew while one of its jobs is under way."""
    room = Fragment(show(found))

    async def look() -> None:
        try:
            again = await fetch()
        except ModelyardClientError:
            return  # the next look may be answered
        room.show(show(again))
        if not under_way(jobs(again)):
            timer.deactivate()

    if under_way(jobs(found)):
        timer = ui.timer(LIST_S, look, immediate=False)
    return room


def under_way(jobs: Iterable[Any]) -> int:
    """How many of those have not come to their end."""
    return sum(one.status.state in (job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_QUEUED) for one in jobs)
