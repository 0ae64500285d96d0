"""What changes while a page is open: Watch streams of the services, followed as long as somebody looks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

from nicegui import background_tasks
from nicegui.element import Element

from modelyard.client.drawing.curves import Curves
from modelyard.console.parts.trouble import message_of, toast

__all__ = ["Curves", "follow"]

T = TypeVar("T")
LEAST_S: Final = 0.4
"""Pages are drawn at most so often, however fast a stream is."""


def follow(owner: Element, stream: Callable[[], AsyncIterator[T]], take: Callable[[T], None], draw: Callable[[], None]) -> None:
    """Takes every message of a stream, and draws now and then and at its end, until it ends or the page is closed."""

    async def run() -> None:
        await owner.client.connected()
        drawn = 0.0
        try:
            async for message in stream():
                if owner.is_deleted:
                    return
                take(message)
                if time.monotonic() - drawn > LEAST_S:
                    draw()
                    drawn = time.monotonic()
        except Exception as error:
            if not owner.is_deleted:
                with owner:
                    toast(message_of(error)[0], "bad")
        finally:
            if not owner.is_deleted:
                draw()

    task = background_tasks.create(run(), name="follow")
    owner.client.on_delete(task.cancel)
