"""The first of what a service lists, and pages of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

from modelyard.client.drawing.markup import Markup, h
from modelyard.console.parts.layout import link

T = TypeVar("T")


async def first(items: AsyncIterator[T], most: int, skip: int = 0) -> tuple[list[T], bool]:
    """Items `skip` to `skip + most`, and whether there are more. Give the listing a page_size of about that many."""
    found: list[T] = []
    at = 0
    async for item in items:
        if at >= skip + most:
            return found, True
        if at >= skip:
            found.append(item)
        at += 1
    return found, False


def pager(shown: Sequence[Any], skip: int, most: int, more: bool, address: Any, total: int | None = None) -> Markup | None:
    """Newer and older; `address(skip)` is where the page that begins there is. None when all is on one page."""
    if not skip and not more:
        return None
    words = f"{skip + 1:,} to {skip + len(shown):,}" + (f" of {total:,}" if total is not None else "")
    back = link("← Before", address(max(skip - most, 0)), "button small") if skip else h("span")
    on = link("Next →", address(skip + most), "button small") if more else h("span")
    return h("nav", back, h("span", words, cls="muted small"), on, cls="pager", aria_label="Pages")
