"""What Ctrl-C does to a command: after the first it has some seconds to tidy up, whatever hangs; a second ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

from modelyard.cli.exits import INTERRUPTED

# From the first Ctrl-C to the end: what is cancelled, thrown away and stopped has ended by then, or is left as it is.
LEAVING_S: Final = 15.0
# What a call gets after it.
CALL_S: Final = 3.0
# What saying why, and ending the workers, may take at most.
LAST_S: Final = 1.0


class Interrupts:
    """Ctrl-C in this process, from `listen` on."""

    def __init__(self) -> None:
        self._asked = False
        self._first: list[Callable[[], object]] = []
        self._last: list[Callable[[], object]] = []

    def listen(self) -> None:
        """Takes Ctrl-C over from Python; where it is ignored (a shell does so for what runs in the background) it stays so."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)

    @property
    def asked(self) -> bool:
        """Whether there was one."""
        return self._asked

    @contextmanager
    def told(self, first: Callable[[], object], last: Callable[[], object]) -> Iterator[None]:
        """Inside, `first` is called at the first Ctrl-C, and `last` when the process is about to end without tidying up."""
        self._first.append(first)
        self._last.append(last)
        try:
            yield
        finally:
            self._first.remove(first)
            self._last.remove(last)

    def at_end(self, status: int) -> None:
        """The command is done. What it has left in the background is not waited for without end."""
        self._within(status, f"something of it had not ended {LEAVING_S:g} s later")

    def _within(self, status: int, why: str) -> None:
        timer = threading.Timer(LEAVING_S, self._end, (status, why))
        timer.daemon = True
        timer.start()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            self._end(INTERRUPTED, "ended at once; what it was doing is as it is")
        self._asked = True
        self._within(
            INTERRUPTED, f"not all had ended {LEAVING_S:g} s after Ctrl-C; it is left as it is, and goes on with the next server"
        )
        for tell in self._first:
            tell()
        raise KeyboardInterrupt

    def _end(self, status: int, why: str) -> None:
        surely = threading.Timer(LAST_S, os._exit, (status,))  # what is called here may need a lock that is held
        surely.daemon = True
        surely.start()
        with suppress(Exception):
            sys.stderr.write(f"\n{why}\n")
            sys.stderr.flush()
        for tell in self._last:
            with suppress(Exception):
                tell()
        os._exit(status)


interrupts: Final = Interrupts()
