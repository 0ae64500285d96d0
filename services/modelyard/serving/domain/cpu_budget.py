"""One budget of cores over all versions of a server: as many threads compute at once as there are cores to use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MOST_PASSES: Final = 8
"""How often a version that waits for many cores may be overtaken by ones that need fewer."""


@dataclass(slots=True)
class _Asker:
    needed: int
    granted: Callable[[], None]
    passed: int = 0


class CpuBudget:
    """Tokens, one a core. A version asks once at a time, so the order of asking is a round over those that wait.

    One that needs many tokens is passed by smaller ones at most MOST_PASSES times, then all wait for it: nobody starves.
    Used by one thread.
    """

    def __init__(self, tokens: int) -> None:
        """`tokens` is 1 or more."""
        self._tokens = tokens
        self._free = tokens
        self._asking: list[_Asker] = []

    @property
    def tokens(self) -> int:
        """How many there are."""
        return self._tokens

    @property
    def free(self) -> int:
        """How many nobody holds."""
        return self._free

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits."""
        return bool(self._asking)

    def ask(self, needed: int, granted: Callable[[], None]) -> Callable[[], None]:
        """Calls `granted` when the tokens are the caller's: now, or when others give theirs back. Gives what withdraws it.

        More than there are count as all. Withdrawing after `granted` does nothing: what was granted is given back.
        """
        asker = _Asker(min(needed, self._tokens), granted)
        self._asking.append(asker)
        self._grant()
        return lambda: self._withdraw(asker)

    def give_back(self, needed: int) -> None:
        """Ends the use of what was granted for the same `needed`."""
        self._free += min(needed, self._tokens)
        self._grant()

    def _withdraw(self, asker: _Asker) -> None:
        if asker in self._asking:
            self._asking.remove(asker)
            self._grant()

    def _grant(self) -> None:
        while (asker := self._next()) is not None:
            self._asking.remove(asker)
            self._free -= asker.needed
            asker.granted()

    def _next(self) -> _Asker | None:
        """The first that can begin, unless one before it has been passed often enough."""
        for place, asker in enumerate(self._asking):
            if asker.needed <= self._free:
                for other in self._asking[:place]:
                    other.passed += 1
                return asker
            if asker.passed >= MOST_PASSES:
                return None
        return None
