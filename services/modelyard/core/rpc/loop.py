"""The event loop that servers run on: uvloop's where it is installed, which costs about half as much for a small call."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
SWITCH_S: Final = 2e-4
"""How long a thread that computes keeps the interpreter while the loop waits for it; Python's default is 5 ms. The loop lets go
of it at each event, so beside a deployment's thread it would wait that long for every one of them."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new loop, not set as the current one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run(main: Coroutine[Any, Any, T]) -> T:
    """asyncio.run on such a loop, in a process that it is the purpose of."""
    sys.setswitchinterval(SWITCH_S)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)
