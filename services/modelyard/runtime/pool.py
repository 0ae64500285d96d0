"""Things that only one caller at a time may use, such as interpreters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Pool(Generic[T]):
    """At most `limit` of them: one from the start, others when all that exist are in use. Callers beyond the limit wait."""

    def __init__(self, make: Callable[[], T], limit: int) -> None:
        """`limit` is 1 or more. `make` may be called from any thread, by several at once."""
        self._make = make
        self._left = limit - 1
        self._idle = [make()]
        self._change = threading.Condition()

    @contextmanager
    def taken(self) -> Iterator[T]:
        """One of them, in nobody else's hands until the block ends. The one used last comes first: its memory is warm."""
        item = self._take()
        try:
            yield item
        finally:
            with self._change:
                self._idle.append(item)
                self._change.notify()

    def clear(self) -> None:
        """Lets go of those that nobody uses."""
        with self._change:
            self._idle.clear()

    def _take(self) -> T:
        with self._change:
            while not self._idle and self._left < 1:
                self._change.wait()
            if self._idle:
                return self._idle.pop()
            self._left -= 1
        try:
            return self._make()
        except BaseException:
            with self._change:
                self._left += 1
                self._change.notify()
            raise
